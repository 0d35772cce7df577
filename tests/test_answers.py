"""Reading answers as they pass, however they are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triton_router.answers import LARGEST, Answer, Events, Usage
from triton_router.config.observability import UsageSettings
from triton_router.config.schema import Pricing
from triton_router.dialects.chat import ChatAnswer
from triton_router.telemetry import Metrics
from triton_router.usage import UsageObserver, WithoutUsage, cost


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return "data: " + json.dumps({"choices": choices, **more}, ensure_ascii=False) + "\n\n"


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
STREAM = (
    ": keep-alive\n\n"
    + chunk({"role": "assistant", "content": ""})
    + chunk({"content": "Héllo, "}).replace("\n", "\r\n")
    + chunk({"content": "世界 🌍"})
    + chunk({}, "stop")
    + "data: " + json.dumps({"choices": [], "usage": USAGE}) + "\n\n"
    + "data: [DONE]\n\n"
).encode()  # fmt: skip


def read(pieces: list[bytes], streamed: bool = True) -> Answer:
    answer = ChatAnswer(streamed)
    for piece in pieces:
        answer.feed(piece)
    answer.finish()
    return answer


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_cut_at_any_byte_gives_the_same_text(cut: int) -> None:
    answer = read([STREAM[:cut], STREAM[cut:]])
    assert (answer.text, answer.finish_reason, answer.complete) == ("Héllo, 世界 🌍", "stop", True)
    assert answer.usage == Usage(7, 3, 5)
    assert answer.chunks == 2


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_cut_anywhere_gives_the_same_text(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    answer = read([STREAM[start:end] for start, end in pairwise(places)])
    assert (answer.text, answer.complete) == ("Héllo, 世界 🌍", True)


@given(st.binary())
def test_no_bytes_break_the_reader(data: bytes) -> None:
    list(Events().feed(data))
    assert read([data], True).complete in (True, False)
    assert read([data], False).complete in (True, False)


def test_a_stream_that_does_not_end_is_not_complete() -> None:
    assert not read([STREAM[: STREAM.index(b"data: [DONE]")]]).complete
    broken = STREAM.replace(b'data: {"choices": []', b'data: {"error": {"message": "x"}, "choices": []')
    assert not read([broken]).complete


@pytest.mark.parametrize("part", ["tool_calls", "function_call", "annotations", "audio", "refusal"])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_more_than_text_is_noticed(part: str, streamed: bool) -> None:
    message = {"role": "assistant", "content": "Hi", part: {"of": ["something"]}}
    choices = [{"index": 0, "delta" if streamed else "message": message, "finish_reason": "stop"}]
    body = json.dumps({"choices": choices})
    answer = read([f"data: {body}\n\ndata: [DONE]\n\n".encode() if streamed else body.encode()], streamed)
    assert answer.complete and answer.tool_calls


@pytest.mark.parametrize("streamed", [True, False])
def test_content_in_parts_is_more_than_text(streamed: bool) -> None:
    part = {"type": "text", "text": " in 1889"}
    deltas: list[dict[str, Any]] = [{"content": "It was built"}, {"content": [part]}, {"content": "."}]
    body = json.dumps({"choices": [{"message": {"content": [part]}, "finish_reason": "stop"}]})
    events = "".join(map(chunk, deltas)) + chunk({}, "stop") + "data: [DONE]\n\n"
    answer = read([events.encode() if streamed else body.encode()], streamed)
    assert answer.complete and answer.tool_calls


def test_an_answer_that_is_too_long_to_be_kept_whole_is_not_complete() -> None:
    pieces = [chunk({"content": "x" * (LARGEST // 8)}).encode() for _ in range(9)]
    answer = read([*pieces, chunk({"content": "the end"}, "stop").encode(), b"data: [DONE]\n\n"])
    assert not answer.complete
    assert len(answer.text) <= LARGEST


@pytest.mark.parametrize("line", [b"data: ", b"data: x\n" * 20], ids=["a line", "an event"])
def test_an_event_without_an_end_is_not_held_forever(line: bytes) -> None:
    answer = read([line + b"x" * 100_000] * (2 * LARGEST // 100_000))
    assert answer._events.held <= LARGEST
    assert not answer.complete


def test_an_answer_in_one_piece() -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": None}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}], "usage": USAGE}
    whole = json.dumps(body).encode()
    answer = read([whole[:9], whole[9:]], streamed=False)
    assert (answer.text, answer.finish_reason, answer.complete, answer.usage) == ("Hi", "length", True, Usage(7, 3, 5))
    assert not read([whole[:-1]], streamed=False).complete
    message["tool_calls"] = [{"id": "1"}]  # type: ignore[assignment]
    assert read([json.dumps(body).encode()], streamed=False).tool_calls


@pytest.mark.parametrize(
    "answer", [b"[]", b"null", b'{"choices": 3}', b'{"choices": [null]}', b'{"usage": 1}', b"\xff"]
)
def test_an_answer_of_another_shape_is_none(answer: bytes) -> None:
    assert not read([answer], streamed=False).complete


# --- usage ---------------------------------------------------------------------------------------------------------


COUNTED = {
    "router_cost_total",
    "router_tokens_total",
    "router_answers_total",
    "router_time_to_first_token_seconds_count",
}


def counted(metrics: Metrics) -> dict[str, float]:
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name
        in (
            "router_cost_total",
            "router_tokens_total",
            "router_answers_total",
            "router_time_to_first_token_seconds_count",
        )
    }


def observed(headers: dict[str, str], pieces: list[bytes], status: int = 200, **settings: bool) -> dict[str, float]:
    metrics = Metrics()
    observer = UsageObserver(metrics, "m", UsageSettings(**settings), answer_type=ChatAnswer)
    if observer.on_headers(status, headers):
        for piece in pieces:
            observer.on_body(piece)
        observer.on_complete()
    observer.on_end()
    return counted(metrics)


EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


def test_a_streams_usage_is_counted_when_it_is_asked_for() -> None:
    assert observed(EVENTS, [STREAM], streams=True) == {
        "router_tokens_total m prompt": 7, "router_tokens_total m completion": 3, "router_tokens_total m cached": 5,
        "router_answers_total m stop": 1, "router_time_to_first_token_seconds_count m": 1,
    }  # fmt: skip
    assert observed(EVENTS, [STREAM]) == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json", "content-encoding": "gzip"}, 200),
        ({"content-type": "application/json"}, 500),
        ({"content-type": "text/html"}, 200),
        ({}, 200),
    ],
)
def test_what_cannot_be_read_is_not_watched(headers: dict[str, str], status: int) -> None:
    assert observed(headers, [b"{}"], status) == {}


def test_an_answer_that_breaks_off_is_counted_as_that() -> None:
    metrics = Metrics()
    observer = UsageObserver(metrics, "m", UsageSettings(streams=True), answer_type=ChatAnswer)
    assert observer.on_headers(200, EVENTS)
    observer.on_body(STREAM[:200])
    observer.on_end()
    assert counted(metrics)["router_answers_total m aborted"] == 1


# --- usage that the client did not ask for ---------------------------------------------------------------------------

COUNT = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"


def passed(pieces: list[bytes]) -> bytes:
    stream = WithoutUsage()
    return b"".join(stream.feed(piece) for piece in pieces) + stream.feed(b"", last=True)


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_count_is_taken_out_wherever_the_stream_is_cut(cut: int, end: bytes) -> None:
    stream, expected = (
        text.replace(b"\r\n", b"\n").replace(b"\n", end) for text in (STREAM, STREAM.replace(COUNT, b""))
    )
    assert COUNT not in expected and len(expected) < len(stream)
    assert passed([stream[:cut], stream[cut:]]) == expected


def test_whole_events_do_not_wait() -> None:
    stream = WithoutUsage()
    event = chunk({"content": "now"}).encode()
    assert stream.feed(event) == event
    assert stream.feed(event + event[:9]) == event
    assert stream.feed(event[9:]) == event


def test_a_long_event_does_not_wait_for_its_end() -> None:
    without, long = WithoutUsage(), chunk({"content": "x" * 500_000}).encode()
    pieces = [long[start : start + 1000] for start in range(0, len(long), 1000)]
    waiting = most = 0
    for piece in pieces:
        waiting += len(piece) - len(without.feed(piece))
        most = max(most, waiting)
    assert waiting == 0 and most <= 70_000
    count = json.dumps({"choices": [], "usage": USAGE})
    assert without.feed(f"data: {count}\n\ndata: [DONE]\n\n".encode()) == b"data: [DONE]\n\n"


@example([b"\r\n", COUNT[:-2], b"\r\n", b"\n\n"])
@given(st.lists(st.sampled_from([b"data: x", b"\n\n", b"\r\n", b'{"usage":', b"\xff", COUNT[:-2], b""]), max_size=12))
def test_nothing_else_is_taken_out(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    removed = len(whole) - len(passed(pieces))
    assert passed([whole]) == passed(pieces)
    # Its line ends may be two bytes each, and an empty line before it goes with it.
    assert removed <= whole.count(COUNT[:-2]) * (len(COUNT) + 4)


def test_a_stream_is_passed_on_changed_only_where_it_is_to_be() -> None:
    metrics = Metrics()
    observer = UsageObserver(metrics, "m", UsageSettings(streams=True), conceal=True, answer_type=ChatAnswer)
    assert observer.on_headers(200, EVENTS)
    assert observer.on_body(chunk({"content": "a"}).encode()) is None
    assert observer.on_body(COUNT) == b""
    assert observer.on_body(b"data: [DONE]\n\n", last=True) is None
    observer.on_complete()
    observer.on_end()
    assert counted(metrics)["router_tokens_total m prompt"] == 7


def test_what_an_answer_cost() -> None:
    price = Pricing(currency="EUR", prompt_per_1m=2, completion_per_1m=10, cached_input_per_1m=0.5)
    assert cost(Usage(prompt=1000, completion=300, cached=400), price) == pytest.approx(0.0012 + 0.0002 + 0.003)
    assert cost(Usage(prompt=10, completion=0, cached=99), Pricing(prompt_per_1m=1)) == pytest.approx(0.00001)
    dear = Pricing(prompt_per_1m=2, cached_input_per_1m=0.5, cache_write_per_1m=2.5)
    assert cost(Usage(1000, 0, cached=400, written=500), dear) == pytest.approx((100 * 2 + 400 * 0.5 + 500 * 2.5) / 1e6)
    assert cost(Usage(10, 0, cached=8, written=99), dear) == pytest.approx((8 * 0.5 + 2 * 2.5) / 1e6)
    assert cost(Usage(10, 0, cached=0, written=4), Pricing(prompt_per_1m=1)) == pytest.approx(0.00001)
    metrics = Metrics()
    observer = UsageObserver(metrics, "m", UsageSettings(streams=True), price=price, answer_type=ChatAnswer)
    assert observer.on_headers(200, EVENTS)
    observer.on_body(STREAM)
    observer.on_end()
    assert counted(metrics)["router_cost_total m EUR"] == pytest.approx((2 * 2 + 5 * 0.5 + 3 * 10) / 1e6)


def test_whoever_keeps_answers_is_told_once_how_it_ended() -> None:
    for pieces, whole in (([STREAM], True), ([STREAM[:200]], False), ([], False)):
        answers: list[Answer | None] = []
        observer = UsageObserver(Metrics(), "m", UsageSettings(), answers.append, answer_type=ChatAnswer)
        if pieces:
            assert observer.on_headers(200, EVENTS)
        for piece in pieces:
            observer.on_body(piece)
        observer.on_end()
        observer.on_end()
        assert [answer is not None for answer in answers] == [whole]
