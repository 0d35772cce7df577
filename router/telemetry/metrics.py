"""Prometheus metrics. Label values come from the configuration or from fixed lists, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From 0.1 ms: most stages of a request take less than Prometheus' default first bucket of 5 ms.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The router's metrics, in a registry of their own (``registry``)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "router_requests", "Requests, by how they were routed.", ["decision", "model", "path"], registry=registry
        )
        self.stage_seconds = Histogram(
            "router_stage_seconds", "Time by stage of a request.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.signal_errors = Counter(
            "router_signal_errors", "Signals that could not be evaluated.", ["signal", "reason"], registry=registry
        )
        self.degraded = Counter(
            "router_degraded_requests", "Requests routed without a part that was down.", ["part"], registry=registry
        )
        self.windowed = Counter(
            "router_windowed_prompts", "Prompts over the encoder's limit, scored in windows.", registry=registry
        )
        self.encoder_up = Gauge(
            "router_encoder_up",
            "1 while the encoder on Triton answers as its bundle says.",
            ["trunk"],
            registry=registry,
        )
        self.in_flight = Gauge("router_in_flight_requests", "Requests being routed.", registry=registry)
