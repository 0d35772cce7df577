"""The canonical configuration (v0.3 form) as strict, immutable pydantic models.

Every key that this file does not name is an error, except the keys listed in a model's ``NOT_ACTIVE``: those belong to
vLLM Semantic Router's v0.3 form, are accepted, and are reported as having no effect here.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Milliseconds = Annotated[float, Field(gt=0, le=600_000)]
Probability = Annotated[float, Field(ge=0, le=1)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=128)]
LowerHeaderName = Annotated[HeaderName, StringConstraints(to_lower=True)]


def _tokens(value: Any) -> Any:
    """`8K` is 8,000 tokens and `1M` a million, in either case; nothing at all means no bound."""
    if not isinstance(value, str):
        return value
    text = value.strip().upper()
    if not text:
        return None
    unit = {"K": 1_000, "M": 1_000_000}.get(text[-1], 1)
    try:
        return round(float(text if unit == 1 else text[:-1]) * unit)
    except (ValueError, OverflowError):
        raise ValueError(f"`{value}` is not a number of tokens such as 500, 8K or 1M") from None


def _not_negative(value: int | None) -> int | None:
    if value is not None and value < 0:
        raise ValueError("a number of tokens cannot be negative")
    return value


TokenCount = Annotated[
    int | None,
    BeforeValidator(_tokens),
    AfterValidator(_not_negative),
    WithJsonSchema({"type": ["integer", "string", "null"]}),
]


class Section(BaseModel):
    """A mapping of the configuration file: closed, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=False)

    NOT_ACTIVE: ClassVar[frozenset[str]] = frozenset()
    # What holds in the place of a key that is not active, for the warning.
    INSTEAD: ClassVar[dict[str, str]] = {}


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


_HOST_AND_PORT = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}"


class BackendRef(Section):
    """One address that serves a model."""

    NOT_ACTIVE = frozenset(
        {"type", "base_url", "provider", "auth_header", "auth_prefix", "extra_headers", "api_version", "chat_path",
         "api_key", "api_key_env"}
    )  # fmt: skip

    name: Name | None = Field(None, description="Name for people and logs.")
    endpoint: Annotated[str, StringConstraints(pattern=rf"{_HOST_AND_PORT}$")] = Field(
        description="`host:port` of an OpenAI-compatible server."
    )
    protocol: Literal["http"] = Field("http", description="Plain HTTP; TLS is the mesh's work.")
    weight: int = Field(1, ge=1, le=1000, description="Share of the model's traffic, relative to its siblings.")
    adapters_on_demand: bool = Field(
        False,
        description="The server loads adapters when they are asked for: one that it does not list is not missing.",
    )


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

    NOT_ACTIVE = frozenset({"model_scores"})
    INSTEAD: ClassVar[dict[str, str]] = {"model_scores": "a decision's modelRefs say which model serves a domain"}

    name: Name = Field(description="Topic name; any words, the classifier's labels or your own.")
    description: str | None = Field(
        None, description="What belongs to the topic; sharpens a name that the classifier's head does not know."
    )
    mmlu_categories: tuple[Name, ...] = Field(
        (), description="Labels of the classifier's head that belong to this domain; it takes their probability."
    )
    examples: tuple[Name, ...] = Field(
        (), description="Prompts about the topic; they sharpen a name that the classifier's head does not know."
    )


