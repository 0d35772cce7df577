"""A connection on asyncio, whichever side opened it: what it wants to send leaves once a round of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from triton_router.http2.connection import Connection


class Endpoint(asyncio.Protocol):
    """Moves bytes between a transport and ``connection``. Subclasses read events and make calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        # Python 3.11 asks the system for the process's number whenever it is asked for the running loop.
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._flush()

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and (data := self._connection.take()):
            with contextlib.suppress(RuntimeError):  # a transport of TLS that has been closed meanwhile
                self._transport.write(data)
