"""The gRPC server that Envoy's external processing filter talks to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from triton_router.config.services import Global, ServerTls
from triton_router.errors import refusal_body
from triton_router.exchange import Forward, Observer, Outcome, Reply, Request
from triton_router.extproc import messages
from triton_router.extproc.backlog import Backlog
from triton_router.extproc.phases import (
    Abort,
    Command,
    Event,
    Exchange,
    Finish,
    InputEnded,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Route,
    Routed,
)
from triton_router.extproc.tls import server_credentials
from triton_router.names import REQUEST_ID, TRACEPARENT, TRACESTATE
from triton_router.scratch import own_directory
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

# Room in a message besides the body: for headers, and for what a rewritten body gains.
_MESSAGE_MARGIN = 4 * 1024 * 1024

# Seconds for streams that gRPC had accepted when draining began, but had not handed to us.
_LAST_CALL = 0.1


class ExtProcServer:
    """Serve ``ExternalProcessor`` and the standard gRPC health service on one port.

    ``route`` is called once a request; an exception of it becomes a 500 in the API's shape. ``max_body_bytes`` limits
    request bodies (413 beyond it) and gRPC messages. Port 0 takes a free one. With ``tls`` the port speaks TLS only;
    ``health_port`` serves health alone, in the clear. With ``join_gateway`` the spans of a request hang under the span
    that Envoy names in its call. ``waits`` is called with the seconds that requests wait before they are taken up.

    It has more attributes than others because gRPC needs two servers, a channel to itself and the state of draining.
    """

    def __init__(
        self,
        route: Callable[[Request], Awaitable[Outcome]],
        *,
        host: str = "127.0.0.1",
        port: int = 50051,
        max_body_bytes: int = 10 * 1024 * 1024,
        tls: ServerTls | None = None,
        health_port: int | None = None,
        join_gateway: bool = False,
        waits: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._route = route
        self._host = host
        self._port = port
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._health_port = health_port
        self._join_gateway = join_gateway
        self._health = health.HealthServicer()
        self._server: Any = None
        self._health_server: Any = None
        self._open = self._taken = 0
        self._backlog = Backlog(self._call_itself, lambda: self._taken, waits)
        self._resources = contextlib.AsyncExitStack()
        self._itself: Any = None
        self._writing: set[asyncio.Task[None]] = set()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    def of(
        cls, route: Callable[[Request], Awaitable[Outcome]], config: Global, index: int, metrics: Metrics
    ) -> ExtProcServer:
        """The server of worker ``index``, counted from 0, with the settings of ``config``."""
        settings = config.services.extproc
        return cls(
            route,
            host=settings.host,
            port=settings.port + index,
            max_body_bytes=config.router.max_body_bytes,
            tls=settings.tls,
            health_port=settings.health_port + index if settings.health_port is not None else None,
            join_gateway=config.services.observability.tracing.enabled,
            waits=metrics.waited.set,
        )

    @property
    def port(self) -> int:
        """The port in use, once started."""
        return self._port

    @property
    def open_streams(self) -> int:
        """Requests in progress here: from their headers to the headers of their responses."""
        return self._open

    async def start(self) -> None:
        """Listen, and report SERVING.

        Raises:
            RuntimeError: the address cannot be bound, or the TLS files cannot be used.
        """
        limit = self._max_body_bytes + _MESSAGE_MARGIN
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                # Two processes on one port would share nothing: all of Envoy's streams go to one of them.
                ("grpc.so_reuseport", 0),
            )
        )
        # No deserializer: the router itself aborts on a message that it cannot read.
        process = grpc.stream_stream_rpc_method_handler(self._process)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": process}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"{self._host}:{self._port}"
        if self._tls is None:
            self._port = self._server.add_insecure_port(address)
        else:
            self._port = self._server.add_secure_port(address, server_credentials(self._tls))
        await self._listen_to_itself()
        await self._server.start()
        if self._health_port is not None:
            self._health_server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._health_server)
            self._health_server.add_insecure_port(f"{self._host}:{self._health_port}")
            await self._health_server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)

    async def _listen_to_itself(self) -> None:
        """Listen on a second address for :class:`Backlog` alone, without TLS, in a directory that only we can enter.

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
        measuring = asyncio.create_task(self._backlog.run())
        self._resources.callback(measuring.cancel)

    async def _call_itself(self) -> None:
        await self._itself.Check(health_pb2.HealthCheckRequest())

    async def drain(self, seconds: float) -> None:
        """Report NOT_SERVING, take no new streams, give open ones ``seconds`` to end, then stop."""
        await self._health.enter_graceful_shutdown()
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        # Health watchers never end by themselves. Only once: a second call during the first crashes the process.
        await self._resources.aclose()
        await self._server.stop(min(seconds, _LAST_CALL))
        if self._health_server is not None:
            await self._health_server.stop(0)

    async def _process(self, _: Any, context: Any) -> None:
        if self._draining:
            # On this status Envoy tries another worker.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        self._open += 1
        self._taken += 1
        self._idle.clear()
        try:
            reason = await self._converse(context)
        except Exception as error:
            log.error("ext_proc stream failed: %s", _place(error))
            reason = "the router failed"
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()
        if reason is not None:
            await context.abort(grpc.StatusCode.INTERNAL, reason)

    async def _converse(self, context: Any) -> str | None:
        """Run one stream. Returns the reason for an abort, or ``None``."""
        exchange = Exchange(max_body_bytes=self._max_body_bytes)
        observer: Observer | None = None
        spoken = False
        try:
            while not exchange.closed:
                data = await context.read()
                event: Event = InputEnded() if data is grpc.aio.EOF else messages.decode(data)
                if observer is not None:
                    event = _observed(observer, event)
                command = exchange.receive(event)
                if isinstance(command, Route):
                    command, observer = await self._decided(exchange, command.request, context)
                if isinstance(command, Finish):
                    break
                if isinstance(command, Abort):
                    log.warning("ext_proc stream aborted: %s", command.reason)
                    return command.reason
                encoded = messages.encode(command)
                # The first message brings the call's headers, so the status must not overtake it.
                last = encoded.pop() if exchange.closed and (spoken or len(encoded) > 1) else None
                while encoded:
                    await context.write(encoded.pop(0))
                    spoken = True
                if last is not None:
                    await self._write_last(context, last)
                # The backend may think for minutes, with a long conversation in each of these.
                del data, event, command
            return None
        finally:
            if observer is not None:
                observer.on_end()

    async def _decided(self, exchange: Exchange, request: Request, context: Any) -> tuple[Command, Observer | None]:
        """What becomes of ``request``, and who wants to hear of the answer to it."""
        outcome = await self._outcome(_joined(request, context) if self._join_gateway else request)
        return exchange.receive(Routed(outcome)), outcome.observer if isinstance(outcome, Forward) else None

    async def _write_last(self, context: Any, message: bytes) -> None:
        """Begin to write what ends a stream, so that the status goes out right behind it.

        Envoy resets a stream as soon as it has all it needs. gRPC's own part in Python loses some memory for each that
        is reset while a write or a status is still waited for (grpc/grpc#43360, seen with 1.85): 80 bytes an operation,
        and it was so for every second stream.
        """
        writing = asyncio.create_task(context.write(message))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        await asyncio.sleep(0)

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            # Envoy may be gone by now, which is nobody's mistake.
            writing.exception()

    async def _outcome(self, request: Request) -> Outcome:
        try:
            return await self._route(replace(request, waited=self._backlog.seconds))
        except Exception as error:
            failure: BaseException = error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failure = error  # something inside was cancelled; the client is still there
        log.error(
            "routing failed: %s; %s, request %s",
            _place(failure), request.path.partition("?")[0], request.headers.get(REQUEST_ID, "-"),
        )  # fmt: skip
        message = "The router failed to handle this request."
        return Reply(500, refusal_body(request.path, 500, message, code="router_error"))


def _observed(observer: Observer, event: Event) -> Event:
    """Tell ``observer`` of an answer's part; its wish to see the body goes into the event."""
    match event:
        case ResponseHeaders():
            watched = observer.on_headers(event.status, dict(event.headers))
            return replace(event, watched=watched, shortened=observer.shortens)
        case ResponseBody():
            event = replace(event, replaced=observer.on_body(event.body, last=event.end_of_stream))
            if event.end_of_stream:
                observer.on_complete()
        case ResponseTrailers():
            observer.on_complete()
    return event


def _joined(request: Request, context: Any) -> Request:
    """``request`` as a part of the span that Envoy has opened for this call, if it has."""
    metadata = dict(context.invocation_metadata())
    if TRACEPARENT not in metadata:
        return request
    ours = {name: metadata[name] for name in (TRACEPARENT, TRACESTATE) if name in metadata}
    return replace(request, headers={**request.headers, **ours})


def _place(error: BaseException) -> str:
    """Return the exception's type and where it was raised. Its text stays out of logs: it may quote a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + where
