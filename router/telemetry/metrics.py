"""Prometheus metrics. Label values come from the configuration or from fixed lists, so their number is bounded."""

from __future__ import annotations

from functools import partial

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge

from triton_router.telemetry.counting import Counter, Level, Timings

# From 0.1 ms: most stages of a request take less than Prometheus' default first bucket of 5 ms.
_UPSTREAM_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The router's metrics, in a registry of their own (``registry``). Its attributes are one for each metric."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        timings = partial(Timings, registry=registry)
        self.requests = counter(
            "router_requests",
            "Requests, by how they were routed; `recipe` is empty for `routing` itself.",
            ["decision", "model", "path", "recipe"],
        )
        self.stage_seconds = timings("router_stage_seconds", "Time by stage of a request.", ["stage"], buckets=_SECONDS)
        self.signal_errors = counter(
            "router_signal_errors", "Signals that could not be evaluated.", ["signal", "reason"]
        )
        self.degraded = counter("router_degraded_requests", "Requests routed without a part that was down.", ["part"])
        self.blocked = counter(
            "router_blocked_requests",
            "Requests that protection refused (`blocked`), could not check (`unknown`), sent to another model "
            "(`confined`) or masked (`masked`), or on which it would act (`shadow`).",
            ["decision", "outcome"],
        )
        self.screened = counter(
            "router_screened_answers",
            "Answers with forbidden personal data: `blocked`, `masked` or `reported`.",
            ["decision", "outcome"],
        )
        self.windowed = counter("router_windowed_prompts", "Prompts over the encoder's limit, scored in windows.")
        self.encoder_up = gauge("router_encoder_up", "1 while the encoder on Triton gives valid results.", ["trunk"])
        self.encoder_limit = gauge(
            "router_encoder_limit",
            "Calls to the encoder that may be in flight at once, over all workers and the process that serves REST.",
            ["trunk"],
        )
        self.encoder_in_flight = gauge(
            "router_encoder_in_flight", "Calls to the encoder that have not ended, background work excepted.", ["trunk"]
        )
        self.upstream_seconds = timings(
            "router_upstream_seconds",
            "From the router's decision to the headers of the backend's answer, by model or adapter.",
            ["model", "status"],
            buckets=_UPSTREAM_SECONDS,
        )
        self.cache = counter(
            "router_cache_lookups",
            "Cache lookups by result; `not_kept` are answers that could not be stored.",
            ["decision", "result"],
        )
        self.cache_entries = gauge("router_cache_entries", "Answers that workers keep in memory.")
        self.tokens = counter(
            "router_tokens", "Tokens of answers that were read, as backends counted them.", ["model", "kind"]
        )
        self.cost = counter(
            "router_cost",
            "Cost of the tokens of answers that were read, by the configured prices.",
            ["model", "currency"],
        )
        self.finished = counter("router_answers", "Answers that were read, by how they ended.", ["model", "reason"])
        self.first_token_seconds = timings(
            "router_time_to_first_token_seconds",
            "From the decision to the first text of a stream.",
            ["model"],
            buckets=_UPSTREAM_SECONDS,
        )
        self.token_seconds = timings(
            "router_time_per_output_chunk_seconds",
            "Between two pieces of text of a stream, mean of each answer.",
            ["model"],
            buckets=_SECONDS,
        )
        self.waited = gauge("router_queue_seconds", "Recent wait of requests before a worker accepts them.")
        self.refused = counter(
            "router_refused_requests",
            "Requests refused with 429, because the queue or the bodies in flight reached their limit.",
        )
        self.selections = counter(
            "router_selections",
            "Choices among a decision's candidates, by reason: `weight`, `conversation`, `score`, `probe`, `bounds` "
            "(none keeps them).",
            ["decision", "model", "reason"],
        )
        self.limits = counter(
            "router_limits_exceeded",
            "Requests beyond a limit: `refused`, sent to a `cheaper` model, or `reported`; `unavailable`: not checked.",
            ["rule", "outcome"],
        )
        self.adapter_fallbacks = counter(
            "router_adapter_fallbacks",
            "Requests served by the base model because its backends do not have the adapter.",
            ["adapter"],
        )
        self.fallbacks = counter(
            "router_fallbacks",
            "Attempts that failed before the first byte, by model, reason and next model (empty: none).",
            ["model", "reason", "next"],
        )
        self.no_fallback = counter(
            "router_no_fallback",
            "Requests that one candidate had to answer, though there are others: `stored`, they refer to what a "
            "backend has stored; `size`, more would have to be kept than a header holds.",
            ["reason"],
        )
        self.refused_hints = counter(
            "router_refused_hints", "Hints of the MCP server that the decision does not allow.", ["kind"]
        )
        self.reloads = counter("router_config_reloads", "Configuration files read since the start.", ["result"])
        self.rejected = gauge("router_config_rejected", "1 while the file on disk is not the one that is served.")
        self.adapters_loaded = gauge("router_adapters_loaded", "Adapters that a model's backends list.", ["model"])
        self.audit_errors = counter("router_audit_errors", "Audit records that could not be written.")
        # Exporters count in threads of their own.
        self.spans = prometheus_client.Counter(
            "router_trace_spans", "Spans by result: `sent` or `lost`.", ["result"], registry=registry
        )
        self.in_flight = Level("router_in_flight_requests", "Requests being routed.", registry=registry)
        self.task_restarts = counter(
            "router_task_restarts", "Background tasks of the service that ended and were started again.", ["task"]
        )
        self.worker_restarts = counter(
            "router_worker_restarts",
            "Workers that were replaced: `ended` by themselves, `silent` to health checks, or at their `start`.",
            ["reason"],
        )
