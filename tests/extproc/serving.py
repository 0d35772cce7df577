"""A server for one test, and waiting for what is about to happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from triton_router.exchange import Outcome, Request
from triton_router.extproc.server import ExtProcServer, Wire

WIRE: Wire = "native"


@asynccontextmanager
async def serving(route: Callable[[Request], Awaitable[Outcome]], **settings: Any) -> AsyncIterator[ExtProcServer]:
    server = ExtProcServer(route, port=0, **{"wire": WIRE, **settings})
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0)


async def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
