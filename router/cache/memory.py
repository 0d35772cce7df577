"""A store in the memory of this process: bounded, lost when it ends, and not shared between workers."""

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
# How long an expired entry may take up memory while no request comes.
SWEEP_SECONDS = 30.0


class _Slot:
    """An entry without its embedding; that is among the vectors of its partition under ``label``."""

    __slots__ = ("entry", "label", "rank")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.label: int | None = None
        self.rank = 0


class MemoryStore:
    """At most ``max_entries`` entries; ``clock`` gives Unix seconds.

    The first to go is the oldest (``fifo``), the one not used for the longest time (``lru``), or among those used
    least often the one not used for the longest time (``lfu``). `get` and `nearest` use the entries that they return.
    Raises RuntimeError if that many entries need a library that is not installed.
    """

    def __init__(self, max_entries: int, eviction: Eviction = "fifo", clock: Callable[[], float] = time.time) -> None:
        if max_entries < 1:
            raise ValueError("max_entries: must be at least 1")
        if max_entries > EXACT:
            require_graph()
        self._max_entries, self._eviction, self._clock = max_entries, eviction, clock
        self._slots: dict[str, _Slot] = {}
        self._partitions: dict[str, Vectors[_Slot]] = {}
        # For lfu a rank is a number of uses; fifo and lru have one rank. The first key of a rank is the next to go.
        self._ranks: dict[int, OrderedDict[str, None]] = {}
        # When each key expires. Those of replaced and dropped keys stay until they come up or are too many.
        self._due: list[tuple[float, str]] = []
        self._sweeping: asyncio.TimerHandle | None = None

    async def get(self, key: str) -> Entry | None:
        slot = self._slots.get(key)
        if slot is None:
            return None
        if slot.entry.expired(self._clock()):
            self._drop(key)
            return None
        self._use(slot)
        return self._with_embedding(slot)

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        # Expired entries must not hide others. The rounds below drop those that this batch does not reach.
        self._sweep()
        now = self._clock()
        while (vectors := self._partitions.get(partition)) is not None:
            candidates = await vectors.nearest(embedding, limit, least)
            expired = [slot for _, slot in candidates if slot.entry.expired(now)]
            if not expired:
                for _, slot in candidates:
                    self._use(slot)
                return [(score, self._with_embedding(slot)) for score, slot in candidates]
            for slot in expired:
                self._drop(slot.entry.key)
            # Where many similar entries have expired together, dropping a few a round would take many searches.
            self._sweep()
        return []

    async def put(self, entry: Entry) -> None:
        self._sweep()
        self._drop(entry.key)
        if entry.expired(self._clock()):
            return
        slot = _Slot(replace(entry, embedding=None))
        if entry.embedding is not None:
            vectors = self._partitions.get(entry.partition)
            if vectors is None:
                vectors = self._partitions[entry.partition] = Vectors(len(entry.embedding))
            slot.label = vectors.add(entry.embedding, slot)
        while len(self._slots) >= self._max_entries:
            self._drop(next(iter(self._ranks[min(self._ranks)])))
        self._slots[entry.key] = slot
        self._ranks.setdefault(0, OrderedDict())[entry.key] = None
        heappush(self._due, (entry.expires_at, entry.key))
        if len(self._due) > 2 * len(self._slots) + BATCH:
            self._due = [(slot.entry.expires_at, key) for key, slot in self._slots.items()]
            heapify(self._due)
        if self._sweeping is None:
            self._sweep_later(SWEEP_SECONDS)

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        if key is None and decision is None:
            count = len(self._slots)
            self._clear()
            return count
        among = self._slots if key is None else self._slots.keys() & {key}
        stale = [key for key in among if decision is None or self._slots[key].entry.decision == decision]
        for each in stale:
            self._drop(each)
        return len(stale)

    async def size(self) -> int:
        more = self._sweep()
        while more:
            await asyncio.sleep(0)
            more = self._sweep()
        return len(self._slots)

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._clear()

    def _with_embedding(self, slot: _Slot) -> Entry:
        if slot.label is None:
            return slot.entry
        return replace(slot.entry, embedding=self._partitions[slot.entry.partition].vector(slot.label))

    def _use(self, slot: _Slot) -> None:
        if self._eviction == "fifo":
            return
        key = slot.entry.key
        self._unrank(key, slot.rank)
        if self._eviction == "lfu":
            slot.rank += 1
        self._ranks.setdefault(slot.rank, OrderedDict())[key] = None

    def _unrank(self, key: str, rank: int) -> None:
        keys = self._ranks[rank]
        del keys[key]
        if not keys:
            del self._ranks[rank]

    def _drop(self, key: str) -> bool:
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        self._unrank(key, slot.rank)
        if slot.label is not None:
            vectors = self._partitions[slot.entry.partition]
            vectors.remove(slot.label)
            if not vectors:
                vectors.close()
                del self._partitions[slot.entry.partition]
        return True

    def _clear(self) -> None:
        for vectors in self._partitions.values():
            vectors.close()
        self._slots, self._partitions, self._ranks, self._due = {}, {}, {}, []

    def _sweep(self) -> bool:
        """Drop a batch of expired entries. Returns whether there may be more."""
        now = self._clock()
        for _ in range(BATCH):
            if not self._due or self._due[0][0] > now:
                return False
            _, key = heappop(self._due)
            slot = self._slots.get(key)
            # The key may belong to a later entry by now, which has a time of its own.
            if slot is not None and slot.entry.expired(now):
                self._drop(key)
        return True

    def _sweep_later(self, seconds: float) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(seconds, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweeping = None
        more = self._sweep()
        if self._slots:
            self._sweep_later(0.0 if more else SWEEP_SECONDS)
