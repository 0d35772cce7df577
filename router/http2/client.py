"""gRPC's client side on asyncio, for unary calls: the same connection, opened by us (:mod:`.connection`)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from triton_router.http2.connection import CONNECTION_WINDOW, STREAM_WINDOW, Connection, Stream
from triton_router.http2.endpoint import Endpoint
from triton_router.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW,
    PREFACE,
    SETTINGS,
    ConnectionEnded,
    ConnectionFailure,
    DataReceived,
    ErrorCode,
    Event,
    HeadersReceived,
    StreamReset,
    frame,
    literal,
    window_update,
)

log = logging.getLogger(__name__)

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _WINDOW = 1, 2, 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_CONNECT_WITHIN = 2.0
# The largest number of a stream that a client may open.
LAST_STREAM = 2**31 - 1
# Seconds for which the addresses behind a name are believed.
_RESOLVED_FOR = 1.0


class CallFailed(Exception):
    """A call that brought no message. ``code`` is gRPC's name of the status."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


class ClientConnection(Connection):
    """The client's side: it opens streams, and the peer answers on them."""

    def __init__(self) -> None:
        super().__init__()
        settings = {_HEADER_TABLE_SIZE: 0, _ENABLE_PUSH: 0, _WINDOW: STREAM_WINDOW}
        packed = b"".join(struct.pack(">HI", name, value) for name, value in settings.items())
        first = frame(SETTINGS, 0, 0, packed)
        self._outgoing = [PREFACE, first, window_update(0, CONNECTION_WINDOW - INITIAL_WINDOW)]
        # The connection takes no new streams.
        self.closing = False

    def request(self, block: bytes, body: bytes) -> int:
        """Open a stream with a whole request; returns its number."""
        number = self._last_stream + (1 if self._last_stream == 0 else 2)
        self._last_stream = number
        # Numbers are never used twice; section 5.1.1.
        self.closing = self.closing or number >= LAST_STREAM
        stream = self._streams[number] = Stream(self._peer_window)
        self._outgoing.append(frame(HEADERS, END_HEADERS, number, block))
        stream.unsent.append(body)
        stream.trailers = b""
        self._pump(number)
        return number

    def _finish(self, number: int, stream: Stream, block: bytes) -> None:
        # A request has no trailers: its last frame is an empty one of data.
        stream.trailers = None
        self._outgoing.append(frame(DATA, END_STREAM, number))

    def _greet(self, data: bytes) -> int | None:
        if len(data) < 9:
            return None
        if data[3] != SETTINGS:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        return 0

    def _peer_leaves(self, payload: bytes, events: list[Event]) -> None:
        self.closing = True
        last = int.from_bytes(payload[:4], "big")
        for number in [number for number in self._streams if number > last]:
            del self._streams[number]
            events.append(StreamReset(number, ErrorCode.REFUSED_STREAM))

    def _block(self, flags: int, number: int, block: bytes, events: list[Event]) -> None:
        headers, _ = self._decoded(block)
        if number not in self._streams:
            self._check_known(number, "HEADERS")
            return
        ended = bool(flags & END_STREAM)
        events.append(HeadersReceived(number, headers, ended))
        if ended:
            self._streams.pop(number)


class _Unary:
    """A call in progress."""

    __slots__ = ("body", "future", "headers")

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    def fail(self, code: str, details: str) -> None:
        if not self.future.done():
            self.future.set_exception(CallFailed(code, details))

    def finish(self) -> None:
        """The trailers are here: a message, or what became of the call."""
        if self.future.done():
            return
        status = self.headers.get("grpc-status", "")
        if status != "0":
            code = _CODES.get(status, "UNKNOWN")
            self.fail(code if status else "UNAVAILABLE", unquote(self.headers.get("grpc-message", "no status")))
        elif len(self.body) < 5 or self.body[0] or len(self.body) != 5 + int.from_bytes(self.body[1:5], "big"):
            self.fail("INTERNAL", "the response is not one message")
        else:
            self.future.set_result(bytes(self.body[5:]))


_CODES = {
    "1": "CANCELLED", "2": "UNKNOWN", "3": "INVALID_ARGUMENT", "4": "DEADLINE_EXCEEDED", "5": "NOT_FOUND",
    "7": "PERMISSION_DENIED", "8": "RESOURCE_EXHAUSTED", "12": "UNIMPLEMENTED", "13": "INTERNAL", "14": "UNAVAILABLE",
}  # fmt: skip


class _Link(Endpoint):
    """A connection to one address. It ends by itself; :class:`GrpcChannel` opens another."""

    def __init__(self) -> None:
        self.connection = ClientConnection()
        super().__init__(self.connection)
        self.calls: dict[int, _Unary] = {}

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self.connection.closing

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive(data):
            match event:
                case HeadersReceived() if (call := self.calls.get(event.stream)) is not None:
                    call.headers.update(event.headers)
                    if event.ended:
                        del self.calls[event.stream]
                        call.finish()
                case DataReceived():
                    self.connection.acknowledge(event.stream, event.size)
                    if (call := self.calls.get(event.stream)) is not None:
                        call.body += event.data
                        if event.ended:
                            self.cancel(event.stream)
                            call.finish()
                case StreamReset() if (call := self.calls.pop(event.stream, None)) is not None:
                    call.fail("UNAVAILABLE", f"the stream was reset ({event.code})")
                case ConnectionEnded():
                    log.warning("a connection was ended: %s", event.reason)
                    self.close()
        self._flush()
        if self.connection.closing and not self.calls:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        for call in self.calls.values():
            call.fail("UNAVAILABLE", f"the connection was lost: {error or 'closed by the peer'}")
        self.calls.clear()

    def call(self, block: bytes, body: bytes) -> tuple[int, asyncio.Future[bytes]]:
        future: asyncio.Future[bytes] = self._loop.create_future()
        number = self.connection.request(block, body)
        self.calls[number] = _Unary(future)
        self._flush_soon()
        return number, future

    def cancel(self, number: int) -> None:
        if self.calls.pop(number, None) is not None:
            self.connection.reset(number, ErrorCode.CANCEL)
            self._flush_soon()


