"""Counts that several processes share: in memory for those of one host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from triton_router import shared_memory

# Counts that a process can hold in memory, and places in which it looks for one.
SLOTS, LOOKS = 65_536, 16
# The numbers of a slot: the key, when its time ends, the amount.
_KEY, _ENDS, _AMOUNT, _NUMBERS = 0, 1, 2, 3
_BYTES = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """``amount`` more under ``key``, where ``limit`` is the most; the count is forgotten at ``ends`` (epoch seconds).

    ``hard``: beyond the limit nothing is added.
    """

    key: str
    amount: int
    limit: int
    ends: float
    hard: bool

    def exceeds(self, count: int) -> bool:
        """Whether so many and these are more than the limit."""
        return count + self.amount > self.limit


class Counters(Protocol):
    """Where counts are."""

    async def reserve(self, asks: Sequence[Ask]) -> list[int]:
        """Add all amounts, unless a hard one would exceed its limit: then none. Returns the counts before.

        Raises:
            Unavailable: it is not known what was added.
        """

    def change(self, changes: Sequence[tuple[str, int, float]]) -> None:
        """Add to counts, by key, amount and end, now or soon; one whose time is over is left alone."""

    async def close(self) -> None: ...


class SharedCounters:
    """Counts of all processes of a host, in a file that they map; each has a seat, as in :mod:`.vitals`.

    A process adds in its own seat only, and a count is the sum over all. Two that ask in the same microsecond may both
    get the last of it. Where a process has no room for one count more, it forgets the one that ends first.
    """

    def __init__(
        self,
        path: str | None = None,
        seat: int = 0,
        seats: int = 1,
        slots: int = SLOTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._seat, self._seats, self._slots, self._clock = seat, seats, slots, clock
        size = seats * slots * _NUMBERS * _BYTES
        self._map = shared_memory.mapped(path, size)
        self._numbers = memoryview(self._map).cast("d")
        self._keys = memoryview(self._map).cast("Q")

    async def reserve(self, asks: Sequence[Ask]) -> list[int]:
        counts = [int(self.count(ask.key)) for ask in asks]
        if not any(ask.hard and ask.exceeds(count) for ask, count in zip(asks, counts, strict=True)):
            self.change([(ask.key, ask.amount, ask.ends) for ask in asks])
        return counts

    def change(self, changes: Sequence[tuple[str, int, float]]) -> None:
        now = self._clock()
        for key, amount, ends in changes:
            if ends > now:
                hashed = shared_memory.key(key)
                slot = self._slot(hashed, self._seat, now)
                if slot is None:
                    slot = self._room(hashed, now)
                    self._numbers[slot + _AMOUNT], self._numbers[slot + _ENDS] = 0.0, ends
                    self._keys[slot + _KEY] = hashed
                self._numbers[slot + _AMOUNT] += amount

    def count(self, key: str) -> float:
        """The sum over all processes."""
        hashed, now = shared_memory.key(key), self._clock()
        slots = (self._slot(hashed, seat, now) for seat in range(self._seats))
        return sum(self._numbers[slot + _AMOUNT] for slot in slots if slot is not None)

    async def close(self) -> None:
        """Nothing: others may use the file."""

    def _places(self, hashed: int, seat: int) -> list[int]:
        start = seat * self._slots
        return [(start + (hashed + look) % self._slots) * _NUMBERS for look in range(min(LOOKS, self._slots))]

    def _slot(self, hashed: int, seat: int, now: float) -> int | None:
        for slot in self._places(hashed, seat):
            if self._keys[slot + _KEY] == hashed and self._numbers[slot + _ENDS] > now:
                return slot
            if not self._keys[slot + _KEY]:
                return None
        return None

    def _room(self, hashed: int, now: float) -> int:
        """A place that is free, or whose count ends first."""
        return min(
            self._places(hashed, self._seat),
            key=lambda slot: self._numbers[slot + _ENDS] if self._numbers[slot + _ENDS] > now else 0.0,
        )
