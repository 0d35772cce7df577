"""What a cache holds, and what any store of it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. ``key`` (hex) is the exact request, ``partition`` (hex) all that must be equal for a semantic hit.

    ``embedding`` FP32 [dimension] of unit length, or ``None`` for exact lookups only. ``answer`` is JSON,
    ``stored_at`` in Unix seconds.
    """

    key: str
    partition: str
    decision: str
    prompt: str
    embedding: Vector | None
    answer: bytes
    stored_at: float
    ttl_seconds: float

    def expired(self, now: float) -> bool:
        return now >= self.stored_at + self.ttl_seconds


class StoreUnavailable(Exception):
    """The store could not answer; ``reason`` is one of a fixed list of words, fit for a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Store(Protocol):
    """Where entries are. Every method may raise ``StoreUnavailable``."""

    async def get(self, key: str) -> Entry | None:
        """The entry of a key; never an expired one."""

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        """Entries of the partition with a cosine of at least ``least``, best first; never expired ones."""

    async def put(self, entry: Entry) -> None:
        """Keep ``entry``, in the place of another with its key."""

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        """Remove one key, all of a decision, or everything; returns how many there were."""

    async def size(self) -> int: ...

    async def close(self) -> None: ...
