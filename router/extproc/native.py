"""ext_proc and health over the HTTP/2 server of our own (:mod:`triton_router.http2`)."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError

from triton_router.config.services import ServerTls
from triton_router.extproc import health
from triton_router.extproc.processor import SERVICE, Processor
from triton_router.extproc.tls import server_context
from triton_router.http2.grpc import Call, GrpcServer, Handler, Status, bind
from triton_router.protobuf import messages

HealthCheckRequest = messages("triton_router.health", "message HealthCheckRequest {\nstring service = 1\n}")(
    "HealthCheckRequest"
)


class NativeServer:
    """Serve ``processor`` and the standard health service; see :class:`.server.ExtProcServer` for the rest."""

    def __init__(self, processor: Processor, *, max_message: int, tls: ServerTls | None) -> None:
        self._health = _Health()
        methods = {f"/{SERVICE}/Process": processor.serve, **self._health.methods()}
        self._server = GrpcServer(methods, max_message=max_message)
        self._health_server = GrpcServer(self._health.methods(), max_message=max_message)
        self._tls = tls

    async def start(self, host: str, port: int, health_port: int | None) -> int:
        """Listen; returns the port. Raises ``OSError`` or ``TlsFiles``."""
        context = server_context(self._tls) if self._tls is not None else None
        listener = bind(host, port)
        await self._server.listen(listener, context)
        if health_port is not None:
            await self._health_server.listen(bind(host, health_port))
        self._health.serve(True)
        return int(listener.getsockname()[1])

    async def probe(self) -> None:
        """Wait as long as a request that has come waits to be taken up: a whole round of the event loop."""
        await asyncio.sleep(0)  # to the start of the next round
        await asyncio.sleep(0)

    async def refuse(self) -> None:
        """Report NOT_SERVING."""
        self._health.serve(False)
        await asyncio.sleep(0)  # watchers hear of it before anything ends

    async def stop(self) -> None:
        """End all connections."""
        await self._server.close()
        await self._health_server.close()


class _Health:
    """``grpc.health.v1.Health``, for the whole server and for ext_proc."""

    def __init__(self) -> None:
        self._serving = False
        self._changed = asyncio.Event()

    def methods(self) -> dict[str, Handler]:
        return {health.SERVICE + "Check": self._check, health.SERVICE + "Watch": self._watch}

    def serve(self, serving: bool) -> None:
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, request: bytes | None) -> bytes:
        try:
            service = HealthCheckRequest.FromString(request or b"").service
        except DecodeError:
            return health.SERVICE_UNKNOWN
        if service not in ("", SERVICE):
            return health.SERVICE_UNKNOWN
        return health.SERVING if self._serving else health.NOT_SERVING

    async def _check(self, call: Call) -> None:
        status = self._status(await call.read())
        if status == health.SERVICE_UNKNOWN:
            await call.abort(Status.NOT_FOUND, "no such service")
        await call.write(status)

    async def _watch(self, call: Call) -> None:
        request = await call.read()
        while True:
            changed = self._changed
            await call.write(self._status(request))
            await changed.wait()
