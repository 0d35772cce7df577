"""A store in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from router.cache.entry import Entry, Vector

Eviction = Literal["fifo", "lru", "lfu"]


class MemoryStore:
    """At most ``max_entries`` entries; ``clock`` gives Unix seconds.

    Embeddings are rows of one matrix and found by an exact scan of the rows of a partition.
    """

    def __init__(self, max_entries: int, eviction: Eviction = "fifo", clock: Callable[[], float] = time.time) -> None:
        self._most, self._eviction, self._clock = max_entries, eviction, clock
        # In the order of eviction for fifo and lru.
        self._entries: dict[str, Entry] = {}
        self._uses: dict[str, int] = {}
        self._partitions: dict[str, dict[str, int]] = {}
        self._rows = np.zeros((0, 0), np.float32)
        self._free: list[int] = []

    async def get(self, key: str) -> Entry | None:
        return self._used(key) if self._alive(key) else None

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        keys = [key for key in list(self._partitions.get(partition, ())) if self._alive(key)]
        rows = self._partitions.get(partition, {})
        if not keys:
            return []
        similarities = self._rows[[rows[key] for key in keys]] @ embedding
        best = np.argsort(-similarities)[:limit]
        return [(float(similarities[place]), self._used(keys[place])) for place in best if similarities[place] >= least]

    async def put(self, entry: Entry) -> None:
        self._remove(entry.key)
        while len(self._entries) >= self._most:
            self._remove(self._victim())
        self._entries[entry.key], self._uses[entry.key] = entry, 0
        if entry.embedding is not None:
            self._partitions.setdefault(entry.partition, {})[entry.key] = self._row(entry.embedding)

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        gone = [
            each.key
            for each in self._entries.values()
            if (key is None or each.key == key) and (decision is None or each.decision == decision)
        ]
        for each in gone:
            self._remove(each)
        return len(gone)

    async def size(self) -> int:
        return len(self._entries)

    async def close(self) -> None:
        await self.purge()

    def _alive(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is not None and entry.expired(self._clock()):
            self._remove(key)
            return False
        return entry is not None

    def _used(self, key: str) -> Entry:
        entry = self._entries[key]
        self._uses[key] += 1
        if self._eviction == "lru":
            self._entries[key] = self._entries.pop(key)
        return entry

    def _victim(self) -> str:
        now = self._clock()
        oldest = next(iter(self._entries))
        if self._entries[oldest].expired(now) or self._eviction != "lfu":
            return oldest
        return min(self._entries, key=self._uses.__getitem__)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        del self._uses[key]
        rows = self._partitions.get(entry.partition)
        if rows is not None and key in rows:
            self._free.append(rows.pop(key))
            if not rows:
                del self._partitions[entry.partition]

    def _row(self, embedding: Vector) -> int:
        if not self._free:
            had = len(self._rows)
            grown = np.zeros((max(64, 2 * had), len(embedding)), np.float32)
            grown[:had] = self._rows if had else grown[:0]
            self._rows = grown
            self._free = list(range(len(grown) - 1, had - 1, -1))
        row = self._free.pop()
        self._rows[row] = embedding
        return row
