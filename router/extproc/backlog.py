"""How long requests wait before this worker takes them up.

gRPC accepts one stream in each round of the event loop. Streams that a busy worker has not accepted yet show neither
in the loop's lag nor among the open streams. The worker therefore sends a call to itself, which waits in the same
queue, and measures how long it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from triton_router.telemetry import RateLimitedLog

log = logging.getLogger(__name__)

# Seconds between two calls; about one millisecond of CPU each, and none while no request comes.
INTERVAL = 0.1


class Backlog:
    """``call`` makes one call to this worker, ``count`` returns its requests so far, ``report`` takes the seconds."""

    def __init__(
        self,
        call: Callable[[], Awaitable[object]],
        count: Callable[[], int],
        report: Callable[[float], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._call, self._count, self._report, self._clock = call, count, report, clock
        self._failures = RateLimitedLog(log, "how long requests wait cannot be measured")
        self._last = self._before = 0.0
        # When the call in progress began.
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """How long requests wait at the moment.

        The quicker of the last two calls counts, including one that is still in progress: a standing queue shows in
        both, a pause of the process in one (CoDel's test, RFC 8289, section 4.1).
        """
        waiting = self._clock() - self._began if self._began is not None else 0.0
        return min(self._last, max(self._before, waiting))

    async def run(self) -> None:
        """Measure until cancelled."""
        before = self._count()
        while True:
            await asyncio.sleep(INTERVAL)
            if (now := self._count()) == before and self._last < INTERVAL:
                self._last = self._before = 0.0
            else:
                await self._measure()
            before = now
            self._report(self.seconds)

    async def _measure(self) -> None:
        began = self._began = self._clock()
        try:
            await self._call()
            took = self._clock() - began
        except Exception as error:
            self._failures.warn(reason=type(error).__name__)
            took = 0.0
        finally:
            self._began = None
        self._last, self._before = took, self._last
