"""Writes dashboard.json, the Grafana dashboard: ``python deploy/observability/dashboard.py``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 7


@dataclass(frozen=True)
class Graph:
    """One panel: queries by their legends; ``unit`` is Grafana's name of it."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    description: str = ""
    stacked: bool = False


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def rate(metric: str, by: str = "", where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def share(metric: str, by: str, of: str, where: str = "") -> str:
    whole = f"sum(rate({of}[$__rate_interval]))"
    return f"{rate(metric, by, where)} / on () group_left () ({whole} > 0)"


ROWS: dict[str, list[Graph]] = {
    "Requests": [
        Graph(
            "Requests by decision", {"{{decision}}": rate("router_requests_total", "decision")}, "reqps", stacked=True
        ),
        Graph(
            "Requests by model or adapter", {"{{model}}": rate("router_requests_total", "model")}, "reqps", stacked=True
        ),
        Graph(
            "Requests by path",
            {"{{path}}": rate("router_requests_total", "path")},
            "reqps",
            "routed, cache, fast_response, passthrough (the client named a model), error",
        ),
    ],
    "Routing": [
        Graph(
            "Time in the router",
            {
                "p50": quantile(0.5, "router_stage_seconds", where='stage="total"'),
                "p99": quantile(0.99, "router_stage_seconds", where='stage="total"'),
            },
            "s",
            "From the complete request to the decision, including the wait for Triton",
        ),
        Graph("p99 by stage", {"{{stage}}": quantile(0.99, "router_stage_seconds", "stage", 'stage!="total"')}, "s"),
        Graph("Requests in the router", {"in flight": "sum(router_in_flight_requests)"}),
        Graph("Wait for a worker", {"the slowest": "max(router_queue_seconds)"}, "s"),
        Graph("Refused: overload", {"refused": "sum(rate(router_refused_requests_total[$__rate_interval]))"}, "reqps"),
    ],
    "Signals": [
        Graph("Encoder up", {"{{trunk}}": "min by (trunk) (router_encoder_up)"}),
        Graph(
            "Degraded requests",
            {"{{part}}": share("router_degraded_requests_total", "part", "router_requests_total")},
            "percentunit",
            "Requests routed without an unavailable part",
        ),
        Graph(
            "Signal errors", {"{{signal}}: {{reason}}": rate("router_signal_errors_total", "signal, reason")}, "reqps"
        ),
        Graph(
            "Concurrent calls to the encoder",
            {
                "{{trunk}}: limit": "sum by (trunk) (router_encoder_limit)",
                "{{trunk}}: in flight": "sum by (trunk) (router_encoder_in_flight)",
            },
            "short",
            "The limit follows Triton's speed; further requests are routed without it",
        ),
        Graph(
            "Prompts read in windows",
            {"prompts": "sum(rate(router_windowed_prompts_total[$__rate_interval]))"},
            "reqps",
        ),
        Graph("Hints refused by a decision", {"{{kind}}": rate("router_refused_hints_total", "kind")}, "reqps"),
    ],
    "Responses": [
        Graph(
            "Backends: time to headers, p50 and p99",
            {
                "{{model}} p50": quantile(0.5, "router_upstream_seconds", "model"),
                "{{model}} p99": quantile(0.99, "router_upstream_seconds", "model"),
            },
            "s",
        ),
        Graph(
            "Backends: responses by status",
            {"{{model}} {{status}}": rate("router_upstream_seconds_count", "model, status")},
            "reqps",
        ),
        Graph(
            "Responses by finish reason",
            {"{{model}} {{reason}}": rate("router_answers_total", "model, reason")},
            "reqps",
        ),
        Graph(
            "Time to the first token, p50 and p99",
            {
                "{{model}} p50": quantile(0.5, "router_time_to_first_token_seconds", "model"),
                "{{model}} p99": quantile(0.99, "router_time_to_first_token_seconds", "model"),
            },
            "s",
            "Needs usage.streams",
        ),
        Graph(
            "Time between chunks of a stream, p99",
            {"{{model}}": quantile(0.99, "router_time_per_output_chunk_seconds", "model")},
            "s",
            "Needs usage.streams",
        ),
        Graph(
            "Adapters that were not loaded",
            {"{{adapter}}": rate("router_adapter_fallbacks_total", "adapter")},
            "reqps",
            "The base model served these requests",
        ),
    ],
    "Choice and limits": [
        Graph(
            "Choices among candidates",
            {"{{decision}}: {{model}}, {{reason}}": rate("router_selections_total", "decision, model, reason")},
            "reqps",
            "Why: by weight, conversation, score, as a probe, or because no candidate keeps the bounds",
        ),
        Graph(
            "Models: time at the moment",
            {"{{model}} {{measure}}": "max by (model, measure) (router_model_seconds)"},
            "s",
            "What the choice by latency sees",
        ),
        Graph("Models: requests in flight", {"{{model}}": "sum by (model) (router_model_in_flight)"}),
        Graph("Models: requests that wait", {"{{model}}": "max by (model) (router_model_queue)"}),
        Graph("Models: KV cache in use", {"{{model}}": "max by (model) (router_model_kv_cache)"}, "percentunit"),
        Graph("Models that rest after failures", {"{{model}}": "max by (model) (router_model_rests)"}),
        Graph(
            "Attempts that failed before the first byte",
            {"{{model}}: {{reason}}, next {{next}}": rate("router_fallbacks_total", "model, reason, next")},
            "reqps",
            "Another model was asked next; an empty one: none was left",
        ),
        Graph(
            "Requests that one model had to answer",
            {"{{reason}}": rate("router_no_fallback_total", "reason")},
            "reqps",
            "stored: they refer to data on its backend; size: they are too large to be sent again",
        ),
        Graph(
            "Beyond limits", {"{{rule}}: {{outcome}}": rate("router_limits_exceeded_total", "rule, outcome")}, "reqps"
        ),
    ],
    "Tokens and cache": [
        Graph(
            "Tokens", {"{{model}} {{kind}}": rate("router_tokens_total", "model, kind")}, "short", "Tokens per second"
        ),
        Graph(
            "Cost per hour",
            {"{{model}} {{currency}}": f"3600 * {rate('router_cost_total', 'model, currency')}"},
            "short",
            "From the prices in the configuration",
        ),
        Graph("Cache entries in memory", {"entries": "sum(router_cache_entries)"}),
        Graph("Cache lookups", {"{{result}}": rate("router_cache_lookups_total", "result")}, "reqps", stacked=True),
    ],
    "Configuration": [
        Graph("Reloads", {"{{result}}": "sum by (result) (increase(router_config_reloads_total[$__rate_interval]))"}),
        Graph("Configuration on disk rejected", {"rejected": "max(router_config_rejected)"}),
        Graph("Trace spans", {"{{result}}": rate("router_trace_spans_total", "result")}),
        Graph("Adapters loaded", {"{{model}}": "max by (model) (router_adapters_loaded)"}),
        Graph("Blocked requests", {"{{outcome}}": rate("router_blocked_requests_total", "outcome")}),
        Graph("Answers with personal data", {"{{outcome}}": rate("router_screened_answers_total", "outcome")}),
        Graph("Task restarts", {"{{task}}": "sum by (task) (increase(router_task_restarts_total[$__rate_interval]))"}),
        Graph(
            "Worker restarts",
            {"{{reason}}": "sum by (reason) (increase(router_worker_restarts_total[$__rate_interval]))"},
        ),
    ],
}


def panel(number: int, graph: Graph, x: int, y: int) -> dict[str, Any]:
    custom = {"fillOpacity": 25, "stacking": {"mode": "normal"}} if graph.stacked else {"fillOpacity": 0}
    return {
        "id": number,
        "type": "timeseries",
        "title": graph.title,
        "description": graph.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for place, (legend, expression) in enumerate(graph.queries.items())
        ],
    }


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, graphs in ROWS.items():
        row = {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
        panels.append({**row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for place, graph in enumerate(graphs):
            x = place % 3 * WIDTH
            panels.append(panel(len(panels) + 1, graph, x, y + place // 3 * HEIGHT))
        y += -(-len(graphs) // 3) * HEIGHT
    return {
        "title": "triton-router",
        "uid": "triton-router",
        "tags": ["llm", "triton"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": panels,
    }


def written() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(written())
