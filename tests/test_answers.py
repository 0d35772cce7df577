"""Reading answers as they pass, however they are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.answers import Answer, Events, Usage
from router.config.schema import UsageSettings
from router.dialects.chat import ChatAnswer
from router.telemetry import Metrics
from router.usage import Observer


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


def counted(metrics: Metrics) -> dict[str, float]:
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in ("router_tokens_total", "router_answers_total", "router_time_to_first_token_seconds_count")
    }


def observed(headers: dict[str, str], pieces: list[bytes], status: int = 200, **settings: bool) -> dict[str, float]:
    metrics = Metrics()
    observer = Observer(metrics, "m", UsageSettings(**settings))
    if observer.answered(status, headers):
        for piece in pieces:
            observer.received(piece)
        observer.completed()
    observer.ended()
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
    observer = Observer(metrics, "m", UsageSettings(streams=True))
    assert observer.answered(200, EVENTS)
    observer.received(STREAM[:200])
    observer.ended()
    assert counted(metrics)["router_answers_total m aborted"] == 1
