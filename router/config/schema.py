"""The canonical configuration (v0.3 form) as strict, immutable pydantic models.

Every key that this file does not name is an error, except the keys listed in a model's ``NOT_ACTIVE``: those belong to
vLLM Semantic Router's v0.3 form, are accepted, and are reported as having no effect here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Milliseconds = Annotated[float, Field(gt=0, le=600_000)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A mapping of the configuration file: closed, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=False)

    NOT_ACTIVE: ClassVar[frozenset[str]] = frozenset()


# --- providers -----------------------------------------------------------------------------------------------------


class ReasoningFamily(Section):
    """How one family of models is told to think, or not to."""

    type: Literal["chat_template_kwargs", "reasoning_effort", "top_level_reasoning_effort"] = Field(
        description="Where the switch goes: a boolean in `chat_template_kwargs`, or the top-level `reasoning_effort`."
    )
    parameter: Name = Field(description="Name of the switch, for example `enable_thinking`.")


class ProviderDefaults(Section):
    default_model: Name | None = Field(
        None, description="Model (or adapter) used when no decision matches, and for paths that carry no model."
    )
    default_reasoning_effort: Literal["minimal", "low", "medium", "high"] = Field(
        "medium", description="Effort sent to families of type `reasoning_effort` when the modelRef names none."
    )
    reasoning_families: dict[str, ReasoningFamily] = Field(
        default_factory=dict, description="Reasoning families by name."
    )


class BackendRef(Section):
    """One address that serves a model."""

    NOT_ACTIVE = frozenset(
        {"type", "base_url", "provider", "auth_header", "auth_prefix", "extra_headers", "api_version", "chat_path",
         "api_key", "api_key_env"}
    )  # fmt: skip

    name: Name | None = Field(None, description="Name for people and logs.")
    endpoint: Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")] = Field(
        description="`host:port` of an OpenAI-compatible server."
    )
    protocol: Literal["http"] = Field("http", description="Plain HTTP; TLS is the mesh's work.")
    weight: int = Field(1, ge=1, le=1000, description="Share of the model's traffic, relative to its siblings.")


class Reliability(Section):
    """Envoy's view of one model's cluster."""

    lb_policy: Literal["round_robin", "least_request"] = Field("least_request", description="Load balancing policy.")
    retry_count: int = Field(2, ge=0, le=5, description="Retries on connect failure or reset before the request.")
    consecutive_5xx: int = Field(5, ge=0, description="Server errors in a row that eject an endpoint; 0 switches off.")
    base_ejection_time: float = Field(10, gt=0, description="Seconds of the first ejection.")
    max_ejection_percent: int = Field(50, ge=0, le=100, description="Most endpoints of a model that may be ejected.")
    health_check_path: Annotated[str, StringConstraints(pattern=r"^/")] | None = Field(
        "/health", description="Path of the active health check; `null` switches it off."
    )
    health_check_interval: float = Field(5, gt=0, description="Seconds between health checks.")
    health_check_timeout: float = Field(2, gt=0, description="Seconds a health check may take.")


class ProviderModel(Section):
    """One model that backends serve."""

    NOT_ACTIVE = frozenset({"provider_model_id", "api_format", "external_model_ids", "pricing"})

    name: Name = Field(description="The model's name, as clients and backends know it.")
    reasoning_family: Name | None = Field(None, description="A key of `providers.defaults.reasoning_families`.")
    backend_refs: tuple[BackendRef, ...] = Field((), description="Where the model is served; at least one.")
    reliability: Reliability = Field(default_factory=Reliability, description="Retries, health checks, ejection.")
    hidden: bool = Field(False, description="Leave the model out of `GET /v1/models`, and unknown to clients.")


class Providers(Section):
    defaults: ProviderDefaults = Field(default_factory=ProviderDefaults, description="Defaults for all models.")
    models: tuple[ProviderModel, ...] = Field((), description="The models that can be routed to.")


# --- routing -------------------------------------------------------------------------------------------------------


class Lora(Section):
    name: Name = Field(description="Adapter name, as the backend serves it.")
    description: str | None = Field(None, description="What the adapter is for.")
    hidden: bool = Field(False, description="Leave the adapter out of `GET /v1/models`, and unknown to clients.")


class ModelCard(Section):
    """What a model is like; never where it is served."""

    NOT_ACTIVE = frozenset(
        {"param_size", "context_window_size", "capabilities", "quality_score", "modality", "tags"}
    )  # fmt: skip

    name: Name = Field(description="Name of an entry of `providers.models`.")
    description: str | None = Field(None, description="What the model is good at, for people.")
    loras: tuple[Lora, ...] = Field((), description="LoRA adapters that the model's backends serve.")


class DomainSignal(Section):
    """A topic. One declared domain wins a prompt; a name that the classifier's head does not know works too."""

    NOT_ACTIVE = frozenset({"mmlu_categories", "model_scores", "examples"})

    name: Name = Field(description="Topic name; any words, the classifier's labels or your own.")
    description: str | None = Field(
        None, description="What belongs to the topic; sharpens a name that the classifier's head does not know."
    )


