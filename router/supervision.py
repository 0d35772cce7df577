"""Keeping work running: what ends is started again, after pauses that grow, and never unnoticed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
# Seconds that work has to run before its next end counts as the first one.
STEADY_SECONDS = 5.0

Work = Callable[[], Awaitable[object]]
Ended = Callable[[Exception | None, float], object]


async def keep_running(work: Work, ended: Ended) -> NoReturn:
    """Run ``work`` again whenever it ends, until cancelled.

    ``ended`` gets the exception, if it was one, and the seconds until the next start. What it raises ends the loop.
    """
    pause = FIRST_PAUSE
    while True:
        began, failure = time.monotonic(), None
        try:
            await work()
        except Exception as error:
            failure = error
        if time.monotonic() - began >= STEADY_SECONDS:
            pause = FIRST_PAUSE
        ended(failure, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


class Tasks:
    """The background tasks of a service, by name. None of them is meant to end.

    ``failures`` says why a task ended; the entry goes when the task has been running again for some seconds.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.failures: dict[str, str] = {}
        self._metrics = metrics
        self._recoveries: dict[str, asyncio.TimerHandle] = {}

    def start(self, name: str, work: Work) -> asyncio.Task[NoReturn]:
        """Keep ``work`` running until the task is cancelled."""
        return asyncio.create_task(keep_running(work, partial(self._ended, name)), name=name)

    @asynccontextmanager
    async def running(self, **works: Work) -> AsyncIterator[None]:
        """Keep ``works`` running while the block does; each may take its time to end."""
        tasks = [self.start(name, work) for name, work in works.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("a task did not end in order", exc_info=result)

    def _ended(self, name: str, failure: Exception | None, pause: float) -> None:
        reason = f"{type(failure).__name__}: {failure}"[:300] if failure is not None else "ended"
        self.failures[name] = reason
        self._metrics.task_restarts.labels(name).inc()
        fields = {"task": name, "reason": reason, "pause_seconds": pause}
        log.error("a task ended and is started again", exc_info=failure, extra={"fields": fields})
        if name in self._recoveries:
            self._recoveries[name].cancel()
        loop = asyncio.get_running_loop()
        self._recoveries[name] = loop.call_later(pause + STEADY_SECONDS, self.failures.pop, name, None)
