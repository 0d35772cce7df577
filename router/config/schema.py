"""The canonical configuration (v0.3 form) as strict, immutable pydantic models.

Every key that this file does not name is an error, except the keys listed in a model's ``NOT_ACTIVE``: those belong to
vLLM Semantic Router's v0.3 form, are accepted, and are reported as having no effect here.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, model_validator

from triton_router.config.fallback import FallbackPolicy
from triton_router.config.plugins import Plugin
from triton_router.config.section import (
    BASE_URL,
    UPPER_CASE,
    Endpoint,
    LowerHeaderName,
    Name,
    Seconds,
    Section,
    TokenCount,
    is_ip,
)
from triton_router.config.selection import Algorithm
from triton_router.config.services import Global
from triton_router.config.signals import Predicate, Signals, SignalType

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningFamily(Section):
    """How to switch the reasoning of one family of models."""

    type: Literal["chat_template_kwargs", "reasoning_effort", "top_level_reasoning_effort"] = Field(
        description="Position of the switch: a boolean in `chat_template_kwargs`, or the top-level `reasoning_effort`."
    )
    parameter: Name = Field(description="Name of the switch, for example `enable_thinking`.")


class ProviderDefaults(Section):
    default_model: Name | None = Field(
        None, description="Model (or adapter) for requests that match no decision, and for paths without a model."
    )
    embedding_model: Name | None = Field(
        None, description="Model for `/v1/embeddings` if a request names none, or asks the router to choose."
    )
    default_reasoning_effort: Effort = Field(
        "medium", description="Effort for families of type `reasoning_effort` if the modelRef sets none."
    )
    reasoning_families: dict[str, ReasoningFamily] = Field(
        default_factory=dict, description="Reasoning families by name."
    )


def _without_v1(endpoint: Any) -> Any:
    """Requests keep their path, which begins with `/v1` anyway."""
    return re.sub(r"/(v1/?)?$", "", endpoint) if isinstance(endpoint, str) else endpoint


PORTS = {"http": 80, "https": 443}


class BackendRef(Section):
    """One address of a model: `endpoint`, or `base_url` for a provider's API with TLS, a path and a key.

    All addresses of a model take the same path, scheme, key and headers.
    """

    NOT_ACTIVE = frozenset({"type", "provider", "api_version", "chat_path"})

    name: Name | None = Field(None, description="Name for people and logs.")
    base_url: Annotated[str, StringConstraints(pattern=BASE_URL, max_length=2048)] | None = Field(
        None,
        description="URL of an OpenAI-compatible API, such as `https://api.example.com/openai/v1`. Its path "
        "replaces `/v1` in the request's path. With `https` the certificate is verified for its host name.",
    )
    endpoint: Annotated[Endpoint, BeforeValidator(_without_v1)] = Field(
        description="`host:port` of an OpenAI-compatible server; `/v1` may follow. Default: that of `base_url`."
    )
    protocol: Literal["http", "https"] = Field(
        "http", description="`https` verifies the server's certificate; default: that of `base_url`."
    )
    ca_file: Name = Field(
        "/etc/ssl/certs/ca-certificates.crt", description="PEM file, on Envoy's machine, with the authorities to trust."
    )
    api_key: SecretStr | None = Field(None, description="The key; better `api_key_env` or `api_key_file`.")
    api_key_env: Name | None = Field(None, description="Environment variable of the router with the key.")
    api_key_file: Name | None = Field(
        None, description="File on the router's machine with the key; changes take effect within a second."
    )
    auth_header: LowerHeaderName = Field("authorization", description="Header that carries the key.")
    auth_prefix: str = Field("Bearer", description="Word before the key; empty for none.")
    extra_headers: dict[LowerHeaderName, SecretStr] = Field(
        default_factory=dict, description="Headers of every request to this API."
    )
    forward_credentials: bool = Field(
        False,
        description="Send the client's own credentials and identity headers to an API with `base_url` or a key; by "
        "default they are removed.",
    )
    weight: int = Field(1, ge=1, le=1000, description="Share of the model's traffic, relative to its other endpoints.")
    adapters_on_demand: bool = Field(
        False,
        description="The server loads adapters on first use, so an adapter that it does not list is not missing.",
    )

    @model_validator(mode="before")
    @classmethod
    def _parts_of_the_url(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("base_url"), str):
            return data
        if (match := re.match(BASE_URL, data["base_url"])) is None:
            return {"endpoint": "unknown:1", **data}
        scheme, host = match["scheme"], match["host"]
        return {"endpoint": f"{host}:{match['port'] or PORTS[scheme]}", "protocol": scheme, **data}

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if sum(key is not None for key in (self.api_key, self.api_key_env, self.api_key_file)) > 1:
            raise ValueError("one of `api_key`, `api_key_env` and `api_key_file` is enough")
        return self

    @property
    def external(self) -> bool:
        """Whether this is somebody else's API, who is not told about clients."""
        keyed = self.api_key is not None or self.api_key_env is not None or self.api_key_file is not None
        return self.base_url is not None or keyed

    @property
    def path(self) -> str | None:
        """What takes the place of `/v1`; ``None`` where paths stay as they are."""
        if self.base_url is None:
            return None
        match = re.match(BASE_URL, self.base_url)
        path = (match["path"] or "").rstrip("/") if match else ""
        return None if path == "/v1" else path


