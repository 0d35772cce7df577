"""The phase machine, without any I/O: what Envoy may send, and what we say to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_router.exchange import Forward, Reply, Request
from triton_router.extproc.commands import (
    Abort,
    Command,
    ContinueHeaders,
    ContinueResponse,
    ContinueResponseBody,
    ContinueResponseTrailers,
    ContinueTrailers,
    Finish,
    ForwardAtOnce,
    ForwardBody,
    ForwardHeaders,
    ForwardStreamed,
    ImmediateReply,
    Route,
    Wait,
)
from triton_router.extproc.events import (
    BodyMode,
    Event,
    InputEnded,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Routed,
)
from triton_router.extproc.headers import clean
from triton_router.extproc.phases import Exchange

LIMIT = 1000
HEAD = ((":method", "POST"), (":path", "/v1/chat/completions"), (":authority", "gw"), (":scheme", "http"))
HEADERS = RequestHeaders((*HEAD, ("content-type", "application/json")), end_of_stream=False)
GET = RequestHeaders(((":method", "GET"), (":path", "/v1/models")), end_of_stream=True)
BODY = RequestBody(b'{"model":"auto"}', end_of_stream=True)
FORWARD = Forward({"x-selected-model": "a"}, b"{}", {"x-vsr-selected-model": "a"})
REPLY = Reply(200, b"{}", {"x-vsr-response-path": "cache"})
AT_ONCE = RequestBody(b'{"model":"auto"}', True, (*HEAD, ("content-length", "16"), ("x-team", "a"), ("x-team", "b")))


class Watching:
    """An observer of which only its wish to see a response counts here."""

    watches = True
    shortens = False

    def on_headers(self, status: int, headers: Mapping[str, str]) -> bool:
        return True

    def on_body(self, piece: bytes, *, last: bool = False) -> bytes | None:
        return None

    checks = False

    async def check(self, piece: bytes, *, last: bool) -> None: ...

    def on_complete(self) -> None: ...

    def on_end(self) -> None: ...


WATCHED = replace(FORWARD, observer=Watching())


def play(*events: Event) -> list[Command]:
    exchange = Exchange(max_body_bytes=LIMIT)
    return [exchange.receive(event) for event in events]


def error(command: Command) -> tuple[int, dict[str, object]]:
    assert isinstance(command, ImmediateReply)
    assert ("content-type", "application/json") in command.headers
    return command.status, json.loads(command.body)["error"]


def test_body_is_read_routed_rewritten_and_the_answer_gets_its_headers() -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    assert exchange.receive(HEADERS) == ContinueHeaders()
    route = exchange.receive(BODY)
    assert isinstance(route, Route)
    assert route.request == Request(
        "POST", "/v1/chat/completions", {"content-type": "application/json", "host": "gw"}, BODY.body
    )
    assert exchange.receive(Routed(FORWARD)) == ForwardBody((("x-selected-model", "a"), ("content-length", "2")), b"{}")
    assert not exchange.closed
    assert exchange.receive(ResponseHeaders()) == ContinueResponse((("x-vsr-selected-model", "a"),))
    assert exchange.closed


def test_unchanged_body_leaves_the_framing_alone() -> None:
    assert play(HEADERS, BODY, Routed(Forward({"x-selected-model": "a"})))[-1] == ForwardBody(
        (("x-selected-model", "a"),), None
    )


def test_framing_headers_of_the_pipeline_do_not_count() -> None:
    outcome = Forward({"Content-Length": "9", "transfer-encoding": "chunked"}, b"abc")
    assert play(HEADERS, BODY, Routed(outcome))[-1] == ForwardBody((("content-length", "3"),), b"abc")


def test_empty_body_is_a_body() -> None:
    assert play(HEADERS, RequestBody(b"", True), Routed(Forward({}, b"")))[-1] == ForwardBody(
        (("content-length", "0"),), b""
    )


def test_request_without_a_body_is_decided_at_its_headers() -> None:
    route, reply = play(GET, Routed(REPLY))
    assert route == Route(Request("GET", "/v1/models", {}))
    assert reply == ImmediateReply(200, (("x-vsr-response-path", "cache"), ("content-type", "application/json")), b"{}")
    assert play(GET, Routed(Forward({"a": "b"})))[-1] == ForwardHeaders((("a", "b"),), (), None)
    assert play(GET, Routed(Forward({}, b"new")))[-1] == ForwardHeaders((("content-length", "3"),), (), b"new")


def test_reply_keeps_its_content_type() -> None:
    reply = play(GET, Routed(Reply(200, b"data: 1\n\n", {"Content-Type": "text/event-stream"})))[-1]
    assert isinstance(reply, ImmediateReply)
    assert reply.headers == (("content-type", "text/event-stream"),)


def test_repeated_headers_are_joined() -> None:
    (route,) = play(RequestHeaders((("accept", "a"), ("x", "1"), ("accept", "b")), end_of_stream=True))
    assert isinstance(route, Route)
    assert route.request.headers == {"accept": "a, b", "x": "1"}


INTERNAL = (
    ("x-selected-model", "evil"),
    ("x-selected-model", "evil"),
    ("x-gateway-base-model-name", "evil"),
    ("x-vsr-selected-model", "evil"),
    ("x-vsr-", "evil"),
)
ALLOWED = (("x-vsr-cache-control", "no-store"), ("x-vsr-debug", "1"), ("x-vsrx", "fine"))
NAMES = ("x-selected-model", "x-gateway-base-model-name", "x-vsr-selected-model", "x-vsr-")


def test_client_copies_of_internal_headers_are_removed_and_unseen() -> None:
    ask, route = play(RequestHeaders(INTERNAL + ALLOWED, end_of_stream=False), BODY)
    assert ask == ContinueHeaders(NAMES)
    assert isinstance(route, Route)
    assert route.request.headers == dict(ALLOWED)


def test_client_copies_are_removed_when_decided_at_the_headers() -> None:
    forward = play(RequestHeaders(INTERNAL, end_of_stream=True), Routed(Forward({"x-selected-model": "a"})))[-1]
    assert forward == ForwardHeaders((("x-selected-model", "a"),), NAMES, None)


def test_trailers_after_the_body() -> None:
    commands = play(HEADERS, RequestBody(b"{}", False), Routed(FORWARD), RequestTrailers(), ResponseHeaders())
    assert isinstance(commands[1], Route)
    assert commands[3] == ContinueTrailers()
    assert commands[4] == ContinueResponse((("x-vsr-selected-model", "a"),))


def test_trailers_without_a_body_cannot_slip_by() -> None:
    status, details = error(play(HEADERS, RequestTrailers())[-1])
    assert (status, details["code"]) == (400, "missing_body")


@pytest.mark.parametrize("mode", [BodyMode.NONE, BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL])
def test_override_taken_the_body_is_whole(mode: BodyMode) -> None:
    assert isinstance(play(RequestHeaders(HEAD, False, mode), BODY)[-1], Route)


@pytest.mark.parametrize("mode", [BodyMode.NONE, BodyMode.STREAMED, BodyMode.BUFFERED_PARTIAL])
def test_override_not_taken_pieces_of_a_body_are_refused(mode: BodyMode) -> None:
    status, details = error(play(RequestHeaders(HEAD, False, mode), RequestBody(b"{", False))[-1])
    assert (status, details["code"]) == (500, "gateway_misconfigured")
    assert mode.name in str(details["message"])


def test_bodies_of_another_protocol_are_refused_at_once() -> None:
    status, details = error(play(RequestHeaders(HEAD, False, BodyMode.GRPC))[-1])
    assert (status, details["code"]) == (500, "gateway_misconfigured")


DUPLEX = RequestHeaders(HEAD, False, BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)


def test_a_full_duplex_body_is_gathered_routed_and_sent_back() -> None:
    commands = play(DUPLEX, RequestBody(b'{"a"', False), RequestBody(b":1}", False), RequestBody(b"", True))
    assert commands[:3] == [Wait(), Wait(), Wait()]
    assert isinstance(commands[3], Route) and commands[3].request.body == b'{"a":1}'
    command = play(DUPLEX, RequestBody(b"{}", True), Routed(Forward({"x-selected-model": "a"}, b"new")))[-1]
    assert command == ForwardStreamed((("x-selected-model", "a"),), ("content-length",), b"new", False)
    unchanged = play(DUPLEX, RequestBody(b"ab", False), RequestBody(b"c", True), Routed(Forward({})))[-1]
    assert isinstance(unchanged, ForwardStreamed) and unchanged.body == b"abc"


def test_a_full_duplex_body_may_end_with_trailers() -> None:
    commands = play(DUPLEX, RequestBody(b"{}", False), RequestTrailers(), Routed(Forward({})))
    assert isinstance(commands[2], Route)
    assert commands[3] == ForwardStreamed((), ("content-length",), b"{}", True)
    assert error(play(DUPLEX, RequestTrailers())[-1])[0] == 400


def test_the_limit_holds_over_all_pieces() -> None:
    half = RequestBody(b"x" * (LIMIT // 2 + 1), False)
    assert error(play(DUPLEX, half, half)[-1])[0] == 413


def test_a_full_duplex_answer_is_sent_back_piece_by_piece() -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    for event in (DUPLEX, RequestBody(b"{}", True), Routed(FORWARD)):
        exchange.receive(event)
    assert exchange.receive(ResponseHeaders(200)) == ContinueResponse((("x-vsr-selected-model", "a"),), True)
    assert exchange.receive(ResponseBody(b"one", False)) == ContinueResponseBody(b"one", False)
    assert exchange.receive(ResponseBody(b"", True)) == ContinueResponseBody(b"", True)
    assert exchange.closed


def test_a_watched_answer_passes_untouched_until_its_end() -> None:
    watched = ResponseHeaders(200, (), False, True)
    *_, headers, first, last = play(
        HEADERS, BODY, Routed(FORWARD), watched, ResponseBody(b"x"), ResponseBody(b"", True)
    )
    assert headers == ContinueResponse((("x-vsr-selected-model", "a"),), True)
    assert (first, last) == (ContinueResponseBody(None, False), ContinueResponseBody(None, True))
    with_trailers = play(HEADERS, BODY, Routed(FORWARD), watched, ResponseBody(b"x"), ResponseTrailers())
    assert with_trailers[-1] == ContinueResponseTrailers()
    assert play(HEADERS, BODY, Routed(FORWARD), watched, InputEnded())[-1] == Finish()
    nothing = play(HEADERS, BODY, Routed(FORWARD), ResponseHeaders(204, (), True, True))[-1]
    assert nothing == ContinueResponse((("x-vsr-selected-model", "a"),), False)


@pytest.mark.parametrize("length, whole", [("", False), ("0", False), ("10", True), ("16384", True), ("16385", False)])
def test_a_short_answer_is_watched_whole(length: str, whole: bool) -> None:
    headers = (("content-length", length),) if length else ()
    event = ResponseHeaders(200, headers, False, True)
    assert play(HEADERS, BODY, Routed(FORWARD), event)[-1] == ContinueResponse(
        (("x-vsr-selected-model", "a"),), True, (), whole
    )
    cut = replace(event, shortened=True)
    assert play(HEADERS, BODY, Routed(FORWARD), cut)[-1] == ContinueResponse(
        (("x-vsr-selected-model", "a"),), True, ("content-length",), False
    )


# --- a request in one message --------------------------------------------------------------------------------------


def test_one_message_is_routed_and_ends_the_stream_where_nobody_watches() -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    route = exchange.receive(AT_ONCE)
    assert isinstance(route, Route)
    headers = {"host": "gw", "content-length": "16", "x-team": "a, b"}
    assert route.request == Request("POST", "/v1/chat/completions", headers, AT_ONCE.body)
    assert exchange.receive(Routed(FORWARD)) == ForwardAtOnce(
        (("x-selected-model", "a"), ("content-length", "2")), (), b"{}", (("x-vsr-selected-model", "a"),)
    )
    assert exchange.closed


def test_a_watched_answer_comes_behind_one_message_and_has_its_headers_already() -> None:
    event = ResponseHeaders(200, (("content-length", "2"),), False, True)
    *_, forward, headers, last = play(AT_ONCE, Routed(WATCHED), event, ResponseBody(b"{}", True))
    assert isinstance(forward, ForwardAtOnce)
    assert headers == ContinueResponse((), True, (), True)
    assert last == ContinueResponseBody(None, True)
    assert play(AT_ONCE, Routed(WATCHED), InputEnded())[-1] == Finish()
    assert play(AT_ONCE, Routed(WATCHED), AT_ONCE)[-1] == Abort("RequestBody while waiting for the answer")


def test_spoofed_headers_in_one_message_are_unseen_and_removed() -> None:
    assert AT_ONCE.headers is not None
    spoofed = replace(AT_ONCE, headers=(*AT_ONCE.headers, ("x-vsr-selected-model", "evil"), ("x-vsr-debug", "1")))
    route, forward = play(spoofed, Routed(replace(FORWARD, remove=("Authorization",))))
    assert isinstance(route, Route) and "x-vsr-selected-model" not in route.request.headers
    assert route.request.headers["x-vsr-debug"] == "1"
    assert isinstance(forward, ForwardAtOnce) and forward.remove == ("x-vsr-selected-model", "authorization")


def test_one_message_may_be_too_large_or_one_too_many() -> None:
    status, details = error(play(replace(AT_ONCE, body=b"x" * (LIMIT + 1)))[-1])
    assert (status, details["code"]) == (413, "request_too_large")
    exchange = Exchange(max_body_bytes=LIMIT, admit=lambda size: False)
    status, details = error(exchange.receive(AT_ONCE))
    assert (status, details["code"]) == (429, "overloaded")
    assert exchange.closed


@pytest.mark.parametrize("extra, refused", [(0, False), (1, True)])
def test_body_limit(extra: int, refused: bool) -> None:
    (by_header,) = play(RequestHeaders((*HEAD, ("content-length", str(LIMIT + extra))), False))
    by_body = play(HEADERS, RequestBody(b"x" * (LIMIT + extra), True))[-1]
    if refused:
        for command in (by_header, by_body):
            status, details = error(command)
            assert (status, details["code"], details["type"]) == (413, "request_too_large", "invalid_request_error")
    else:
        assert by_header == ContinueHeaders()
        assert isinstance(by_body, Route)


def test_answers_that_envoy_gives_itself_pass() -> None:
    assert play(ResponseHeaders(), InputEnded()) == [ContinueResponse(), Finish()]
    assert play(HEADERS, ResponseHeaders(), InputEnded()) == [ContinueHeaders(), ContinueResponse(), Finish()]
    assert play(ResponseHeaders(), ResponseBody())[-1] == Finish()


@pytest.mark.parametrize(
    "before",
    [
        [ResponseHeaders(403, body_mode=BodyMode.FULL_DUPLEX_STREAMED)],
        [DUPLEX, RequestBody(b"{", False), ResponseHeaders(408)],
    ],
    ids=["an earlier filter's", "a timer's"],
)
def test_a_full_duplex_answer_of_envoys_own_is_sent_back_too(before: list[Event]) -> None:
    *_, headers, first, last = play(*before, ResponseBody(b"no", False), ResponseBody(b"", True))
    assert headers == ContinueResponse(watch=True)
    assert (first, last) == (ContinueResponseBody(b"no", False), ContinueResponseBody(b"", True))
    assert play(*before, InputEnded())[-1] == Finish()


@pytest.mark.parametrize("event", [ResponseBody(), ResponseTrailers(), InputEnded()])
def test_decided_exchange_may_end_without_answer_headers(event: Event) -> None:
    assert play(HEADERS, BODY, Routed(FORWARD), event)[-1] == Finish()


@pytest.mark.parametrize(
    "events",
    [
        [InputEnded()],
        [BODY],
        [RequestTrailers()],
        [ResponseBody()],
        [Routed(FORWARD)],
        [HEADERS, HEADERS],
        [HEADERS, InputEnded()],
        [HEADERS, ResponseBody()],
        [HEADERS, BODY, BODY],
        [HEADERS, BODY, InputEnded()],
        [HEADERS, BODY, ResponseHeaders()],
        [HEADERS, BODY, Routed(FORWARD), Routed(FORWARD)],
        [HEADERS, BODY, Routed(FORWARD), BODY],
        [HEADERS, BODY, Routed(FORWARD), RequestTrailers()],
        [HEADERS, RequestBody(b"{}", False), Routed(FORWARD), RequestTrailers(), RequestTrailers()],
        [HEADERS, BODY, Routed(FORWARD), ResponseHeaders(), ResponseHeaders()],
        [GET, BODY],
        [GET, Routed(FORWARD), BODY],
        [GET, Routed(REPLY), ResponseHeaders()],
        [ResponseHeaders(), HEADERS],
    ],
)
def test_out_of_order_aborts(events: list[Event]) -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    *before, last = [exchange.receive(event) for event in events]
    assert not any(isinstance(command, Abort) for command in before)
    assert isinstance(last, Abort)
    assert exchange.closed
    assert isinstance(exchange.receive(InputEnded()), Abort)


@pytest.mark.parametrize(
    "value, cleaned",
    [
        ("plain 100% ok", "plain 100% ok"),
        ("", ""),
        ("a\r\nset-cookie: b", "a%0D%0Aset-cookie: b"),
        ("a\0b\x7f", "a%00b%7F"),
        ("数学", "%E6%95%B0%E5%AD%A6"),
        ("é\ud800", "%C3%A9?"),
    ],
)
def test_clean(value: str, cleaned: str) -> None:
    assert clean(value) == cleaned


@given(st.text(alphabet=st.characters()))
def test_cleaned_values_are_printable_ascii_and_stay_put(value: str) -> None:
    cleaned = clean(value)
    assert cleaned.isascii()
    assert cleaned == "" or cleaned.isprintable()
    assert clean(cleaned) == cleaned


def test_every_header_that_we_set_is_clean_and_lower_case() -> None:
    dirty = {"X-Selected-Model": "a\nb"}
    expected = ("x-selected-model", "a%0Ab")
    *_, forward, answer = play(HEADERS, BODY, Routed(Forward(dirty, None, dirty)), ResponseHeaders())
    assert isinstance(forward, ForwardBody) and forward.set == (expected,)
    assert isinstance(answer, ContinueResponse) and answer.set == (expected,)
    reply = play(GET, Routed(Reply(200, b"", dirty)))[-1]
    assert isinstance(reply, ImmediateReply) and expected in reply.headers


# --- any order -----------------------------------------------------------------------------------------------------

outcomes = st.sampled_from([FORWARD, WATCHED, Forward({}), Forward({}, b"", {}), REPLY, Reply(404, b"")])
bodies = st.builds(
    RequestBody, st.binary(max_size=8) | st.just(b"x" * (LIMIT + 1)), st.booleans(), st.sampled_from([None, HEAD])
)
DECISIONS = ForwardHeaders | ForwardBody | ForwardStreamed | ForwardAtOnce | ImmediateReply
modes = st.sampled_from(BodyMode)
heads = st.builds(RequestHeaders, st.just(HEAD), st.booleans(), modes, modes)
answers = st.builds(ResponseHeaders, st.just(200), st.just(()), st.booleans(), st.booleans())
pieces = st.builds(ResponseBody, st.binary(max_size=4), st.booleans())
wire = heads | bodies | answers | pieces | st.sampled_from([RequestTrailers(), ResponseTrailers()])


@settings(max_examples=300)
@given(st.lists(wire, max_size=8), st.data())
def test_no_order_of_messages_ends_cleanly_without_a_decision_or_an_answer(
    events: list[Event], data: st.DataObject
) -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    commands: list[Command] = []
    for event in [*events, InputEnded()]:
        command = exchange.receive(event)
        if isinstance(command, Route):
            assert not exchange.closed
            command = exchange.receive(Routed(data.draw(outcomes)))
            assert isinstance(command, DECISIONS)
        commands.append(command)
        if exchange.closed:
            break
    assert exchange.closed  # whatever came, the stream has an end
    decisions = [c for c in commands if isinstance(c, DECISIONS)]
    assert len(decisions) <= 1
    if not isinstance(commands[-1], Abort):
        assert decisions or any(isinstance(command, ContinueResponse) for command in commands)
    assert not any(isinstance(command, Abort) for command in commands[:-1])


@st.composite
def conversations(draw: st.DrawFn) -> list[Event]:
    """What Envoy really sends for one request: every legal order."""
    kind = draw(st.sampled_from(["headers", "at once", "headers and body"]))
    if kind == "headers":
        request: list[Event] = [GET, Routed(draw(outcomes))]
    elif kind == "at once":
        request = [replace(AT_ONCE, end_of_stream=draw(st.booleans())), Routed(draw(outcomes))]
    else:
        trailers = draw(st.booleans())
        request = [HEADERS, RequestBody(draw(st.binary(max_size=8)), not trailers), Routed(draw(outcomes))]
        if trailers:
            request.append(RequestTrailers())
    return [*request, *draw(st.sampled_from([[], [ResponseHeaders()], [ResponseBody()]])), InputEnded()]


@given(conversations())
def test_legal_conversations_are_decided_and_never_abort(events: list[Event]) -> None:
    exchange = Exchange(max_body_bytes=LIMIT)
    commands: list[Command] = []
    for event in events:
        commands.append(exchange.receive(event))
        if exchange.closed:
            break
    assert exchange.closed
    assert not any(isinstance(command, Abort) for command in commands)
    assert sum(isinstance(command, DECISIONS) for command in commands) == 1
