"""ext_proc and health over grpcio's asyncio server (``extproc.wire: grpcio``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from triton_router.config.services import ServerTls
from triton_router.extproc.processor import SERVICE, Processor
from triton_router.extproc.tls import server_credentials
from triton_router.http2.grpc import Status
from triton_router.scratch import own_directory

log = logging.getLogger(__name__)

# Two processes on one port would share nothing: all of Envoy's streams go to one of them.
_OWN_PORT = ("grpc.so_reuseport", 0)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Seconds for streams that gRPC had accepted when draining began, but not yet handed to us.
_LAST_CALL = 0.1


class GrpcioServer:
    """Serve ``processor`` and the standard health service; see :class:`.server.ExtProcServer` for the rest."""

    def __init__(self, processor: Processor, *, max_message: int, tls: ServerTls | None) -> None:
        self._processor = processor
        self._tls = tls
        limits = ("grpc.max_receive_message_length", max_message), ("grpc.max_send_message_length", max_message)
        self._server = grpc.aio.server(options=(*limits, _OWN_PORT))
        self._health_server: Any = None
        self._health = health.HealthServicer()
        self._resources = contextlib.AsyncExitStack()
        self._itself: Any = None
        self._writing: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, health_port: int | None) -> int:
        """Listen; returns the port. Raises ``RuntimeError`` or ``TlsFiles``."""
        # No deserializer: the router itself aborts on a message that it cannot read.
        process = grpc.stream_stream_rpc_method_handler(self._process)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": process}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"{host}:{port}"
        if self._tls is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, server_credentials(self._tls))
        await self._listen_to_itself()
        await self._server.start()
        if health_port is not None:
            self._health_server = grpc.aio.server(options=(_OWN_PORT,))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._health_server)
            self._health_server.add_insecure_port(f"{host}:{health_port}")
            await self._health_server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def _listen_to_itself(self) -> None:
        """Listen on a second address for :meth:`probe` alone, without TLS, in a directory that only we can enter.

        If temporary files cannot be written, or their path is too long for a socket, only this measure is lost.
        """
        try:
            address = f"unix:{self._resources.enter_context(own_directory())}/itself"
            self._server.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            log.warning("how long requests wait is not measured: %s", error)
            return
        channel = await self._resources.enter_async_context(grpc.aio.insecure_channel(address))
        self._itself = health_pb2_grpc.HealthStub(channel)

    async def probe(self) -> None:
        """Wait as long as a request that has come waits to be taken up.

        gRPC accepts one stream in each round of the event loop, so only a call to this server itself can tell.
        """
        if self._itself is not None:
            await self._itself.Check(health_pb2.HealthCheckRequest())

    async def refuse(self) -> None:
        """Report NOT_SERVING."""
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """End all connections."""
        await self._resources.aclose()
        # Health watchers never end by themselves. Once only: a second call during the first crashes the process.
        await self._server.stop(_LAST_CALL)
        if self._health_server is not None:
            await self._health_server.stop(0)

    async def _process(self, _: Any, context: Any) -> None:
        await self._processor.serve(_Call(context, self._writing))


class _Call:
    """grpcio's context as a :class:`.processor.Call`. Its messages come whole, and nobody is asked before."""

    late = 0.0
    admit: Callable[[int], bool]

    def __init__(self, context: Any, writing: set[asyncio.Task[None]]) -> None:
        self._context, self._writing = context, writing

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._context.invocation_metadata())

    async def read(self) -> bytes | None:
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        await self._context.write(message)

    async def write_last(self, message: bytes) -> None:
        """Begin to write what ends a stream, so that the status goes out right behind it.

        Envoy resets a stream as soon as it has all it needs. gRPC's own part in Python loses some memory for each that
        is reset while a write or a status is still waited for (grpc/grpc#43360, seen with 1.85): 80 bytes an operation,
        and it was so for every second stream.
        """
        writing = asyncio.create_task(self._context.write(message))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        await asyncio.sleep(0)

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            # Envoy may be gone by now, which is nobody's mistake.
            writing.exception()

    async def abort(self, status: Status, details: str) -> None:
        await self._context.abort(_CODES[status], details)