class Reliability(Section):
    """Envoy's view of one model's cluster."""

    NOT_ACTIVE = frozenset({"retry_on"})
    INSTEAD: ClassVar[dict[str, str]] = {"retry_on": "`retry_responses` says what is retried"}

    lb_policy: Literal["round_robin", "least_request"] = Field("least_request", description="Load balancing policy.")
    retry_count: int = Field(
        2, ge=0, le=5, description="Most retries of a request before its first byte, each on another endpoint."
    )
    retry_responses: bool = Field(
        True,
        description="Retry also 5xx, 429 and connections that close without a response. `false`: retry only "
        "requests that no endpoint has read, so that a generation cannot run twice.",
    )
    first_byte_timeout: Seconds | None = Field(
        None,
        description="Seconds until a response must begin; then another endpoint is tried. A response in one piece "
        "begins only when it is complete. Default: no bound.",
    )
    keep_alive: Seconds = Field(
        4, description="Seconds after which an idle connection is closed; keep it below the endpoint's (vLLM: 5)."
    )
    consecutive_5xx: int = Field(
        5, ge=0, le=1_000_000,
        description="Consecutive failures (502 to 504, or no response) that eject an endpoint. An endpoint that "
        "answers nearly all requests with any 5xx is ejected too. 0 disables both.",
    )  # fmt: skip
    base_ejection_time: Seconds = Field(10, description="Seconds of the first ejection.")
    max_ejection_percent: int = Field(
        50, ge=0, le=100, description="Largest percentage of a model's endpoints that may be ejected."
    )
    health_check_path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", max_length=1024)] | None = Field(
        "/health", description="Path of the active health check; `null` disables it."
    )
    health_check_interval: Seconds = Field(5, description="Seconds between health checks.")
    health_check_timeout: Seconds = Field(2, description="Timeout of a health check, in seconds.")


