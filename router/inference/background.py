"""Calls to Triton that must not get in the way of requests: those of the REST service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from triton_router.errors import Unavailable

T = TypeVar("T")

# Timeouts in a row after which nothing is asked for a while (in seconds).
TIMEOUTS, PAUSE = 3, 2.0
# Calls that may wait for their turn.
MOST_WAITING = 256


class Background:
    """One call at a time, so that a request waits for one of them at most; with a breaker of their own.

    Their failures say nothing of how requests fare. ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._turn, self._clock = asyncio.Lock(), clock
        self._waiting = self._timeouts = 0
        self._closed_until = 0.0

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of ``call``.

        Raises:
            Unavailable: too many wait, the breaker is open, or the call failed.
        """
        if self._waiting >= MOST_WAITING:
            raise Unavailable("overload")
        self._waiting += 1
        try:
            async with self._turn:
                if self._clock() < self._closed_until:
                    raise Unavailable("deadline")
                return await self._watched(call)
        finally:
            self._waiting -= 1

    async def _watched(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            result = await call()
        except Unavailable as unavailable:
            self._timeouts += unavailable.reason == "deadline"
            if self._timeouts >= TIMEOUTS:
                self._timeouts, self._closed_until = 0, self._clock() + PAUSE
            raise
        self._timeouts = 0
        return result
