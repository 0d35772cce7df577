"""Settings of services: the router itself, inference, ext_proc, Envoy, REST, observability, identity, classifiers."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from triton_router.config.fallback import FallbackPolicy
from triton_router.config.knowledge import KnowledgeBase
from triton_router.config.limits import RateLimit
from triton_router.config.observability import Observability
from triton_router.config.parts import PartNames, PartsSettings
from triton_router.config.section import (
    HOST_AND_PORT,
    Address,
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
from triton_router.config.selection import LoadPolling, Probing
from triton_router.config.stores import CacheSettings as CacheSettings
from triton_router.config.stores import Stores


class ReloadSettings(Section):
    """Reloading of the configuration file."""

    enabled: bool = Field(True, description="Watch the file and any link to it.")
    interval_seconds: float = Field(0.5, gt=0, le=60, description="Seconds between checks of the file.")


class AdapterDiscovery(Section):
    """Polling of the backends' `/v1/models` for loaded adapters."""

    enabled: bool = Field(True, description="Poll the backends. Otherwise every declared adapter counts as loaded.")
    interval_seconds: float = Field(5, gt=0, le=3600, description="Seconds between polls of each backend.")
    timeout_seconds: float = Field(2, gt=0, le=60, description="Timeout of one poll, in seconds.")
    expose: bool = Field(
        False,
        description="Let clients list and name adapters that backends list and no model card declares. Adapters that "
        "an MCP server may choose stay hidden.",
    )


class RouterSettings(Section):
    NOT_ACTIVE = frozenset({"strategy", "include_config_models_in_list", "clear_route_cache",
                            "streamed_body", "skip_processing", "model_selection", "learning"})  # fmt: skip

    config_source: Literal["file", "kubernetes"] = Field(
        "file", description="`kubernetes`: its resources are not read in this version; only this file is."
    )
    auto_model_names: tuple[Name, ...] = Field(
        ("MoM", "auto"), min_length=1, description="Model names that ask the router to choose."
    )
    auto_model_name: Name | None = Field(None, description="One more such name.")
    session_header: LowerHeaderName = Field(
        "x-session-id",
        description="Request header that identifies a conversation. Its requests stay on one of several weighted "
        "candidates.",
    )
    reload: ReloadSettings = Field(default_factory=ReloadSettings, description="Reloading of this file.")
    adapter_discovery: AdapterDiscovery = Field(
        default_factory=AdapterDiscovery, description="Detection of the adapters that the backends have loaded."
    )
    load: LoadPolling = Field(default_factory=LoadPolling, description="Polling of the backends' load.")
    probing: Probing = Field(default_factory=Probing, description="Requests to candidates that are slow or full.")
    parts: PartsSettings = Field(
        default_factory=PartsSettings, description="Separation of the user's words from text that programs add."
    )
    max_body_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024,
        description="Largest request body, for Envoy, gRPC and the router. A larger body gets 413.",
    )  # fmt: skip
    allow_inactive: tuple[Name, ...] = Field(
        (),
        description="Protections that may have no effect: kinds of signals and plugins, or keys, that this version "
        "lacks. Any other one makes the file invalid.",
    )
    max_bytes_in_flight: int = Field(
        128 * 1024 * 1024, ge=1024 * 1024,
        description="Most bytes of request bodies that a worker holds at once: until their requests are forwarded, and "
        "from a million bytes on until the backend responds. An eighth is for smaller bodies. One body of "
        "`max_body_bytes` always fits. A request beyond that gets 429 with `retry-after`.",
    )  # fmt: skip
    drain_seconds: float = Field(30, ge=0, description="Seconds for open streams to finish after SIGTERM.")
    fallback: FallbackPolicy | None = Field(
        None, description="What happens when a model cannot answer, for routing tables without this key."
    )


