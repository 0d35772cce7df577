"""gRPC's server side on asyncio: calls of any kind, whose messages are bytes (grpc.io, PROTOCOL-HTTP2).

A loop's round is one write: what handlers send while they are at it leaves together, the last message with its status.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from time import monotonic
from urllib.parse import quote

from triton_router.http2.connection import Connection
from triton_router.http2.endpoint import Endpoint
from triton_router.http2.frames import (
    ConnectionEnded,
    DataReceived,
    ErrorCode,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    literal,
)

log = logging.getLogger(__name__)

# Says that no table of headers is used, which a peer that offers none wants to hear.
_NO_TABLE = b"\x20"
# `:status` 200 is a field of HPACK's static table.
_RESPONSE = _NO_TABLE + b"\x88" + literal(b"content-type", b"application/grpc")
_OK = literal(b"grpc-status", b"0")
_UNSUPPORTED_MEDIA = _NO_TABLE + literal(b":status", b"415")
# Bytes of one stream that may wait for the peer before its handler does.
_HIGH_WATER = 1024 * 1024
_BACKLOG = 1024


class Status(IntEnum):
    """gRPC's status codes, as far as a server of ours ends calls with them."""

    OK = 0
    UNKNOWN = 2
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Aborted(Exception):
    """Ends a handler whose call was aborted."""


class MessageRefused(Exception):
    """The client's message is not taken in; what has come of it was given up."""


