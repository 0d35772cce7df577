"""Settings of the plugins, one class per kind."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import Field, SecretStr

from triton_router.config.kinds import PLUGIN_GROUP, PLUGINS, PluginSettings, installed
from triton_router.config.section import CacheScope, HeaderName, Name, Probability, Section


class Switch(Section):
    """Settings of a plugin, which can be switched off."""

    enabled: bool = Field(True, description="Switch for this decision.")


class SystemPromptSettings(Switch):
    mode: Literal["replace", "prepend", "append", "insert", "auto"] = Field(
        "replace",
        description="`replace` removes the client's system messages; `prepend` and `append` add one before or after "
        "them; `insert` puts the text at the start of the first one; `auto` replaces where the client sent none or "
        "one line, and inserts where it sent more, as agents do.",
    )
    system_prompt: str = Field("", description="The text; without one nothing happens.")


class SystemPromptPlugin(PluginSettings):
    type: Literal["system_prompt"]
    configuration: SystemPromptSettings = Field(description="The text, and how to combine it with the client's.")


class SemanticCacheSettings(Switch):
    NOT_ACTIVE = frozenset({"request_controls", "personalized", "revision", "allow_request_controls", "control_header"})

    mode: Literal["semantic", "exact", "exact_then_semantic"] = Field(
        "semantic",
        description="`semantic`, `exact_then_semantic`: similar questions share a response; `exact`: only identical "
        "ones.",
    )
    similarity_threshold: Probability | None = Field(None, description="Least cosine; overrides the global value.")
    ttl_seconds: float | None = Field(
        None, gt=0, description="Lifetime of a cached response, in seconds; overrides the global value."
    )
    scope: CacheScope | None = Field(None, description="Callers that share responses; overrides the global value.")


class SemanticCachePlugin(PluginSettings):
    """Responses from the cache; see docs/cache.md."""

    type: Literal["semantic-cache", "semantic_cache", "response_cache", "response-cache"]
    configuration: SemanticCacheSettings = Field(
        default_factory=SemanticCacheSettings, description="Cache settings of this decision."
    )

    @property
    def by_meaning(self) -> bool:
        """Whether to search for similar questions."""
        return self.configuration.enabled and self.configuration.mode != "exact"


class Header(Section):
    name: HeaderName = Field(description="Header name; case does not matter.")
    value: SecretStr = Field(description="Header value; never shown in logs or dumps.")


class HeaderMutationSettings(Switch):
    add: tuple[Header, ...] = Field((), description="Headers to set if the request does not have them.")
    update: tuple[Header, ...] = Field((), description="Headers to set, also if the request has them.")
    delete: tuple[HeaderName, ...] = Field((), description="Removed.")


class HeaderMutationPlugin(PluginSettings):
    type: Literal["header_mutation"]
    configuration: HeaderMutationSettings = Field(description="Changes to the request's headers, for the backend.")


class FastResponseSettings(Switch):
    message: str = Field(
        "This request is not passed on to a model.",
        min_length=1,
        description="Text of the response; no backend is called.",
    )


class FastResponsePlugin(PluginSettings):
    type: Literal["fast_response"]
    configuration: FastResponseSettings = Field(
        default_factory=FastResponseSettings, description="The immediate response, as JSON or as a stream."
    )


class BlockSettings(Switch):
    message: str = Field("The request was refused by policy.", min_length=1, description="Text of the error.")
    status: int = Field(403, ge=400, le=499, description="HTTP status of the error, in the shape of the client's API.")
    shadow: bool = Field(
        False, description="Block nothing; only report in a header and a metric what would be blocked."
    )
    on_unknown: Literal["deny", "route", "ignore"] = Field(
        "deny",
        description="If a signal of the rules could not be evaluated: refuse with 503, send the request to the "
        "decision's modelRefs, or go on as if nothing matched.",
    )


class BlockPlugin(PluginSettings):
    """Refuse the request, whichever model it names; see docs/protection.md."""

    type: Literal["block"]
    configuration: BlockSettings = Field(default_factory=BlockSettings, description="The error, and when to refuse.")


class ConfineSettings(Switch):
    shadow: bool = Field(
        False, description="Confine nothing; only report in a header and a metric what would be confined."
    )
    on_unknown: Literal["deny", "route", "ignore"] = Field(
        "route",
        description="If a signal of the rules could not be evaluated: refuse with 503, confine the request, or go on "
        "as if nothing matched.",
    )


class ConfinePlugin(PluginSettings):
    """Send the request to the decision's modelRefs, whichever model it names; see docs/protection.md."""

    type: Literal["confine"]
    configuration: ConfineSettings = Field(default_factory=ConfineSettings, description="When to confine.")


class MaskSettings(Switch):
    trusted_models: tuple[Name, ...] = Field((), description="Models that may read the personal data.")
    shadow: bool = Field(False, description="Mask nothing; only report in a header and a metric what would be masked.")
    on_unknown: Literal["deny", "ignore"] = Field(
        "deny",
        description="If a signal of the rules could not be evaluated: refuse with 503, or go on as if nothing matched.",
    )


class MaskPlugin(PluginSettings):
    """Replace personal data by placeholders, and these by the data in the response; see docs/protection.md."""

    GUARDS_RESPONSES = True

    type: Literal["mask"]
    configuration: MaskSettings = Field(default_factory=MaskSettings, description="When to mask, and for whom.")