class InferenceSettings(Section):
    """The Triton server with the signal models."""

    endpoint: Endpoint = Field("127.0.0.1:8001", description="`host:port` of Triton's gRPC service.")
    bundle: str | None = Field(
        None, description="Path of the signal bundle's manifest; default: the one in the model repository."
    )
    deadline_ms: Milliseconds | None = Field(
        None, description="Timeout of a request's signals. Default: 200 on GPU profiles, 1000 on CPU."
    )
    probe_interval_ms: Milliseconds = Field(
        1000, description="Milliseconds between probes of a failed Triton (with a real inference)."
    )
    max_in_flight: int = Field(
        256, ge=1, description="Largest number of signal calls in flight, per worker and trunk. Further requests are "
        "routed without model-backed signals.",
    )  # fmt: skip
    max_passages: int = Field(
        128, ge=1, description="Most passages of a request (600 characters each) for heads that read every part. "
        "Beyond it their signals are unknown. Already judged passages do not count.",
    )  # fmt: skip
    adaptive_limit: bool = Field(
        True, description="Adapt the number of calls in flight to their duration, up to `max_in_flight`."
    )
    tolerated_slowdown: float = Field(
        20, ge=1.2, le=100,
        description="Average slowdown of calls, relative to an idle Triton, at which the router reduces their number.",
    )  # fmt: skip


class RouterTls(Section):
    """Envoy's TLS settings for an ext_proc service with `tls`."""

    ca_file: Name = Field(description="PEM file with the certificate authority of the router's certificate.")
    server_name: Name | None = Field(None, description="Name that the certificate must contain; default: any.")
    cert_file: Name | None = Field(
        None, description="PEM file with Envoy's own certificate, if the router requires one."
    )
    key_file: Name | None = Field(None, description="PEM file with the key of `cert_file`.")

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("`cert_file` and `key_file` must be set together")
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


# A tebibyte: Envoy reads numbers as JSON has them, which is exact as far as 2**53.
MOST_HEAP = 2**40


class EnvoySettings(Section):
    """Settings of the Envoy configuration that `triton-router up` and `triton-router envoy` write."""

    host: IpAddress = Field("127.0.0.1", description="Listening address: an IP address, or `localhost`.")
    port: int = Field(8080, ge=1, le=65535, description="Listening port.")
    admin_port: int = Field(9901, ge=1, le=65535, description="Admin interface, always on loopback.")
    failure_mode_allow: bool = Field(
        False,
        description="Let a request through if the router is unreachable. It still needs a concrete model name to "
        "reach a backend, so `false` gives the clearer error.",
    )
    request_body_mode: Literal["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"] = Field(
        "BUFFERED", description="Body mode of requests. `STREAMED` is overridden to `BUFFERED`."
    )
    response_body_mode: Literal["NONE", "STREAMED", "FULL_DUPLEX_STREAMED"] = Field(
        "NONE",
        description="Body mode of responses. With `NONE` or `STREAMED` Envoy sends only the bodies that the cache or "
        "the token counts need. With `FULL_DUPLEX_STREAMED` requests, `NONE` disables the cache and the counts.",
    )
    idle_timeout_seconds: Seconds = Field(600, description="Longest silence within a response, in seconds.")
    request_timeout_seconds: Seconds = Field(
        60, description="Longest time for a request to arrive, in seconds, body included; then the client gets 408."
    )
    cors: CorsSettings | None = Field(None, description="Cross-origin access for browsers; default: none.")
    concurrency: int | None = Field(None, ge=1, le=1024, description="Envoy worker threads; default: one per core.")
    max_heap_bytes: int | None = Field(
        None, ge=32 * 1024 * 1024, le=MOST_HEAP,
        description="Most memory for Envoy's heap. At 95 % of it new requests get 503. Bodies without a length may "
        "take half of it: further ones get 429. Default: 256 MiB and, for each worker, three times "
        "`max_bytes_in_flight` and 64 KiB for each of `max_streams`.",
    )  # fmt: skip
    router_tls: RouterTls | None = Field(None, description="For an ext_proc service with `tls`.")


class ServerTls(Section):
    """Changed files are reloaded for new connections."""

    cert_file: Name = Field(description="PEM file with the certificate and its chain.")
    key_file: Name = Field(description="PEM file with the certificate's key.")
    client_ca_file: Name | None = Field(
        None, description="PEM file with the callers' certificate authority. Only its certificates are accepted (mTLS)."
    )