class KeywordSignal(Section):
    """Words that decide by being there."""

    NOT_ACTIVE = frozenset({"bm25_threshold", "ngram_threshold", "ngram_arity"})

    name: Name = Field(description="Name that rules refer to.")
    keywords: tuple[Name, ...] = Field(min_length=1, description="Words, phrases or expressions.")
    operator: Literal["OR", "AND", "NOR"] = Field(
        "OR", description="`OR`: any keyword; `AND`: all of them; `NOR`: none of them."
    )
    case_sensitive: bool = Field(False, description="Compare letters exactly.")
    match: Literal["substring", "word", "regex", "fuzzy"] = Field(
        "substring",
        description="`substring`: anywhere; `word`: whole words; `regex`: RE2 expressions, which take linear time; "
        "`fuzzy`: whole words with up to `fuzzy_threshold` edits.",
    )
    fuzzy_threshold: int = Field(2, ge=0, le=4, description="Most edits (insert, delete, replace) of a fuzzy match.")

    @model_validator(mode="before")
    @classmethod
    def _from_method(cls, data: Any) -> Any:
        """v0.3 says `method` and `fuzzy_match` for what is `match` here."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        method, fuzzy = data.pop("method", None), data.pop("fuzzy_match", False)
        if method is not None and method not in ("regex", "fuzzy"):
            raise ValueError(f"method `{method}` is not offered; `match` can be substring, word, regex or fuzzy")
        if method or fuzzy:
            data.setdefault("match", "fuzzy" if fuzzy else method)
        return data


class EmbeddingSignal(Section):
    """Sentences; a prompt that means much the same matches."""

    NOT_ACTIVE = frozenset({"query_modality"})

    name: Name = Field(description="Name that rules refer to.")
    threshold: Similarity = Field(0.5, description="Least cosine similarity, as the bundle's embedder measures it.")
    candidates: tuple[Name, ...] = Field(min_length=1, description="Sentences to compare the prompt with.")
    aggregation_method: Literal["max", "mean", "any"] = Field(
        "max",
        description="What must reach the threshold: the largest similarity (`max`), their mean (`mean`), or one of "
        "them (`any`, which is `max` by another name).",
    )
    description: str | None = Field(None, description="For people.")


class McpSignal(Section):
    """A class that the MCP server of `global.model_catalog.modules.classifier.mcp` may answer."""

    name: Name = Field(description="The class, as the server names it.")
    description: str | None = Field(None, description="For people.")


class LanguageSignal(Section):
    """The language that the prompt is written in."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] = Field(description="ISO 639 code, such as `en`.")
    description: str | None = Field(None, description="For people.")
    threshold: Probability = Field(0.3, description="Least probability of the detected language.")


class Predicate(Section):
    """Bounds on a number; all that are given must hold."""

    gt: float | None = Field(None, description="Greater than.")
    gte: float | None = Field(None, description="At least.")
    lt: float | None = Field(None, description="Less than.")
    lte: float | None = Field(None, description="At most.")

    @model_validator(mode="after")
    def _says_something(self) -> Predicate:
        if self.gt is None and self.gte is None and self.lt is None and self.lte is None:
            raise ValueError("a predicate needs `gt`, `gte`, `lt` or `lte`")
        return self

    def holds(self, value: float) -> bool:
        return (
            (self.gt is None or value > self.gt)
            and (self.gte is None or value >= self.gte)
            and (self.lt is None or value < self.lt)
            and (self.lte is None or value <= self.lte)
        )


class ContextSignal(Section):
    """How long the whole conversation is, in estimated tokens."""

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    min_tokens: TokenCount = Field(None, description="Least tokens, included; `K` and `M` are understood.")
    max_tokens: TokenCount = Field(None, description="Most tokens, included; left out means no limit.")


class StructureSource(Section):
    type: Literal["regex", "keyword_set", "sequence", "text_bytes"] = Field(description="What is looked for.")
    pattern: str | None = Field(None, description="RE2 expression, for `regex`.")
    keywords: tuple[Name, ...] = Field((), description="Words, for `keyword_set`.")
    case_sensitive: bool = Field(False, description="Compare letters exactly.")
    sequences: tuple[tuple[Name, ...], ...] = Field(
        (), description="Lists of words that must come in this order, for `sequence`."
    )

    @model_validator(mode="after")
    def _has_what_it_looks_for(self) -> StructureSource:
        needed = {"regex": self.pattern, "keyword_set": self.keywords, "sequence": self.sequences}
        keys = {"regex": "pattern", "keyword_set": "keywords", "sequence": "sequences"}
        if self.type in needed and not needed[self.type]:
            raise ValueError(f"a source of type `{self.type}` needs `{keys[self.type]}`")
        return self


