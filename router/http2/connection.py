"""The server's side of one HTTP/2 connection (RFC 9113), without I/O: bytes in, events out; calls in, bytes out.

It covers as much of the protocol as gRPC uses. The peer may compress headers by the static table alone
(``SETTINGS_HEADER_TABLE_SIZE`` 0), so a header block stands alone. Equal blocks, which is what a gateway sends, are
decoded once and then looked up.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field

from hpack import Decoder, HPACKError, OversizedHeaderListError

from triton_router.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionEnded,
    ConnectionFailure,
    DataReceived,
    ErrorCode,
    Event,
    Headers,
    RequestReceived,
    StreamEnded,
    StreamFailure,
    StreamReset,
    frame,
    goaway,
    rst,
    unpadded,
    well_formed,
    window_update,
)

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _WINDOW, _MAX_FRAME, _MAX_HEADER_LIST = 1, 2, 3, 4, 5, 6

LARGEST_WINDOW = 2**31 - 1
# What a peer may send before it hears from us: a stream's part of it, and the whole connection's.
STREAM_WINDOW = 1024 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
MAX_FRAME = 16_384
# Bytes of one header block, in the frames that it takes and decoded. Envoy sends about 200.
MAX_HEADERS = 65_536
# Equal header blocks are looked up; a peer that sends others all the time does not make us keep them.
_REMEMBERED_BLOCKS = 256
# Frames without content, and acknowledgements that wait to be sent, that one connection may cause.
_MAX_EMPTY_FRAMES = 1_000
_MAX_UNSENT_CONTROL = 1_000


@dataclass(slots=True)
class Stream:
    """One stream: its windows, and what waits to be sent on it."""

    send_window: int
    receive_window: int = STREAM_WINDOW
    unacknowledged: int = 0
    remote_closed: bool = False
    unsent: deque[bytes | memoryview] = field(default_factory=deque)
    # The block that ends the stream once what is unsent has gone.
    trailers: bytes | None = None
    empty_frames: int = 0


class Connection:
    """One connection that a client has opened. ``max_streams`` may be open at once; more are refused.

    It has more attributes and methods than other classes here, because the protocol has as much state (windows and
    settings of both directions, streams, a header block in pieces) and ten kinds of frames that change it.
    """

    def __init__(self, *, max_streams: int = 1_000) -> None:
        self._max_streams = max_streams
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        # Streams that ended here first: their peer may have sent more before it heard of that.
        self._abandoned: dict[int, None] = {}
        self._decoder = Decoder(max_header_list_size=MAX_HEADERS)
        self._blocks: dict[bytes, tuple[Headers, bool]] = {}
        self._incoming = b""
        self._greeted = self._settled = self._leaving = self._ended = False
        self._open_block: tuple[int, int, bytearray] | None = None  # stream, flags, block so far
        self._send_window, self._receive_window = INITIAL_WINDOW, CONNECTION_WINDOW
        self._peer_window, self._peer_max_frame = INITIAL_WINDOW, MAX_FRAME
        self._unacknowledged = self._empty_frames = self._control = 0
        settings = {
            _HEADER_TABLE_SIZE: 0, _MAX_STREAMS: max_streams, _WINDOW: STREAM_WINDOW, _MAX_HEADER_LIST: MAX_HEADERS,
        }  # fmt: skip
        packed = b"".join(struct.pack(">HI", name, value) for name, value in settings.items())
        self._outgoing = [frame(SETTINGS, 0, 0, packed), window_update(0, CONNECTION_WINDOW - INITIAL_WINDOW)]

    # --- what the peer sends ---------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes, in pieces of any size, mean. After ``ConnectionEnded`` nothing more does."""
        events: list[Event] = []
        if self._ended:
            return events
        data = self._incoming + data if self._incoming else data
        try:
            if not self._greeted:
                if (preface := self._greet(data)) is None:
                    self._incoming = data
                    return events
                self._greeted, data = True, data[preface:]
            position, size = 0, len(data)
            while size - position >= 9:
                head = int.from_bytes(data[position : position + 9], "big")
                length = head >> 48
                if length > MAX_FRAME:
                    raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
                if size - position < 9 + length:
                    break
                payload = data[position + 9 : position + 9 + length]
                position += 9 + length
                try:
                    self._frame(head >> 40 & 0xFF, head >> 32 & 0xFF, head & LARGEST_WINDOW, payload, events)
                except StreamFailure as failure:
                    self._fail_stream(failure, events)
            self._incoming = data[position:]
        except ConnectionFailure as failure:
            self._ended = True
            self._outgoing.append(goaway(self._last_stream, failure.code))
            events.append(ConnectionEnded(failure.code, str(failure)))
        return events

    def _greet(self, data: bytes) -> int | None:
        """The length of the preface, once that and the head of the first frame are there; section 3.4."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        if len(data) < len(PREFACE) + 9:
            return None
        if data[len(PREFACE) + 3] != SETTINGS:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        return len(PREFACE)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if self._open_block is not None and (kind != CONTINUATION or stream != self._open_block[0]):
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == DATA:
            self._data(flags, stream, payload, events)
        elif kind == HEADERS:
            self._headers(flags, stream, payload, events)
        elif kind == CONTINUATION:
            self._continuation(flags, payload, events)
        elif kind == RST_STREAM:
            self._reset(stream, payload, events)
        elif kind == WINDOW_UPDATE:
            self._grow_window(stream, payload)
        elif kind == SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == PING:
            self._ping(flags, stream, payload)
        elif kind == GOAWAY:
            if stream:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
            self._peer_leaves(payload, events)
        elif kind == PRIORITY:
            self._idle_frame()
            if stream == 0:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "PRIORITY on no stream")
            if len(payload) != 5:
                raise StreamFailure(stream, ErrorCode.FRAME_SIZE_ERROR)
            if int.from_bytes(payload[:4], "big") & LARGEST_WINDOW == stream:
                raise StreamFailure(stream, ErrorCode.PROTOCOL_ERROR)
        elif kind == PUSH_PROMISE:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "clients do not push")
        else:
            self._idle_frame()  # frames of extensions are ignored; section 4.1

    def _data(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
        stream = self._streams.get(number)
        if number in self._abandoned:
            self._return_window(size)
            return
        if stream is None or stream.remote_closed:
            self._return_window(size)
            self._check_known(number, "DATA")
            raise StreamFailure(number, ErrorCode.STREAM_CLOSED)
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._return_window(size)
            raise StreamFailure(number, ErrorCode.FLOW_CONTROL_ERROR)
        ended = bool(flags & END_STREAM)
        data = unpadded(flags, payload)
        if not data and not ended:
            stream.empty_frames += 1
            if stream.empty_frames > _MAX_EMPTY_FRAMES:
                raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many empty frames")
        stream.remote_closed = ended
        events.append(DataReceived(number, data, size, ended))

    def _headers(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if not stream & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        block = unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(block) < 5:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority that it announces")
            depends, block = int.from_bytes(block[:4], "big") & LARGEST_WINDOW, block[5:]
            if depends == stream:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
        if flags & END_HEADERS:
            self._block(flags, stream, block, events)
        else:
            self._open_block = stream, flags, bytearray(block)

    def _continuation(self, flags: int, payload: bytes, events: list[Event]) -> None:
        if self._open_block is None:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        stream, first, block = self._open_block
        if not payload and not flags & END_HEADERS:
            self._idle_frame()
        block += payload
        if len(block) > MAX_HEADERS:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & END_HEADERS:
            self._open_block = None
            self._block(first, stream, bytes(block), events)

    def _block(self, flags: int, number: int, block: bytes, events: list[Event]) -> None:
        headers, request = self._decoded(block)  # always, as it may change the decoder's state
        stream = self._streams.get(number)
        if stream is not None:
            if stream.remote_closed:
                raise StreamFailure(number, ErrorCode.STREAM_CLOSED)
            if not flags & END_STREAM or any(name.startswith(":") for name, _ in headers):
                raise StreamFailure(number, ErrorCode.PROTOCOL_ERROR)
            stream.remote_closed = True
            events.append(StreamEnded(number))
            return
        if number in self._abandoned:
            return
        if number <= self._last_stream:
            raise ConnectionFailure(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that has ended")
        self._last_stream = number
        if self._leaving or len(self._streams) >= self._max_streams:
            raise StreamFailure(number, ErrorCode.REFUSED_STREAM)
        if not request:
            raise StreamFailure(number, ErrorCode.PROTOCOL_ERROR)
        ended = bool(flags & END_STREAM)
        self._streams[number] = Stream(self._peer_window, remote_closed=ended)
        events.append(RequestReceived(number, headers, ended))

    def _decoded(self, block: bytes) -> tuple[Headers, bool]:
        """The fields of a block, and whether they are a request's."""
        decoded = self._blocks.get(block)
        if decoded is not None:
            return decoded
        try:
            fields = self._decoder.decode(block, raw=True)
            headers = tuple((bytes(name).decode(), bytes(value).decode("utf-8", "replace")) for name, value in fields)
        except OversizedHeaderListError as error:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too long") from error
        except (HPACKError, UnicodeDecodeError) as error:
            raise ConnectionFailure(ErrorCode.COMPRESSION_ERROR, "a header block cannot be decoded") from error
        # Before the peer has taken our settings, a block may depend on those before it.
        if self._settled and self._decoder.header_table_size == 0 and len(self._blocks) < _REMEMBERED_BLOCKS:
            self._blocks[block] = headers, well_formed(headers)
        return headers, well_formed(headers)

    def _reset(self, number: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has another size")
        self._check_known(number, "RST_STREAM")
        if self._streams.pop(number, None) is not None:
            events.append(StreamReset(number, int.from_bytes(payload, "big")))
        else:
            self._idle_frame()

    def _peer_leaves(self, payload: bytes, events: list[Event]) -> None:
        """GOAWAY. A client's streams go on; it closes the connection when they have ended."""

    def _grow_window(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has another size")
        increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if number == 0:
            if increment == 0:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
            self._send_window += increment
            if self._send_window > LARGEST_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
            self._pump_all()
            return
        stream = self._streams.get(number)
        if stream is None:
            self._check_known(number, "WINDOW_UPDATE")
            return
        if increment == 0:
            raise StreamFailure(number, ErrorCode.PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > LARGEST_WINDOW:
            raise StreamFailure(number, ErrorCode.FLOW_CONTROL_ERROR)
        self._pump(number)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            if not self._settled:
                self._settled = True
                self._decoder.max_allowed_table_size = 0
            else:
                self._idle_frame()
            return
        if len(payload) % 6:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has another size")
        for name, value in struct.iter_unpack(">HI", payload):
            self._setting(name, value)
        self._acknowledge_control(frame(SETTINGS, ACK, 0))
        # Not before: a larger window counts for the peer once it has read the acknowledgement.
        self._pump_all()

    def _setting(self, name: int, value: int) -> None:
        if name == _WINDOW:
            if value > LARGEST_WINDOW:
                raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
            change, self._peer_window = value - self._peer_window, value
            for stream in self._streams.values():
                stream.send_window += change
                if stream.send_window > LARGEST_WINDOW:
                    raise ConnectionFailure(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")
        elif name == _MAX_FRAME:
            if not MAX_FRAME <= value < 2**24:
                raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "a largest frame outside of the protocol's bounds")
            self._peer_max_frame = value
        elif name == _ENABLE_PUSH and value > 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "push is neither on nor off")

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFailure(ErrorCode.FRAME_SIZE_ERROR, "PING has another size")
        if not flags & ACK:
            self._acknowledge_control(frame(PING, ACK, 0, payload))

    def _acknowledge_control(self, answer: bytes) -> None:
        self._control += 1
        if self._control > _MAX_UNSENT_CONTROL:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that want an answer")
        self._outgoing.append(answer)

    def _idle_frame(self) -> None:
        """Count a frame that does nothing; real work in between lets some more pass."""
        self._empty_frames += 1
        if self._empty_frames > _MAX_EMPTY_FRAMES + 10 * self._last_stream:
            raise ConnectionFailure(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without content")

    def _check_known(self, number: int, kind: str) -> None:
        if number == 0 or number > self._last_stream or not number & 1:
            raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, f"{kind} on a stream that was never opened")

    def _fail_stream(self, failure: StreamFailure, events: list[Event]) -> None:
        self._abandon(failure.stream, failure.code)
        if self._streams.pop(failure.stream, None) is not None:
            events.append(StreamReset(failure.stream, failure.code))

    # --- what is sent to the peer ----------------------------------------------------------------------------------

    def send_headers(self, number: int, block: bytes, *, ended: bool = False) -> None:
        """Begin a response, or give all of it. ``block`` is encoded (:func:`.frames.literal`) and fits a frame."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if ended:
            self._finish(number, stream, block)
        else:
            self._outgoing.append(frame(HEADERS, END_HEADERS, number, block))

    def send_data(self, number: int, data: bytes) -> None:
        """A piece of the response; what the windows do not allow yet waits."""
        stream = self._streams.get(number)
        if stream is not None and data:
            stream.unsent.append(data)
            self._pump(number)

    def send_trailers(self, number: int, block: bytes) -> None:
        """End the response behind all of its data. The stream is forgotten once that has gone."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.trailers = block
            self._pump(number)

    def reset(self, number: int, code: ErrorCode) -> None:
        """End a stream at once."""
        if self._streams.pop(number, None) is not None:
            self._abandon(number, code)

    def acknowledge(self, number: int, size: int) -> None:
        """``size`` bytes of a stream's body were taken up: its peer may send as many more."""
        if not size:
            return
        self._return_window(size)
        stream = self._streams.get(number)
        if stream is None or stream.remote_closed:
            return
        # Most bodies are smaller than the window and need no update.
        stream.unacknowledged += size
        if stream.unacknowledged >= STREAM_WINDOW // 2:
            stream.receive_window += stream.unacknowledged
            self._outgoing.append(window_update(number, stream.unacknowledged))
            stream.unacknowledged = 0

    def leave(self) -> None:
        """Take no new streams (GOAWAY); those that are open go on."""
        if not self._leaving and not self._ended:
            self._leaving = True
            self._outgoing.append(goaway(self._last_stream, ErrorCode.NO_ERROR))

    def unsent(self, number: int) -> int:
        """Bytes of a stream that wait for its peer's windows."""
        stream = self._streams.get(number)
        return sum(map(len, stream.unsent)) if stream is not None and stream.unsent else 0

    @property
    def open_streams(self) -> int:
        """Streams of which either half is open."""
        return len(self._streams)

    def take(self) -> bytes:
        """What is to be sent now."""
        outgoing = b"".join(self._outgoing)
        self._outgoing.clear()
        self._control = 0
        return outgoing

    def _return_window(self, size: int) -> None:
        # The connection's window is large: one update for many streams.
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self._receive_window += self._unacknowledged
            self._outgoing.append(window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _pump_all(self) -> None:
        for number in [number for number, stream in self._streams.items() if stream.unsent]:
            self._pump(number)

    def _pump(self, number: int) -> None:
        stream = self._streams[number]
        while stream.unsent:
            room = min(stream.send_window, self._send_window, self._peer_max_frame)
            if room <= 0:
                return
            data = stream.unsent.popleft()
            if len(data) > room:
                # A view: a message of megabytes would be copied once a frame.
                data = memoryview(data)
                stream.unsent.appendleft(data[room:])
                data = data[:room]
            stream.send_window -= len(data)
            self._send_window -= len(data)
            self._outgoing.append(frame(DATA, 0, number, data))
        if stream.trailers is not None:
            self._finish(number, stream, stream.trailers)

    def _finish(self, number: int, stream: Stream, block: bytes) -> None:
        self._outgoing.append(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        del self._streams[number]
        if not stream.remote_closed:
            # Nothing more is read of it; section 8.1.
            self._abandon(number, ErrorCode.NO_ERROR)

    def _abandon(self, number: int, code: ErrorCode) -> None:
        self._outgoing.append(rst(number, code))
        self._abandoned[number] = None
        if len(self._abandoned) > self._max_streams:
            del self._abandoned[next(iter(self._abandoned))]