class Call:
    """One call, as its handler sees it. ``metadata`` are the request's headers.

    ``late`` says for how many seconds the message that was read last had been here. ``admit`` is asked with the length
    of a message, of which only the beginning is here, whether the rest may come.

    It has 14 attributes: what has come, what is known of it, and what its handler left here.
    """

    __slots__ = (
        "_admitted",
        "_buffer",
        "_ended",
        "_messages",
        "_number",
        "_peer",
        "_refused",
        "_started",
        "_unread",
        "_waiting",
        "admit",
        "late",
        "metadata",
        "task",
    )

    def __init__(self, peer: _Peer, number: int, headers: Mapping[str, str]) -> None:
        self.metadata = headers
        self.task: asyncio.Task[None] | None = None
        self._peer, self._number = peer, number
        self._buffer = bytearray()
        self._messages: deque[tuple[bytes, int, float]] = deque()
        self.late = 0.0
        self.admit: Callable[[int], bool] = lambda length: True
        self._admitted = self._refused = False
        self._unread = 0
        self._waiting: asyncio.Future[None] | None = None
        self._ended = self._started = False

    async def read(self) -> bytes | None:
        """The next message; ``None`` once the client has sent its last one.

        Raises:
            MessageRefused: ``admit`` says that it must not come.
        """
        while not self._messages:
            if self._refused:
                raise MessageRefused
            if self._ended:
                return None
            self._waiting = self._peer.future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        message, size, arrival = self._messages.popleft()
        self.late = monotonic() - arrival
        self._peer.acknowledge(self._number, size)
        return message

    async def write(self, message: bytes) -> None:
        """Send one message; waits only for a client that does not keep up."""
        self._peer.send(self._number, message, first=not self._started)
        self._started = True
        await self._peer.keep_pace(self._number)

    async def write_last(self, message: bytes) -> None:
        """Send the last message. The status leaves with it."""
        self._peer.send(self._number, message, first=not self._started)
        self._started = True

    async def abort(self, status: Status, details: str) -> None:
        """End the call with an error.

        Raises:
            Aborted: always.
        """
        self.finish(status, details)
        raise Aborted(details)

    def finish(self, status: Status = Status.OK, details: str = "") -> None:
        """End the call. Whoever does it again changes nothing."""
        self._peer.finish(self._number, status, details, started=self._started)

    def receive(self, data: bytes, size: int, limit: int) -> None:
        """Take up a piece of the client's half. A compressed message, or one over ``limit`` bytes, ends the call."""
        if self._refused:
            return self._peer.acknowledge(self._number, size)
        self._unread += size
        if not self._buffer and data[:1] == b"\0" and len(data) == 5 + int.from_bytes(data[1:5], "big") <= limit:
            # One frame, one message: how nearly all come.
            self._messages.append((data[5:], self._unread, monotonic()))
            self._unread = 0
            return self._wake()
        self._buffer += data
        while len(self._buffer) >= 5:
            length = int.from_bytes(self._buffer[1:5], "big")
            if self._buffer[0]:
                return self._refuse(Status.UNIMPLEMENTED, "compressed messages are not read")
            if length > limit:
                return self._refuse(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes, over {limit}")
            if len(self._buffer) < 5 + length:
                self._admitted = self._admitted or self.admit(length)
                if not self._admitted:
                    self._refused = True
                    self._buffer.clear()
                break
            with memoryview(self._buffer) as whole:
                self._messages.append((bytes(whole[5 : 5 + length]), self._unread, monotonic()))
            self._unread, self._admitted = 0, False
            del self._buffer[: 5 + length]
        if self._unread and not self._messages:
            # The rest of a message may be larger than the window.
            self._peer.acknowledge(self._number, self._unread)
            self._unread = 0
        self._wake()
        return None

    def end(self) -> None:
        """The client sends nothing more."""
        if self._buffer:
            return self._refuse(Status.INTERNAL, "the last message is cut short")
        self._ended = True
        self._wake()
        return None

    def _refuse(self, status: Status, details: str) -> None:
        self.finish(status, details)
        if self.task is not None:
            self.task.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


Handler = Callable[[Call], Awaitable[None]]


class GrpcServer:
    """Serve ``methods``, by path (``/package.Service/Method``), to clients of HTTP/2.

    ``max_message`` is in bytes. ``max_streams`` may be open at once on one connection. A call whose client has gone
    counts until its handler has ended.
    """

    def __init__(self, methods: Mapping[str, Handler], *, max_message: int, max_streams: int = 1_000) -> None:
        self.methods = methods
        self.max_message = max_message
        self.max_streams = max_streams
        self.peers: set[_Peer] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Accept connections on ``listener`` (:func:`bind`), and close it in the end."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), sock=listener, ssl=context, backlog=_BACKLOG)

    def leave(self) -> None:
        """Accept nothing new: no connection, and no call on the connections that are open."""
        if self._server is not None:
            self._server.close()
        for peer in self.peers:
            peer.leave()

    async def close(self) -> None:
        """End everything now. Handlers are cancelled; what was sent already leaves, and the status behind it."""
        self.leave()
        tasks = [call.task for peer in self.peers for call in peer.calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in list(self.peers):
            peer.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Two processes on one port would share nothing: a gateway's streams all go to one of them.

    Raises:
        OSError: the address cannot be bound.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class _Peer(Endpoint):
    """One client's connection: bytes to events, events to calls.

    It has more methods than other classes here: asyncio's, and those by which calls send.
    """

    def __init__(self, server: GrpcServer) -> None:
        super().__init__(Connection(max_streams=server.max_streams))
        self._server = server
        self._writable = asyncio.Event()
        self._writable.set()
        self._moved: asyncio.Event | None = None
        self.calls: dict[int, Call] = {}
        self._running = 0

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            transport.abort()
            return
        self._server.peers.add(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        for event in self._connection.receive(data):
            self._dispatch(event)
        if self._moved is not None:
            self._moved.set()
        # Behind the handlers that were just woken: what they send leaves in the same write.
        self._flush_soon()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.peers.discard(self)
        self._transport = None
        self._resume()
        for call in list(self.calls.values()):
            self._gone(call)
        self.calls.clear()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._resume()

    def _resume(self) -> None:
        self._writable.set()
        if self._moved is not None:
            self._moved.set()

    # --- events ----------------------------------------------------------------------------------------------------

    def _dispatch(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case DataReceived():
                call = self.calls.get(event.stream)
                if call is None:
                    self._connection.acknowledge(event.stream, event.size)
                    return
                call.receive(event.data, event.size, self._server.max_message)
                if event.ended:
                    call.end()
            case StreamEnded():
                if (call := self.calls.get(event.stream)) is not None:
                    call.end()
            case StreamReset():
                if (call := self.calls.pop(event.stream, None)) is not None:
                    self._gone(call)
            case ConnectionEnded():
                log.warning("a connection was ended: %s", event.reason)
                self.close()

    def _begin(self, event: RequestReceived) -> None:
        headers = dict(event.headers)
        call = Call(self, event.stream, headers)
        handler = self._server.methods.get(headers[":path"])
        if headers[":method"] != "POST" or not headers.get("content-type", "").startswith("application/grpc"):
            self._connection.send_headers(event.stream, _UNSUPPORTED_MEDIA, ended=True)
        elif handler is None:
            call.finish(Status.UNIMPLEMENTED, "no such method")
        elif self._running >= 2 * self._server.max_streams:
            # A client that resets its calls as fast as it makes them must not pile up handlers.
            self._connection.reset(event.stream, ErrorCode.REFUSED_STREAM)
        else:
            self.calls[event.stream] = call
            if event.ended:
                call.end()
            self._running += 1
            call.task = self._loop.create_task(self._run(handler, call, event.stream))

    async def _run(self, handler: Handler, call: Call, number: int) -> None:
        try:
            await handler(call)
            call.finish()
        except Aborted:
            pass
        except asyncio.CancelledError:
            call.finish(Status.UNAVAILABLE, "the server stops")
            raise
        except Exception as error:
            log.error("a call failed: %s", type(error).__name__)
            call.finish(Status.UNKNOWN, "the handler failed")
        finally:
            self._running -= 1
            self.calls.pop(number, None)

    @staticmethod
    def _gone(call: Call) -> None:
        if call.task is not None:
            call.task.cancel()

    # --- what calls do ---------------------------------------------------------------------------------------------

    def future(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    def acknowledge(self, number: int, size: int) -> None:
        self._connection.acknowledge(number, size)
        self._flush_soon()

    def send(self, number: int, message: bytes, *, first: bool) -> None:
        if first:
            self._connection.send_headers(number, _RESPONSE)
        self._connection.send_data(number, b"\x00" + len(message).to_bytes(4, "big") + message)
        self._flush_soon()

    def finish(self, number: int, status: Status, details: str, *, started: bool) -> None:
        trailers = _OK if status is Status.OK else literal(b"grpc-status", str(int(status)).encode())
        if details:
            trailers += literal(b"grpc-message", quote(details, safe=" !#$&'()*+,/:;=?@[]").encode())
        if started:
            self._connection.send_trailers(number, _NO_TABLE + trailers)
        else:
            self._connection.send_headers(number, _RESPONSE + trailers, ended=True)
        self._flush_soon()

    async def keep_pace(self, number: int) -> None:
        while self._transport is not None and (
            not self._writable.is_set() or self._connection.unsent(number) > _HIGH_WATER
        ):
            self._moved = self._moved or asyncio.Event()
            self._moved.clear()
            await self._moved.wait()

    def leave(self) -> None:
        self._connection.leave()
        self._flush()

    def close(self) -> None:
        for call in list(self.calls.values()):
            self._gone(call)
        super().close()
