"""Settings of what serves the routing: the router itself, inference, ext_proc, REST, observability, stores."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from triton_router.config.section import (
    HOST_AND_PORT,
    Endpoint,
    Host,
    IpAddress,
    LowerHeaderName,
    Milliseconds,
    Name,
    Probability,
    Seconds,
    Section,
)
from triton_router.config.stores import CacheSettings as CacheSettings
from triton_router.config.stores import Stores


class ReloadSettings(Section):
    """Following changes of the configuration file."""

    enabled: bool = Field(True, description="Watch the file, and the link that leads to it.")
    interval_seconds: float = Field(0.5, gt=0, le=60, description="How often it is looked at.")


class AdapterDiscovery(Section):
    """Asking the backends' `/v1/models` which adapters are loaded."""

    enabled: bool = Field(True, description="Ask; without it every declared adapter is taken to be loaded.")
    interval_seconds: float = Field(5, gt=0, le=3600, description="How often each backend is asked.")
    timeout_seconds: float = Field(2, gt=0, le=60, description="How long an answer may take.")
    expose: bool = Field(
        False,
        description="Let clients see and name adapters that backends list and no model card declares. Those that an "
        "MCP server may choose stay hidden.",
    )


class RouterSettings(Section):
    NOT_ACTIVE = frozenset({"config_source", "strategy", "include_config_models_in_list", "clear_route_cache",
                            "streamed_body", "skip_processing", "model_selection", "learning"})  # fmt: skip

    auto_model_names: tuple[Name, ...] = Field(
        ("MoM", "auto"), min_length=1, description="Model names that ask the router to choose."
    )
    auto_model_name: Name | None = Field(None, description="One more such name.")
    session_header: LowerHeaderName = Field(
        "x-session-id",
        description="Request header that names a conversation: its requests stay on one of several weighted models.",
    )
    reload: ReloadSettings = Field(default_factory=ReloadSettings, description="Following changes of this file.")
    adapter_discovery: AdapterDiscovery = Field(
        default_factory=AdapterDiscovery, description="Which adapters the backends have loaded."
    )
    max_body_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024,
        description="Largest request body; one limit for Envoy, gRPC and the router. More is 413.",
    )  # fmt: skip
    drain_seconds: float = Field(30, ge=0, description="How long open streams may take after SIGTERM.")


class InferenceSettings(Section):
    """The Triton server that holds the signal models."""

    endpoint: Endpoint = Field("127.0.0.1:8001", description="`host:port` of Triton's gRPC service.")
    bundle: str | None = Field(
        None, description="Path of the signal bundle's manifest; by default the one in the model repository."
    )
    deadline_ms: Milliseconds | None = Field(
        None, description="Longest a request waits for its signals. Default: 200 on GPU profiles, 1000 on CPU."
    )
    probe_interval_ms: Milliseconds = Field(
        1000, description="How often a failed Triton is asked again (with a real inference)."
    )
    max_in_flight: int = Field(
        256, ge=1, description="Signal calls in flight, for each worker and trunk; requests beyond are routed without "
        "model-backed signals.",
    )  # fmt: skip
    adaptive_limit: bool = Field(
        True, description="Find out from the times of calls how many Triton can bear, up to `max_in_flight`."
    )
    tolerated_slowdown: float = Field(
        20, ge=1.2, le=100,
        description="How many times as long as on an idle Triton calls may take on average, before fewer go out.",
    )  # fmt: skip


class RouterTls(Section):
    """How Envoy speaks to an ext_proc service that has `tls`."""

    ca_file: Name = Field(description="PEM file with the authority that the router's certificate is checked against.")
    server_name: Name | None = Field(None, description="Name that the certificate must carry; default: any.")
    cert_file: Name | None = Field(None, description="PEM file with Envoy's own certificate, where the router asks.")
    key_file: Name | None = Field(None, description="PEM file with the key of `cert_file`.")

    @model_validator(mode="after")
    def _certificate_and_key(self) -> RouterTls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("`cert_file` and `key_file` go together")
        return self