class OverloadSettings(Section):
    """Limits of a worker that gets more requests than its CPU can serve."""

    shed_after_ms: Milliseconds = Field(
        100, description="Beyond this wait for a worker, requests are routed without model-backed signals."
    )
    refuse_after_ms: Milliseconds = Field(500, description="Beyond this wait, requests get 429 with `retry-after`.")

    @model_validator(mode="after")
    def _in_this_order(self) -> Self:
        if self.refuse_after_ms < self.shed_after_ms:
            raise ValueError("`refuse_after_ms` must not be less than `shed_after_ms`")
        return self


class ExtProcSettings(Section):
    host: Host = Field("127.0.0.1", description="Listening address of the ext_proc and health service.")
    port: int = Field(50051, ge=1, le=65535, description="Port; further workers use the ports after it.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that serve ext_proc, each on its own port. In Kubernetes: one per pod."
    )
    wire: Literal["native", "grpcio"] = Field(
        "native", description="HTTP/2 implementation: the router's own, or grpcio, which takes more CPU per request."
    )
    max_streams: int = Field(
        10_000, ge=1, le=1_000_000,
        description="Largest average number of open requests per worker, including those that wait for their "
        "backend's first byte. Beyond this number times the workers, the Envoy of `up` and `envoy` returns 503.",
    )  # fmt: skip
    overload: OverloadSettings = Field(default_factory=OverloadSettings, description="Limits for overload.")
    tls: ServerTls | None = Field(None, description="TLS settings; default: plain text.")
    health_port: int | None = Field(
        None, ge=1, le=65535,
        description="Additional port with only the health service, in plain text, for probes without TLS. Further "
        "workers use the ports after it.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _ports_for_all_workers(self) -> Self:
        if max(self.port, self.health_port or 0) + self.workers - 1 > 65535:
            raise ValueError("`workers` take ports beyond 65535")
        return self


class PageSettings(Section):
    """The page at `/` of the REST service: the reasons for decisions, and the effect of changes."""

    enabled: bool = Field(True, description="Serve it.")
    gateway: Annotated[str, StringConstraints(pattern=rf"{HOST_AND_PORT}$")] | None = Field(
        None, description="`host:port` of the Envoy that *Send* calls, without TLS; default: that of `envoy`."
    )
    probes: str | None = Field(
        None, description="File of probes, for its examples, relative to this file. Default: the one of the same name "
        "in the folder `probes` next to this file.",
    )  # fmt: skip


class ApiSettings(Section):
    NOT_ACTIVE = frozenset({"batch_classification", "embeddings", "routing_preview"})

    host: str = Field("127.0.0.1", description="Listening address of the REST service.")
    port: int = Field(9080, ge=1, le=65535, description="Its port.")
    token_env: Name | None = Field(
        None, description="Environment variable with the bearer token; required if `host` is not loopback."
    )
    page: PageSettings = Field(default_factory=PageSettings, description="The page at `/`.")


class Identity(Section):
    """Headers that identify the caller. The router trusts them only if a filter in front of it sets them."""

    user_id_header: LowerHeaderName = Field("x-authz-user-id", description="Header with the user's id.")
    user_groups_header: LowerHeaderName = Field(
        "x-authz-user-groups", description="Header with the groups, separated by commas."
    )
    tenant_header: LowerHeaderName = Field("x-tenant-id", description="Header with the tenant.")
    set_by: Literal["nobody", "gateway", "mtls"] = Field(
        "nobody",
        description="Trusted source of these headers, which removes a client's own: an authentication filter before "
        "the router (`gateway`), or a caller verified by mTLS (`mtls`). `nobody`: the headers are ignored.",
    )
    credential_headers: tuple[LowerHeaderName, ...] = Field(
        (),
        description="Headers with callers' credentials, in addition to those that look like one by name or value. "
        "The cache distinguishes callers by them; other headers that the router does not know then no longer count.",
    )


class AccessRule(Section):
    """Roles that may use certain models, adapters or paths. A request must pass all rules that cover it."""

    models: tuple[Name, ...] = Field(
        (),
        description="Models and adapters, as names or shell patterns, whether clients name them or are routed to them. "
        "A model stands for its adapters too. Default: all.",
    )
    paths: tuple[Annotated[str, StringConstraints(pattern=r"^/v1/[a-z/]+$")], ...] = Field(
        (), description="Paths such as `/v1/embeddings`. Default: all."
    )
    roles: tuple[Name, ...] = Field(
        min_length=1, description="Roles of `routing.signals.role_bindings`, one of which is needed."
    )


class Authz(Section):
    NOT_ACTIVE = frozenset({"providers"})
    PROTECTIVE = frozenset({"providers"})

    access: tuple[AccessRule, ...] = Field((), description="Roles that may use certain models, adapters and paths.")
    fail_open: bool = Field(
        False, description="Route callers without an identity even if decisions test roles; otherwise they get 403."
    )
    identity: Identity = Field(default_factory=Identity, description="Headers that identify the caller.")


class ReplaySettings(Section):
    """Lookup of recent decisions by the id in `x-vsr-replay-id`."""

    NOT_ACTIVE = frozenset({"store_backend", "async_writes", "redis", "postgres", "milvus", "qdrant"})
    INSTEAD: ClassVar[dict[str, str]] = {"store_backend": "records are kept in memory"}

    enabled: bool = Field(False, description="Keep decision records.")
    max_records: int = Field(1000, ge=1, le=1_000_000, description="Largest number of records per worker.")
    ttl_seconds: float = Field(3600, gt=0, description="Lifetime of a record, in seconds.")
    include_prompt: bool = Field(False, description="Include the prompt's text in the record.")
    include_request: bool = Field(
        False, description="Include the whole request in the record, as the client sent it, with session and "
        "identity headers but no credential. `compare` can then read it.",
    )  # fmt: skip
    max_request_bytes: int = Field(65_536, ge=1, le=16_777_216, description="Largest request body to record, in bytes.")
    max_total_bytes: int = Field(
        67_108_864,
        ge=1,
        description="Most bytes of recorded bodies per worker; beyond it the oldest records are dropped.",
    )


class Services(Section):
    NOT_ACTIVE = frozenset({"response_api", "management_api", "startup_status"})

    api: ApiSettings = Field(default_factory=ApiSettings, description="REST: classify, explain, models, health.")
    extproc: ExtProcSettings = Field(default_factory=ExtProcSettings, description="Envoy's external processor.")
    envoy: EnvoySettings = Field(default_factory=EnvoySettings, description="The Envoy that `up` runs.")
    observability: Observability = Field(default_factory=Observability, description="Metrics, traces, audit.")
    authz: Authz = Field(default_factory=Authz, description="Identity and roles.")
    ratelimit: RateLimit = Field(default_factory=RateLimit, description="Limits and budgets.")
    router_replay: ReplaySettings = Field(
        default_factory=ReplaySettings, description="Replay: lookup of decision records."
    )


_BOUND = "the signal bundle's domain head is used"


class DomainClassifier(Section):
    """Settings of the domain signal."""

    NOT_ACTIVE = frozenset({"enabled", "model_ref", "use_cpu", "use_modernbert", "use_mmbert_32k",
                            "category_mapping_path", "max_sequence_length", "variant", "backend"})  # fmt: skip
    INSTEAD: ClassVar[dict[str, str]] = {
        "model_ref": _BOUND,
        "category_mapping_path": "the signal bundle carries its labels",
        "use_cpu": "Triton decides where models run",
    }

    model_id: Name | None = Field(
        None,
        description="Model of the signal bundle whose `domain` head to use, by its name or the published model's id. "
        "Default, also for an unknown name: the first model with that head.",
    )
    threshold: Probability = Field(0.25, description="Least probability of the winning domain.")
    multi_label: bool = Field(False, description="Match every domain at or over the threshold, not only the best.")
    fallback_category: Name | None = Field(
        None,
        description="Domain that matches if no other reaches the threshold; default: `other` or `general`, if "
        "declared.",
    )


class McpSettings(Section):
    """Your own classifier over the Model Context Protocol; docs/signals/mcp.md has its contract."""

    NOT_ACTIVE = frozenset({"max_response_bytes"})

    enabled: bool = Field(True, description="Use it.")
    transport_type: Literal["stdio", "http"] = Field(
        "http", description="`stdio` starts `command`; `http` calls `url` (streamable HTTP)."
    )
    command: Name | None = Field(None, description="Program to start, for `stdio`.")
    args: tuple[SecretStr, ...] = Field((), description="Its arguments; never shown again.")
    env: dict[str, SecretStr] = Field(default_factory=dict, description="Additions to its minimal environment.")
    url: Address | None = Field(None, description="Address of the server, for `http`.")
    http_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Headers sent to the server, such as `authorization`."
    )
    tool_name: Name = Field("classify_text", description="Tool that classifies.")
    list_tool_name: Name = Field("list_categories", description="Tool that lists the classes.")
    threshold: Probability = Field(0.5, description="Least confidence of a class that matches.")
    timeout_seconds: float = Field(0.5, gt=0, le=60, description="Timeout of one classification, in seconds.")
    forward_headers: tuple[LowerHeaderName, ...] = Field(
        (), description="Request headers to forward to the tool as `headers`."
    )
    sessions: int = Field(4, ge=1, le=64, description="Open sessions over HTTP.")
    max_in_flight: int = Field(
        256, ge=1, description="Largest number of calls in flight. Further requests continue without the signal."
    )
    parts: PartNames = ("topic",)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if not self.enabled:
            return self
        if self.transport_type == "stdio" and self.command is None:
            raise ValueError("transport `stdio` needs `command`")
        if self.transport_type == "http" and self.url is None:
            raise ValueError("transport `http` needs `url`")
        return self


