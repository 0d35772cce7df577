"""A callback inside a LiteLLM proxy that measures how long its event loop is held up: by anybody, and by our hook.

Each stretch of the hook between two awaits is timed, and beside it as much arithmetic as such a stretch takes. Both
lose the processor to others alike: what the clock says of the arithmetic is this machine's, and what more it says of
the hook is the hook's. A request of the user ``loop-watch`` is answered with what was measured since the last one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import Coroutine, Generator
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from triton_router.integrations.litellm import TritonRouter

PERIOD = 0.001
# CPU seconds of the arithmetic, and times a request.
ARITHMETIC, TIMES = 0.0005, 2

# Milliseconds: how late the sampler woke up; of each stretch the clock, the CPU, how long the thread was ready to run
# and had no processor, and how long Python collected garbage, most of it LiteLLM's.
Stretch = tuple[float, float, float, float]
lags: list[float] = []
hook: list[Stretch] = []
arithmetic: list[Stretch] = []


class Stopwatch:
    """Times one stretch on the calling thread; must be used in the thread that made it."""

    def __init__(self) -> None:
        self._scheduler = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._collecting, self._collected = 0.0, 0.0
        gc.callbacks.append(self._collects)

    def start(self) -> Stretch:
        """Seconds so far, in the order of a stretch."""
        queued, collected = self._queued(), self._collected
        return time.perf_counter(), time.thread_time(), queued, collected

    def stop(self, started: Stretch, into: list[Stretch]) -> None:
        clock, cpu = time.perf_counter(), time.thread_time()
        ended = clock, cpu, self._queued(), self._collected
        took = [(end - start) * 1000 for start, end in zip(started, ended, strict=True)]
        into.append((took[0], took[1], took[2], took[3]))

    def _queued(self) -> float:
        return int(os.pread(self._scheduler, 64, 0).split()[1]) / 1e9

    def _collects(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting


class TimedCoroutine:
    """A coroutine, each of its stretches timed."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], watch: Stopwatch) -> None:
        self._coroutine, self._watch = coroutine, watch

    def __await__(self) -> Generator[Any, Any, Any]:
        step, result = self._coroutine.send, None
        while True:
            started = self._watch.start()
            try:
                awaited = step(result)
            except StopIteration as end:
                return end.value
            finally:
                self._watch.stop(started, hook)
            try:
                step, result = self._coroutine.send, (yield awaited)
            except BaseException as thrown:
                step, result = self._coroutine.throw, thrown


_hook = TritonRouter.async_pre_call_hook


async def _timed(self: TritonRouter, *args: Any, **kwargs: Any) -> Any:
    return await TimedCoroutine(_hook(self, *args, **kwargs), watch.stopwatch())


TritonRouter.async_pre_call_hook = _timed  # type: ignore[method-assign]


async def _sample() -> None:
    while True:
        started = time.perf_counter()
        await asyncio.sleep(PERIOD)
        lags.append((time.perf_counter() - started - PERIOD) * 1000)


class LoopWatch(CustomLogger):
    """LiteLLM's callback; it has to stand before our hook in the configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._stopwatch: Stopwatch | None = None
        self._sampler: asyncio.Task[None] | None = None

    def stopwatch(self) -> Stopwatch:
        """That of the event loop's thread, which does not run yet when this object is made."""
        if self._stopwatch is None:
            self._stopwatch = Stopwatch()
        return self._stopwatch

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        if self._sampler is None:
            self._sampler = asyncio.get_running_loop().create_task(_sample())
        if data.get("user") == "loop-watch":
            data["mock_response"] = json.dumps({"lags": lags, "hook": hook, "arithmetic": arithmetic})
            for measured in (lags, hook, arithmetic):
                measured.clear()
            return data
        for _ in range(TIMES):
            self._calculate()
        return data

    def _calculate(self) -> None:
        watch = self.stopwatch()
        started = watch.start()
        ends = time.thread_time() + ARITHMETIC
        while time.thread_time() < ends:
            pass
        watch.stop(started, arithmetic)


watch = LoopWatch()
