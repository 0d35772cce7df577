"""The semantic cache as one generation's requests use it: question, find, keep, and the memo of exact repeats."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar

from triton_router.answers import Answer
from triton_router.cache.cache import Hit, Question, SemanticCache, Vector, may_read
from triton_router.cache.scope import shaping
from triton_router.config.schema import Decision
from triton_router.dialects import ModelRequest
from triton_router.runtime import CacheRuntime
from triton_router.signals import SignalInput

# Requests whose exact repeats need no signals.
MEMO = 10_000

T = TypeVar("T")


Keep = Callable[[Answer | None], None]
"""Called with a backend's answer, ``None`` if there is none worth keeping."""


class Memo(Generic[T]):
    """Requests of one generation that were looked up before, so that a repeat needs no signal at all.

    Only for configurations whose decisions depend on nothing but the body. Holds a value each for ``most`` requests.
    """

    def __init__(self, cache: SemanticCache, most: int) -> None:
        self._cache, self._most = cache, most
        self._values: OrderedDict[bytes, tuple[str, T]] = OrderedDict()

    def key(self, request: ModelRequest, body: bytes, headers: Mapping[str, str]) -> bytes | None:
        """Names a request of one caller; ``None`` if it must not be answered from memory."""
        if not may_read(headers):
            return None
        scope = self._cache.scope("user", headers)
        if scope is None:
            return None
        caller = f"{request.NAME}\n{scope}\n{shaping(headers)}\n"
        return hashlib.sha256(caller.encode("utf-8", "replace") + body).digest()

    def note(self, key: bytes, exact: str, value: T) -> None:
        """The entry ``exact`` answers the request ``key``; ``value`` comes back with it."""
        self._values[key] = exact, value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    async def recall(self, key: bytes) -> tuple[Hit, T] | None:
        """The answer to a request that was looked up before, and its value; ``None`` if it is gone."""
        if (entry := self._values.get(key)) is None:
            return None
        exact, value = entry
        hit = await self._cache.recall(exact)
        return None if hit is None else (hit, value)


class Lookup(Generic[T]):
    """``memo`` is ``None`` where more than the body decides where a request goes.

    ``by_body_alone``: all signals depend on nothing else.
    """

    def __init__(self, cache: SemanticCache, runtime: CacheRuntime, by_body_alone: bool) -> None:
        self._cache, self._runtime = cache, runtime
        self.memo: Memo[T] | None = Memo(cache, MEMO) if by_body_alone and runtime.one_candidate else None
        self._writes: set[asyncio.Task[None]] = set()

    def question(
        self,
        decision: Decision | None,
        query: SignalInput,
        body: bytes,
        embedding: Vector | None,
        model: tuple[str, str],
        trunk: str = "",
    ) -> Question | None:
        """What to ask the cache, if the decision uses it; see :meth:`.cache.SemanticCache.question`."""
        settings = self._runtime.decisions.get(decision.name) if decision is not None else None
        if decision is None or settings is None:
            return None
        # Two recipes may have a decision of the same name.
        place = (*model, self._runtime.recipe) if self._runtime.recipe else model
        return self._cache.question(
            settings,
            decision,
            query.request,
            body,
            query.headers,
            embedding,
            place=place,
            parts=query.parts,
            trunk=trunk,
        )

    async def find(self, question: Question, *, wait: bool) -> Hit | None:
        """An answer that was given before. ``wait`` also for one that is on its way, as long as is configured."""
        hit = await self._cache.find(question)
        return await self._cache.coalesced(question) if hit is None and wait else hit

    def expect(self, question: Question | None) -> Keep | None:
        """A backend gets ``question``. Returns what has to be called with its answer, ``None`` if nothing does."""
        if question is None or not question.may_store:
            return None
        self._cache.begin(question)
        return partial(self._keep, question)

    def _keep(self, question: Question, answer: Answer | None) -> None:
        task = asyncio.get_running_loop().create_task(self._cache.keep(question, answer))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
