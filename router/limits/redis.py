"""Counts in a Redis that all routers share. One script checks and adds, so nothing comes between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from triton_router.config.limits import LimitStore
from triton_router.errors import Unavailable
from triton_router.limits.counters import Ask
from triton_router.redis_client import RedisClient

# Seconds without a question after so many late answers in a row, or one refusal: not every request is to wait for the
# deadline, and one that was late says little of the next.
PAUSE, LATE_IN_A_ROW = 1.0, 3
# Seconds that a count stays when its time is over, for routers whose clocks are behind.
GRACE = 10.0

# For each key: the amount, the limit, whether it is hard, and after how many ms it is forgotten.
_RESERVE = """
local counts, refused = {}, false
for place, key in ipairs(KEYS) do
  local at = (place - 1) * 4
  counts[place] = tonumber(redis.call('GET', key) or '0')
  if counts[place] + tonumber(ARGV[at + 1]) > tonumber(ARGV[at + 2]) then
    refused = refused or ARGV[at + 3] == '1'
  end
end
if not refused then
  for place, key in ipairs(KEYS) do
    local at = (place - 1) * 4
    redis.call('INCRBY', key, ARGV[at + 1])
    redis.call('PEXPIRE', key, ARGV[at + 4])
  end
end
return counts
"""

# What is forgotten stays so.
_CHANGE = """
for place, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, ARGV[place]) end
end
"""


class RedisCounters:
    """Raises RuntimeError if the package ``redis`` is not installed. Nothing is asked before the first call."""

    def __init__(self, settings: LimitStore, url: str, username: str | None, password: str | None) -> None:
        self._server = RedisClient(url, settings.deadline_ms / 1000, username, password)
        # The braces put all keys of a cluster on one node, as a script needs.
        self._prefix = f"{{{settings.prefix}}}:"
        self._reserve = self._server.client.register_script(_RESERVE)
        self._change = self._server.client.register_script(_CHANGE)
        self._silent_until, self._late = 0.0, 0
        self._changes: set[asyncio.Task[None]] = set()

    async def reserve(self, asks: Sequence[Ask]) -> list[int]:
        arguments: list[int] = []
        for ask in asks:
            # From now on, as Redis may have another time than we have.
            ttl = max(ask.ends + GRACE - time.time(), 0.001)
            arguments += [ask.amount, ask.limit, int(ask.hard), int(ttl * 1000)]
        counts = await self._run(self._reserve, [ask.key for ask in asks], arguments)
        return [int(count) for count in counts]

    def change(self, changes: Sequence[tuple[str, int, float]]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(Unavailable):
                await self._run(self._change, [key for key, _, _ in changes], [amount for _, amount, _ in changes])

        task = asyncio.get_running_loop().create_task(quietly())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def close(self) -> None:
        await self._server.close()

    async def _run(self, script: Any, keys: list[str], arguments: list[int]) -> list[int]:
        if time.monotonic() < self._silent_until:
            raise Unavailable("connection", "Redis did not answer a moment ago")
        try:
            async with self._server.within_deadline():
                answer: list[int] = await script(keys=[self._prefix + key for key in keys], args=arguments) or []
        except Unavailable as unavailable:
            self._late += 1
            if unavailable.reason != "deadline" or self._late >= LATE_IN_A_ROW:
                self._silent_until = time.monotonic() + PAUSE
            raise
        self._late = 0
        return answer