class GrpcChannel:
    """Unary calls to ``target`` (``host:port``), over one connection to each address behind the name, in turn.

    A connection that is lost is opened again by the next call; after a refusal calls fail at once for 0.1 s, then
    twice as long, up to a second.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._links: dict[tuple[str, int], _Link] = {}
        self._turn = itertools.count()
        self._resolved, self._addresses = 0.0, list[tuple[str, int]]()
        self._pauses: dict[tuple[str, int], tuple[float, float]] = {}  # until when, how long
        self._opening: dict[tuple[str, int], asyncio.Task[_Link]] = {}

    def unary(self, path: str) -> Callable[[bytes, float], Awaitable[bytes]]:
        """The method at ``path``: takes a message and a timeout in seconds, returns a message.

        Raises:
            CallFailed: by its ``code``.
        """
        authority = literal(b":authority", self._target.encode())
        # First: no table of headers is used, which a peer that offers none wants to hear. Then POST and http.
        block = b"\x20\x83\x86" + literal(b":path", path.encode()) + authority
        block += literal(b"te", b"trailers") + literal(b"content-type", b"application/grpc")

        async def call(message: bytes, seconds: float) -> bytes:
            loop = asyncio.get_running_loop()
            until = loop.time() + seconds
            link = self._usable()
            if link is None:
                try:
                    async with asyncio.timeout(seconds):
                        link = await self._connected()
                except TimeoutError:
                    raise CallFailed("DEADLINE_EXCEEDED", f"no connection to {self._target} in {seconds:g} s") from None
                if not link.usable:  # it ended while this call waited for its turn
                    raise CallFailed("UNAVAILABLE", f"{self._target} closed the connection")
            number, future = link.call(block, b"\x00" + len(message).to_bytes(4, "big") + message)
            timer = loop.call_later(until - loop.time(), _expire, link, number, future, seconds)
            try:
                return await future
            finally:
                timer.cancel()
                link.cancel(number)

        return call

    async def close(self) -> None:
        """End all connections."""
        for task in self._opening.values():
            task.cancel()
        for link in self._links.values():
            link.close()

    async def addresses(self) -> list[tuple[str, int]]:
        """Those behind the name; a second old at most.

        Raises:
            CallFailed: nothing resolves it.
        """
        loop = asyncio.get_running_loop()
        if self._addresses and loop.time() - self._resolved < _RESOLVED_FOR:
            return self._addresses
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in self._host else socket.AF_INET, self._host)
        except OSError:
            try:
                answers = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except OSError as error:
                raise CallFailed("UNAVAILABLE", f"{self._target}: {error}") from error
            self._addresses = sorted({(str(each[4][0]), self._port) for each in answers})
        else:
            self._addresses = [(self._host, self._port)]
        self._resolved = loop.time()
        return self._addresses

    def _usable(self) -> _Link | None:
        """The open connection whose turn it is, if that to its address is open."""
        if not self._addresses or asyncio.get_running_loop().time() - self._resolved >= _RESOLVED_FOR:
            return None
        link = self._links.get(self._addresses[next(self._turn) % len(self._addresses)])
        return link if link is not None and link.usable else None

    async def _connected(self) -> _Link:
        """A connection to the address whose turn it is, or to the next one that can be reached."""
        addresses = await self.addresses()
        turn = next(self._turn)
        failure: Exception | None = None
        for offset in range(len(addresses)):
            address = addresses[(turn + offset) % len(addresses)]
            link = self._links.get(address)
            if link is not None and link.usable:
                return link
            try:
                return await self._open(address)
            except OSError as error:
                failure = error
        raise CallFailed("UNAVAILABLE", f"{self._target}: {failure or 'no address'}")

    async def _open(self, address: tuple[str, int]) -> _Link:
        loop = asyncio.get_running_loop()
        until, pause = self._pauses.get(address, (0.0, 0.0))
        if loop.time() < until:
            raise ConnectionRefusedError(f"{address[0]}:{address[1]} did not answer a moment ago")
        task = self._opening.get(address)
        if task is None:
            task = self._opening[address] = loop.create_task(self._connect(address))
        try:
            # Others wait for the same connection; one that gives up must not end it.
            link = await asyncio.shield(task)
        except OSError:
            longer = min(_LONGEST_PAUSE, 2 * pause or _FIRST_PAUSE)
            self._pauses[address] = loop.time() + longer, longer
            raise
        finally:
            if task.done():
                self._opening.pop(address, None)
        self._pauses.pop(address, None)
        return link

    async def _connect(self, address: tuple[str, int]) -> _Link:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_WITHIN):
            _, link = await loop.create_connection(_Link, *address)
        self._links[address] = link
        return link


def _expire(link: _Link, number: int, future: asyncio.Future[bytes], seconds: float) -> None:
    if not future.done():
        future.set_exception(CallFailed("DEADLINE_EXCEEDED", f"no response in {seconds:g} s"))
    link.cancel(number)