class ResponsePiiSettings(Switch):
    pii_types_denied: tuple[Name, ...] = Field(
        (), description="Types of personal data that an answer must not contain; default: all with a recognisable form."
    )
    action: Literal["block", "mask", "report"] = Field(
        "block",
        description="`block` ends the answer before the data, `mask` replaces the data by its type, `report` counts "
        "it.",
    )
    message: str = Field(
        "The answer was withheld by policy.",
        min_length=1,
        description="Text of a blocked answer, unless it is a stream.",
    )


class ResponsePiiPlugin(PluginSettings):
    """Keep personal data out of answers, whole or streamed; see docs/protection.md."""

    GUARDS_RESPONSES = True

    type: Literal["response_pii"]
    configuration: ResponsePiiSettings = Field(
        default_factory=ResponsePiiSettings, description="Data that an answer must not contain, and the action."
    )


class ResponseJailbreakSettings(Switch):
    head: Name = Field("jailbreak", description="Head of the signal bundle that judges answers.")
    labels: tuple[Name, ...] = Field(
        ("harmful_request", "jailbreak"),
        min_length=1,
        description="Labels whose probabilities are added; those that the head lacks do not count.",
    )
    threshold: Probability = Field(0.7, description="Least probability.")
    action: Literal["block", "header", "none"] = Field(
        "block",
        description="`block` ends a stream and withholds a whole answer; `header` only counts.",
    )
    on_unknown: Literal["deny", "ignore"] = Field(
        "deny", description="If the head cannot judge a text: treat it as a match (`deny`) or as no match (`ignore`)."
    )
    message: str = Field(
        "The answer was withheld by policy.",
        min_length=1,
        description="Text of a blocked answer, unless it is a stream.",
    )


class ResponseJailbreakPlugin(PluginSettings):
    """Judge answers by a head, whole or streamed; see docs/protection.md."""

    GUARDS_RESPONSES = True

    type: Literal["response_jailbreak"]
    configuration: ResponseJailbreakSettings = Field(
        default_factory=ResponseJailbreakSettings, description="The head that judges, and the action."
    )


class HallucinationSettings(Switch):
    NOT_ACTIVE = frozenset({"use_nli"})
    INSTEAD: ClassVar[dict[str, str]] = {"use_nli": "words are compared"}

    threshold: Probability = Field(
        0.5,
        description="Least share of a sentence's words that one document or tool result of the request must contain.",
    )
    hallucination_action: Literal["header", "body", "none"] = Field(
        "header",
        description="Action on a whole answer with a sentence below the threshold: `header` adds the member "
        "`x-vsr-response-warnings` to the body, because the headers have left by then; `body` adds a note to the "
        "text. Streams are only counted.",
    )
    unverified_factual_action: Literal["header", "body", "none"] = Field(
        "header",
        description="Action if a `fact_check` signal matched and the request has neither documents nor tool "
        "results: both `header` and `body` set the header `x-vsr-response-warnings`.",
    )
    include_hallucination_details: bool = Field(False, description="Quote up to three such sentences.")


class HallucinationPlugin(PluginSettings):
    """Mark answers that the request's documents do not support. Experimental; see docs/protection.md."""

    type: Literal["hallucination"]
    configuration: HallucinationSettings = Field(description="Support that an answer needs, and the action without it.")


class RequestParamsSettings(Switch):
    NOT_ACTIVE = frozenset({"default_max_tokens"})

    blocked_params: tuple[Name, ...] = Field((), description="Request members to remove.")
    max_tokens_limit: int | None = Field(
        None, ge=1, description="Cap on `max_tokens` and `max_completion_tokens`; set if the client gives neither."
    )
    max_n: int | None = Field(None, ge=1, description="Cap on `n`.")
    strip_unknown: bool = Field(False, description="Remove members that are unknown in OpenAI and vLLM chat requests.")


class RequestParamsPlugin(PluginSettings):
    type: Literal["request_params"]
    configuration: RequestParamsSettings = Field(description="Limits on the client's parameters.")


class ToolsSettings(Switch):
    NOT_ACTIVE = frozenset({"semantic_selection", "strip_tool_history", "strategy", "dynamic_retrieval"})

    mode: Literal["none", "passthrough", "filtered"] = Field(
        "filtered", description="`none` removes all tools, `passthrough` keeps them, `filtered` applies the lists."
    )
    allow_tools: tuple[Name, ...] | None = Field(None, description="Names (shell patterns) to keep; default: all.")
    block_tools: tuple[Name, ...] = Field((), description="Names (shell patterns) to remove, even if allowed.")


class ToolsPlugin(PluginSettings):
    type: Literal["tools"]
    configuration: ToolsSettings = Field(description="The client's tools that the model receives.")


class RouterReplaySettings(Switch):
    NOT_ACTIVE = frozenset({"max_records", "capture_request_body", "capture_response_body", "max_body_bytes",
                            "max_tool_trace_bytes", "max_tool_trace_steps"})  # fmt: skip
    INSTEAD: ClassVar[dict[str, str]] = {"max_records": "`global.services.router_replay.max_records` holds for all"}

    enabled: bool = Field(True, description="Whether requests of this decision can be looked up.")


class RouterReplayPlugin(PluginSettings):
    """Records of decisions; see `global.services.router_replay`."""

    type: Literal["router_replay"]
    configuration: RouterReplaySettings = Field(
        default_factory=RouterReplaySettings, description="Whether this decision is recorded."
    )


installed(PLUGIN_GROUP)

if TYPE_CHECKING:
    Plugin = PluginSettings
else:
    Plugin = Annotated[Union[tuple(PLUGINS)], Field(discriminator="type")]  # noqa: UP007  # only known at run time
