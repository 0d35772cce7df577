"""Random HTTP/2 frames against the server's side of a connection: no exception, no more streams or memory than allowed.

`make fuzz` sends a million frames, the ordinary suite some ten thousand.
"""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from hypothesis import settings

from triton_router.http2.connection import Connection
from triton_router.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionEnded,
    DataReceived,
    RequestReceived,
    frame,
    literal,
)

FRAMES = settings().max_examples * 230
STREAMS = 50
LARGEST_RESPONSE = 70_000
REQUEST = b"\x20\x83\x86" + b"".join(
    literal(name, value)
    for name, value in (
        (b":path", b"/a/B"), (b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    )
)  # fmt: skip
VALUES = (0, 1, 100, 16_384, 65_535, 2**31 - 1, 2**31)


class Peer:
    """A client of which a share ``sane`` of the frames is what a client sends, and the others anything."""

    def __init__(self, draw: random.Random, sane: float) -> None:
        self._draw, self._sane = draw, sane
        self._next = 1

    def start(self) -> Connection:
        self._next = 1
        connection = Connection(max_streams=STREAMS)
        connection.receive(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        return connection

    def frame(self) -> bytes:
        return self._usual() if self._draw.random() < self._sane else self._odd()

    def _usual(self) -> bytes:
        draw, recent = self._draw, max(self._next - 2 * self._draw.randrange(1, 4), 1)
        kind = draw.choices((HEADERS, DATA, WINDOW_UPDATE, RST_STREAM, PING), (40, 40, 10, 5, 5))[0]
        if kind == HEADERS or self._next == 1:
            self._next += 2
            return frame(HEADERS, END_HEADERS, self._next - 2, REQUEST)
        if kind == DATA:
            return frame(DATA, draw.choice((0, 0, 1)), recent, b"\0\0\0\0\x09123456789")
        if kind == WINDOW_UPDATE:
            return frame(WINDOW_UPDATE, 0, draw.choice((0, recent)), struct.pack(">I", draw.choice((1, 1000, 65_535))))
        return frame(RST_STREAM, 0, recent, b"\0\0\0\x08") if kind == RST_STREAM else frame(PING, 0, 0, b"12345678")

    def _odd(self) -> bytes:
        draw = self._draw
        kind = draw.choice((*range(10), draw.randrange(256)))
        stream = draw.choice((0, 1, self._next, max(self._next - 2 * draw.randrange(1, 60), 1), draw.randrange(2**31)))
        payload = draw.choice((REQUEST, draw.randbytes(draw.choice((0, 3, 4, 5, 8, 9, 300, 16_384)))))
        if kind == SETTINGS and draw.random() < 0.9:
            stream, payload = 0, struct.pack(">HI", draw.randrange(8), draw.choice(VALUES))
        return frame(kind, draw.choice((0, 1, 4, 5, 8, draw.randrange(256))), stream, payload)


@pytest.mark.parametrize("sane", [0.5, 0.95, 0.995])
def test_no_frames_crash_a_connection_or_fill_it(sane: float) -> None:
    draw = random.Random(sane)
    peer = Peer(draw, sane)
    connection, total, requests = peer.start(), 0, 0
    tracemalloc.start()
    try:
        while total < FRAMES:
            frames = b"".join(peer.frame() for _ in range(20))
            cut, ended = draw.randrange(len(frames)), False
            for event in [*connection.receive(frames[:cut]), *connection.receive(frames[cut:])]:
                ended = ended or isinstance(event, ConnectionEnded)
                if isinstance(event, DataReceived):
                    connection.acknowledge(event.stream, event.size)
                elif isinstance(event, RequestReceived):
                    requests += 1
                    connection.send_headers(event.stream, b"\x88")
                    connection.send_data(event.stream, draw.randbytes(draw.choice((0, 10, LARGEST_RESPONSE))))
                    connection.send_trailers(event.stream, b"\x88")
            assert connection.open_streams <= STREAMS
            assert len(connection.take()) <= (STREAMS + 20) * LARGEST_RESPONSE
            total += 20
            if ended:
                connection = peer.start()
        assert tracemalloc.get_traced_memory()[1] <= 3 * STREAMS * LARGEST_RESPONSE
    finally:
        tracemalloc.stop()
    assert requests > total / 40
