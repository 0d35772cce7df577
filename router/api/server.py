"""The server of the REST service, in the event loop of all the rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from triton_router.api.responses import READ_WITHIN
from triton_router.config.services import ApiSettings

# Seconds that streams (comparisons, requests that the page sends) have to end when the service ends.
END_WITHIN = 5


@asynccontextmanager
async def serving(settings: ApiSettings, app: Starlette) -> AsyncIterator[None]:
    """Serve ``app``.

    Raises:
        RuntimeError: the address cannot be bound.
    """
    options = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=END_WITHIN,
    )  # fmt: skip
    server = _QuietServer(options)
    running = asyncio.create_task(server.serve())
    while not server.started:
        if running.done():
            raise RuntimeError(f"global.services.api: cannot listen on {settings.host}:{settings.port}")
        await asyncio.sleep(0.01)
    for listener in (each for listening in server.servers for each in listening.sockets):
        # Connections inherit it. A client that does not read would hold one, and what was written, for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_WITHIN * 1000))
    try:
        yield
    finally:
        server.should_exit = True
        await running


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        # Signals belong to `serve`: REST must answer until the streams have drained.
        yield
