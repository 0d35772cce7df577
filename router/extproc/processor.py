"""Envoy's streams, whatever carries them: messages to events, the router's decision, commands to messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from triton_router.errors import refusal_body
from triton_router.exchange import Forward, Observer, Outcome, Reply, Request
from triton_router.extproc import messages
from triton_router.extproc.budget import Budget, Share
from triton_router.extproc.commands import Abort, Command, Finish, Route
from triton_router.extproc.events import (
    Event,
    InputEnded,
    NoRoom,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Routed,
)
from triton_router.extproc.phases import Exchange
from triton_router.http2.grpc import MessageRefused, Status
from triton_router.names import FALLS_BACK, REQUEST_ID, TRACEPARENT, TRACESTATE
from triton_router.telemetry import RateLimitedLog

log = logging.getLogger(__name__)

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


class Call(Protocol):
    """A gRPC call with bytes for messages. ``metadata`` holds the caller's headers.

    ``late`` says for how many seconds the message that was read last had been here, as far as that is known. A wire
    that can asks ``admit`` whether so many bytes of a message may come.
    """

    late: float
    admit: Callable[[int], bool]

    @property
    def metadata(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes | None:
        """The next message; ``None`` after the last. Raises ``MessageRefused`` where ``admit`` says no."""

    async def write(self, message: bytes) -> None:
        """Send a message."""

    async def write_last(self, message: bytes) -> None:
        """Send the last message; the status may leave with it."""

    async def abort(self, status: Status, details: str) -> None:
        """End the call with an error; never returns."""


class Processor:
    """Serve the calls of Envoy's filter: ``serve`` is the handler of each.

    ``route`` is called once a request; an exception of its becomes a 500 in the API's shape. ``waited`` says for how
    many seconds requests wait at the moment. ``budget`` bounds the bodies that are held together. ``join_gateway``
    makes an Envoy that traces the caller of the trace.
    """

    def __init__(
        self,
        route: Callable[[Request], Awaitable[Outcome]],
        *,
        max_body_bytes: int,
        join_gateway: bool,
        waited: Callable[[], float],
        budget: Budget,
    ) -> None:
        self._route = route
        self._max_body_bytes = max_body_bytes
        self._join_gateway = join_gateway
        self._waited = waited
        self._budget = budget
        self._bad_streams = RateLimitedLog(log, "ext_proc stream without an end")
        self._not_routed = RateLimitedLog(log, "routing failed")
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        # Requests in progress, from their headers to the headers of their responses; and those that ever were.
        self.open = self.count = 0
        # The longest wait of a request since somebody looked.
        self.longest_wait = 0.0

    async def drained(self) -> None:
        """Refuse what comes from now on, and return once nothing is in progress."""
        self._draining = True
        await self._idle.wait()

    async def serve(self, call: Call) -> None:
        """One call: one HTTP request of Envoy's."""
        if self._draining:
            # On this status Envoy tries another worker. A client that is still writing might not see it.
            await call.read()
            await call.abort(Status.UNAVAILABLE, "draining")
        self.open += 1
        self.count += 1
        self._idle.clear()
        try:
            reason = await self._converse(call)
        except Exception as error:
            self._bad_streams.warn(_place(error))
            reason = "the router failed"
        finally:
            self.open -= 1
            if not self.open:
                self._idle.set()
        if reason is not None:
            await call.abort(Status.INTERNAL, reason)

    async def _converse(self, call: Call) -> str | None:
        """Run one stream. Returns the reason for an abort, or ``None``."""
        share = Share(self._budget)
        falls_back = FALLS_BACK in call.metadata
        exchange = Exchange(max_body_bytes=self._max_body_bytes, admit=share.grow, falls_back=falls_back)
        observer: Observer | None = None
        spoken = routed = False
        # Before the whole of it has come: many large bodies together are more than all that may be held.
        call.admit = lambda size: routed or share.held or share.grow(size)
        try:
            while not exchange.closed:
                event = await _next(call)
                if isinstance(event, ResponseHeaders):
                    share.release()
                if observer is not None:
                    if isinstance(event, ResponseBody) and observer.checks:
                        await observer.check(event.body, last=event.end_of_stream)
                    event = _observed(observer, event)
                command = exchange.receive(event)
                if isinstance(command, Route):
                    routed = True
                    command, observer = await self._decided(exchange, command.request, call)
                if isinstance(command, Finish):
                    break
                if isinstance(command, Abort):
                    self._bad_streams.warn(command.reason)
                    return command.reason
                encoded = messages.encode(command)
                # The backend may think for minutes, with a long conversation in each of these.
                del event, command
                # The first message brings the call's headers, so the status must not overtake it.
                last = encoded.pop() if exchange.closed and (spoken or len(encoded) > 1) else None
                while encoded:
                    await call.write(encoded.pop(0))
                    spoken = True
                if last is not None:
                    await call.write_last(last)
                del last
                if routed:
                    share.forward()
            return None
        finally:
            share.release()
            if observer is not None:
                observer.on_end()

    async def _decided(self, exchange: Exchange, request: Request, call: Call) -> tuple[Command, Observer | None]:
        """The outcome of ``request`` as a command, and the observer of its response."""
        self.longest_wait = max(self.longest_wait, call.late)
        request.waited, request.falls_back = max(call.late, self._waited()), FALLS_BACK in call.metadata
        outcome = await self._outcome(_joined(request, call.metadata) if self._join_gateway else request)
        command = exchange.receive(Routed(outcome))
        observer = outcome.observer if isinstance(outcome, Forward) else None
        if observer is not None:
            observer.on_sent()
        return command, observer

    async def _outcome(self, request: Request) -> Outcome:
        try:
            return await self._route(request)
        except Exception as error:
            place = _place(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            place = _place(error)  # something inside was cancelled; the client is still there
        path, number = request.path.partition("?")[0], request.headers.get(REQUEST_ID, "-")
        self._not_routed.warn(f"{place}; {path}, request {number}")
        message = "The router failed to handle this request."
        return Reply(500, refusal_body(request.path, 500, message, code="router_error"))


async def _next(call: Call) -> Event:
    try:
        data = await call.read()
    except MessageRefused:
        return NoRoom()
    return InputEnded() if data is None else messages.decode(data)


def _observed(observer: Observer, event: Event) -> Event:
    """Pass a part of the response to ``observer``; the event then carries its wish to see the body."""
    match event:
        case ResponseHeaders():
            watched = observer.on_headers(event.status, dict(event.headers))
            # A copy with two more fields; `dataclasses.replace` takes four times as long.
            return ResponseHeaders(
                event.status, event.headers, event.end_of_stream, watched, observer.shortens, event.body_mode
            )
        case ResponseBody():
            replaced = observer.on_body(event.body, last=event.end_of_stream)
            if event.end_of_stream:
                observer.on_complete()
            if replaced is not None:
                return replace(event, replaced=replaced)
        case ResponseTrailers():
            observer.on_complete()
    return event


def _joined(request: Request, metadata: Mapping[str, str]) -> Request:
    """``request`` as a part of the span that Envoy has opened for this call, if it has."""
    if TRACEPARENT not in metadata:
        return request
    ours = {name: metadata[name] for name in (TRACEPARENT, TRACESTATE) if name in metadata}
    return replace(request, headers={**request.headers, **ours})


def _place(error: BaseException) -> str:
    """The exception's type and where it was raised. Its text stays out of logs: it may quote a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + where
