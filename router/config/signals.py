"""Settings of the signals, one class per kind."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, create_model, model_validator

from triton_router.config import knowledge, projections  # noqa: F401  # they register their kinds
from triton_router.config.document import Path
from triton_router.config.heads import ClassifierSignal as ClassifierSignal
from triton_router.config.heads import FactCheckSignal as FactCheckSignal
from triton_router.config.heads import ModalitySignal as ModalitySignal
from triton_router.config.heads import UserFeedbackSignal as UserFeedbackSignal
from triton_router.config.kinds import SIGNAL_GROUP, SIGNALS, SignalSettings, installed
from triton_router.config.parts import PartNames
from triton_router.config.protection import JailbreakSignal as JailbreakSignal
from triton_router.config.protection import PiiSignal as PiiSignal
from triton_router.config.prototypes import PrototypeScoring
from triton_router.config.report import Report
from triton_router.config.section import UPPER_CASE, Name, Phrase, Probability, Section, Similarity, TokenCount, word

_CLASSIFIERS = ("global", "model_catalog", "modules", "classifier")
# Types and lists of vLLM Semantic Router (`latency`: until v0.2) that this version may lack.
_FOREIGN = ("safety", "hallucination", "input_modality", "latency")
_FOREIGN_LISTS = frozenset(_FOREIGN)
_PROTECTIVE = frozenset({"safety", "hallucination"})


class DomainSignal(SignalSettings):
    """A topic. One declared domain wins a prompt. The name need not be a label of the classifier's head."""

    TYPE, LIST = "domain", "domains"
    MODULE = (*_CLASSIFIERS, "domain")
    EXPLAINED = True
    PURPOSE = "Topics that rules of `type: domain` refer to."
    COMPETE = True

    NOT_ACTIVE = frozenset({"model_scores"})
    INSTEAD: ClassVar[dict[str, str]] = {"model_scores": "a decision's modelRefs say which model serves a domain"}

    name: Name = Field(description="Topic name: a label of the classifier, or any other words.")
    description: str | None = Field(
        None, description="Content of the topic. It helps if the classifier's head does not know the name."
    )
    mmlu_categories: tuple[Name, ...] = Field(
        (), description="Labels of the classifier's head that belong to this domain. It gets their probability."
    )
    examples: tuple[Phrase, ...] = Field(
        (), description="Prompts about the topic. They help if the classifier's head does not know the name."
    )