class KeywordSignal(Section):
    """Words that decide by being there."""

    NOT_ACTIVE = frozenset({"method", "fuzzy_match", "fuzzy_threshold", "bm25_threshold", "ngram_threshold",
                            "ngram_arity"})  # fmt: skip

    name: Name = Field(description="Name that rules refer to.")
    keywords: tuple[Name, ...] = Field(min_length=1, description="Words or phrases, found as substrings.")
    operator: Literal["OR", "AND", "NOR"] = Field(
        "OR", description="`OR`: any keyword; `AND`: all of them; `NOR`: none of them."
    )
    case_sensitive: bool = Field(False, description="Compare letters exactly.")


class Signals(Section):
    NOT_ACTIVE = frozenset(
        {"embeddings", "fact_check", "user_feedbacks", "reasks", "preferences", "language", "context", "structure",
         "complexity", "modality", "role_bindings", "jailbreak", "pii", "kb", "conversation", "events", "metadata",
         "classifiers"}
    )  # fmt: skip

    domains: tuple[DomainSignal, ...] = Field((), description="Topics that rules of `type: domain` refer to.")
    keywords: tuple[KeywordSignal, ...] = Field((), description="Word lists that rules of `type: keyword` refer to.")


class Rule(Section):
    """A node of a decision's rule tree: a leaf (`type`, `name`) or a branch (`operator`, `conditions`)."""

    NOT_ACTIVE = frozenset({"label", "predicate", "on_error"})

    type: Literal["domain", "keyword"] | None = Field(None, description="Leaf: kind of signal.")
    name: Name | None = Field(None, description="Leaf: name of the signal under `routing.signals`.")
    operator: Literal["AND", "OR", "NOT"] | None = Field(None, description="Branch: how the conditions combine.")
    conditions: tuple[Rule, ...] = Field((), description="Branch: the nodes below; exactly one for `NOT`.")

    @model_validator(mode="after")
    def _leaf_or_branch(self) -> Rule:
        if self.operator is None:
            if self.type is None or self.name is None:
                raise ValueError("a condition needs `type` and `name`, or `operator` and `conditions`")
            if self.conditions:
                raise ValueError("`conditions` needs an `operator` (AND, OR or NOT)")
        elif self.type is not None or self.name is not None:
            raise ValueError("a condition has either `type` and `name`, or `operator` and `conditions`, not both")
        elif self.operator == "NOT" and len(self.conditions) != 1:
            raise ValueError(f"NOT takes exactly one condition, this has {len(self.conditions)}")
        elif not self.conditions:
            raise ValueError(f"{self.operator} needs at least one condition")
        return self


class ModelRef(Section):
    """A candidate of a decision."""

    NOT_ACTIVE = frozenset({"reasoning_description"})

    model: Name = Field(description="A model of `providers.models`.")
    lora_name: Name | None = Field(None, description="An adapter of that model's card.")
    weight: float = Field(1.0, gt=0, description="Share among the candidates of this decision.")
    use_reasoning: bool = Field(False, description="Switch the model's reasoning on, or explicitly off.")
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = Field(
        None, description="Effort for families of type `reasoning_effort`."
    )


class SystemPromptSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["replace", "prepend", "append", "insert"] = Field(
        "replace",
        description="`replace` removes the client's system messages; `prepend` and `append` add one before or after "
        "them; `insert` puts the text at the start of the first one.",
    )
    system_prompt: str = Field(min_length=1, description="The text.")


class SystemPromptPlugin(Section):
    type: Literal["system_prompt"]
    configuration: SystemPromptSettings = Field(description="What to say, and how it joins what the client says.")


class SemanticCacheSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    similarity_threshold: Probability | None = Field(None, description="Overrides the global threshold.")


class SemanticCachePlugin(Section):
    """Accepted so that configurations carry over; not active in this version, and announced as such."""

    type: Literal["semantic-cache", "semantic_cache", "response_cache", "response-cache"]
    configuration: SemanticCacheSettings = Field(
        default_factory=SemanticCacheSettings, description="Cache settings of this decision."
    )


Plugin = Annotated[SystemPromptPlugin | SemanticCachePlugin, Field(discriminator="type")]


