"""How many bytes of request bodies a worker holds at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from triton_router import heap

# Bodies of at least so many bytes are large. The gateway holds them too, until their backend responds.
LARGE = 1_000_000
# This part of the budget is for bodies that are not large: many slow uploads must not refuse everybody else.
_PART_FOR_OTHERS = 8
# Bodies that were held together before it is worth looking for memory to give back.
_MANY_BYTES = 16 * 1024 * 1024
# Seconds until then.
TRIM_AFTER = 2.0


class Budget:
    """At most ``most`` bytes are held; ``refused`` is called for each request that would take more."""

    def __init__(self, most: int, refused: Callable[[], None] = lambda: None) -> None:
        self._most, self._most_large = most, most - most // _PART_FOR_OTHERS
        self._refused = refused
        self._held = self._peak = 0

    @classmethod
    def for_bodies(cls, most: int, largest: int, refused: Callable[[], None] = lambda: None) -> Budget:
        """A budget of ``most`` bytes, or of more where one body of ``largest`` bytes would not fit."""
        return cls(max(most, -(-largest * _PART_FOR_OTHERS // (_PART_FOR_OTHERS - 1))), refused)

    def take(self, more: int, *, large: bool = False) -> bool:
        """Hold ``more`` bytes. Returns whether there is room."""
        if self._held + more > (self._most_large if large else self._most):
            self._refused()
            return False
        self._held += more
        self._peak = max(self._peak, self._held)
        return True

    def give(self, size: int) -> None:
        """Hold ``size`` bytes less."""
        self._held -= size
        if self._peak >= _MANY_BYTES and self._held < _MANY_BYTES // 16:
            self._peak = self._held
            loop = asyncio.get_running_loop()
            # Threads may still be at work on what a client no longer waits for.
            loop.call_later(TRIM_AFTER, loop.run_in_executor, None, heap.trim)


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
            if not self._budget.take(more, large=size >= LARGE):
                return False
            self._size = size
        return True

    def forward(self) -> None:
        """The request leaves the router: nothing of a body that is not large is held any more."""
        if self._size < LARGE:
            self.release()

    def release(self) -> None:
        """Hold nothing any more."""
        if self._size:
            self._budget.give(self._size)
            self._size = 0