# Headers of the SDKs of OpenAI and Anthropic for browsers, and our own.
_BROWSER_HEADERS = (
    "authorization", "content-type", "accept", "x-api-key", "x-session-id", "x-request-id", "x-vsr-debug",
    "x-vsr-cache-control", "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access",
    "openai-organization", "openai-project", "openai-beta", "user-agent", "x-stainless-lang",
    "x-stainless-package-version", "x-stainless-os", "x-stainless-arch", "x-stainless-runtime",
    "x-stainless-runtime-version", "x-stainless-retry-count", "x-stainless-timeout", "x-stainless-helper-method",
)  # fmt: skip


class CorsSettings(Section):
    """Which web pages may call the gateway from a browser. Credentials are headers; cookies are not allowed."""

    allow_origins: tuple[Annotated[str, StringConstraints(pattern=r"^(\*|https?://[!-~]+)$", max_length=512)], ...] = (
        Field(min_length=1, description="Origins such as `https://chat.example.com`, or `*` for all.")
    )
    allow_headers: tuple[LowerHeaderName, ...] = Field(
        _BROWSER_HEADERS, description="Request headers that pages may send; default: those of the usual SDKs."
    )


class EnvoySettings(Section):
    """What `triton-router up` and `triton-router envoy` write into Envoy's configuration."""

    host: IpAddress = Field("127.0.0.1", description="Listening address: an IP address, or `localhost`.")
    port: int = Field(8080, ge=1, le=65535, description="Listening port.")
    admin_port: int = Field(9901, ge=1, le=65535, description="Admin interface, always on loopback.")
    failure_mode_allow: bool = Field(
        False,
        description="Let a request through when the router cannot be asked. A concrete model name is still needed for "
        "it to find a backend, so `false` gives the clearer error.",
    )
    request_body_mode: Literal["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"] = Field(
        "BUFFERED", description="How Envoy hands over requests. `STREAMED` is overridden to `BUFFERED`."
    )
    response_body_mode: Literal["NONE", "STREAMED", "FULL_DUPLEX_STREAMED"] = Field(
        "NONE",
        description="How Envoy hands over answers; with `NONE` or `STREAMED` only those that somebody watches. Beside "
        "`FULL_DUPLEX_STREAMED` requests `NONE` is none: nothing is cached or counted.",
    )
    idle_timeout_seconds: Seconds = Field(600, description="Longest silence inside an answer.")
    request_timeout_seconds: Seconds = Field(
        60, description="Longest that a request may take to arrive, body included. More is 408."
    )
    cors: CorsSettings | None = Field(None, description="Let browsers call the gateway; default: they may not.")
    concurrency: int | None = Field(None, ge=1, le=1024, description="Envoy worker threads; default: one a core.")
    router_tls: RouterTls | None = Field(None, description="For an ext_proc service with `tls`.")


class ServerTls(Section):
    """Files are read again when they change, for connections made from then on."""

    cert_file: Name = Field(description="PEM file with the certificate and those that lead to its authority.")
    key_file: Name = Field(description="PEM file with its key.")
    client_ca_file: Name | None = Field(
        None, description="PEM file with the authority of callers; with it only they are let in (mTLS)."
    )


class OverloadSettings(Section):
    """What a worker does that gets more requests than its CPU can serve."""

    shed_after_ms: Milliseconds = Field(
        100, description="Where requests wait longer for a worker, they are routed without model-backed signals."
    )
    refuse_after_ms: Milliseconds = Field(
        500, description="Where they wait longer than this, they are answered 429 with `retry-after`."
    )

    @model_validator(mode="after")
    def _in_this_order(self) -> Self:
        if self.refuse_after_ms < self.shed_after_ms:
            raise ValueError("`refuse_after_ms` must not be less than `shed_after_ms`")
        return self