class Decision(Section):
    """Rules, and what happens when they match."""

    NOT_ACTIVE = frozenset({"tier", "annotations", "algorithm", "adaptations", "output_contract",
                            "output_contract_spec", "candidateIterations", "emits"})  # fmt: skip

    name: Name = Field(description="Name in headers, metrics and logs.")
    description: str | None = Field(None, description="For people.")
    priority: int = Field(0, description="Under `strategy: priority` the highest wins; the first declared on a tie.")
    rules: Rule | None = Field(None, description="The rule tree; a decision without rules matches every request.")
    modelRefs: tuple[ModelRef, ...] = Field((), description="Candidates; none means the default model.")  # noqa: N815
    plugins: tuple[Plugin, ...] = Field((), description="Applied in the order written.")


class Routing(Section):
    NOT_ACTIVE = frozenset({"projections"})

    strategy: Literal["priority", "confidence"] = Field(
        "priority", description="`priority`: highest priority wins. `confidence`: the surest match wins."
    )
    modelCards: tuple[ModelCard, ...] = Field((), description="What the models are like, and their adapters.")  # noqa: N815
    signals: Signals = Field(default_factory=Signals, description="Declared signals.")
    decisions: tuple[Decision, ...] = Field((), description="The routing table.")


# --- global --------------------------------------------------------------------------------------------------------


class RouterSettings(Section):
    NOT_ACTIVE = frozenset({"config_source", "strategy", "include_config_models_in_list", "clear_route_cache",
                            "streamed_body", "skip_processing", "model_selection", "learning"})  # fmt: skip

    auto_model_names: tuple[Name, ...] = Field(
        ("MoM", "auto"), min_length=1, description="Model names that ask the router to choose."
    )
    max_body_bytes: int = Field(
        10 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024,
        description="Largest request body; one limit for Envoy, gRPC and the router. More is 413.",
    )  # fmt: skip
    drain_seconds: float = Field(30, ge=0, description="How long open streams may take after SIGTERM.")


class InferenceSettings(Section):
    """The Triton server that holds the signal models."""

    endpoint: str = Field("127.0.0.1:8001", description="`host:port` of Triton's gRPC service.")
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
        256, ge=1, description="Signal calls in flight; requests beyond are routed without model-backed signals."
    )


class EnvoySettings(Section):
    """What `triton-router up` writes into Envoy's configuration."""

    host: str = Field("127.0.0.1", description="Listening address.")
    port: int = Field(8080, ge=1, le=65535, description="Listening port.")
    admin_port: int = Field(9901, ge=1, le=65535, description="Admin interface, always on loopback.")
    failure_mode_allow: bool = Field(
        False,
        description="Let a request through when the router cannot be asked. A concrete model name is still needed for "
        "it to find a backend, so `false` gives the clearer error.",
    )
    idle_timeout_seconds: float = Field(600, gt=0, description="Longest silence inside an answer.")
    concurrency: int | None = Field(None, ge=1, description="Envoy worker threads; default: one a core.")


class ExtProcSettings(Section):
    host: str = Field("127.0.0.1", description="Listening address of the ext_proc and health service.")
    port: int = Field(50051, ge=1, le=65535, description="Its port.")


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


class Observability(Section):
    NOT_ACTIVE = frozenset({"tracing"})

    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Prometheus.")


class Services(Section):
    NOT_ACTIVE = frozenset({"response_api", "authz", "ratelimit", "management_api", "router_replay",
                            "startup_status"})  # fmt: skip

    api: ApiSettings = Field(default_factory=ApiSettings, description="REST: classify, explain, models, health.")
    extproc: ExtProcSettings = Field(default_factory=ExtProcSettings, description="Envoy's external processor.")
    envoy: EnvoySettings = Field(default_factory=EnvoySettings, description="The Envoy that `up` runs.")
    observability: Observability = Field(default_factory=Observability, description="Metrics and traces.")


class Global(Section):
    NOT_ACTIVE = frozenset({"stores", "integrations", "model_catalog"})

    router: RouterSettings = Field(default_factory=RouterSettings, description="The router itself.")
    inference: InferenceSettings = Field(default_factory=InferenceSettings, description="Triton.")
    services: Services = Field(default_factory=Services, description="Addresses and ports.")


class Config(Section):
    """A whole configuration file."""

    NOT_ACTIVE = frozenset({"listeners", "entrypoints", "recipes"})

    version: Literal["v0.3"] = Field("v0.3", description="Form of the file.")
    providers: Providers = Field(default_factory=Providers, description="Models, backends, reasoning families.")
    routing: Routing = Field(default_factory=Routing, description="Signals and decisions.")
    global_: Global = Field(default_factory=Global, alias="global", description="Everything that is not routing.")
