"""Work that would hold up other requests: done in a thread, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")

# Threads take turns with the event loop, and each holds a whole request in memory.
AT_ONCE = 2

_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def run(large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``work``'s result; off the event loop if it is ``large``."""
    return await off_loop(work, *args, **kwargs) if large else work(*args, **kwargs)


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``work``'s result; at most ``AT_ONCE`` run at any time, the others wait."""
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        _slots[loop] = asyncio.Semaphore(AT_ONCE)
    async with _slots[loop]:
        return await asyncio.to_thread(work, *args, **kwargs)