class ExtProcSettings(Section):
    host: Host = Field("127.0.0.1", description="Listening address of the ext_proc and health service.")
    port: int = Field(50051, ge=1, le=65535, description="Its port; further workers take the ports after it.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that serve ext_proc, each on a port of its own. In Kubernetes: 1 a pod."
    )
    max_streams: int = Field(
        10_000, ge=1, le=1_000_000,
        description="Most requests in a worker's hands on average, those included that wait for their backend's first "
        "byte; the Envoy that `up` and `envoy` configure answers 503 beyond it times the workers.",
    )  # fmt: skip
    overload: OverloadSettings = Field(default_factory=OverloadSettings, description="Beyond what a worker can serve.")
    tls: ServerTls | None = Field(None, description="Serve over TLS; default: in the clear.")
    health_port: int | None = Field(
        None, ge=1, le=65535,
        description="One more port with the health service alone, in the clear: for probes that cannot speak TLS. "
        "Further workers take the ports after it.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _ports_for_all_workers(self) -> Self:
        if max(self.port, self.health_port or 0) + self.workers - 1 > 65535:
            raise ValueError("`workers` take ports beyond 65535")
        return self


class ApiSettings(Section):
    NOT_ACTIVE = frozenset({"batch_classification"})

    host: str = Field("127.0.0.1", description="Listening address of the REST service.")
    port: int = Field(9080, ge=1, le=65535, description="Its port.")
    token_env: Name | None = Field(
        None, description="Environment variable that holds the bearer token; needed when `host` is not loopback."
    )


class MetricsSettings(Section):
    NOT_ACTIVE = frozenset({"windowed_metrics"})

    enabled: bool = Field(True, description="Serve Prometheus metrics.")
    host: str = Field("127.0.0.1", description="Listening address.")
    port: int = Field(9190, ge=1, le=65535, description="Its port.")


class AuditSettings(Section):
    """A record of every routed request, one JSON object a line."""

    enabled: bool = Field(False, description="Write it.")
    path: Name = Field("audit.jsonl", description="File that lines are appended to.")
    include_prompt: bool = Field(False, description="Put the prompt's text into the record.")


class LogSettings(Section):
    """The line that each routed request leaves in the log."""

    scores: bool = Field(
        False, description="Put how near every decision came into it, in [0, 1] by name: not only the winner."
    )


class UsageSettings(Section):
    """Counting tokens by reading answers as they pass."""

    answers: bool = Field(True, description="Read answers in one piece: tokens and how they ended.")
    streams: bool = Field(
        False, description="Read streamed answers too: also time to the first token and for each. Each piece costs CPU."
    )
    request_on_streams: bool = Field(
        False,
        description="With `streams`: have backends count the tokens of streams (`stream_options.include_usage`); "
        "clients that did not ask for the count do not see it.",
    )

    @model_validator(mode="after")
    def _only_where_streams_are_read(self) -> Self:
        if self.request_on_streams and not self.streams:
            raise ValueError("`request_on_streams` needs `streams: true`")
        return self


class TraceExporter(Section):
    """Where spans go."""

    type: Literal["otlp", "otlp_http", "stdout"] = Field(
        "otlp", description="`otlp` is OTLP over gRPC, `otlp_http` over HTTP; `stdout` writes one JSON object a line."
    )
    endpoint: Annotated[str, StringConstraints(pattern=rf"{HOST_AND_PORT}(/[^\s?#]*)?$")] = Field(
        "127.0.0.1:4317",
        description="`host:port` of the collector. For `otlp_http` a path may follow; without one it is `/v1/traces`.",
    )
    insecure: bool = Field(False, description="Without TLS.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Sent with every batch, such as `authorization`."
    )


class TraceSampling(Section):
    """Which requests are traced."""

    type: Literal[
        "always_on", "always_off", "traceidratio", "probabilistic",
        "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
    ] = Field(
        "always_on",
        description="`parentbased_…` follows a caller that sends `traceparent` and decides by the rest of the name for "
        "others; `probabilistic` is another name of `traceidratio`.",
    )  # fmt: skip
    rate: Probability = Field(1.0, description="Share of the requests that a ratio samples.")

    @property
    def follows_parent(self) -> bool:
        return self.type.startswith("parentbased_")

    @property
    def share(self) -> float:
        """The share of requests without a parent to follow that are sampled."""
        kind = self.type.removeprefix("parentbased_")
        return {"always_on": 1.0, "always_off": 0.0}.get(kind, self.rate)


class TraceResource(Section):
    """Who sends the spans; `OTEL_RESOURCE_ATTRIBUTES` adds to it."""

    service_name: Name = Field("triton-router", description="`service.name`.")
    service_version: Name | None = Field(None, description="`service.version`; default: the router's own.")
    deployment_environment: Name | None = Field(None, description="`deployment.environment.name`.")


class TracingSettings(Section):
    """OpenTelemetry spans of each request; docs/tracing.md says what is in them. Needs the extra `tracing`."""

    enabled: bool = Field(False, description="Send them.")
    provider: Literal["opentelemetry"] = Field("opentelemetry", description="The only one.")
    exporter: TraceExporter = Field(default_factory=TraceExporter, description="Where they go.")
    sampling: TraceSampling = Field(default_factory=TraceSampling, description="Which requests.")
    resource: TraceResource = Field(default_factory=TraceResource, description="Who sends them.")


class Observability(Section):
    usage: UsageSettings = Field(default_factory=UsageSettings, description="Tokens and times of answers.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="Decision record for auditors.")
    logging: LogSettings = Field(default_factory=LogSettings, description="What is logged of each request.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Prometheus.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="OpenTelemetry.")


class Identity(Section):
    """Headers that say who is calling. They are believed only if something in front of the router sets them."""

    user_id_header: LowerHeaderName = Field("x-authz-user-id", description="Header with the user's id.")
    user_groups_header: LowerHeaderName = Field("x-authz-user-groups", description="Header with groups, by commas.")
    tenant_header: LowerHeaderName = Field("x-tenant-id", description="Header with the tenant.")
    set_by: Literal["nobody", "gateway", "mtls"] = Field(
        "nobody",
        description="Who sets these headers and removes a client's own: an authentication filter before the router "
        "(`gateway`), or a caller that mTLS has verified (`mtls`). `nobody`: they are not believed.",
    )


class Authz(Section):
    NOT_ACTIVE = frozenset({"providers"})

    fail_open: bool = Field(
        False, description="Route callers without an identity although decisions ask for roles; otherwise 403."
    )
    identity: Identity = Field(default_factory=Identity, description="Who is calling.")


class ReplaySettings(Section):
    """Looking up recent decisions by the id in `x-vsr-replay-id`."""

    NOT_ACTIVE = frozenset({"store_backend", "async_writes"})
    INSTEAD: ClassVar[dict[str, str]] = {"store_backend": "records are kept in memory"}

    enabled: bool = Field(False, description="Keep decision records.")
    max_records: int = Field(1000, ge=1, le=1_000_000, description="Most records kept, in each worker.")
    ttl_seconds: float = Field(3600, gt=0, description="How long a record can be looked up.")
    include_prompt: bool = Field(False, description="Put the prompt's text into the record.")


class Services(Section):
    NOT_ACTIVE = frozenset({"response_api", "ratelimit", "management_api",
                            "startup_status"})  # fmt: skip

    api: ApiSettings = Field(default_factory=ApiSettings, description="REST: classify, explain, models, health.")
    extproc: ExtProcSettings = Field(default_factory=ExtProcSettings, description="Envoy's external processor.")
    envoy: EnvoySettings = Field(default_factory=EnvoySettings, description="The Envoy that `up` runs.")
    observability: Observability = Field(default_factory=Observability, description="Metrics, traces, audit.")
    authz: Authz = Field(default_factory=Authz, description="Identity and roles.")
    router_replay: ReplaySettings = Field(default_factory=ReplaySettings, description="Looking up decisions.")


_BOUND = "the signal bundle's domain head is used"


class DomainClassifier(Section):
    """How the domain signal judges."""

    NOT_ACTIVE = frozenset({"enabled", "model_ref", "use_cpu", "use_modernbert", "use_mmbert_32k",
                            "category_mapping_path"})  # fmt: skip
    INSTEAD: ClassVar[dict[str, str]] = {
        "model_ref": _BOUND,
        "category_mapping_path": "the signal bundle carries its labels",
        "use_cpu": "Triton decides where models run",
    }

    model_id: Name | None = Field(
        None,
        description="Model of the signal bundle whose `domain` head judges, by its name or the published model's id; "
        "default, also for a name that the bundle does not have: the first with that head.",
    )
    threshold: Probability = Field(0.25, description="Least probability of the domain that wins.")
    multi_label: bool = Field(False, description="Every domain at or over the threshold matches, not only the best.")
    fallback_category: Name | None = Field(
        None, description="Domain that matches when none passes; default: `other` or `general`, if declared."
    )


class McpSettings(Section):
    """A classifier of your own behind the Model Context Protocol; docs/signals/mcp.md has its contract."""

    enabled: bool = Field(True, description="Use it.")
    transport_type: Literal["stdio", "http"] = Field(
        "http", description="`stdio` starts `command`; `http` calls `url` (streamable HTTP)."
    )
    command: Name | None = Field(None, description="Program to start, for `stdio`.")
    args: tuple[str, ...] = Field((), description="Its arguments.")
    env: dict[str, SecretStr] = Field(default_factory=dict, description="Its environment, beside a minimal one.")
    url: Name | None = Field(None, description="Address of the server, for `http`.")
    http_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Headers sent to the server, such as `authorization`."
    )
    tool_name: Name = Field("classify_text", description="Tool that classifies.")
    list_tool_name: Name = Field("list_categories", description="Tool that lists the classes.")
    threshold: Probability = Field(0.5, description="Least confidence of a class that matches.")
    timeout_seconds: float = Field(0.5, gt=0, le=60, description="How long one classification may take.")
    forward_headers: tuple[LowerHeaderName, ...] = Field(
        (), description="Request headers passed on to the tool as `headers`."
    )
    sessions: int = Field(4, ge=1, le=64, description="Sessions kept open over HTTP.")
    max_in_flight: int = Field(256, ge=1, description="Calls in flight; requests beyond go on without.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> McpSettings:
        if self.transport_type == "stdio" and self.command is None:
            raise ValueError("transport `stdio` needs `command`")
        if self.transport_type == "http" and self.url is None:
            raise ValueError("transport `http` needs `url`")
        return self


class Classifiers(Section):
    NOT_ACTIVE = frozenset({"pii", "preference"})

    domain: DomainClassifier = Field(default_factory=DomainClassifier, description="The domain signal.")
    mcp: McpSettings | None = Field(None, description="The MCP server.")


class Modules(Section):
    NOT_ACTIVE = frozenset({"prompt_compression", "prompt_guard", "complexity", "hallucination_mitigation",
                            "feedback_detector", "modality_detector"})  # fmt: skip

    classifier: Classifiers = Field(default_factory=Classifiers, description="Classifiers.")


class ModelCatalogSettings(Section):
    NOT_ACTIVE = frozenset({"embeddings", "system", "external", "kbs"})
    INSTEAD: ClassVar[dict[str, str]] = {
        "embeddings": "the signal bundle's embedder is used",
        "system": "the signal bundle's models are used",
    }

    modules: Modules = Field(default_factory=Modules, description="What judges prompts.")


class Global(Section):
    NOT_ACTIVE = frozenset({"integrations"})

    router: RouterSettings = Field(default_factory=RouterSettings, description="The router itself.")
    inference: InferenceSettings = Field(default_factory=InferenceSettings, description="Triton.")
    services: Services = Field(default_factory=Services, description="Addresses, ports, identity.")
    model_catalog: ModelCatalogSettings = Field(
        default_factory=ModelCatalogSettings, description="The models behind the signals."
    )
    stores: Stores = Field(default_factory=Stores, description="What is remembered.")