class Pricing(Section):
    """Token prices. Adapters have the prices of their base model."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field("USD", description="ISO 4217 code.")
    prompt_per_1m: float = Field(0, ge=0, description="Price of a million input tokens.")
    completion_per_1m: float = Field(0, ge=0, description="Price of a million output tokens.")
    cached_input_per_1m: float | None = Field(
        None, ge=0, description="Price of a million cached input tokens; default: `prompt_per_1m`."
    )
    cache_write_per_1m: float | None = Field(
        None, ge=0, description="Price of a million input tokens that the provider caches; default: `prompt_per_1m`."
    )


class ProviderModel(Section):
    """One model."""

    NOT_ACTIVE = frozenset({"api_format", "external_model_ids", "catalog", "reasoning"})

    name: Name = Field(description="The model's name for clients.")
    provider_model_id: Name | None = Field(
        None, description="The backends' name for the model, if it differs. Adapters keep their own."
    )
    reasoning_family: Name | None = Field(None, description="A key of `providers.defaults.reasoning_families`.")
    backend_refs: tuple[BackendRef, ...] = Field(
        (), description="Servers of the model; none if the gateway in front of the router knows them."
    )
    pricing: Pricing | None = Field(None, description="Prices: for `router_cost`, and the choice of a model by cost.")
    reliability: Reliability = Field(default_factory=Reliability, description="Retries, health checks, ejection.")
    hidden: bool = Field(False, description="Omit the model from `GET /v1/models`, and refuse it to clients.")

    @property
    def replicas(self) -> int | None:
        """How many endpoints there are; ``None`` where a name can stand for several."""
        hosts = [ref.endpoint.rpartition(":")[0].strip("[]") for ref in self.backend_refs]
        return len(hosts) if all(map(is_ip, hosts)) else None

    @property
    def replicated(self) -> bool:
        """Whether there may be another replica."""
        return self.replicas != 1

    @property
    def attempts(self) -> int:
        """How many endpoints a request asks before the model counts as failed, where another one can answer."""
        if not self.reliability.retry_responses:
            return 1
        most = 1 + self.reliability.retry_count
        return most if self.replicas is None else min(most, max(self.replicas, 1))


class Providers(Section):
    defaults: ProviderDefaults = Field(default_factory=ProviderDefaults, description="Defaults for all models.")
    models: tuple[ProviderModel, ...] = Field((), description="The models that can be routed to.")


class Persona(Section):
    """A candidate's own system text. It comes after the plugins of the decision."""

    system_prompt: str = Field(min_length=1, description="The text.")
    mode: Literal["replace", "prepend", "append", "insert"] = Field(
        "replace", description="How the text is combined with the client's and the decision's: as in `system_prompt`."
    )


class Lora(Section):
    name: Name = Field(description="The adapter's name on the backend.")
    description: str | None = Field(None, description="Purpose of the adapter; documentation only.")
    hidden: bool = Field(False, description="Omit the adapter from `GET /v1/models`, and refuse it to clients.")
    persona: Persona | None = Field(None, description="System prompt of the adapter; default: that of the model.")


class ModelCard(Section):
    """A model's description and adapters, without its addresses."""

    NOT_ACTIVE = frozenset(
        {"param_size", "capabilities", "modality", "tags", "display_name", "publisher", "presentation",
         "distribution", "family", "revision", "released_at", "knowledge_cutoff", "lifecycle", "max_output_tokens",
         "modalities"}
    )  # fmt: skip

    name: Name = Field(description="Name of an entry of `providers.models`.")
    description: str | None = Field(None, description="Strengths of the model; documentation only.")
    loras: tuple[Lora, ...] = Field((), description="LoRA adapters of the model's backends.")
    persona: Persona | None = Field(
        None, description="System prompt of the model, for requests that the router sends there by its own choice."
    )
    context_window_size: TokenCount = Field(
        None, description="Longest context in tokens (`8K` is 8,000); `max_model_len` in `GET /v1/models`."
    )
    quality_score: float | None = Field(
        None, ge=0, description="Quality of the model for `multi_factor`, on any scale that is the same for all models."
    )