_HEAD = "the signal bundle's head is used; `threshold` holds for signals without one"
_ON_ERROR = "`on_error: block` holds for rules that do not say `on_unknown`"


class Classifiers(Section):
    NOT_ACTIVE = frozenset({"pii", "preference"})
    INSTEAD: ClassVar[dict[str, str]] = {
        "pii": f"rules find personal data; {_ON_ERROR}",
        "preference": "examples are compared by the signal bundle's embedder",
    }

    domain: DomainClassifier = Field(default_factory=DomainClassifier, description="The domain signal.")
    mcp: McpSettings | None = Field(None, description="The MCP server.")


class Modules(Section):
    NOT_ACTIVE = frozenset({"prompt_compression", "prompt_guard", "complexity", "hallucination_mitigation",
                            "feedback_detector", "modality_detector", "safety"})  # fmt: skip
    INSTEAD: ClassVar[dict[str, str]] = {
        "prompt_guard": f"{_HEAD}, and {_ON_ERROR}",
        "feedback_detector": _HEAD,
        "modality_detector": _HEAD.replace("threshold", "confidence_threshold"),
        "hallucination_mitigation": "its threshold for fact checks holds for signals without one",
        "complexity": "its `prototype_scoring` holds for signals without one",
    }

    classifier: Classifiers = Field(default_factory=Classifiers, description="Classifiers.")


class ModelCatalogSettings(Section):
    NOT_ACTIVE = frozenset({"embeddings", "system", "external", "bindings", "deployments", "admission"})
    INSTEAD: ClassVar[dict[str, str]] = {
        "embeddings": "the signal bundle's embedder is used",
        "system": "the signal bundle's models are used",
    }

    kbs: tuple[KnowledgeBase, ...] = Field((), description="Knowledge bases: labelled examples, for `type: kb`.")
    modules: Modules = Field(default_factory=Modules, description="Modules that evaluate prompts.")


class Global(Section):
    NOT_ACTIVE = frozenset({"integrations"})

    router: RouterSettings = Field(default_factory=RouterSettings, description="The router itself.")
    inference: InferenceSettings = Field(default_factory=InferenceSettings, description="Triton.")
    services: Services = Field(default_factory=Services, description="Addresses, ports, identity.")
    model_catalog: ModelCatalogSettings = Field(
        default_factory=ModelCatalogSettings, description="The models of the signals."
    )
    stores: Stores = Field(default_factory=Stores, description="Stored data.")
