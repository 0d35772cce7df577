"""A callback inside a LiteLLM proxy that measures how long its event loop is held up: by anybody, and by our hook.

A request of the user ``loop-watch`` is answered with what was measured since the last one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Generator
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from router.integrations.litellm import TritonRouter

PERIOD = 0.001

# Milliseconds: how late the sampler woke up, and each step of the hook between two awaits, by the clock and by CPU.
lags: list[float] = []
steps: list[float] = []
cpu: list[float] = []


class Timed:
    """A coroutine, each of its steps timed."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step, given = self._coroutine.send, None
        while True:
            started, used = time.perf_counter(), time.thread_time()
            try:
                awaited = step(given)
            except StopIteration as end:
                return end.value
            finally:
                steps.append((time.perf_counter() - started) * 1000)
                cpu.append((time.thread_time() - used) * 1000)
            try:
                step, given = self._coroutine.send, (yield awaited)
            except BaseException as thrown:
                step, given = self._coroutine.throw, thrown


_hook = TritonRouter.async_pre_call_hook


async def _timed(self: TritonRouter, *args: Any, **kwargs: Any) -> Any:
    return await Timed(_hook(self, *args, **kwargs))


TritonRouter.async_pre_call_hook = _timed  # type: ignore[method-assign]


async def _sample() -> None:
    while True:
        started = time.perf_counter()
        await asyncio.sleep(PERIOD)
        lags.append((time.perf_counter() - started - PERIOD) * 1000)


class LoopWatch(CustomLogger):
    sampler: asyncio.Task[None] | None = None

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        if self.sampler is None:
            self.sampler = asyncio.get_running_loop().create_task(_sample())
        if data.get("user") == "loop-watch":
            data["mock_response"] = json.dumps({"lags": lags, "steps": steps, "cpu": cpu})
            for measured in (lags, steps, cpu):
                measured.clear()
        return data


watch = LoopWatch()