class Rule(Section):
    """A node of a decision's rule tree: a leaf (`type`, `name`) or a branch (`operator`, `conditions`)."""

    NOT_ACTIVE = frozenset({"label"})

    type: SignalType | None = Field(None, description="Leaf: kind of signal.")
    name: Name | None = Field(None, description="Leaf: name of the signal under `routing.signals`.")
    predicate: Predicate | None = Field(
        None,
        description="Leaf: bounds on the signal's number (a probability, a similarity, a count) instead of the "
        "signal's own condition.",
    )
    on_unknown: Literal["no_match", "match", "fail_request"] | None = Field(
        None,
        description="Result that replaces an unknown one. `fail_request`: requests that depend on this node get "
        "503. `on_error` is another name of this key.",
    )
    operator: Annotated[Literal["AND", "OR", "NOT"] | None, UPPER_CASE] = Field(
        None, description="Branch: operator of the conditions."
    )
    conditions: tuple["Rule", ...] = Field(
        (), description="Branch: child nodes; exactly one for `NOT`. `AND` without any matches every request."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_either_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "on_error" in data:
            rest = {key: value for key, value in data.items() if key != "on_error"}
            return {"on_unknown": data["on_error"] or None} | rest
        return data

    @model_validator(mode="after")
    def _leaf_or_branch(self) -> Self:
        if self.operator is None:
            if self.type is None or self.name is None:
                raise ValueError("a condition needs `type` and `name`, or `operator` and `conditions`")
            if self.conditions:
                raise ValueError("`conditions` needs an `operator` (AND, OR or NOT)")
        elif self.type is not None or self.name is not None or self.predicate is not None:
            raise ValueError("a condition has either `type` and `name`, or `operator` and `conditions`, not both")
        elif self.operator == "NOT" and len(self.conditions) != 1:
            raise ValueError(f"NOT takes exactly one condition, this has {len(self.conditions)}")
        elif self.operator == "OR" and not self.conditions:
            raise ValueError(f"{self.operator} needs at least one condition")
        return self


class ModelRef(Section):
    """A candidate of a decision."""

    NOT_ACTIVE = frozenset({"reasoning_description", "reasoning_mode"})

    model: Name = Field(description="A model of `providers.models`.")
    lora_name: Name | None = Field(None, description="An adapter of that model's card.")
    weight: float = Field(1.0, gt=0, description="Share of the decision's requests, relative to the other candidates.")
    score: float | None = Field(
        None, ge=0, description="If any candidate has a score, the candidates with the best score share the requests."
    )
    use_reasoning: bool = Field(False, description="Switch the model's reasoning on, or explicitly off.")
    reasoning_effort: Effort | None = Field(None, description="Effort for families of type `reasoning_effort`.")
    persona: Persona | None = Field(
        None, description="System prompt of the candidate; default: that of the adapter, or of the model card."
    )


class Hints(Section):
    """Choices that an MCP server may make, besides the class."""

    models: tuple[Name, ...] = Field((), description="Models that the server may choose; default: none.")
    adapters: tuple[Name, ...] = Field(
        (),
        description="Adapters that the server may choose, as names or shell patterns; default: none. They need not "
        "be declared.",
    )
    reasoning: bool = Field(False, description="Whether the server may switch reasoning.")


class Decision(Section):
    """A rule tree, and the effects of a match."""

    NOT_ACTIVE = frozenset({"annotations", "adaptations", "output_contract", "output_contract_spec",
                            "candidateIterations", "emits", "action"})  # fmt: skip

    name: Name = Field(description="Name in headers, metrics and logs.")
    description: str | None = Field(None, description="Documentation only.")
    priority: int = Field(0, description="With `strategy: priority` the highest wins; of equal ones, the first.")
    tier: int = Field(0, ge=0, description="Lower tiers come first; the strategy decides within a tier.")
    rules: Rule | None = Field(None, description="The rule tree; a decision without rules matches every request.")
    modelRefs: tuple[ModelRef, ...] = Field((), description="Candidates; default: the default model.")  # noqa: N815
    algorithm: Algorithm | None = Field(
        None, description="How one of several candidates is chosen; default: by score and weight."
    )
    hints: Hints = Field(default_factory=Hints, description="What the MCP server may choose for this decision.")
    fallback: FallbackPolicy | None = Field(
        None, description="What happens when the model cannot answer; default: `fallback` of the routing table."
    )
    plugins: tuple[Plugin, ...] = Field((), description="Plugins, in the order of the file.")


class RecipeRouting(Section):
    """A routing table, and the signals that its rules name. Names are those of one table only."""

    NOT_ACTIVE = frozenset({"candidate_requirements", "data_policy", "model_bindings"})

    strategy: Literal["priority", "confidence"] = Field(
        "priority", description="`priority`: the highest priority wins. `confidence`: the most confident match wins."
    )
    signals: Signals = Field(default_factory=Signals, description="Declared signals.")
    decisions: tuple[Decision, ...] = Field((), description="The routing table.")
    fallback: FallbackPolicy | None = Field(
        None, description="What happens when a model cannot answer; default: `global.router.fallback`, or nothing."
    )


class Routing(RecipeRouting):
    """The routing of `global.router.auto_model_names`; its model cards are those of all recipes."""

    modelCards: tuple[ModelCard, ...] = Field((), description="Descriptions of the models, and their adapters.")  # noqa: N815


class Recipe(Section):
    """One more routing table, for the virtual models of its entrypoints."""

    name: Name = Field(description="Name in `entrypoints`, headers, metrics and logs; `default` is taken by `routing`.")
    description: str | None = Field(None, description="Shown with the entrypoint's names in `GET /v1/models`.")
    routing: RecipeRouting = Field(default_factory=RecipeRouting, description="As `routing`, without model cards.")


class Entrypoint(Section):
    """Virtual model names that select a recipe. The first entrypoint that fits a request counts."""

    model_names: tuple[Name, ...] = Field(min_length=1, description="Model names that clients send.")
    headers: dict[LowerHeaderName, str] = Field(
        default_factory=dict, description="Request headers, with their values, that the entrypoint also requires."
    )
    recipe: Name = Field(description="A name under `recipes`, or `default` for `routing`.")


class Config(Section):
    """A whole configuration file."""

    NOT_ACTIVE = frozenset({"listeners", "evaluation", "setup"})

    version: Literal["v0.3"] = Field("v0.3", description="Form of the file.")
    providers: Providers = Field(default_factory=Providers, description="Models, backends, reasoning families.")
    routing: Routing = Field(default_factory=Routing, description="Signals and decisions.")
    entrypoints: tuple[Entrypoint, ...] = Field((), description="Virtual models, each with its recipe.")
    recipes: tuple[Recipe, ...] = Field((), description="Further routing tables.")
    global_: Global = Field(default_factory=Global, alias="global", description="Everything except models and routing.")

    def of(self, recipe: Recipe) -> Self:
        """This configuration with the routing of ``recipe`` in the place of its own."""
        return self.model_copy(update={"routing": self.routing.model_copy(update=dict(recipe.routing))})

    def serving(self, models: Iterable[ProviderModel]) -> Self:
        """This configuration with ``models`` in the place of its own."""
        return self.model_copy(update={"providers": self.providers.model_copy(update={"models": tuple(models)})})

    def targets(self) -> dict[str, str]:
        """The models and adapters that are declared, each with its name among the vitals (:func:`.vitals.named`)."""
        adapters = {lora.name: f"{card.name}\n{lora.name}" for card in self.routing.modelCards for lora in card.loras}
        return adapters | {model.name: model.name for model in self.providers.models}

    def fallbacks(self) -> Iterator[FallbackPolicy]:
        """All that are written."""
        tables = [self.routing, *(recipe.routing for recipe in self.recipes)]
        policies = [table.fallback for table in tables] + [decision.fallback for decision in self.decisions()]
        return (policy for policy in (self.global_.router.fallback, *policies) if policy is not None)

    def retried_statuses(self) -> frozenset[int]:
        """The statuses that count as failures by every policy."""
        statuses = [frozenset(policy.retryable_status_codes) for policy in self.fallbacks() if policy.enabled]
        return frozenset.intersection(*statuses) if statuses else frozenset()

    @property
    def guards_responses(self) -> bool:
        """Whether some response may not reach its client unread."""
        plugins = (plugin for decision in self.decisions() for plugin in decision.plugins)
        return any(plugin.GUARDS_RESPONSES and plugin.configuration.enabled for plugin in plugins)

    def decisions(self) -> Iterator[Decision]:
        """Those of all routing tables."""
        for routing in (self.routing, *(recipe.routing for recipe in self.recipes)):
            yield from routing.decisions


def leaves(decision: Decision) -> Iterator[Rule]:
    """The leaves of a decision's rule tree, left to right."""

    def walk(rule: Rule) -> Iterator[Rule]:
        if rule.operator is None:
            yield rule
        for condition in rule.conditions:
            yield from walk(condition)

    if decision.rules is not None:
        yield from walk(decision.rules)
