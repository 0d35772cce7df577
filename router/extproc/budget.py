"""How many bytes of request bodies a worker holds at once, and giving the memory back afterwards."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

# Bodies that were held together before it is worth looking for memory to give back.
_MANY_BYTES = 16 * 1024 * 1024
# Seconds until then.
TRIM_AFTER = 2.0


class Budget:
    """At most ``most`` bytes are held; ``refused`` is called for each request that would take more."""

    def __init__(self, most: int, refused: Callable[[], None] = lambda: None) -> None:
        self._most, self._refused = most, refused
        self._held = self._peak = 0

    def take(self, size: int) -> bool:
        """Hold ``size`` bytes more. Returns whether there is room."""
        if self._held + size > self._most:
            self._refused()
            return False
        self._held += size
        self._peak = max(self._peak, self._held)
        return True

    def give(self, size: int) -> None:
        """Hold ``size`` bytes less."""
        self._held -= size
        if self._peak >= _MANY_BYTES and self._held < _MANY_BYTES // 16:
            self._peak = self._held
            loop = asyncio.get_running_loop()
            # Threads may still be at work on what a client no longer waits for.
            loop.call_later(TRIM_AFTER, loop.run_in_executor, None, trim)


class Share:
    """What one request holds of a budget."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget, self._size = budget, 0

    @property
    def held(self) -> bool:
        """Whether anything is held."""
        return self._size > 0

    def grow(self, size: int) -> bool:
        """Hold ``size`` bytes in all, or what is held already if that is more. Returns whether there is room."""
        more = size - self._size
        if more > 0:
            if not self._budget.take(more):
                return False
            self._size = size
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        if self._size:
            self._budget.give(self._size)
            self._size = 0


def trim() -> None:
    """Give memory that is free back to the system: the C library keeps what was taken once."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
