"""Looking up and keeping answers.

A hit needs more than a near embedding: everything else that shapes an answer is equal (the partition), the caller may
see it (the scope), and both questions ask the same (the judge).
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from triton_router.answers import Answer
from triton_router.cache.entry import Entry, Store
from triton_router.cache.flights import Flights
from triton_router.cache.judge import PairJudge
from triton_router.cache.scope import scope_of, shaping
from triton_router.config.plugins import SemanticCacheSettings
from triton_router.config.schema import Decision
from triton_router.config.services import CacheSettings, Identity
from triton_router.dialects import ModelRequest
from triton_router.errors import Unavailable
from triton_router.names import CACHE_CONTROL
from triton_router.parts import Parts, split_words
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]

# Members of a request that change how it is answered, or who pays, and not what the answer is.
NOT_THE_ANSWER = frozenset(
    {"stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
     "priority", "request_id", "background"}
)  # fmt: skip
# How many near entries are judged.
CANDIDATES = 4
# How often a store that stays down is logged.
REMIND_SECONDS = 30.0
_NOT_USED, _NOT_KEPT = "cache is not used", "answer is not kept"
_UNJUDGED = "near questions are not judged; only exact repeats are answered from the cache"


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the cache sees it. ``exact`` and ``partition`` are hex; see :class:`.entry.Entry`."""

    exact: str
    partition: str
    prompt: str
    embedding: Vector | None
    decision: str
    threshold: float
    ttl_seconds: float
    may_read: bool
    may_store: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """``kind`` is `exact`, `semantic` or `coalesced`, ``age`` in seconds; ``key`` is the entry's."""

    kind: str
    key: str
    similarity: float
    age: float
    text: str
    usage: dict[str, Any] | None


class SemanticCache:
    """One store, and the rules for using it. ``checksum`` names the embedder that made the embeddings.

    Without a ``judge`` only equal questions ask the same.
    """

    def __init__(
        self,
        store: Store,
        settings: CacheSettings,
        identity: Identity,
        checksum: str,
        metrics: Metrics,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.time,
        judge: PairJudge | None = None,
    ) -> None:
        self.store, self.settings = store, settings
        self.identity, self._checksum, self._metrics, self._clock = identity, checksum, metrics, clock
        self._secret = secret or secrets.token_bytes(32)
        self._flights = Flights()
        # Questions that a backend has, by identity: the same may be asked twice. ``None`` is one purged meanwhile.
        self._open: dict[int, Question | None] = {}
        self._judge = judge or PairJudge()
        self._failures = _FailureLog()
        self._closed = False

    def question(
        self,
        plugin: SemanticCacheSettings,
        decision: Decision,
        request: ModelRequest,
        rewritten: bytes,
        headers: Mapping[str, str],
        embedding: Vector | None,
        *,
        place: tuple[str, ...] = ("", ""),
        parts: Parts | None = None,
        trunk: str = "",
    ) -> Question | None:
        """What to look for; ``None`` if this request has no place in a cache.

        ``rewritten`` is the body as it goes to the backend; ``embedding`` that of what the person says last, ``None``
        if there is none of the whole of it. Of ``parts`` the person's words are compared for their meaning: all else in
        the request has to be equal. Without parts the last message is all words. ``place`` is whose backends are asked,
        the model or adapter that answers (backends may know two of them by one name), and the recipe, if it has a name.
        ``trunk`` made the embedding, which is compared with those of this trunk alone; an equal text is found without.
        """
        control, scope = controls(headers), self.scope(plugin.scope or self.settings.scope, headers)
        turns = request.turns()
        if scope is None or not turns or turns[-1].role != "user" or not request.text_suffices():
            return None
        prompt = turns[-1].text
        if not prompt.strip():
            return None
        whole, frame = prompt, None
        if parts is not None and (split := split_words(parts)) is not None:
            frame, prompt = split
        names = [request.NAME, scope, decision.name, *place, self._checksum, frame]
        try:
            partition = _partition(names, headers, request, rewritten)
        except (ValueError, RecursionError):
            # Numbers of thousands of digits, or nesting as deep as it can be read at all.
            return None
        semantic = plugin.mode != "exact" and request.said_plainly() and (parts is None or frame is not None)
        return Question(
            exact=hashlib.sha256(f"{partition}\n{whole}".encode("utf-8", "surrogatepass")).hexdigest(),
            partition=hashlib.sha256(f"{partition}\n{trunk}".encode()).hexdigest() if trunk else partition,
            prompt=prompt,
            embedding=embedding if semantic else None,
            decision=decision.name,
            threshold=_first(plugin.similarity_threshold, self.settings.similarity_threshold),
            ttl_seconds=_first(plugin.ttl_seconds, self.settings.ttl_seconds),
            may_read=may_read(headers),
            may_store="no-store" not in control,
        )

    def scope(self, kind: str, headers: Mapping[str, str]) -> str | None:
        """See :func:`triton_router.cache.scope.scope_of`."""
        return scope_of(kind, self.identity, headers, self._secret, anonymous=self.settings.anonymous)

    async def find(self, question: Question) -> Hit | None:
        """An answer that was given before. A store or a judge that is down is a miss."""
        result, hit = "bypassed", None
        if question.may_read:
            try:
                result, hit = await self._search(question)
            except Exception as error:
                self._failures.warn(_NOT_USED, error)
                result = "unavailable"
            else:
                self._failures.over(_NOT_USED)
        self._metrics.cache.labels(question.decision, result).inc()
        return hit

    async def recall(self, exact: str, kind: str = "exact", result: str = "repeat") -> Hit | None:
        """The answer under an exact key, for a request that was looked up before. ``result`` is what is counted."""
        try:
            entry = await self.store.get(exact)
            hit = None if entry is None else _hit(kind, 1.0, entry, self._clock())
        except Exception as error:
            self._failures.warn(_NOT_USED, error)
            return None
        if entry is not None:
            self._metrics.cache.labels(entry.decision, result).inc()
        return hit

    async def _search(self, question: Question) -> tuple[str, Hit | None]:
        entry = await self.store.get(question.exact)
        if entry is not None and entry.prompt == question.prompt:
            return "exact", _hit("exact", 1.0, entry, self._clock())
        if question.embedding is None:
            return "miss", None
        near = await self.store.nearest(question.partition, question.embedding, CANDIDATES, question.threshold)
        if not near:
            return "miss", None
        try:
            place = await self._judge.first_same(question.prompt, [candidate.prompt for _, candidate in near])
        except Unavailable as unavailable:
            self._failures.warn(_UNJUDGED, unavailable)
            return "unjudged", None
        self._failures.over(_UNJUDGED)
        if place is None:
            return "rejected", None
        similarity, candidate = near[place]
        return "semantic", _hit("semantic", similarity, candidate, self._clock())

    def begin(self, question: Question) -> None:
        """``question`` goes to a backend; :meth:`keep` hears how that ended."""
        self._flights.start(question.exact)
        self._open[id(question)] = question

    async def coalesced(self, question: Question) -> Hit | None:
        """The answer to the same question if it is on its way already and comes within the configured wait."""
        seconds = self.settings.coalesce_ms / 1000
        if not (seconds and question.may_read and await self._flights.wait(question.exact, seconds)):
            return None
        return await self.recall(question.exact, "coalesced", "coalesced")

    async def keep(self, question: Question, answer: Answer | None) -> None:
        """Store a complete answer; anything else is let go."""
        try:
            if answer is not None:
                await self._store(question, answer)
        finally:
            self._open.pop(id(question), None)
            self._flights.land(question.exact)

    async def purge(self, key: str | None, decision: str | None) -> int:
        """Remove one key, all of a decision, or everything; returns how many there were.

        Answers to it that are on their way are not kept either: they may be what was to go.

        Raises:
            Unavailable: the store could not.
        """
        for identity, question in self._open.items():
            if question and key in (None, question.exact) and decision in (None, question.decision):
                self._open[identity] = None
        removed = await self.store.purge(key=key, decision=decision)
        await self._count_entries()
        return removed

    async def close(self) -> None:
        """Let go of the store, and keep nothing more: answers may still be on their way to it."""
        self._closed = True
        await self.store.close()

    async def _store(self, question: Question, answer: Answer) -> None:
        if self._closed or not question.may_store or not answer.complete or answer.finish_reason != "stop":
            return
        if answer.tool_calls or not answer.text or self._is_purged(question):
            return
        content = orjson.dumps({"text": answer.text, "usage": answer.written_usage})
        entry = Entry(
            question.exact, question.partition, question.decision, question.prompt, question.embedding, content,
            self._clock(), question.ttl_seconds,
        )  # fmt: skip
        try:
            await self.store.put(entry)
            if self._is_purged(question):
                # The purge may have looked before this was there.
                await self.store.purge(key=entry.key)
            await self._count_entries()
        except Exception as error:
            self._failures.warn(_NOT_KEPT, error)
            self._metrics.cache.labels(question.decision, "not_kept").inc()
        else:
            self._failures.over(_NOT_KEPT)

    def _is_purged(self, question: Question) -> bool:
        return self._open.get(id(question), question) is None

    async def _count_entries(self) -> None:
        if self.settings.backend_type == "memory":
            self._metrics.cache_entries.set(await self.store.size())


