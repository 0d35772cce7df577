"""The canonical configuration (v0.3 form) as strict, immutable pydantic models.

Every key that this file does not name is an error, except the keys listed in a model's ``NOT_ACTIVE``: those belong to
vLLM Semantic Router's v0.3 form, are accepted, and are reported as having no effect here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from triton_router.config.plugins import Plugin
from triton_router.config.plugins import SemanticCachePlugin as SemanticCachePlugin
from triton_router.config.plugins import SemanticCacheSettings as SemanticCacheSettings
from triton_router.config.section import Endpoint, Name, Seconds, Section, TokenCount
from triton_router.config.services import Global
from triton_router.config.signals import Predicate, Signals, SignalType


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
    embedding_model: Name | None = Field(
        None, description="Model for `/v1/embeddings` where a request names none, or asks the router to choose."
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
    endpoint: Endpoint = Field(description="`host:port` of an OpenAI-compatible server.")
    protocol: Literal["http"] = Field("http", description="Plain HTTP; TLS is the mesh's work.")
    weight: int = Field(1, ge=1, le=1000, description="Share of the model's traffic, relative to its siblings.")
    adapters_on_demand: bool = Field(
        False,
        description="The server loads adapters when they are asked for: one that it does not list is not missing.",
    )


class Reliability(Section):
    """Envoy's view of one model's cluster."""

    lb_policy: Literal["round_robin", "least_request"] = Field("least_request", description="Load balancing policy.")
    retry_count: int = Field(
        2, ge=0, le=5, description="Most retries of a request before its first byte, each on another endpoint."
    )
    retry_responses: bool = Field(
        True,
        description="Retry 5xx, 429 and connections that close without a response too. `false`: only what no endpoint "
        "has read, so that a generation cannot run twice.",
    )
    first_byte_timeout: Seconds | None = Field(
        None,
        description="Seconds until a response begins; then another endpoint is tried. A response in one piece begins "
        "when it is complete. Default: no bound.",
    )
    keep_alive: Seconds = Field(
        4, description="Seconds after which an idle connection is closed; keep it below the endpoint's (vLLM: 5)."
    )
    consecutive_5xx: int = Field(
        5, ge=0, le=1_000_000,
        description="Responses 502 to 504, or none, in a row that eject an endpoint. One that fails nearly all its "
        "requests with any 5xx is ejected too. 0 switches both off.",
    )  # fmt: skip
    base_ejection_time: Seconds = Field(10, description="Seconds of the first ejection.")
    max_ejection_percent: int = Field(50, ge=0, le=100, description="Most endpoints of a model that may be ejected.")
    health_check_path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", max_length=1024)] | None = Field(
        "/health", description="Path of the active health check; `null` switches it off."
    )
    health_check_interval: Seconds = Field(5, description="Seconds between health checks.")
    health_check_timeout: Seconds = Field(2, description="Seconds a health check may take.")


class Pricing(Section):
    """What tokens cost. Adapters cost what their base model costs."""

    NOT_ACTIVE = frozenset({"cache_write_per_1m"})

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field("USD", description="ISO 4217 code.")
    prompt_per_1m: float = Field(0, ge=0, description="Price of a million tokens of input.")
    completion_per_1m: float = Field(0, ge=0, description="Price of a million tokens of output.")
    cached_input_per_1m: float | None = Field(
        None, ge=0, description="Price of a million tokens of input that the backend had cached; default as the others."
    )


class ProviderModel(Section):
    """One model that backends serve."""

    NOT_ACTIVE = frozenset({"api_format", "external_model_ids"})

    name: Name = Field(description="The model's name, as clients know it.")
    provider_model_id: Name | None = Field(
        None, description="What the backends call the model, where that is another name. Adapters keep their own."
    )
    reasoning_family: Name | None = Field(None, description="A key of `providers.defaults.reasoning_families`.")
    backend_refs: tuple[BackendRef, ...] = Field((), description="Where the model is served; at least one.")
    pricing: Pricing | None = Field(None, description="Prices, for the metric `router_cost`.")
    reliability: Reliability = Field(default_factory=Reliability, description="Retries, health checks, ejection.")
    hidden: bool = Field(False, description="Leave the model out of `GET /v1/models`, and unknown to clients.")


class Providers(Section):
    defaults: ProviderDefaults = Field(default_factory=ProviderDefaults, description="Defaults for all models.")
    models: tuple[ProviderModel, ...] = Field((), description="The models that can be routed to.")


class Lora(Section):
    name: Name = Field(description="Adapter name, as the backend serves it.")
    description: str | None = Field(None, description="What the adapter is for.")
    hidden: bool = Field(False, description="Leave the adapter out of `GET /v1/models`, and unknown to clients.")


class ModelCard(Section):
    """What a model is like; never where it is served."""

    NOT_ACTIVE = frozenset(
        {"param_size", "capabilities", "quality_score", "modality", "tags"}
    )  # fmt: skip

    name: Name = Field(description="Name of an entry of `providers.models`.")
    description: str | None = Field(None, description="What the model is good at, for people.")
    loras: tuple[Lora, ...] = Field((), description="LoRA adapters that the model's backends serve.")
    context_window_size: TokenCount = Field(
        None, description="Longest context in tokens (`8K` is 8,000); `max_model_len` in `GET /v1/models`."
    )


class Rule(Section):
    """A node of a decision's rule tree: a leaf (`type`, `name`) or a branch (`operator`, `conditions`)."""

    NOT_ACTIVE = frozenset({"label", "on_error"})

    type: SignalType | None = Field(None, description="Leaf: kind of signal.")
    name: Name | None = Field(None, description="Leaf: name of the signal under `routing.signals`.")
    predicate: Predicate | None = Field(
        None,
        description="Leaf: bounds on the signal's number (a probability, a similarity, a count) in the place of the "
        "signal's own condition.",
    )
    operator: Literal["AND", "OR", "NOT"] | None = Field(None, description="Branch: how the conditions combine.")
    conditions: tuple[Rule, ...] = Field((), description="Branch: the nodes below; exactly one for `NOT`.")

    @model_validator(mode="after")
    def _leaf_or_branch(self) -> Rule:
        if self.operator is None:
            if self.type is None or self.name is None:
                raise ValueError("a condition needs `type` and `name`, or `operator` and `conditions`")
            if self.conditions:
                raise ValueError("`conditions` needs an `operator` (AND, OR or NOT)")
        elif self.type is not None or self.name is not None or self.predicate is not None:
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
    score: float | None = Field(
        None, ge=0, description="Where one candidate has a score, those with the best score share the requests."
    )
    use_reasoning: bool = Field(False, description="Switch the model's reasoning on, or explicitly off.")
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = Field(
        None, description="Effort for families of type `reasoning_effort`."
    )