class StructureFeature(Section):
    type: Literal["exists", "count", "density", "sequence"] = Field(
        description="`exists` and `sequence`: 1 or 0; `count`: occurrences; `density`: occurrences a word."
    )
    source: StructureSource = Field(description="What is looked for.")


class StructureSignal(Section):
    """What the prompt's text looks like: code blocks, lists, question marks."""

    NOT_ACTIVE = frozenset({"normalize_by"})

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    feature: StructureFeature = Field(description="What is measured.")
    predicate: Predicate | None = Field(None, description="When it matches; without one, when the number is not zero.")


class ConversationSource(Section):
    type: Literal[
        "message", "tool_definition", "assistant_tool_call", "assistant_tool_cycle", "active_tool_loop",
        "image_content",
    ] = Field(description="What is counted.")  # fmt: skip
    role: Literal["system", "developer", "user", "assistant", "tool"] | None = Field(
        None, description="Only messages of this role, for `message`."
    )


class ConversationFeature(Section):
    type: Literal["count", "exists"] = Field(description="How many there are, or whether there is one.")
    source: ConversationSource = Field(description="What is counted.")


class ConversationSignal(Section):
    """What the message list looks like: turns, tools, images."""

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    feature: ConversationFeature = Field(description="What is measured.")
    predicate: Predicate | None = Field(None, description="When it matches; without one, when the number is not zero.")


class MetadataPredicate(Section):
    equals: str | None = Field(None, description="The value, exactly.")
    in_: tuple[str, ...] | None = Field(None, alias="in", description="One of these values.")
    exists: bool | None = Field(None, description="Whether the key is there at all.")

    @model_validator(mode="after")
    def _exactly_one(self) -> MetadataPredicate:
        if (self.equals is not None) + (self.in_ is not None) + (self.exists is not None) != 1:
            raise ValueError("a metadata predicate needs one of `equals`, `in` and `exists`")
        return self


class MetadataSignal(Section):
    """A key of the request's `metadata` object."""

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    key: Name = Field(description="Key of `metadata` in the request's body.")
    predicate: MetadataPredicate = Field(description="What its value must be.")


class ComplexityExamples(Section):
    NOT_ACTIVE = frozenset({"image_candidates"})

    candidates: tuple[Name, ...] = Field(min_length=1, description="Prompts of this kind.")


class ComplexitySignal(Section):
    """Whether a prompt is closer to hard examples or to easy ones. Rules name it as `NAME:hard`, `:medium`, `:easy`."""

    NOT_ACTIVE = frozenset({"composer"})

    name: Name = Field(description="Name that rules refer to, with the level after a colon.")
    description: str | None = Field(None, description="For people.")
    threshold: Similarity = Field(
        0.1, description="How much closer (cosine) the nearer side must be; within it a prompt is `medium`."
    )
    hard: ComplexityExamples = Field(description="Hard prompts.")
    easy: ComplexityExamples = Field(description="Easy prompts.")


class Subject(Section):
    kind: Literal["User", "Group"] = Field(description="What the name is.")
    name: Name = Field(description="User id or group, as the identity headers carry it.")


class RoleBinding(Section):
    """Who has a role. Rules of `type: authz` name the binding or its role."""

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    subjects: tuple[Subject, ...] = Field(min_length=1, description="Users and groups that have the role.")
    role: Name = Field(description="The role.")


class ReaskSignal(Section):
    """The user asks again what was just asked: the last answer did not help."""

    name: Name = Field(description="Name that rules refer to.")
    description: str | None = Field(None, description="For people.")
    threshold: Similarity = Field(0.8, description="Least cosine similarity of this turn to an earlier one.")
    lookback_turns: int = Field(1, ge=1, le=4, description="How many turns in a row, counted back, must be alike.")


