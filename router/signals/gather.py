"""Evaluating the signals that can still change what happens to a request: one call a trunk, services next to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from triton_router import offload
from triton_router.config import Config, leaves
from triton_router.config.kinds import SIGNALS, Key
from triton_router.errors import Unavailable
from triton_router.inference import Encoder, Encoders, Encoding, TopicParameters
from triton_router.inference.language import identify
from triton_router.parts import windows
from triton_router.signals import registry
from triton_router.signals.contract import (
    ENCODER,
    READ_ON_LOOP,
    TOPIC,
    UNKNOWN,
    EncodedTexts,
    Evaluations,
    HangsOn,
    Names,
    PassagesRead,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)
from triton_router.signals.fired import fired_by
from triton_router.signals.passages import Passage, passages
from triton_router.telemetry import Metrics, RateLimitedLog

if TYPE_CHECKING:
    from triton_router.signals.mcp import McpClassifier

log = logging.getLogger(__name__)

Kind = SignalKind[Any]
ByLanguage = Callable[[str], "tuple[Gatherer, bool]"]
"""For a text: the gatherer whose trunks read its language, and whether none does. Then one would answer, and the answer
would mean nothing."""


class Gatherer:
    """The kinds of signals of one configuration. Immutable but for :meth:`prepare`.

    It has many methods and attributes, as everything that calls a trunk or a service stands here.

    ``classifier`` is the client of the MCP server.
    """

    def __init__(
        self,
        config: Config,
        encoders: Encoders | None,
        topics: TopicParameters,
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
    ) -> None:
        self._encoders, self._metrics = encoders, metrics
        used = used_names(config)
        setup = Setup(config, frozenset(), encoders, topics, classifier)
        self._kinds = _in_order(_made(setup, used))
        self._used = frozenset(used)
        self._embedder = setup.embedder()
        heads = {head: trunk for kind in self._kinds.values() for head, trunk in kind.needs.heads.items()}
        self._judges = {head: setup.judge(head, trunk) for head, trunk in heads.items()}
        readers = {head: trunk for kind in self._kinds.values() for head, trunk in kind.needs.passages.items()}
        self._readers = {head: setup.readers(head, trunk) for head, trunk in readers.items()}
        self._free = _free(self._kinds, self._used)
        self._most_passages = config.global_.inference.max_passages
        self._made_of = {of: parts for of in reversed(self._kinds) if (parts := _made_of(self._kinds[of]))}
        self._pending = frozenset(key for of in self._used - self._free.keys() for key in self._kinds[of].keys)
        self._parts = {of: kind.needs.service or ENCODER for of, kind in self._kinds.items()
                       if kind.needs.service or kind.needs.encoder}  # fmt: skip
        self._encoded: dict[str, dict[str, Encoding]] = {}
        self._failing = RateLimitedLog(log, "a kind of signal failed")

    @property
    def roles_needed(self) -> bool:
        """Whether some decision asks who is calling."""
        return "authz" in self._used

    @property
    def by_body_alone(self) -> bool:
        """Whether a request's body decides about all signals: no header, and nobody else's word."""
        return not any(self._kinds[of].needs.headers or self._kinds[of].needs.service for of in self._used)

    @property
    def embedder(self) -> Encoder | None:
        """The trunk whose embedding is compared."""
        return self._embedder

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """Encode the texts that prompts are compared with; until then those signals are unknown.

        Only those of ``encoder`` if it is given.

        Raises:
            Unavailable: an encoder could not answer; the others' texts are encoded.
        """
        if self._encoders is None:
            return
        failure: Unavailable | None = None
        for each in self._trunks(self._kinds.values(), embedding=True):
            if encoder is None or each is encoder:
                try:
                    self._encoded[each.trunk.name] = await self._encoders.prototypes(each).encode(self._texts(each))
                except Unavailable as unavailable:
                    failure = failure or unavailable
        self._compare()
        if failure is not None:
            raise failure

    async def gather(
        self,
        query: SignalInput,
        *,
        everything: bool = False,
        hangs_on: HangsOn | None = None,
        by_language: ByLanguage | None = None,
    ) -> SignalResults:
        """Evaluate what is free, and of the rest what ``hangs_on`` says; without it, all that decisions use.

        Never fails: what cannot be asked is unknown and named. ``everything`` also evaluates kinds that are explained
        though no decision needs them. ``by_language`` is asked who evaluates the rest, if there is any.
        """
        results = SignalResults(parts=self._parts)
        await query.read_parts()
        await self._evaluate_soon(list(self._free.values()), query, results)
        if everything:
            rest, embedding = frozenset(self._kinds), True
        elif hangs_on is None:
            rest, embedding = self._used, False
        else:
            rest, embedding = self._open(hangs_on, results.evaluations)
        if embedding or rest - self._free.keys():
            reader, unread = by_language(query.text()) if by_language is not None else (self, False)
            await reader._gather_rest(rest - self._free.keys(), embedding, query, results, unread=unread)
            if everything:
                results.fired_by = fired_by(reader._kinds.values(), self._free.values(), query, results)
        return results

    async def _gather_rest(
        self, types: Collection[str], embedding: bool, query: SignalInput, results: SignalResults, *, unread: bool
    ) -> None:
        results.parts = self._parts
        kinds = [kind for of, kind in self._kinds.items() if of in types]
        await self._ask(kinds, embedding, query, results, unread=unread)
        await self._evaluate_soon(kinds, query, results)

    def _open(self, hangs_on: HangsOn, evaluations: Evaluations) -> tuple[frozenset[str], bool]:
        """The types that decisions hang on, with those that these are made of, and whether the embedding is wanted."""
        still = hangs_on(evaluations, self._pending)
        types = {of for of, _ in still.signals}
        if still.hints:
            types |= {of for of in self._used if self._kinds[of].needs.service}
        for of, parts in self._made_of.items():
            if of in types:
                types |= parts
        return frozenset(types), still.embedding

    async def _evaluate_soon(self, kinds: Collection[Kind], query: SignalInput, results: SignalResults) -> None:
        """Evaluate ``kinds``, and let other requests go on meanwhile where that takes more than a moment."""
        least = min((kind.ON_LOOP for kind in kinds), default=0)
        # The whole body is no shorter, and its length is at hand.
        large = len(query.request.text) > least and sum(len(turn.text) for turn in query.request.turns()) > least
        await offload.run(large and bool(kinds), self._evaluate, kinds, query, results)

    def _evaluate(self, kinds: Iterable[Kind], query: SignalInput, results: SignalResults) -> None:
        for kind in kinds:
            try:
                evaluations = kind.evaluate(query, results)
            except Exception as error:  # another package's, perhaps: no signal may fail a request
                of = kind.SETTINGS.TYPE
                self._failing.warn(type=of, error=type(error).__name__)
                self._metrics.signal_errors.labels(of, "error").inc()
                results.without(of, "error")
                evaluations = {}
            results.evaluations.update(evaluations)
            if len(evaluations) < len(kind.keys):
                for key in kind.keys:
                    results.evaluations.setdefault(key, UNKNOWN)

    async def _ask(
        self, kinds: list[Kind], embedding: bool, query: SignalInput, results: SignalResults, *, unread: bool
    ) -> None:
        """Call each trunk that ``kinds`` need once, and each of their services, all at once."""
        trunks = self._trunks(kinds, embedding=embedding) if query.text().strip() else []
        if trunks and unread:
            results.without("language", "not_read")
            trunks = []
        calls = [self._encode(trunk, kinds, query, results) for trunk in trunks]
        calls += [self._read(heads, query, results) for heads in self._reading(kinds)]
        calls += [self._consult(kind, query, results) for kind in kinds if kind.needs.service]
        if len(calls) == 1:
            await calls[0]
        elif calls:
            await asyncio.gather(*calls)

    def _trunks(self, kinds: Iterable[Kind], *, embedding: bool) -> list[Encoder]:
        """Those that ``kinds`` need, each once."""
        needs = [kind.needs for kind in kinds]
        trunks = [self._embedder] if embedding or any(need.embedding for need in needs) else []
        trunks += [self._judges[head] for need in needs for head in need.heads]
        return list(dict.fromkeys(each for each in trunks if each is not None))

    def _reading(self, kinds: Iterable[Kind]) -> list[list[str]]:
        """The heads that read the whole conversation for ``kinds``, together those that the same trunks have."""
        heads = sorted({head for kind in kinds for head in kind.needs.passages})
        together: dict[tuple[str, ...], list[str]] = {}
        for head in heads:
            if readers := tuple(each.trunk.name for each in self._readers[head] or ()):
                together.setdefault(readers, []).append(head)
        return list(together.values())

    async def _read(self, heads: Sequence[str], query: SignalInput, results: SignalResults) -> None:
        """Each passage by the trunk that reads its language; ``heads`` are of the same trunks."""
        if query.hurried:
            self._metrics.signal_errors.labels(ENCODER, "behind").inc()
            results.without("triton", "behind")
            return
        readers = self._readers[heads[0]]
        assert readers is not None
        large = len(query.request.text) > READ_ON_LOOP
        chosen, missing = await offload.run(large, self._passages, readers, query)
        if missing is not None:
            results.without(*missing)
        calls = [self._judge(reader, pieces, results) for reader, pieces in chosen.items()]
        judged = dict(zip(chosen, await asyncio.gather(*calls), strict=True))
        whole = missing is None and all(scores is not None for scores in judged.values())
        readings = [(pieces, scores) for reader, pieces in chosen.items() if (scores := judged[reader]) is not None]
        if chosen and not readings:
            return
        where = tuple(piece.where for pieces, _ in readings for piece in pieces)
        for head in heads:
            described = next(iter(readers)).trunk.head(head)
            assert described is not None
            none = np.empty((0, len(described.labels)), np.float32)
            probabilities = np.concatenate([none, *(each[head] for _, each in readings)])
            results.passages[head] = PassagesRead(probabilities, where, not whole)

    async def _judge(
        self, reader: Encoder, pieces: Sequence[Passage], results: SignalResults
    ) -> Mapping[str, NDArray[np.float32]] | None:
        began = perf_counter()
        try:
            return await reader.judge_each([piece.text for piece in pieces])
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels(ENCODER, unavailable.reason).inc()
            results.without("triton", unavailable.reason)
            return None
        finally:
            results.note(ENCODER, began, perf_counter())

    def _passages(
        self, readers: Encoders, query: SignalInput
    ) -> tuple[dict[Encoder, list[Passage]], tuple[str, str] | None]:
        """The passages by who reads them, and the part of the service for want of which others are not, with why."""
        chosen: dict[Encoder, list[Passage]] = {}
        missing = ("passages", "tokens") if query.request.has_tokens() else None
        new = 0
        for piece in passages(query.everything()):
            reader = next((each for each in readers if each.has_judged(piece.text)), None)
            if reader is None:
                language = identify(piece.text)
                reader = next(iter(readers.reading(language)))
                if not reader.trunk.reads(language):
                    missing = "language", "not_read"
                    continue
                new += 1
            if new > self._most_passages:
                return chosen, ("passages", "long")
            chosen.setdefault(reader, []).append(piece)
        return chosen, missing

    async def _encode(self, encoder: Encoder, kinds: list[Kind], query: SignalInput, results: SignalResults) -> None:
        text = query.text()
        if query.hurried:
            self._metrics.signal_errors.labels(ENCODER, "behind").inc()
            results.without("triton", "behind")
            return
        embeds = encoder is self._embedder
        judged = {head for head, judge in self._judges.items() if judge is encoder}
        earlier = query.earlier(max((kind.needs.earlier for kind in kinds), default=0)) if embeds else []
        asking = [each for each in kinds if each.needs.heads.keys() & judged or (embeds and each.needs.embedding)]
        readings = _readings(asking, query)
        others = list(dict.fromkeys(other for other in readings.values() if other != text))
        started, called = perf_counter(), encoder.failure is None
        try:
            encoding = await encoder.encode(text, [*earlier, *others], windows, background=query.background)
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels(ENCODER, unavailable.reason).inc()
            results.without("triton", unavailable.reason)
            return
        finally:
            if called:
                results.note(ENCODER, started, perf_counter())
        rows = {names: -1 if other == text else others.index(other) for names, other in readings.items()}
        if embeds:
            results.encoding = replace(encoding, beside=encoding.beside[: len(earlier)]) if others else encoding
            embeddings = [*encoding.beside[len(earlier) :], encoding.embedding]
            results.readings = {names: embeddings[row] for names, row in rows.items()}
        for head in judged & encoding.heads.keys():
            rows_beside = [*encoding.heads_beside[head][len(earlier) :], encoding.heads[head]] if rows else []
            results.beside |= {(head, names): rows_beside[row] for names, row in rows.items()}
        results.heads |= {head: encoding.heads[head] for head in judged & encoding.heads.keys()}
        results.tokens |= {head: encoding.tokens[head] for head in judged & encoding.tokens.keys()}

    async def _consult(self, kind: Kind, query: SignalInput, results: SignalResults) -> None:
        assert kind.needs.service is not None
        try:
            await kind.ask(query, results)
        except Exception as error:  # another package's, perhaps: no signal may fail a request
            reason = error.reason if isinstance(error, Unavailable) else "error"
            if reason == "error":
                self._failing.warn(type=kind.SETTINGS.TYPE, error=type(error).__name__)
            self._metrics.signal_errors.labels(kind.SETTINGS.TYPE, reason).inc()
            results.without(kind.needs.service, reason)

    def _texts(self, encoder: Encoder) -> Iterable[str]:
        """What ``encoder`` has to encode."""
        for kind in self._kinds.values():
            judges = (self._judges[head] for head in kind.needs.heads)
            if (kind.needs.embedding and encoder is self._embedder) or encoder in judges:
                yield from kind.needs.texts

    def _compare(self) -> None:
        def encoded(encoder: Encoder | None) -> dict[str, Encoding]:
            return self._encoded.get(encoder.trunk.name, {}) if encoder else {}

        embeddings = {text: each.embedding for text, each in encoded(self._embedder).items()}
        heads = {
            head: {text: each.heads[head] for text, each in encoded(judge).items() if head in each.heads}
            for head, judge in self._judges.items()
        }
        for kind in self._kinds.values():
            kind.prepare(EncodedTexts(embeddings, heads))


def used_names(config: Config) -> dict[str, set[str]]:
    """The names that the decisions' rules refer to, and those that these signals are made of, by type."""
    declared = {key: signal for of in SIGNALS for signal in config.routing.signals.of(of) for key in signal.keys}
    keys = {(str(rule.type), str(rule.name)) for decision in config.routing.decisions for rule in leaves(decision)}
    visited: set[Key] = set()
    while keys := (keys & declared.keys()) - visited:
        visited |= keys
        keys = {key for each in keys for key in declared[each].made_of}
    used: dict[str, set[str]] = {}
    for of, name in visited:
        used.setdefault(of, set()).add(name)
    return used


