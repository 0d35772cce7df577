"""What a cache holds, and what any store of it can do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

# connection: nobody there · deadline: no answer in time · refused: not for us (credentials, read-only) · full: no room
# for another entry · unsupported: no vector search there · error: anything else that the server said.
Reason = Literal["connection", "deadline", "refused", "full", "unsupported", "error"]


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

    @property
    def expires_at(self) -> float:
        return self.stored_at + self.ttl_seconds

    def expired(self, now: float) -> bool:
        return now >= self.expires_at


def decision_digest(name: str) -> str:
    """Stands for the ``name`` of a decision, which is free text, in a server's expressions; hex."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


class Store(Protocol):
    """Where entries are. Every method may raise ``Unavailable`` with one of :data:`Reason`."""

    async def get(self, key: str) -> Entry | None:
        """The entry of a key; never an expired one."""

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        """Entries of the partition with a cosine of at least ``least``, best first; never expired ones."""

    async def put(self, entry: Entry) -> None:
        """Keep ``entry``, in the place of another with its key."""

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        """Remove one key, all of a decision, or everything; returns how many there were."""

    async def size(self) -> int:
        """How many there are. A shared store may count some that expired a moment ago."""

    async def close(self) -> None: ...