class Signals(Section):
    NOT_ACTIVE = frozenset(
        {"fact_check", "user_feedbacks", "preferences", "modality", "jailbreak", "pii", "kb", "events", "classifiers"}
    )

    domains: tuple[DomainSignal, ...] = Field((), description="Topics that rules of `type: domain` refer to.")
    keywords: tuple[KeywordSignal, ...] = Field((), description="Word lists that rules of `type: keyword` refer to.")
    embeddings: tuple[EmbeddingSignal, ...] = Field((), description="Sentences, for rules of `type: embedding`.")
    mcp: tuple[McpSignal, ...] = Field((), description="Classes of the MCP server, for rules of `type: mcp`.")
    language: tuple[LanguageSignal, ...] = Field((), description="Languages, for rules of `type: language`.")
    context: tuple[ContextSignal, ...] = Field((), description="Length ranges, for rules of `type: context`.")
    structure: tuple[StructureSignal, ...] = Field((), description="Features of the text, for `type: structure`.")
    conversation: tuple[ConversationSignal, ...] = Field(
        (), description="Features of the message list, for `type: conversation`."
    )
    metadata: tuple[MetadataSignal, ...] = Field((), description="Request metadata, for rules of `type: metadata`.")
    complexity: tuple[ComplexitySignal, ...] = Field((), description="Hard or easy, for rules of `type: complexity`.")
    role_bindings: tuple[RoleBinding, ...] = Field((), description="Roles, for rules of `type: authz`.")
    reasks: tuple[ReaskSignal, ...] = Field((), description="Repeated questions, for rules of `type: reask`.")


# Where the signals of a rule's type are declared, under `routing.signals`.
SIGNAL_LISTS = {
    "domain": "domains",
    "keyword": "keywords",
    "embedding": "embeddings",
    "mcp": "mcp",
    "language": "language",
    "context": "context",
    "structure": "structure",
    "conversation": "conversation",
    "metadata": "metadata",
    "complexity": "complexity",
    "authz": "role_bindings",
    "reask": "reasks",
}
# Types of v0.3 that are read and never evaluated: a rule that hangs on one of them is unknown.
INACTIVE_TYPES = frozenset(
    {"fact_check", "user_feedback", "preference", "modality", "jailbreak", "pii", "kb", "event", "classifier",
     "projection"}
)  # fmt: skip


class Rule(Section):
    """A node of a decision's rule tree: a leaf (`type`, `name`) or a branch (`operator`, `conditions`)."""

    NOT_ACTIVE = frozenset({"label", "on_error"})

    type: (
        Literal[
            "domain", "keyword", "embedding", "mcp", "language", "context", "structure", "conversation", "metadata",
            "complexity", "authz", "reask", "fact_check", "user_feedback", "preference", "modality", "jailbreak",
            "pii", "kb", "event", "classifier", "projection",
        ]
        | None
    ) = Field(None, description="Leaf: kind of signal.")  # fmt: skip
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


CacheScope = Literal["user", "tenant", "global"]


class SemanticCacheSettings(Section):
    NOT_ACTIVE = frozenset({"request_controls", "personalized", "revision"})

    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["semantic", "exact"] = Field("semantic", description="Alike questions too, or the same one only.")
    similarity_threshold: Probability | None = Field(None, description="Least cosine; overrides the global one.")
    ttl_seconds: float | None = Field(None, gt=0, description="How long answers are kept; overrides the global one.")
    scope: CacheScope | None = Field(None, description="Who shares answers; overrides the global one.")


class SemanticCachePlugin(Section):
    """Answers that were given before; see docs/cache.md."""

    type: Literal["semantic-cache", "semantic_cache", "response_cache", "response-cache"]
    configuration: SemanticCacheSettings = Field(
        default_factory=SemanticCacheSettings, description="Cache settings of this decision."
    )


class Header(Section):
    name: HeaderName = Field(description="Header name; letters are compared without case.")
    value: SecretStr = Field(description="Its value; never shown again.")


class HeaderMutationSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    add: tuple[Header, ...] = Field((), description="Set where the request has no such header.")
    update: tuple[Header, ...] = Field((), description="Set, whatever the request has.")
    delete: tuple[HeaderName, ...] = Field((), description="Removed.")


class HeaderMutationPlugin(Section):
    type: Literal["header_mutation"]
    configuration: HeaderMutationSettings = Field(description="Changes to the request's headers, for the backend.")


class FastResponseSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    message: str = Field(min_length=1, description="The assistant's answer; no backend is asked.")


class FastResponsePlugin(Section):
    type: Literal["fast_response"]
    configuration: FastResponseSettings = Field(description="What is answered at once, as JSON or as a stream.")


class RequestParamsSettings(Section):
    enabled: bool = Field(True, description="Switch for this decision.")
    blocked_params: tuple[Name, ...] = Field((), description="Members of the request that are taken out.")
    max_tokens_limit: int | None = Field(
        None, ge=1, description="Cap on `max_tokens` and `max_completion_tokens`; set where the client gives neither."
    )
    max_n: int | None = Field(None, ge=1, description="Cap on `n`.")
    strip_unknown: bool = Field(False, description="Take out members that no OpenAI or vLLM chat request has.")


class RequestParamsPlugin(Section):
    type: Literal["request_params"]
    configuration: RequestParamsSettings = Field(description="Limits on what a client may ask for.")


class ToolsSettings(Section):
    NOT_ACTIVE = frozenset({"semantic_selection", "strip_tool_history", "strategy", "dynamic_retrieval"})

    enabled: bool = Field(True, description="Switch for this decision.")
    mode: Literal["none", "passthrough", "filtered"] = Field(
        "filtered", description="`none` takes all tools away, `passthrough` leaves them, `filtered` applies the lists."
    )
    allow_tools: tuple[Name, ...] | None = Field(None, description="Names (shell patterns) that stay; default all.")
    block_tools: tuple[Name, ...] = Field((), description="Names (shell patterns) that go, allowed or not.")


class ToolsPlugin(Section):
    type: Literal["tools"]
    configuration: ToolsSettings = Field(description="Which of the client's tools the model gets to see.")


Plugin = Annotated[
    SystemPromptPlugin
    | HeaderMutationPlugin
    | FastResponsePlugin
    | RequestParamsPlugin
    | ToolsPlugin
    | SemanticCachePlugin,
    Field(discriminator="type"),
]


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


# --- global --------------------------------------------------------------------------------------------------------


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


