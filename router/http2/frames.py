"""HTTP/2 frames (RFC 9113, section 4) and header fields (RFC 7541) as bytes, and what a connection says of them.

Nobody changes these events. They are not frozen, which would double the time to make one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
# A window, until settings say otherwise.
INITIAL_WINDOW = 65_535

END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

Headers = tuple[tuple[str, str], ...]


class ErrorCode(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


@dataclass(slots=True)
class RequestReceived:
    """A new stream; ``ended`` if it has no body."""

    stream: int
    headers: Headers
    ended: bool


@dataclass(slots=True)
class HeadersReceived:
    """A response's headers, or its trailers if ``ended``."""

    stream: int
    headers: Headers
    ended: bool


@dataclass(slots=True)
class DataReceived:
    """A piece of a body. ``size`` is what :meth:`Connection.acknowledge` gives back: padding counts."""

    stream: int
    data: bytes
    size: int
    ended: bool


@dataclass(slots=True)
class StreamEnded:
    """The peer's half is over, by trailers."""

    stream: int


@dataclass(slots=True)
class StreamReset:
    """The peer, or an error of its, ended the stream."""

    stream: int
    code: int


@dataclass(slots=True)
class ConnectionEnded:
    """The connection is of no use any more: send :meth:`Connection.take`, then close it."""

    code: int
    reason: str


Event = RequestReceived | HeadersReceived | DataReceived | StreamEnded | StreamReset | ConnectionEnded


class ConnectionFailure(Exception):
    """A violation that ends the connection; section 5.4.1."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamFailure(Exception):
    """A violation that ends one stream; section 5.4.2."""

    def __init__(self, stream: int, code: ErrorCode) -> None:
        super().__init__(stream, code)
        self.stream, self.code = stream, code


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame, as it goes over the wire."""
    return (len(payload) << 48 | kind << 40 | flags << 32 | stream).to_bytes(9, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field without compression; RFC 7541, section 6.2.2. Lengths of 127 and more take several bytes."""
    return b"\x00%b%b%b%b" % (_length(len(name)), name, _length(len(value)), value)


def _length(number: int) -> bytes:
    if number < 127:
        return bytes((number,))
    coded, rest = bytearray(b"\x7f"), number - 127
    while rest >= 128:
        coded.append(rest & 127 | 128)
        rest >>= 7
    coded.append(rest)
    return bytes(coded)


def rst(stream: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def goaway(last: int, code: ErrorCode) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding. Raises ``ConnectionFailure``."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailure(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def well_formed(headers: Headers) -> bool:
    """Whether these are a request's; section 8.3.1, and 8.2 for the names."""
    pseudo = [name for name, _ in headers if name.startswith(":")]
    ordered = all(name.startswith(":") for name, _ in headers[: len(pseudo)])
    known = len(set(pseudo)) == len(pseudo) and {":method", ":scheme", ":path"} <= set(pseudo) <= {
        ":method", ":scheme", ":path", ":authority",
    }  # fmt: skip
    regular = headers[len(pseudo) :]
    lower = all(name == name.lower() for name, _ in regular)
    connection = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
    allowed = all(name not in connection and (name != "te" or value == "trailers") for name, value in regular)
    return ordered and known and lower and allowed and all(value for name, value in headers if name == ":path")
