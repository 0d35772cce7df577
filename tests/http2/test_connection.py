"""One HTTP/2 connection without I/O, against hyper-h2 as its client and against whatever bytes may come."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_router.http2.connection import CONNECTION_WINDOW, MAX_HEADERS, STREAM_WINDOW, Connection
from triton_router.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionEnded,
    DataReceived,
    ErrorCode,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    frame,
    literal,
)

REQUEST = (
    b"\x83\x86"
    + literal(b":path", b"/a.B/C")
    + literal(b"te", b"trailers")
    + literal(b"content-type", b"application/grpc")
)
BEGUN = frame(HEADERS, END_HEADERS, 1, REQUEST)
OPEN = PREFACE + frame(SETTINGS, 0, 0)


def started() -> Connection:
    connection = Connection()
    assert connection.receive(OPEN) == []
    connection.take()
    return connection


def sent(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """What the connection wants to send, as (kind, flags, stream, payload)."""
    data, frames = connection.take(), []
    while data:
        length = int.from_bytes(data[:3], "big")
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return frames


class Client:
    """hyper-h2 on the other side."""

    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []

    def request(self, ended: bool = False, **extra: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "x")]
        self.h2.send_headers(stream, [*fields, *extra.items()], end_stream=ended)
        return stream

    def exchange(self, server: Connection, pieces: list[int] | None = None) -> list[Event]:
        """Give each side what the other has to say, until neither has anything."""
        events: list[Event] = []
        while True:
            outgoing, incoming = self.h2.data_to_send(), server.take()
            if not outgoing and not incoming:
                return events
            cuts = [*(pieces or []), len(outgoing)]
            for size in cuts:
                events += server.receive(outgoing[:size])
                outgoing = outgoing[size:]
            if incoming:
                self.events += self.h2.receive_data(incoming)


@given(
    bodies=st.lists(st.binary(max_size=40_000), min_size=1, max_size=5),
    replies=st.lists(st.binary(max_size=200_000), min_size=1, max_size=3),
    pieces=st.lists(st.integers(1, 50), max_size=20),
    trailers=st.booleans(),
)
@settings(max_examples=60)
def test_what_hyper_h2_sends_arrives_and_what_is_answered_comes_back(
    bodies: list[bytes], replies: list[bytes], pieces: list[int], trailers: bool
) -> None:
    server, client = Connection(), Client()
    client.exchange(server, pieces)
    for repeat in range(2):  # the second header block is one that was seen before
        stream = client.request(traceparent="00-ab-cd-01")
        received, ended = b"", False
        for event in client.exchange(server, pieces):
            assert isinstance(event, RequestReceived) and dict(event.headers)["traceparent"] == "00-ab-cd-01"
        for body in bodies:
            while body:
                room = min(client.h2.local_flow_control_window(stream), len(body), client.h2.max_outbound_frame_size)
                client.h2.send_data(stream, body[:room])
                body = body[room:]
                for event in client.exchange(server, pieces):
                    assert isinstance(event, DataReceived)
                    received += event.data
                    server.acknowledge(stream, event.size)
        if trailers:
            client.h2.send_headers(stream, [("x-end", "1")], end_stream=True)
        else:
            client.h2.end_stream(stream)
        for event in client.exchange(server, pieces):
            ended = ended or isinstance(event, StreamEnded) or (isinstance(event, DataReceived) and event.ended)
        assert received == b"".join(bodies) and ended, repeat
        client.events.clear()
        server.send_headers(stream, b"\x88" + literal(b"x-long", b"v" * 300))
        for reply in replies:
            server.send_data(stream, reply)
        server.send_trailers(stream, literal(b"grpc-status", b"0"))
        body = b""
        while True:
            client.exchange(server, pieces)
            pieces_of_body = [event for event in client.events if isinstance(event, h2.events.DataReceived)]
            if not pieces_of_body:
                break
            body += b"".join(event.data for event in pieces_of_body)
            for event in pieces_of_body:
                client.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            events = [type(event) for event in client.events]
            client.events.clear()
            if h2.events.StreamEnded in events:
                break
        assert body == b"".join(replies)
        assert server.open_streams == 0 and server.unsent(stream) == 0


def test_a_byte_at_a_time_means_the_same() -> None:
    whole = OPEN + BEGUN + frame(DATA, END_STREAM, 1, b"body")
    connection, events = Connection(), []
    for index in range(len(whole)):
        events += connection.receive(whole[index : index + 1])
    assert events == Connection().receive(whole)
    assert [type(event) for event in events] == [RequestReceived, DataReceived]


def test_padding_priority_and_continuation_are_read() -> None:
    connection = started()
    block = b"\x03" + b"\x00\x00\x00\x00\x10" + REQUEST[:5] + b"\x00" * 3
    events = connection.receive(
        frame(HEADERS, PADDED | 0x20, 1, block)
        + frame(CONTINUATION, 0, 1, REQUEST[5:9])
        + frame(CONTINUATION, 4, 1, REQUEST[9:])
    )
    (event,) = events
    assert isinstance(event, RequestReceived) and dict(event.headers)[":path"] == "/a.B/C"
    (event,) = connection.receive(frame(DATA, PADDED | END_STREAM, 1, b"\x04data" + b"\x00" * 4))
    assert event == DataReceived(1, b"data", 9, True)


def test_a_ping_and_settings_are_answered_and_extensions_ignored() -> None:
    connection = started()
    assert connection.receive(frame(PING, 0, 0, b"12345678") + frame(SETTINGS, 0, 0) + frame(0xFA, 7, 0, b"?")) == []
    assert sent(connection) == [(PING, ACK, 0, b"12345678"), (SETTINGS, ACK, 0, b"")]


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


UPGRADE = literal(b"upgrade", b"x")
RESET = frame(RST_STREAM, 0, 1, b"\0\0\0\0")
ended_stream = frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)

WRONG = {
    "not HTTP/2": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR, True),
    "no settings first": (PREFACE + frame(PING, 0, 0, b"12345678"), ErrorCode.PROTOCOL_ERROR, True),
    "a large frame": (frame(DATA, 0, 1, b"x" * 16_385), ErrorCode.FRAME_SIZE_ERROR, False),
    "data on stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR, False),
    "data on an idle stream": (frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR, False),
    "headers on an even stream": (frame(HEADERS, END_HEADERS, 2, REQUEST), ErrorCode.PROTOCOL_ERROR, False),
    "headers on stream 0": (frame(HEADERS, END_HEADERS, 0, REQUEST), ErrorCode.PROTOCOL_ERROR, False),
    "too much padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + REQUEST), ErrorCode.PROTOCOL_ERROR, False),
    "a broken block": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR, False),
    "an interrupted block": (frame(HEADERS, 0, 1, REQUEST) + frame(DATA, 0, 1), ErrorCode.PROTOCOL_ERROR, False),
    "another stream's continuation": (
        frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, END_HEADERS, 3, b""), ErrorCode.PROTOCOL_ERROR, False,
    ),
    "continuation alone": (frame(CONTINUATION, END_HEADERS, 1, REQUEST), ErrorCode.PROTOCOL_ERROR, False),
    "a reset of an idle stream": (frame(RST_STREAM, 0, 1, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR, False),
    "a reset of another size": (frame(RST_STREAM, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR, False),
    "settings on a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR, False),
    "settings of another size": (frame(SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR, False),
    "an acknowledgement with settings": (frame(SETTINGS, ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR, False),
    "a window over the bound": (setting(4, 2**31), ErrorCode.FLOW_CONTROL_ERROR, False),
    "frames under the bound": (setting(5, 16_383), ErrorCode.PROTOCOL_ERROR, False),
    "push of two": (setting(2, 2), ErrorCode.PROTOCOL_ERROR, False),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + REQUEST), ErrorCode.PROTOCOL_ERROR, False),
    "a ping on a stream": (frame(PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR, False),
    "a ping of another size": (frame(PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR, False),
    "goaway on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), ErrorCode.PROTOCOL_ERROR, False),
    "a window that grows by nothing": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR, False),
    "a window that overflows": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR, False),
    "a window of another size": (frame(WINDOW_UPDATE, 0, 0, b"\0"), ErrorCode.FRAME_SIZE_ERROR, False),
    "a window on an idle stream": (frame(WINDOW_UPDATE, 0, 5, b"\0\0\0\1"), ErrorCode.PROTOCOL_ERROR, False),
    "priority on stream 0": (frame(PRIORITY, 0, 0, b"\0" * 5), ErrorCode.PROTOCOL_ERROR, False),
    "headers on a stream that is over": (ended_stream + RESET + ended_stream, ErrorCode.STREAM_CLOSED, False),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_violation_ends_the_connection_with_its_code(case: str) -> None:
    data, code, bare = WRONG[case]
    connection = Connection() if bare else started()
    events = connection.receive(data)
    assert isinstance(events[-1], ConnectionEnded) and events[-1].code is code
    kind, _, _, payload = sent(connection)[-1]
    assert kind == GOAWAY and int.from_bytes(payload[4:8], "big") == code
    assert connection.receive(OPEN) == []


STREAM_ERRORS = {
    "data behind the end": (ended_stream + frame(DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "headers behind the end": (ended_stream + BEGUN, ErrorCode.STREAM_CLOSED),
    "a window that grows by nothing": (
        BEGUN + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"), ErrorCode.PROTOCOL_ERROR,
    ),
    "a window that overflows": (
        BEGUN + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "trailers that end nothing": (
        BEGUN + frame(HEADERS, END_HEADERS, 1, literal(b"x", b"y")), ErrorCode.PROTOCOL_ERROR,
    ),
    "no path": (frame(HEADERS, END_HEADERS, 1, b"\x83\x86"), ErrorCode.PROTOCOL_ERROR),
    "capitals": (frame(HEADERS, END_HEADERS, 1, REQUEST + literal(b"X-A", b"y")), ErrorCode.PROTOCOL_ERROR),
    "an http1 header": (frame(HEADERS, END_HEADERS, 1, REQUEST + UPGRADE), ErrorCode.PROTOCOL_ERROR),
    "pseudo headers behind": (frame(HEADERS, END_HEADERS, 1, REQUEST + b"\x87"), ErrorCode.PROTOCOL_ERROR),
    "a stream that depends on itself": (
        BEGUN + frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), ErrorCode.PROTOCOL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAM_ERRORS)
def test_a_streams_violation_ends_the_stream_alone(case: str) -> None:
    data, code = STREAM_ERRORS[case]
    connection = started()
    events = connection.receive(data)
    assert not any(isinstance(event, ConnectionEnded) for event in events)
    assert (RST_STREAM, 0, 1, code.to_bytes(4, "big")) in sent(connection)
    assert connection.open_streams == 0
    (event,) = connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, REQUEST))
    assert isinstance(event, RequestReceived) and event.stream == 3


def test_streams_over_the_limit_are_refused() -> None:
    connection = Connection(max_streams=2)
    connection.receive(OPEN + b"".join(frame(HEADERS, END_HEADERS, number, REQUEST) for number in (1, 3, 5)))
    assert (RST_STREAM, 0, 5, ErrorCode.REFUSED_STREAM.to_bytes(4, "big")) in sent(connection)
    assert connection.open_streams == 2


def test_after_leaving_new_streams_are_refused_and_open_ones_served() -> None:
    connection = started()
    connection.receive(BEGUN)
    connection.leave()
    assert [
        event.data for event in connection.receive(frame(DATA, 0, 1, b"more")) if isinstance(event, DataReceived)
    ] == [b"more"]
    connection.receive(frame(HEADERS, END_HEADERS, 3, REQUEST))
    kinds = [(kind, stream) for kind, _, stream, _ in sent(connection)]
    assert kinds == [(GOAWAY, 0), (RST_STREAM, 3)]


def test_data_beyond_a_window_is_an_error() -> None:
    connection = started()
    connection.receive(BEGUN)
    piece = frame(DATA, 0, 1, b"x" * 16_384)
    events = connection.receive(piece * (STREAM_WINDOW // 16_384 + 1))
    assert events[-1] == StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR)
    number = 3
    while not isinstance(events[-1], ConnectionEnded):
        connection.receive(frame(HEADERS, END_HEADERS, number, REQUEST))
        events = connection.receive(frame(DATA, 0, number, b"x" * 16_384) * (STREAM_WINDOW // 16_384))
        number += 2
    assert events[-1].code is ErrorCode.FLOW_CONTROL_ERROR
    assert number <= 2 * CONNECTION_WINDOW // STREAM_WINDOW + 5


def test_what_is_acknowledged_may_be_sent_again_without_end() -> None:
    connection, received = started(), 0
    connection.receive(BEGUN)
    for _ in range(4 * CONNECTION_WINDOW // 16_384):
        (event,) = connection.receive(frame(DATA, 0, 1, b"x" * 16_384))
        assert isinstance(event, DataReceived)
        connection.acknowledge(1, event.size)
        received += event.size
    assert received == 4 * CONNECTION_WINDOW


FLOODS = {
    "pings": frame(PING, 0, 0, b"12345678"),
    "settings": frame(SETTINGS, 0, 0),
    "acknowledgements": frame(SETTINGS, ACK, 0),
    "empty data": frame(DATA, 0, 1),
    "priority": frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
    "extensions": frame(0xEE, 0, 0),
    "resets of a closed stream": frame(RST_STREAM, 0, 3, b"\0\0\0\0"),
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_ends_the_connection(case: str) -> None:
    connection = started()
    connection.receive(BEGUN)
    connection.receive(frame(HEADERS, END_HEADERS, 3, REQUEST) + frame(RST_STREAM, 0, 3, b"\0\0\0\0"))
    events = connection.receive(FLOODS[case] * 3_000)
    assert isinstance(events[-1], ConnectionEnded) and events[-1].code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_header_block_without_end_ends_the_connection() -> None:
    connection = started()
    connection.receive(frame(HEADERS, 0, 1, REQUEST))
    events: list[Event] = []
    for _ in range(MAX_HEADERS // 1_000 + 1):
        events += connection.receive(frame(CONTINUATION, 0, 1, literal(b"a", b"b" * 993)))
    assert [type(event) for event in events] == [ConnectionEnded]


def test_a_header_list_that_grows_when_decoded_ends_the_connection() -> None:
    connection = Connection()
    # One field of 4,000 bytes goes into the table that peers may use before our settings count, and is named 100 times.
    field = b"\x40" + literal(b"bomb", b"x" * 4_000)[1:]
    events = connection.receive(OPEN + frame(HEADERS, END_HEADERS, 1, REQUEST + field + b"\xbe" * 100))
    assert isinstance(events[-1], ConnectionEnded) and events[-1].code is ErrorCode.ENHANCE_YOUR_CALM


def test_the_table_of_headers_is_given_up_once_settings_count() -> None:
    connection = Connection()
    indexed = b"\x40" + literal(b"x-a", b"1")[1:]
    (event,) = connection.receive(OPEN + frame(HEADERS, END_HEADERS, 1, REQUEST + indexed))
    (event,) = connection.receive(frame(HEADERS, END_HEADERS, 3, REQUEST + b"\xbe"))
    assert isinstance(event, RequestReceived) and ("x-a", "1") in event.headers
    # The peer has our settings and says that its table is empty now.
    connection.receive(frame(SETTINGS, ACK, 0))
    (event,) = connection.receive(frame(HEADERS, END_HEADERS, 5, b"\x20" + REQUEST))
    assert isinstance(event, RequestReceived)
    (event,) = connection.receive(frame(HEADERS, END_HEADERS, 7, REQUEST + b"\xbe"))
    assert isinstance(event, ConnectionEnded) and event.code is ErrorCode.COMPRESSION_ERROR


kinds = st.integers(0, 11)
frames = st.builds(
    frame, kinds, st.integers(0, 255), st.sampled_from([0, 1, 1, 2, 3, 3, 5, 7, 9, 2**31 - 1]),
    st.one_of(st.binary(max_size=40), st.just(REQUEST), st.just(b"\0\0\0\1"), st.just(b"\0\0\0\0\0\0\0\0")),
)  # fmt: skip
likely = st.sampled_from([
    BEGUN, frame(HEADERS, END_HEADERS, 3, REQUEST), frame(DATA, 0, 1, b"hello"),
    frame(DATA, END_STREAM, 1, b""), frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0"), frame(RST_STREAM, 0, 1, b"\0\0\0\b"),
    setting(4, 10), setting(4, 100_000), setting(5, 20_000), frame(SETTINGS, ACK, 0),
])  # fmt: skip
calls = st.sampled_from(["headers", "data", "trailers", "reset", "acknowledge", "leave", "take"])


@given(st.lists(st.one_of(frames, likely, likely, st.binary(max_size=30), calls), max_size=60))
@settings(max_examples=400)
def test_nothing_that_comes_crashes_it(steps: list[bytes | str]) -> None:
    connection = started()
    for step in steps:
        match step:
            case "headers":
                connection.send_headers(1, b"\x88")
            case "data":
                connection.send_data(1, b"x" * 40_000)
            case "trailers":
                connection.send_trailers(1, literal(b"grpc-status", b"0"))
            case "reset":
                connection.reset(3, ErrorCode.CANCEL)
            case "acknowledge":
                connection.acknowledge(1, 5)
            case "leave":
                connection.leave()
            case "take":
                connection.take()
            case bytes():
                for event in connection.receive(step):
                    assert isinstance(event, Event)
    assert connection.open_streams <= 1_000
    assert connection._send_window >= 0