class Hints(Section):
    """What the answer of an MCP server may decide, beside the class."""

    models: tuple[Name, ...] = Field((), description="Models that it may choose; default none.")
    adapters: tuple[Name, ...] = Field(
        (),
        description="Adapters that it may choose, as names or shell patterns; default none. They need not be declared.",
    )
    reasoning: bool = Field(False, description="Whether it may switch reasoning.")


class Decision(Section):
    """Rules, and what happens when they match."""

    NOT_ACTIVE = frozenset({"annotations", "algorithm", "adaptations", "output_contract",
                            "output_contract_spec", "candidateIterations", "emits"})  # fmt: skip

    name: Name = Field(description="Name in headers, metrics and logs.")
    description: str | None = Field(None, description="For people.")
    priority: int = Field(0, description="Under `strategy: priority` the highest wins; the first declared on a tie.")
    tier: int = Field(0, ge=0, description="Lower tiers are looked at first; the strategy decides within a tier.")
    rules: Rule | None = Field(None, description="The rule tree; a decision without rules matches every request.")
    modelRefs: tuple[ModelRef, ...] = Field((), description="Candidates; none means the default model.")  # noqa: N815
    hints: Hints = Field(default_factory=Hints, description="What an MCP server's answer may decide here.")
    plugins: tuple[Plugin, ...] = Field((), description="Applied in the order written.")


class Routing(Section):
    NOT_ACTIVE = frozenset({"projections"})

    strategy: Literal["priority", "confidence"] = Field(
        "priority", description="`priority`: highest priority wins. `confidence`: the surest match wins."
    )
    modelCards: tuple[ModelCard, ...] = Field((), description="What the models are like, and their adapters.")  # noqa: N815
    signals: Signals = Field(default_factory=Signals, description="Declared signals.")
    decisions: tuple[Decision, ...] = Field((), description="The routing table.")


class Config(Section):
    """A whole configuration file."""

    NOT_ACTIVE = frozenset({"listeners", "entrypoints", "recipes"})

    version: Literal["v0.3"] = Field("v0.3", description="Form of the file.")
    providers: Providers = Field(default_factory=Providers, description="Models, backends, reasoning families.")
    routing: Routing = Field(default_factory=Routing, description="Signals and decisions.")
    global_: Global = Field(default_factory=Global, alias="global", description="Everything that is not routing.")


def leaves(decision: Decision) -> Iterator[Rule]:
    """The leaves of a decision's rule tree, left to right."""

    def walk(rule: Rule) -> Iterator[Rule]:
        if rule.operator is None:
            yield rule
        for condition in rule.conditions:
            yield from walk(condition)

    if decision.rules is not None:
        yield from walk(decision.rules)
