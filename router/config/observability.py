"""Settings of what an operator sees: metrics, audit, logs, usage and traces."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, model_validator

from triton_router.config.section import HOST_AND_PORT, Name, Probability, Section


class MetricsSettings(Section):
    NOT_ACTIVE = frozenset({"windowed_metrics"})

    enabled: bool = Field(True, description="Serve Prometheus metrics.")
    host: str = Field("127.0.0.1", description="Listening address.")
    port: int = Field(9190, ge=1, le=65535, description="Its port.")


class AuditSettings(Section):
    """A record of every routed request, one JSON object per line."""

    enabled: bool = Field(False, description="Write it.")
    path: Name = Field("audit.jsonl", description="File to append to.")
    include_prompt: bool = Field(False, description="Include the prompt's text in the record.")


class LogSettings(Section):
    """The log line of each routed request."""

    scores: bool = Field(
        False, description="Add the score of every decision, in [0, 1] by name, not only the winner's."
    )


class UsageSettings(Section):
    """Token counts, from responses as they pass."""

    answers: bool = Field(
        True,
        description="Read complete responses: tokens and finish reason. If both this and `streams` are off, our "
        "Envoy sends the router no responses, and `router_upstream_seconds` stays empty.",
    )
    streams: bool = Field(
        False,
        description="Read streamed responses too: also the time to the first token and per token. Each chunk "
        "costs CPU.",
    )
    request_on_streams: bool = Field(
        False,
        description="With `streams`: request token counts of streams from backends (`stream_options.include_usage`). "
        "The counts are hidden from clients that did not request them.",
    )

    @model_validator(mode="after")
    def _only_where_streams_are_read(self) -> Self:
        if self.request_on_streams and not self.streams:
            raise ValueError("`request_on_streams` needs `streams: true`")
        return self


def _without_scheme(endpoint: Any) -> Any:
    return re.sub(r"^https?://", "", endpoint) if isinstance(endpoint, str) else endpoint


class TraceExporter(Section):
    """The destination of spans."""

    type: Literal["otlp", "otlp_http", "stdout"] = Field(
        "otlp", description="`otlp` is OTLP over gRPC, `otlp_http` over HTTP; `stdout` writes one JSON object per line."
    )
    endpoint: Annotated[
        str, BeforeValidator(_without_scheme), StringConstraints(pattern=rf"{HOST_AND_PORT}(/[^\s?#]*)?$")
    ] = Field(
        "127.0.0.1:4317",
        description="`host:port` of the collector. For `otlp_http` a path may follow; without one it is `/v1/traces`.",
    )
    insecure: bool = Field(False, description="Without TLS.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Headers of every batch, such as `authorization`."
    )


class TraceSampling(Section):
    """The selection of requests to trace."""

    type: Literal[
        "always_on", "always_off", "traceidratio", "probabilistic",
        "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
    ] = Field(
        "always_on",
        description="`parentbased_…` follows the caller's `traceparent`, and the rest of the name applies to other "
        "requests. `probabilistic` is another name of `traceidratio`.",
    )  # fmt: skip
    rate: Probability = Field(1.0, description="Share of requests to sample, for ratios.")

    @property
    def follows_parent(self) -> bool:
        return self.type.startswith("parentbased_")

    @property
    def share(self) -> float:
        """The share of requests without a parent to follow that are sampled."""
        kind = self.type.removeprefix("parentbased_")
        return {"always_on": 1.0, "always_off": 0.0}.get(kind, self.rate)


class TraceResource(Section):
    """The OpenTelemetry resource of the spans; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""

    service_name: Name = Field("triton-router", description="`service.name`.")
    service_version: Name | None = Field(None, description="`service.version`; default: the router's own.")
    deployment_environment: Name | None = Field(None, description="`deployment.environment.name`.")


class TracingSettings(Section):
    """OpenTelemetry spans of each request; docs/tracing.md describes them. Needs the extra `tracing`."""

    # Spellings of before v0.3 that files still have; that version ignores them too.
    NOT_ACTIVE = frozenset({"otlp_endpoint", "sampling_ratio"})

    enabled: bool = Field(False, description="Send traces.")
    provider: Literal["opentelemetry"] = Field("opentelemetry", description="Only `opentelemetry` is valid.")
    exporter: TraceExporter = Field(default_factory=TraceExporter, description="The exporter of spans.")
    sampling: TraceSampling = Field(default_factory=TraceSampling, description="The requests to trace.")
    resource: TraceResource = Field(default_factory=TraceResource, description="The resource of the spans.")


class Observability(Section):
    NOT_ACTIVE = frozenset({"profiling"})

    usage: UsageSettings = Field(default_factory=UsageSettings, description="Token counts and timings of responses.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="Decision records for auditors.")
    logging: LogSettings = Field(default_factory=LogSettings, description="The log line of each request.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Prometheus.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="OpenTelemetry.")