def _readings(kinds: Iterable[Kind], query: SignalInput) -> dict[Names, str]:
    """The texts of the parts that ``kinds`` read besides the topic, by the parts' names; of those that have any."""
    parts = {names for kind in kinds for names in kind.needs.readings if names != TOPIC}
    return {names: text for names in sorted(parts) if (text := query.read(names)).strip()}


def _made(setup: Setup, used: Mapping[str, set[str]]) -> Iterable[Kind]:
    for of in registry.types():
        settings, names = SIGNALS[of], used.get(of, set())
        if names or settings.EXPLAINED:
            declared = setup.config.routing.signals.of(of)
            signals = [each for each in declared if settings.COMPETE or any(name in names for _, name in each.keys)]
            yield registry.kind(of)(signals, replace(setup, used=frozenset(names)))


def _made_of(kind: Kind) -> set[str]:
    """The types of the signals that those of ``kind`` are made of."""
    return {of for signal in kind.signals for of, _ in signal.made_of} - {kind.SETTINGS.TYPE}


def _in_order(kinds: Iterable[Kind]) -> dict[str, Kind]:
    """By type; what others are made of comes before them."""
    by_type = {kind.SETTINGS.TYPE: kind for kind in kinds}
    order = TopologicalSorter({of: _made_of(kind) & by_type.keys() for of, kind in by_type.items()})
    return {of: by_type[of] for of in order.static_order()}


def _free(kinds: Mapping[str, Kind], used: Collection[str]) -> dict[str, Kind]:
    """The used kinds that need no call, nor does what they are made of; ``kinds`` are in order."""
    free: dict[str, Kind] = {}
    for of, kind in kinds.items():
        needs_no_call = not kind.needs.encoder and not kind.needs.service
        if of in used and needs_no_call and _made_of(kind) & kinds.keys() <= free.keys():
            free[of] = kind
    return free
