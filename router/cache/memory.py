"""A store in this process: bounded, gone with it, and not shared between workers."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Literal

from triton_router.cache.entry import Entry, Vector
from triton_router.cache.vectors import EXACT, Vectors, require_graph

Eviction = Literal["fifo", "lru", "lfu"]

# Entries dropped before others get a turn: about half a millisecond.
BATCH = 64
# How long an expired entry may take up memory where nobody asks for anything.
SWEEP_SECONDS = 30.0


class _Held:
    """An entry without its embedding, which is kept among the vectors of its partition under ``label``."""

    __slots__ = ("entry", "label", "rank")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.label: int | None = None
        self.rank = 0


class MemoryStore:
    """At most ``max_entries`` entries; ``clock`` gives Unix seconds.

    The first to go is the oldest (``fifo``), the one not used for the longest time (``lru``), or of those used least
    often the one not used for the longest time (``lfu``); to be given out by `get` or `nearest` is use. Raises
    RuntimeError if that many entries need a library that is not installed.
    """

    def __init__(self, max_entries: int, eviction: Eviction = "fifo", clock: Callable[[], float] = time.time) -> None:
        if max_entries < 1:
            raise ValueError("a cache of no entries")
        if max_entries > EXACT:
            require_graph()
        self._max_entries, self._eviction, self._clock = max_entries, eviction, clock
        self._held: dict[str, _Held] = {}
        self._partitions: dict[str, Vectors[_Held]] = {}
        # Ranks are numbers of uses for lfu, and else there is one; in each the first is the next to go.
        self._ranks: dict[int, OrderedDict[str, None]] = {}
        # When which key expires; what was replaced or dropped before stays until it is on top, or too much of it is.
        self._due: list[tuple[float, str]] = []
        self._sweeping: asyncio.TimerHandle | None = None

    async def get(self, key: str) -> Entry | None:
        held = self._held.get(key)
        if held is None:
            return None
        if held.entry.expired(self._clock()):
            self._drop(key)
            return None
        self._use(held)
        return self._whole(held)

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        # Expired ones must not stand in the way of others. What a batch does not reach, the rounds below drop.
        self._sweep()
        now = self._clock()
        while (vectors := self._partitions.get(partition)) is not None:
            found = vectors.nearest(embedding, limit, least)
            expired = [held for _, held in found if held.entry.expired(now)]
            if not expired:
                for _, held in found:
                    self._use(held)
                return [(score, self._whole(held)) for score, held in found]
            for held in expired:
                self._drop(held.entry.key)
            # Where many alike have expired together, a few a round would take as many searches.
            self._sweep()
        return []

    async def put(self, entry: Entry) -> None:
        self._sweep()
        self._drop(entry.key)
        if entry.expired(self._clock()):
            return
        held = _Held(replace(entry, embedding=None))
        if entry.embedding is not None:
            vectors = self._partitions.get(entry.partition)
            if vectors is None:
                vectors = self._partitions[entry.partition] = Vectors(len(entry.embedding))
            held.label = vectors.add(entry.embedding, held)
        while len(self._held) >= self._max_entries:
            self._drop(next(iter(self._ranks[min(self._ranks)])))
        self._held[entry.key] = held
        self._ranks.setdefault(0, OrderedDict())[entry.key] = None
        heappush(self._due, (entry.expires_at, entry.key))
        if len(self._due) > 2 * len(self._held) + BATCH:
            self._due = [(held.entry.expires_at, key) for key, held in self._held.items()]
            heapify(self._due)
        if self._sweeping is None:
            self._sweep_later(SWEEP_SECONDS)

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        if key is None and decision is None:
            count = len(self._held)
            self._clear()
            return count
        among = self._held if key is None else self._held.keys() & {key}
        gone = [key for key in among if decision is None or self._held[key].entry.decision == decision]
        for each in gone:
            self._drop(each)
        return len(gone)

    async def size(self) -> int:
        more = self._sweep()
        while more:
            await asyncio.sleep(0)
            more = self._sweep()
        return len(self._held)

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._clear()

    def _whole(self, held: _Held) -> Entry:
        if held.label is None:
            return held.entry
        return replace(held.entry, embedding=self._partitions[held.entry.partition].vector(held.label))

    def _use(self, held: _Held) -> None:
        if self._eviction == "fifo":
            return
        key = held.entry.key
        self._unrank(key, held.rank)
        if self._eviction == "lfu":
            held.rank += 1
        self._ranks.setdefault(held.rank, OrderedDict())[key] = None

    def _unrank(self, key: str, rank: int) -> None:
        keys = self._ranks[rank]
        del keys[key]
        if not keys:
            del self._ranks[rank]

    def _drop(self, key: str) -> bool:
        held = self._held.pop(key, None)
        if held is None:
            return False
        self._unrank(key, held.rank)
        if held.label is not None:
            vectors = self._partitions[held.entry.partition]
            vectors.remove(held.label)
            if not vectors:
                vectors.close()
                del self._partitions[held.entry.partition]
        return True

    def _clear(self) -> None:
        for vectors in self._partitions.values():
            vectors.close()
        self._held, self._partitions, self._ranks, self._due = {}, {}, {}, []

    def _sweep(self) -> bool:
        """Drop a batch of what has expired. Returns whether there may be more."""
        now = self._clock()
        for _ in range(BATCH):
            if not self._due or self._due[0][0] > now:
                return False
            _, key = heappop(self._due)
            held = self._held.get(key)
            # The key may stand for a later entry by now, which has a line of its own.
            if held is not None and held.entry.expired(now):
                self._drop(key)
        return True

    def _sweep_later(self, seconds: float) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweeping = None
        more = self._sweep()
        if self._held:
            self._sweep_later(0.0 if more else SWEEP_SECONDS)