class EnvoySettings(Section):
    """What `triton-router up` and `triton-router envoy` write into Envoy's configuration."""

    host: str = Field("127.0.0.1", description="Listening address.")
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
    idle_timeout_seconds: float = Field(600, gt=0, description="Longest silence inside an answer.")
    concurrency: int | None = Field(None, ge=1, description="Envoy worker threads; default: one a core.")
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
    host: str = Field("127.0.0.1", description="Listening address of the ext_proc and health service.")
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
    endpoint: Annotated[str, StringConstraints(pattern=rf"{_HOST_AND_PORT}(/[^\s?#]*)?$")] = Field(
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


class RedisSettings(Section):
    """Redis 8 (or Redis Stack) with vector search, shared by all replicas."""

    NOT_ACTIVE = frozenset({"connection", "index", "search", "development", "logging"})

    url: Name = Field("redis://127.0.0.1:6379", description="`redis://` or `rediss://` address.")
    username: Name | None = Field(None, description="User name.")
    password: SecretStr | None = Field(None, description="Password; name a variable: `${REDIS_PASSWORD}`.")
    prefix: Name = Field("triton-router:cache", description="What keys begin with.")
    deadline_ms: Milliseconds = Field(50, description="Longest that one call may take; beyond it is a miss.")


class MilvusSettings(Section):
    """Milvus, shared by all replicas."""

    NOT_ACTIVE = frozenset({"connection", "search", "development", "logging"})

    uri: Name = Field("http://127.0.0.1:19530", description="Address of the server.")
    token: SecretStr | None = Field(None, description="`user:password` or a key; name a variable: `${MILVUS_TOKEN}`.")
    collection: Name = Field("triton_router_cache", description="Collection, made if it is missing.")
    deadline_ms: Milliseconds = Field(100, description="Longest that one call may take; beyond it is a miss.")


class CacheSettings(Section):
    """The semantic cache. Nothing is cached until a decision carries the plugin."""

    enabled: bool = Field(True, description="Use it.")
    embedding_model: Name | None = Field(
        None,
        description="Model of the signal bundle whose embedding the cache and all embedding rules compare, by its name "
        "or the published model's id; default, also for a name that the bundle does not have: its first embedder.",
    )
    backend_type: Literal["memory", "redis", "milvus"] = Field(
        "memory", description="Where answers are kept: in each worker's memory, or in a server that all replicas share."
    )
    redis: RedisSettings = Field(default_factory=RedisSettings, description="For `backend_type: redis`.")
    milvus: MilvusSettings = Field(default_factory=MilvusSettings, description="For `backend_type: milvus`.")
    secret: SecretStr | None = Field(
        None,
        description="Key of the HMAC that tells callers apart by their credential. Replicas that share a store need "
        "the same one to share a caller's answers; without it each process makes its own.",
    )
    similarity_threshold: Probability = Field(0.9, description="Least cosine of a question that means the same.")
    ttl_seconds: float = Field(3600, gt=0, description="How long answers are kept.")
    max_entries: int = Field(1000, ge=1, le=1_000_000, description="Most answers kept in memory.")
    eviction_policy: Literal["fifo", "lru", "lfu"] = Field(
        "fifo", description="Which answer in memory makes room for another."
    )
    scope: CacheScope = Field(
        "user",
        description="`user`: nobody gets another's answer; `tenant`: those of one trusted tenant share; `global`: all.",
    )
    anonymous: bool = Field(True, description="Let callers without any credential share one scope of their own.")
    coalesce_ms: int = Field(
        0,
        ge=0,
        le=60_000,
        description="Longest wait, in ms, of a request that is not streamed for the answer to the same one, already on "
        "its way in this worker for the same scope. 0: each goes to the backend.",
    )


class Stores(Section):
    NOT_ACTIVE = frozenset({"memory", "vector_store"})

    semantic_cache: CacheSettings = Field(default_factory=CacheSettings, description="Answers given before.")

    @model_validator(mode="before")
    @classmethod
    def _by_either_name(cls, data: Any) -> Any:
        """v0.3 also calls it `response_cache`."""
        if isinstance(data, dict) and "response_cache" in data and "semantic_cache" not in data:
            data = {**data, "semantic_cache": data["response_cache"]}
            del data["response_cache"]
        return data


class Global(Section):
    NOT_ACTIVE = frozenset({"integrations"})

    router: RouterSettings = Field(default_factory=RouterSettings, description="The router itself.")
    inference: InferenceSettings = Field(default_factory=InferenceSettings, description="Triton.")
    services: Services = Field(default_factory=Services, description="Addresses, ports, identity.")
    model_catalog: ModelCatalogSettings = Field(
        default_factory=ModelCatalogSettings, description="The models behind the signals."
    )
    stores: Stores = Field(default_factory=Stores, description="What is remembered.")


class Config(Section):
    """A whole configuration file."""

    NOT_ACTIVE = frozenset({"listeners", "entrypoints", "recipes"})

    version: Literal["v0.3"] = Field("v0.3", description="Form of the file.")
    providers: Providers = Field(default_factory=Providers, description="Models, backends, reasoning families.")
    routing: Routing = Field(default_factory=Routing, description="Signals and decisions.")
    global_: Global = Field(default_factory=Global, alias="global", description="Everything that is not routing.")
