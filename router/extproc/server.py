"""The gRPC server that Envoy's external processing filter talks to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from triton_router.config.services import Global, ServerTls
from triton_router.exchange import Outcome, Request
from triton_router.extproc.backlog import Backlog
from triton_router.extproc.budget import Budget
from triton_router.extproc.processor import SERVICE, Processor
from triton_router.telemetry import Metrics

if TYPE_CHECKING:
    from triton_router.extproc.grpcio import GrpcioServer
    from triton_router.extproc.native import NativeServer

# What a message holds besides the body: headers, and what a rewritten body may have gained.
_MESSAGE_MARGIN = 4 * 1024 * 1024

Wire = Literal["native", "grpcio"]


class ExtProcServer:
    """Serve ``ExternalProcessor`` and the standard gRPC health service on one port.

    ``route`` is called once a request; an exception of its becomes a 500 in the API's shape. ``max_body_bytes`` limits
    request bodies (413 beyond it) and gRPC messages, ``budget`` bounds bodies that are held together (429 beyond it).
    Port 0 takes a free one. With ``tls`` the port speaks TLS only; ``health_port`` serves health alone, in the clear.
    ``join_gateway`` makes an Envoy that traces the caller of the trace. ``report_wait`` takes the seconds for which
    requests wait to be taken up. ``wire`` is what speaks HTTP/2.
    """

    def __init__(
        self,
        route: Callable[[Request], Awaitable[Outcome]],
        *,
        host: str = "127.0.0.1",
        port: int = 50051,
        max_body_bytes: int = 10 * 1024 * 1024,
        budget: Budget | None = None,
        tls: ServerTls | None = None,
        health_port: int | None = None,
        join_gateway: bool = False,
        report_wait: Callable[[float], None] = lambda seconds: None,
        wire: Wire = "native",
    ) -> None:
        self._host, self._port, self._health_port = host, port, health_port
        self._processor = Processor(
            route,
            max_body_bytes=max_body_bytes,
            join_gateway=join_gateway,
            waited=lambda: self._backlog.seconds,
            budget=budget or Budget(128 * 1024 * 1024),
        )
        self._transport = _transport(wire, self._processor, max_body_bytes + _MESSAGE_MARGIN, tls)
        self._report_wait = report_wait
        self._backlog = Backlog(self._transport.probe, lambda: self._processor.count, self._report)
        self._measuring: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls, route: Callable[[Request], Awaitable[Outcome]], config: Global, index: int, metrics: Metrics
    ) -> ExtProcServer:
        """The server of worker ``index``, counted from 0, as the configuration has it."""
        settings = config.services.extproc
        return cls(
            route,
            host=settings.host,
            port=settings.port + index,
            max_body_bytes=config.router.max_body_bytes,
            budget=Budget.for_bodies(
                config.router.max_bytes_in_flight, config.router.max_body_bytes, metrics.refused.inc
            ),
            tls=settings.tls,
            health_port=settings.health_port + index if settings.health_port is not None else None,
            join_gateway=config.services.observability.tracing.enabled,
            report_wait=metrics.waited.set,
            wire=settings.wire,
        )

    @property
    def port(self) -> int:
        """The port in use, once started."""
        return self._port

    @property
    def open_streams(self) -> int:
        """Requests in progress here: from their headers to the headers of their responses."""
        return self._processor.open

    def _report(self, seconds: float) -> None:
        longest, self._processor.longest_wait = self._processor.longest_wait, 0.0
        self._report_wait(max(seconds, longest))

    async def start(self) -> None:
        """Listen, and report SERVING.

        Raises:
            RuntimeError: the address cannot be bound, or the TLS files cannot be used.
        """
        try:
            self._port = await self._transport.start(self._host, self._port, self._health_port)
        except OSError as error:
            raise RuntimeError(f"cannot listen on {self._host}:{self._port}: {error}") from error
        self._measuring = asyncio.create_task(self._backlog.run())

    async def drain(self, seconds: float) -> None:
        """Report NOT_SERVING, take no new streams, give open ones ``seconds`` to end, then stop."""
        await self._transport.refuse()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._processor.drained()
        if self._measuring is not None:
            self._measuring.cancel()
        await self._transport.stop()


def _transport(
    wire: Wire, processor: Processor, max_message: int, tls: ServerTls | None
) -> GrpcioServer | NativeServer:
    if wire == "grpcio":
        from triton_router.extproc.grpcio import GrpcioServer

        return GrpcioServer(processor, max_message=max_message, tls=tls)
    from triton_router.extproc.native import NativeServer

    return NativeServer(processor, max_message=max_message, tls=tls)


__all__ = ["SERVICE", "ExtProcServer", "Wire"]
