"""What a kind of signal is: its settings, what it needs, how it is evaluated.

docs/signals/writing-one.md writes one. Imports little: kinds of other packages are read while the schema is built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from triton_router.config.kinds import Key
from triton_router.config.kinds import SignalSettings as SignalSettings
from triton_router.dialects.texts import Text, spoken
from triton_router.parts import PartReader, Parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from triton_router.config import Config
    from triton_router.config.report import Report
    from triton_router.dialects import ModelRequest
    from triton_router.inference import Encoder, Encoders, Encoding
    from triton_router.inference.bundle import TopicParameters
    from triton_router.personal import Finding
    from triton_router.signals.domain import DomainScores
    from triton_router.signals.mcp import McpClassification, McpClassifier

    Vector = NDArray[np.float32]

ENCODER = "encoder"
Names = tuple[str, ...]
"""Names of parts of a request."""
# What is encoded, and what is read by signals that do not say what they read.
TOPIC: Names = ("topic",)
WORDS: Names = ("words",)
# Characters of a conversation whose parts are read in a millisecond or two.
READ_ON_LOOP = 32_768
_READER = PartReader()


class Evaluation(NamedTuple):
    """One signal on one request.

    ``matched`` is ``None`` when the signal could not be evaluated. ``value`` in [0, 1] is how surely the signal holds
    (a probability, a similarity), ``threshold`` what it had to reach, ``ms`` the milliseconds spent (a shared forward
    pass counts for each signal that it served). ``measure`` is the number that the signal counts, where it counts one.
    ``where`` says in which turns a match was, and never quotes them.
    """

    matched: bool | None
    value: float = 0.0
    threshold: float | None = None
    ms: float = 0.0
    measure: float | None = None
    where: str = ""


Evaluations = Mapping[Key, Evaluation]
"""Evaluations by signal type and name."""

UNKNOWN = Evaluation(None)


def certain(matched: bool, measure: float | None = None, ms: float = 0.0) -> Evaluation:
    """An evaluation about which there is no doubt."""
    return Evaluation(matched, float(matched), None, ms, measure)


@dataclass(slots=True)
class SignalInput:
    """What signals look at: the whole request, its parts, its headers (names in lower case).

    ``hurried`` requests do without encoders: there are more of them than can be served otherwise. ``background`` work
    comes after requests. ``reader`` reads the parts, once and when they are first needed. ``only`` stands for all that
    is said, to see which part makes a signal fire.
    """

    request: ModelRequest
    headers: Mapping[str, str] = field(default_factory=dict)
    hurried: bool = False
    reader: PartReader = _READER
    only: str | None = None
    background: bool = False
    _parts: Parts | None = None
    _texts: dict[Names, str] = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        """The parts of the request. Raises ``MalformedRequest``."""
        if self._parts is None:
            self._parts = self.reader.read(self.request)
        return self._parts

    async def read_parts(self) -> None:
        """Read the parts, off the event loop where that would hold up other requests."""
        if self._parts is None and sum(len(turn.text) for turn in self.request.turns()) > READ_ON_LOOP:
            self._parts = await asyncio.to_thread(self.reader.read, self.request)

    def text(self, signal: SignalSettings | None = None) -> str:
        """The text that ``signal`` reads: of the parts that it names. Without one, the text that is encoded."""
        return self.read(TOPIC if signal is None else getattr(signal, "parts", WORDS))

    def read(self, names: Names) -> str:
        """The text of the parts with these names; see `PartName` in `config.signals`."""
        if self.only is not None:
            return self.only
        text = self._texts.get(names)
        if text is None:
            text = self._texts[names] = self.parts.read(names)
        return text

    def everything(self) -> list[Text]:
        """All that the model reads, each part of the request as one text; the conversation first, in its order."""
        if self.only is not None:
            return [Text(self.only, "")]
        parts = groupby(self.request.texts(), key=lambda text: text.where)
        return [Text("\n".join(text for text, _ in texts), where) for where, texts in parts]

    def unbroken(self) -> list[Text]:
        """Parts of the conversation in several blocks, as chat templates read them that put nothing in between."""
        parts = groupby(self.request.texts() if self.only is None else (), key=lambda text: text.where)
        blocks = ((where, [text for text, _ in texts]) for where, texts in parts if spoken(where))
        return [Text("".join(texts), where) for where, texts in blocks if len(texts) > 1]

    def earlier(self, turns: int) -> list[str]:
        """What the person said before the last turn, newest first, ``turns`` at most."""
        return list(islice(self.parts.said_before(), turns))


@dataclass(frozen=True, slots=True)
class Needs:
    """What a kind looks at beyond the request's body, collected for one call a trunk.

    ``headers`` of the request; the prompt's ``embedding``; the probabilities of ``heads``, each with the name of the
    trunk that is preferred for it (``None``: the first that has it). The heads of ``passages``, likewise, read the
    whole conversation in pieces. ``texts`` are encoded once, for the embedding and for each of the heads. Of
    ``earlier`` turns of the user, and of ``readings``, parts that are read besides the topic, the rows ride in the
    prompt's call. ``service`` names what the kind asks by itself, as `x-vsr-degraded` shows it.
    """

    headers: bool = False
    embedding: bool = False
    heads: Mapping[str, str | None] = field(default_factory=dict)
    passages: Mapping[str, str | None] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    earlier: int = 0
    readings: tuple[Names, ...] = ()
    service: str | None = None

    @property
    def encoder(self) -> bool:
        """Whether a call to Triton is needed."""
        return self.embedding or bool(self.heads) or bool(self.passages)


@dataclass(frozen=True, slots=True)
class PassagesRead:
    """What a head says of a conversation's passages: ``probabilities`` FP32 [passages, labels], and ``where`` each is.

    ``missing``: there are passages that were not read.
    """

    probabilities: NDArray[np.float32]
    where: tuple[str, ...]
    missing: bool = False


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """``embeddings`` FP32 [dimension] of unit length by text; ``heads`` FP32 [labels] by head and text."""

    embeddings: Mapping[str, Vector] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, Vector]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """What kinds are made from: the configuration, the ``used`` names of this kind in rules, and what can be asked."""

    config: Config
    used: frozenset[str]
    encoders: Encoders | None
    topics: TopicParameters
    classifier: McpClassifier | None = None

    def embedder(self) -> Encoder | None:
        """The trunk whose embedding is compared."""
        named = self.config.global_.stores.semantic_cache.embedding_model
        return self.encoders.embedder(named) if self.encoders else None

    def judge(self, head: str, name: str | None = None) -> Encoder | None:
        """The trunk whose ``head`` judges."""
        return self.encoders.judge(head, name) if self.encoders else None

    def readers(self, head: str, name: str | None = None) -> Encoders | None:
        """The trunks of the whole bundle whose ``head`` reads passages, in whatever language the prompt is."""
        return self.encoders.readers(head, name) if self.encoders else None

    def labels(self, head: str, name: str | None = None, *, passages: bool = False) -> tuple[str, ...]:
        """The labels of ``head``; none without encoders. The trunk is that which reads the prompt, or ``passages``.

        Raises:
            BundleError: no trunk of the bundle has that head.
        """
        from triton_router.errors import BundleError

        reader = next(iter(self.readers(head, name) or ()), None)
        judge = reader if passages else self.judge(head, name) or reader
        described = judge.trunk.head(head) if judge else None
        if described is None and self.encoders is not None:
            raise BundleError(f"the signal bundle has no head `{head}`; export one that has, or remove its signals")
        return described.labels if described else ()


@dataclass(slots=True)
class SignalResults:
    """The evaluations of one request, and what could not be asked.

    ``degraded`` says why, by the parts that were down. ``classified`` is what the MCP server said.
    ``calls`` holds when the ``encoder`` (tokenising, the calls, pooling; of several trunks from the first to the last)
    and a service such as ``mcp`` were asked and when they were done (``perf_counter``); ``parts`` which of these a type
    of signals came from. ``encoding`` is the embedder's of the topic, ``readings`` are the embeddings of other parts,
    ``heads`` and ``tokens`` (see :class:`Encoding`) are those that some kind needs, ``passages`` what heads say of the
    whole conversation, ``tagged`` the names and addresses in each part of the request, where they were asked for.
    ``fired_by`` has the places of the parts that made a signal match, where everything was asked for. ``beside`` has
    what heads say of those ``readings``. Signals that could not change the outcome are in none of these.

    It has 14 attributes: what each kind of evaluator may read of the others' work.
    """

    evaluations: dict[Key, Evaluation] = field(default_factory=dict)
    domains: DomainScores | None = None
    encoding: Encoding | None = None
    readings: dict[Names, Vector] = field(default_factory=dict)
    heads: dict[str, Vector] = field(default_factory=dict)
    beside: dict[tuple[str, Names], Vector] = field(default_factory=dict)
    tokens: dict[str, tuple[Vector, ...]] = field(default_factory=dict)
    passages: dict[str, PassagesRead] = field(default_factory=dict)
    tagged: list[list[Finding]] | None = None
    classified: McpClassification | None = None
    degraded: dict[str, str] = field(default_factory=dict)
    calls: dict[str, tuple[float, float]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    fired_by: dict[Key, list[int]] = field(default_factory=dict)

    def note(self, part: str, began: float, ended: float) -> None:
        """``part`` was asked from ``began`` to ``ended``."""
        earlier = self.calls.get(part, (began, ended))
        self.calls[part] = min(began, earlier[0]), max(ended, earlier[1])

    def embedding(self, names: Names) -> Vector | None:
        """The embedding of the parts with these names, FP32 [dimension] of unit length; ``None`` of those without text.

        Only where ``encoding`` is known.
        """
        assert self.encoding is not None
        return self.encoding.embedding if names == TOPIC else self.readings.get(names)

    def probabilities(self, head: str, names: Names) -> Vector | None:
        """What ``head`` says of the parts with these names, FP32 [labels]; ``None`` of those without text.

        Only where ``heads`` has it.
        """
        return self.heads[head] if names == TOPIC else self.beside.get((head, names))

    def took(self, part: str) -> float:
        """Milliseconds that were spent on ``part``."""
        began, ended = self.calls.get(part, (0.0, 0.0))
        return (ended - began) * 1000

    def without(self, part: str, reason: str) -> None:
        """Note that ``part`` could not be asked; once is enough."""
        self.degraded.setdefault(part, reason)


@dataclass(frozen=True, slots=True)
class Open:
    """What decisions that could still win hang on: ``signals``, the prompt's ``embedding``, a service's ``hints``."""

    signals: Collection[Key] = ()
    embedding: bool = False
    hints: bool = False


HangsOn = Callable[[Evaluations, Collection[Key]], Open]
"""What the decisions still hang on, by the evaluations so far and the keys that could be asked."""


Settings = TypeVar("Settings", bound=SignalSettings)


class SignalKind(Generic[Settings]):
    """The signals of one type that a configuration's decisions use; made once a generation.

    ``SETTINGS`` is the class of one declared signal.
    """

    SETTINGS: ClassVar[type[SignalSettings]]
    # A conversation of more characters is evaluated off the event loop.
    ON_LOOP: ClassVar[int] = 65_536

    def __init__(self, signals: Sequence[Settings], setup: Setup) -> None:
        self.signals = tuple(signals)
        self.keys: tuple[Key, ...] = tuple(key for signal in self.signals for key in signal.keys)
        self.needs = Needs()

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        """Report what this kind finds wrong in ``data``, a canonical configuration whose shape is not checked."""

    def prepare(self, texts: EncodedTexts) -> None:
        """Take in what ``needs.texts`` came to; again when more of them are known."""

    async def ask(self, query: SignalInput, results: SignalResults) -> None:
        """Ask ``needs.service``, before :meth:`evaluate`.

        Raises:
            Unavailable: it could not answer; all of this kind is unknown then.
        """

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        """The evaluations by type and name; what is left out is unknown.

        ``results`` has what was needed as far as it could be had, and the evaluations of the signals that
        ``SETTINGS.reads`` names.
        """
        raise NotImplementedError