class KeywordSignal(SignalSettings):
    """Words that match by their presence."""

    TYPE, LIST = "keyword", "keywords"
    PURPOSE = "Word lists that rules of `type: keyword` refer to."

    keywords: tuple[Phrase, ...] = Field(min_length=1, description="Words, phrases or expressions.")
    operator: Annotated[Literal["OR", "AND", "NOR"], UPPER_CASE] = Field(
        "OR", description="`OR`: any keyword; `AND`: all of them; `NOR`: none of them."
    )
    case_sensitive: bool = Field(False, description="Compare letters exactly.")
    match: Literal["substring", "word", "regex", "fuzzy", "bm25", "ngram"] = Field(
        "substring",
        description="`substring`: anywhere; `word`: whole words; `regex`: RE2 expressions; "
        "`fuzzy`: whole words with up to `fuzzy_threshold` edits; `bm25`: other forms of English words; `ngram`: words "
        "that share letters.",
    )
    fuzzy_threshold: int = Field(
        2, ge=0, le=100, description="Most edits (insert, delete, replace) of a fuzzy match; a value over 4 is a "
        "similarity in per cent.",
    )  # fmt: skip
    bm25_threshold: float = Field(0.1, ge=0, description="Least BM25 score of a keyword, for `bm25`.")
    ngram_threshold: Probability = Field(0.4, description="Least similarity of a keyword to a word, for `ngram`.")
    ngram_arity: int = Field(3, ge=2, le=8, description="Letters in each run that is compared, for `ngram`.")
    parts: PartNames = ("words",)

    def edits(self, length: int) -> int:
        """The most edits of a phrase of ``length`` characters."""
        return self.fuzzy_threshold if self.fuzzy_threshold <= 4 else (100 - self.fuzzy_threshold) * length // 100

    @model_validator(mode="before")
    @classmethod
    def _from_method(cls, data: Any) -> Any:
        """Accept v0.3's `method` and `fuzzy_match` as `match`."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        method, fuzzy = data.pop("method", None), data.pop("fuzzy_match", False)
        if method or fuzzy:
            data.setdefault("match", "fuzzy" if fuzzy else method)
        return data


class EmbeddingSignal(SignalSettings):
    """Sentences. A prompt with a similar meaning matches."""

    TYPE, LIST = "embedding", "embeddings"
    PURPOSE = "Sentences, for rules of `type: embedding`."

    NOT_ACTIVE = frozenset({"image_candidates", "negative_image_candidates", "model"})

    threshold: Similarity = Field(0.5, description="Least cosine similarity, on the scale of the bundle's embedder.")
    candidates: tuple[Phrase, ...] = Field((), description="Sentences to compare the prompt with.")
    negative_candidates: tuple[Phrase, ...] = Field(
        (),
        description="Sentences that the prompt must not resemble; their similarity is subtracted from that of "
        "`candidates`.",
    )
    query_modality: Literal["text", "image", "audio"] = Field(
        "text", description="Part of the prompt to compare; a signal on images or audio is always unknown here."
    )
    prototype_scoring: PrototypeScoring | None = Field(
        None, description="Instead of `aggregation_method`: weights of the nearest candidate and the nearest few."
    )
    aggregation_method: Literal["max", "mean", "any"] = Field(
        "max",
        description="The number that must reach the threshold: the largest similarity (`max`, or its other name "
        "`any`) or the mean (`mean`).",
    )
    parts: PartNames = ("topic",)


class McpSignal(SignalSettings):
    """A class that the MCP server of `global.model_catalog.modules.classifier.mcp` may return."""

    TYPE, LIST = "mcp", "mcp"
    MODULE = (*_CLASSIFIERS, "mcp")
    PURPOSE = "Classes of the MCP server, for rules of `type: mcp`."
    COMPETE = True

    name: Name = Field(description="The server's name for the class.")


class LanguageSignal(SignalSettings):
    """The language of the prompt."""

    TYPE, LIST = "language", "language"
    PURPOSE = "Languages, for rules of `type: language`."

    name: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] = Field(description="ISO 639 code, such as `en`.")
    threshold: Probability = Field(0.3, description="Least probability of the detected language.")
    parts: PartNames = ("words",)


class Predicate(Section):
    """Bounds on a number; all of them must hold."""

    gt: float | None = Field(None, description="Greater than.")
    gte: float | None = Field(None, description="At least.")
    lt: float | None = Field(None, description="Less than.")
    lte: float | None = Field(None, description="At most.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
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


class ContextSignal(SignalSettings):
    """The length of the whole conversation, in estimated tokens."""

    TYPE, LIST = "context", "context"
    PURPOSE = "Length ranges, for rules of `type: context`."

    min_tokens: TokenCount = Field(None, description="Least tokens, inclusive; `8K` and `1M` are valid.")
    max_tokens: TokenCount = Field(None, description="Most tokens, inclusive; default: no limit.")


class StructureSource(Section):
    type: Literal["regex", "keyword_set", "sequence", "text_bytes"] = Field(description="What to search for.")
    pattern: str | None = Field(None, description="RE2 expression, for `regex`.")
    keywords: tuple[Phrase, ...] = Field((), description="Words, for `keyword_set`.")
    case_sensitive: bool = Field(False, description="Compare letters exactly.")
    sequences: tuple[tuple[Name, ...], ...] = Field(
        (), description="Lists of words that must occur in this order, for `sequence`."
    )

    @model_validator(mode="after")
    def _has_what_it_looks_for(self) -> Self:
        needed = {"regex": self.pattern, "keyword_set": self.keywords, "sequence": self.sequences}
        keys = {"regex": "pattern", "keyword_set": "keywords", "sequence": "sequences"}
        if self.type in needed and not needed[self.type]:
            raise ValueError(f"a source of type `{self.type}` needs `{keys[self.type]}`")
        return self


class StructureFeature(Section):
    type: Literal["exists", "count", "density", "sequence"] = Field(
        description="`exists` and `sequence`: 1 or 0; `count`: occurrences; `density`: occurrences per word."
    )
    source: StructureSource = Field(description="What to search for.")


class StructureSignal(SignalSettings):
    """Features of the prompt's text: code blocks, lists, question marks."""

    TYPE, LIST = "structure", "structure"
    PURPOSE = "Features of the text, for `type: structure`."

    NOT_ACTIVE = frozenset({"normalize_by"})

    feature: StructureFeature = Field(description="The feature to measure.")
    predicate: Predicate | None = Field(None, description="Condition on the number; default: not zero.")
    parts: PartNames = ("own", "material")


