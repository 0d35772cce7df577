"""Prometheus metrics. Label values come from the configuration or from fixed lists, so their number is bounded."""

from __future__ import annotations

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
        self.requests = Counter(
            "router_requests",
            "Requests, by how they were routed; `recipe` is empty for `routing` itself.",
            ["decision", "model", "path", "recipe"],
            registry=registry,
        )
        self.stage_seconds = Timings(
            "router_stage_seconds", "Time by stage of a request.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.signal_errors = Counter(
            "router_signal_errors", "Signals that could not be evaluated.", ["signal", "reason"], registry=registry
        )
        self.degraded = Counter(
            "router_degraded_requests", "Requests routed without a part that was down.", ["part"], registry=registry
        )
        self.blocked = Counter(
            "router_blocked_requests",
            "Requests that protection refused (`blocked`), could not check (`unknown`), sent to another model "
            "(`confined`) or masked (`masked`), or on which it would act (`shadow`).",
            ["decision", "outcome"],
            registry=registry,
        )
        self.screened = Counter(
            "router_screened_answers",
            "Answers with forbidden personal data: `blocked`, `masked` or `reported`.",
            ["decision", "outcome"],
            registry=registry,
        )
        self.windowed = Counter(
            "router_windowed_prompts", "Prompts over the encoder's limit, scored in windows.", registry=registry
        )
        self.encoder_up = Gauge(
            "router_encoder_up",
            "1 while the encoder on Triton gives valid results.",
            ["trunk"],
            registry=registry,
        )
        self.encoder_limit = Gauge(
            "router_encoder_limit", "Calls to the encoder that may be in flight at once, over all workers and the "
            "process that serves REST.",
            ["trunk"], registry=registry,
        )  # fmt: skip
        self.encoder_in_flight = Gauge(
            "router_encoder_in_flight", "Calls to the encoder that have not ended, background work excepted.",
            ["trunk"], registry=registry,
        )  # fmt: skip
        self.upstream_seconds = Timings(
            "router_upstream_seconds",
            "From the router's decision to the headers of the backend's answer, by model or adapter.",
            ["model", "status"],
            buckets=_UPSTREAM_SECONDS,
            registry=registry,
        )
        self.cache = Counter(
            "router_cache_lookups",
            "Cache lookups by result; `not_kept` are answers that could not be stored.",
            ["decision", "result"],
            registry=registry,
        )
        self.cache_entries = Gauge(
            "router_cache_entries", "Answers that workers keep in memory.", registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "router_tokens", "Tokens of answers that were read, as backends counted them.", ["model", "kind"],
            registry=registry,
        )  # fmt: skip
        self.cost = Counter(
            "router_cost", "Cost of the tokens of answers that were read, by the configured prices.",
            ["model", "currency"], registry=registry,
        )  # fmt: skip
        self.finished = Counter(
            "router_answers", "Answers that were read, by how they ended.", ["model", "reason"], registry=registry
        )
        self.first_token_seconds = Timings(
            "router_time_to_first_token_seconds", "From the decision to the first text of a stream.", ["model"],
            buckets=_UPSTREAM_SECONDS, registry=registry,
        )  # fmt: skip
        self.token_seconds = Timings(
            "router_time_per_output_chunk_seconds", "Between two pieces of text of a stream, mean of each answer.",
            ["model"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.waited = Gauge(
            "router_queue_seconds", "Recent wait of requests before a worker accepts them.",
            registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "router_refused_requests", "Requests refused with 429, because the queue or the bodies in flight "
            "reached their limit.",
            registry=registry,
        )  # fmt: skip
        self.selections = Counter(
            "router_selections",
            "Choices among a decision's candidates, by reason: `weight`, `conversation`, `score`, `probe`, `bounds` "
            "(none keeps them).",
            ["decision", "model", "reason"],
            registry=registry,
        )
        self.limits = Counter(
            "router_limits_exceeded",
            "Requests beyond a limit: `refused`, sent to a `cheaper` model, or `reported`; `unavailable`: not checked.",
            ["rule", "outcome"],
            registry=registry,
        )
        self.adapter_fallbacks = Counter(
            "router_adapter_fallbacks",
            "Requests served by the base model because its backends do not have the adapter.",
            ["adapter"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "router_fallbacks",
            "Attempts that failed before the first byte, by model, reason and next model (empty: none).",
            ["model", "reason", "next"],
            registry=registry,
        )
        self.no_fallback = Counter(
            "router_no_fallback",
            "Requests that one candidate had to answer, though there are others: `stored`, they refer to what a "
            "backend has stored; `size`, more would have to be kept than a header holds.",
            ["reason"],
            registry=registry,
        )
        self.refused_hints = Counter(
            "router_refused_hints", "Hints of the MCP server that the decision does not allow.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self.reloads = Counter(
            "router_config_reloads", "Configuration files read since the start.", ["result"], registry=registry
        )
        self.rejected = Gauge(
            "router_config_rejected", "1 while the file on disk is not the one that is served.", registry=registry,
        )  # fmt: skip
        self.adapters_loaded = Gauge(
            "router_adapters_loaded", "Adapters that a model's backends list.", ["model"], registry=registry,
        )  # fmt: skip
        self.audit_errors = Counter(
            "router_audit_errors", "Audit records that could not be written.", registry=registry
        )
        # Exporters count in threads of their own.
        self.spans = prometheus_client.Counter(
            "router_trace_spans", "Spans by result: `sent` or `lost`.", ["result"], registry=registry
        )
        self.in_flight = Level("router_in_flight_requests", "Requests being routed.", registry=registry)
        self.task_restarts = Counter(
            "router_task_restarts", "Background tasks of the service that ended and were started again.", ["task"],
            registry=registry,
        )  # fmt: skip
        self.worker_restarts = Counter(
            "router_worker_restarts",
            "Workers that were replaced: `ended` by themselves, `silent` to health checks, or at their `start`.",
            ["reason"], registry=registry,
        )  # fmt: skip