def _partition(names: list[str | None], headers: Mapping[str, str], request: ModelRequest, rewritten: bytes) -> str:
    """Everything that shapes the answer, but the words of the last user turn."""
    body = {name: value for name, value in json.loads(rewritten).items() if name not in NOT_THE_ANSWER}
    # Among the names is the dialect's: one body may mean two things, and usage is in the backend's own words.
    whole = json.dumps([*names, shaping(headers), request.shape(body)], sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()


class _FailureLog:
    """Whatever a store does, requests go on: one that stays down says so once, and again every `REMIND_SECONDS`."""

    def __init__(self) -> None:
        # By event: why, and when that was last logged.
        self._last: dict[str, tuple[str, float]] = {}

    def warn(self, event: str, error: Exception) -> None:
        """Log it without the error's text, which may quote what was stored."""
        reason = error.reason if isinstance(error, Unavailable) else type(error).__name__
        now = time.monotonic()
        last, when = self._last.get(event, ("", 0.0))
        if reason != last or now - when >= REMIND_SECONDS:
            self._last[event] = reason, now
            log.warning(event, extra={"fields": {"reason": reason}})

    def over(self, event: str) -> None:
        """The store has done it again."""
        self._last.pop(event, None)


def _hit(kind: str, similarity: float, entry: Entry, now: float) -> Hit:
    answer = orjson.loads(entry.answer)
    return Hit(kind, entry.key, similarity, max(now - entry.stored_at, 0.0), answer["text"], answer["usage"])


def controls(headers: Mapping[str, str]) -> set[str]:
    """What the client asks of caches, in words such as `no-store`."""
    words = f"{headers.get('cache-control', '')},{headers.get(CACHE_CONTROL, '')}"
    return {word.strip() for word in words.lower().split(",")}


def may_read(headers: Mapping[str, str]) -> bool:
    """Whether the client takes an answer that was given before."""
    return not controls(headers) & {"no-cache", "no-store"}


def _first(own: float | None, general: float) -> float:
    return general if own is None else own