class ConversationSource(Section):
    type: Literal[
        "message", "tool_definition", "assistant_tool_call", "assistant_tool_cycle", "active_tool_loop",
        "image_content",
    ] = Field(description="The items to count.")  # fmt: skip
    role: Literal["system", "developer", "user", "assistant", "tool", "non_user"] | None = Field(
        None, description="Only messages of this role, for `message`; `non_user`: of every role but `user`."
    )


class ConversationFeature(Section):
    type: Literal["count", "exists"] = Field(description="The number of items, or whether there is one.")
    source: ConversationSource = Field(description="The items to count.")


class ConversationSignal(SignalSettings):
    """Features of the message list: turns, tools, images."""

    TYPE, LIST = "conversation", "conversation"
    PURPOSE = "Features of the message list, for `type: conversation`."

    feature: ConversationFeature = Field(description="The feature to measure.")
    predicate: Predicate | None = Field(None, description="Condition on the number; default: not zero.")


class MetadataPredicate(Section):
    equals: Annotated[str | None, BeforeValidator(word)] = Field(None, description="The value, exactly.")
    in_: tuple[str, ...] | None = Field(None, alias="in", description="One of these values.")
    exists: bool | None = Field(None, description="Whether the key exists.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.equals is not None) + (self.in_ is not None) + (self.exists is not None) != 1:
            raise ValueError("a metadata predicate needs one of `equals`, `in` and `exists`")
        return self


class MetadataSignal(SignalSettings):
    """A key of the request's `metadata` object."""

    TYPE, LIST = "metadata", "metadata"
    PURPOSE = "Request metadata, for rules of `type: metadata`."

    key: Name = Field(description="Key of `metadata` in the request body.")
    predicate: MetadataPredicate = Field(description="Condition on its value.")


class ComplexityExamples(Section):
    NOT_ACTIVE = frozenset({"image_candidates"})

    candidates: tuple[Phrase, ...] = Field((), description="Prompts of this kind.")


class ComplexitySignal(SignalSettings):
    """Whether a prompt is closer to hard examples or to easy ones. Rules name it as `NAME:hard`, `:medium`, `:easy`."""

    TYPE, LIST = "complexity", "complexity"
    PURPOSE = "Hard or easy, for rules of `type: complexity`."

    # `hard_below` and `easy_above` are for classifiers whose scores run the other way.
    NOT_ACTIVE = frozenset({"composer", "hard_below", "easy_above"})
    LEVELS: ClassVar[tuple[str, ...]] = ("hard", "medium", "easy")

    name: Name = Field(description="Name that rules refer to, with the level after a colon.")
    threshold: Similarity = Field(
        0.1, description="Least margin (cosine) of the nearer side; with a smaller margin a prompt is `medium`."
    )
    hard_above: Similarity | None = Field(
        None, description="Instead of `threshold`: a prompt is hard above this margin (hard minus easy)."
    )
    easy_below: Similarity | None = Field(
        None, description="A prompt is easy below this margin; requires `hard_above`."
    )
    hard: ComplexityExamples = Field(
        default_factory=ComplexityExamples, description="Hard prompts; without both kinds the signal is always unknown."
    )
    easy: ComplexityExamples = Field(default_factory=ComplexityExamples, description="Easy prompts.")
    prototype_scoring: PrototypeScoring = Field(
        default_factory=PrototypeScoring, description="Scoring of the similarity to each side."
    )
    parts: PartNames = ("topic",)

    @model_validator(mode="after")
    def _bounds_go_together(self) -> Self:
        if (self.hard_above is None) != (self.easy_below is None):
            raise ValueError("`hard_above` and `easy_below` go together")
        if self.hard_above is not None and self.easy_below is not None and self.easy_below >= self.hard_above:
            raise ValueError("`easy_below` must be less than `hard_above`")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The margins under which a prompt is easy, and over which it is hard."""
        if self.easy_below is None or self.hard_above is None:
            return -self.threshold, self.threshold
        return self.easy_below, self.hard_above

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(f"{name}:{level}" for name in super().rule_names(entry) for level in cls.LEVELS)


class Subject(Section):
    kind: Literal["User", "Group"] = Field(description="Kind of the name.")
    name: Name = Field(description="User id or group, as in the identity headers.")


class RoleBinding(SignalSettings):
    """The users and groups with a role. Rules of `type: authz` name the binding or its role."""

    TYPE, LIST = "authz", "role_bindings"
    PURPOSE = "Roles, for rules of `type: authz`."

    subjects: tuple[Subject, ...] = Field(min_length=1, description="Users and groups that have the role.")
    role: Name = Field(description="The role.")

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        role = entry.get("role")
        return (*super().rule_names(entry), *([role] if isinstance(role, str) else []))


class ReaskSignal(SignalSettings):
    """The user repeats a question, because the last answer did not help."""

    TYPE, LIST = "reask", "reasks"
    PURPOSE = "Repeated questions, for rules of `type: reask`."

    threshold: Similarity = Field(0.8, description="Least cosine similarity of this turn to an earlier one.")
    lookback_turns: int = Field(1, ge=1, le=4, description="Number of consecutive previous turns that must be similar.")


class PreferenceSignal(SignalSettings):
    """A kind of request, by description or examples. The most similar one wins a prompt."""

    TYPE, LIST = "preference", "preferences"
    PURPOSE = "Kinds of requests by example, for rules of `type: preference`."
    COMPETE = True

    description: str | None = Field(None, description="What the requests are about; compared if there are no examples.")
    examples: tuple[Phrase, ...] = Field((), description="Such requests.")
    threshold: Similarity = Field(0.0, description="Least similarity of the winner; 0: no minimum.")
    prototype_scoring: PrototypeScoring = Field(
        default_factory=PrototypeScoring, description="Scoring of the similarity to the examples."
    )
    parts: PartNames = ("topic",)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What prompts are compared with."""
        return self.examples or (self.description or self.name,)


class EventSignal(SignalSettings):
    """Event types, severities, codes and urgency in an alert or a log. One of them is enough."""

    TYPE, LIST = "event", "events"
    PURPOSE = "Alerts and incidents, for rules of `type: event`."

    event_types: tuple[Phrase, ...] = Field((), description="Types, such as `payment_failed`, as whole words.")
    severities: tuple[Phrase, ...] = Field((), description="Severities, such as `critical`, as whole words.")
    action_codes: tuple[Phrase, ...] = Field((), description="Codes, such as `TXN_DECLINE`, as whole words.")
    temporal: bool = Field(False, description="Match words of urgency, such as `urgent` and `deadline`.")
    parts: PartNames = ("words", "material")


class TaskSignal(SignalSettings):
    """Background requests of a client program: a title for a chat, tags, questions to suggest."""

    TYPE, LIST = "task", "tasks"
    PURPOSE = "Background tasks of clients, for rules of `type: task`."

    tasks: tuple[Literal["title", "tags", "follow_ups", "summary", "autocomplete", "other"], ...] = Field(
        ("title", "tags", "follow_ups", "summary", "autocomplete", "other"),
        min_length=1,
        description="Tasks that match: a `title` or `tags` for a chat, `follow_ups` to suggest, a `summary` of its "
        "history, words that an `autocomplete` would type next, or an `other` one about a chat.",
    )


class DeclaredSignals(Section):
    """The signals of a configuration, one list per kind."""

    def of(self, kind: str) -> tuple[SignalSettings, ...]:
        """The declared signals of type ``kind``."""
        declared: tuple[SignalSettings, ...] = getattr(self, SIGNALS[kind].LIST)
        return declared


installed(SIGNAL_GROUP)

if TYPE_CHECKING:
    Signals = DeclaredSignals
    SignalType = str
else:
    Signals = create_model(
        "Signals",
        __base__=DeclaredSignals,
        __module__=__name__,
        **{kind.LIST: (tuple[kind, ...], Field((), description=kind.PURPOSE)) for kind in SIGNALS.values()},
    )
    Signals.NOT_ACTIVE = _FOREIGN_LISTS - {kind.LIST for kind in SIGNALS.values()}
    SignalType = Literal[(*SIGNALS, *(kind for kind in _FOREIGN if kind not in SIGNALS))]

# Read and never evaluated: a rule that hangs on one of them is unknown.
FOREIGN_TYPES = frozenset(_FOREIGN) - SIGNALS.keys()


def inactive(kind: str, path: Path, consequence: str, report: Report) -> None:
    """Report that something at ``path`` reads a signal of a ``kind`` that this version does not have."""
    message = f"signals of type `{kind}` are not active in this version: {consequence}"
    report.does_nothing(path, kind, message, protects=kind in _PROTECTIVE)
