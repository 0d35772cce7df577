"""How long requests wait before this worker takes them up.

gRPC accepts one stream in each round of the event loop, so what a busy worker has not accepted yet waits where nobody
sees it, neither in the loop's lag nor among the open streams. The worker therefore sends a call to itself that waits
in the same queue, and takes its time.
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
    """``ask`` makes one call to this worker; ``busy`` counts requests; ``tell`` hears each time how long they wait."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        busy: Callable[[], int],
        tell: Callable[[float], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ask, self._busy, self._tell, self._clock = ask, busy, tell, clock
        self._unknown = RateLimitedLog(log, "how long requests wait cannot be measured")
        self._last = self._before = 0.0
        self._asked: float | None = None

    @property
    def seconds(self) -> float:
        """How long requests wait at the moment.

        Of the last two calls the quicker counts, one that is not back yet among them: a queue that stands shows in
        both, a pause of the process in one (CoDel's test, RFC 8289, section 4.1).
        """
        waiting = self._clock() - self._asked if self._asked is not None else 0.0
        return min(self._last, max(self._before, waiting))

    async def run(self) -> None:
        """Measure until cancelled."""
        seen = self._busy()
        while True:
            await asyncio.sleep(INTERVAL)
            if (now := self._busy()) == seen and self._last < INTERVAL:
                self._last = self._before = 0.0
            else:
                await self._measure()
            seen = now
            self._tell(self.seconds)

    async def _measure(self) -> None:
        asked = self._asked = self._clock()
        try:
            await self._ask()
            took = self._clock() - asked
        except Exception as error:
            self._unknown.warn(reason=type(error).__name__)
            took = 0.0
        finally:
            self._asked = None
        self._last, self._before = took, self._last
