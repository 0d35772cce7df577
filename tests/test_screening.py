"""Personal data in answers: stopped, masked or counted, however a stream is cut, and nothing else is touched."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from backends import CHAT, MESSAGES, PATHS, RESPONSES, answering, asking, content_of, events_of, streaming

from triton_router import personal
from triton_router.config import ConfigError, loads
from triton_router.dialects import DIALECTS
from triton_router.exchange import Forward, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.screening import WINDOW, Screen
from triton_router.telemetry import Metrics

CARD, MAIL = "4111 1111 1111 1111", "jane.doe+x@mail.example.org"
SECRETS = [
    CARD, MAIL, "GB82 WEST 1234 5698 7654 32", "123-45-6789", "+44 20 7946 0958", "sk-abcdefghijklmnopqrstuvwxyz",
    "2001:db8:85a3::8a2e:370:7334",
]  # fmt: skip


class Answered:
    """A screen over answers to a request that says ``asked``."""

    def __init__(self, path: str, action: Any, prompt: str = "hello") -> None:
        self.dialect, self.path = DIALECTS[path], path
        self.matches = 0
        request = self.dialect.parse(json.dumps(asking(path, "x", prompt)).encode())
        self.screen = Screen(request, personal.TYPES, action, "Withheld.", self._count)

    def _count(self) -> None:
        self.matches += 1

    def whole(self, text: str, arguments: str | None = None) -> bytes:
        screened = self.screen.screened(self.dialect.ANSWER, streamed=False)
        answer = answering(self.path, text, arguments)
        return screened.feed(answer[:20]) + screened.feed(answer[20:], last=True)

    def stream(self, pieces: list[str], cuts: list[int] | None = None) -> bytes:
        screened = self.screen.screened(self.dialect.ANSWER, streamed=True)
        stream = streaming(self.path, pieces)
        places = [0, *(cuts or []), len(stream)]
        body = b""
        for start, end in pairwise(places):
            body += screened.feed(stream[start:end], last=end == len(stream))
        return body


def text_of(path: str, stream: bytes) -> str:
    events = events_of(stream)
    if path == MESSAGES:
        return "".join(each["delta"].get("text", "") for each in events if each["type"] == "content_block_delta")
    if path == RESPONSES:
        return "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")
    return content_of(path, stream, streamed=True)[0]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("path", PATHS)
def test_a_secret_is_stopped_wherever_the_stream_is_cut(path: str, secret: str) -> None:
    text = f"Well, it is {secret} I think."
    for place in range(len(text) + 1):
        answered = Answered(path, "block")
        got = text_of(path, answered.stream([text[:place], text[place:]]))
        assert (got, answered.matches) == ("Well, it is ", 1), place


@pytest.mark.parametrize("path", PATHS)
def test_it_is_stopped_wherever_the_frames_are_cut(path: str) -> None:
    text = f"Well, it is {CARD}."
    stream = streaming(path, [text[:14], text[14:20], text[20:]])
    for place in range(0, len(stream), 3):
        got = Answered(path, "block").stream([text[:14], text[14:20], text[20:]], [place])
        assert text_of(path, got) == "Well, it is "
        assert b"1111 1" not in got


@pytest.mark.parametrize("path", PATHS)
def test_one_character_at_a_time(path: str) -> None:
    text = f"To {MAIL}, or {CARD}; then 12 apples and 3 pears. Done"
    got = Answered(path, "mask").stream(list(text))
    assert text_of(path, got) == "To [EMAIL_ADDRESS], or [CREDIT_CARD]; then 12 apples and 3 pears. Done"
    assert content_of(path, got, streamed=True)[0] == text_of(path, got)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("action", ["block", "mask", "report"])
def test_what_has_none_passes_byte_for_byte_but_for_where_words_are_cut(path: str, action: Any) -> None:
    text = "In 1914, 70 million people; see page 12 of v1.0.3.4 at 12:34. Grüße!\n" * 5
    answered = Answered(path, action)
    got = answered.stream([text[start : start + 7] for start in range(0, len(text), 7)])
    assert text_of(path, got) == text
    assert answered.whole(text) == answering(path, text)
    assert answered.matches == 0


def test_no_more_waits_than_a_window() -> None:
    answered = Answered(CHAT, "block")
    screened = answered.screen.screened(answered.dialect.ANSWER, streamed=True)
    stream = streaming(CHAT, ["1 2 3 " * 200])
    early = stream[: stream.rindex(b'data: {"id"')]
    assert len(text_of(CHAT, screened.feed(early) + b"data: [DONE]\n\n")) >= 1200 - WINDOW


def test_an_event_never_waits_for_the_next() -> None:
    answered = Answered(CHAT, "block")
    screened = answered.screen.screened(answered.dialect.ANSWER, streamed=True)
    for event in streaming(CHAT, ["This ", "is ", "a ", "word ", "of ", "text."]).split(b"\n\n")[:-1]:
        assert screened.feed(event + b"\n\n").count(b"data:") >= 1


@pytest.mark.parametrize("path", PATHS)
def test_a_stopped_stream_ends_as_its_api_ends(path: str) -> None:
    got = Answered(path, "block").stream(["Well ", CARD, " and", " more"])
    events = events_of(got)
    last = events[-1]
    if path == MESSAGES:
        kinds = [each["type"] for each in events[-3:]]
        assert kinds == ["content_block_stop", "message_delta", "message_stop"]
        assert events[-2]["delta"]["stop_reason"] == "refusal"
    elif path == RESPONSES:
        assert (last["type"], last["response"]["incomplete_details"]) == (
            "response.incomplete",
            {"reason": "content_filter"},
        )
        assert last["response"]["output"][0]["content"][0]["text"] == "Well "
        assert [each["sequence_number"] for each in events] == list(range(len(events)))
    else:
        assert last["choices"][0]["finish_reason"] == "content_filter"
        assert got.endswith(b"data: [DONE]\n\n") and got.count(b"[DONE]") == 1


@pytest.mark.parametrize("path", PATHS)
def test_whole_answers(path: str) -> None:
    assert content_of(path, Answered(path, "block").whole(f"it is {CARD}"), streamed=False)[0] == "Withheld."
    masked = Answered(path, "mask").whole(f"it is {CARD}, {MAIL}")
    assert content_of(path, masked, streamed=False)[0] == "it is [CREDIT_CARD], [EMAIL_ADDRESS]"
    reported = Answered(path, "report")
    assert reported.whole(f"it is {CARD}") == answering(path, f"it is {CARD}")
    assert reported.matches == 1


def test_arguments_of_a_call_stay_json() -> None:
    got = Answered(CHAT, "mask").whole("ok", json.dumps({"card": CARD, "n": 1}))
    assert content_of(CHAT, got, streamed=False)[1] == {"card": "[CREDIT_CARD]", "n": 1}


@pytest.mark.parametrize("path", PATHS)
def test_what_the_client_said_itself_is_no_leak(path: str) -> None:
    text = f"You wrote {MAIL}, not bob@mail.example."
    answered = Answered(path, "mask", f"I am {MAIL}")
    assert text_of(path, answered.stream(list(text))) == f"You wrote {MAIL}, not [EMAIL_ADDRESS]."


CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    keywords: [{name: ours, keywords: [in house]}]
    pii: [{name: personal}]
  decisions:
    - {name: no leaks, RULES plugins: [{type: response_pii, configuration: SETTINGS}]}
    - {name: masked, rules: {type: pii, name: personal}, plugins: [{type: mask}]}
    - {name: all, modelRefs: [{model: own}], plugins: [{type: semantic-cache, configuration: {mode: exact}}]}
"""


def forwarded(body: dict[str, Any], rules: str = "", settings: str = "{}") -> tuple[Forward, Metrics]:
    async def route() -> tuple[Forward, Metrics]:
        metrics = Metrics()
        config = CONFIG.replace("RULES", rules).replace("SETTINGS", settings)
        pipeline = Pipeline(compile_runtime(loads(config)), None, {}, metrics)
        outcome = await pipeline.route(Request("POST", CHAT, {}, json.dumps(body).encode()))
        assert isinstance(outcome, Forward)
        return outcome, metrics

    return asyncio.run(route())


def received(outcome: Forward, answer: bytes, kind: str = "application/json") -> bytes | None:
    observer = outcome.observer
    assert observer is not None
    if not observer.on_headers(200, {"content-type": kind}):
        return None
    got = observer.on_body(answer, last=True)
    observer.on_complete()
    observer.on_end()
    return answer if got is None else got


@pytest.mark.parametrize("model", ["MoM", "cloud"])
def test_a_decision_without_models_is_there_for_all_answers(model: str) -> None:
    outcome, metrics = forwarded(asking(CHAT, "x", "hello", model=model))
    assert outcome.headers["accept-encoding"] == "identity"
    got = received(outcome, answering(CHAT, f"it is {CARD}"))
    assert got is not None and content_of(CHAT, got, streamed=False)[0] == "The answer was withheld by policy."
    samples = [each for metric in metrics.screened.collect() for each in metric.samples if each.value]
    assert {"decision": "no leaks", "outcome": "blocked"} in [each.labels for each in samples]


def test_rules_say_whose_answers() -> None:
    rules = "rules: {type: keyword, name: ours},"
    outcome, _ = forwarded(asking(CHAT, "x", "hello"), rules)
    assert received(outcome, answering(CHAT, CARD)) in (None, answering(CHAT, CARD))
    outcome, _ = forwarded(asking(CHAT, "x", "in house"), rules)
    assert CARD.encode() not in (received(outcome, answering(CHAT, CARD)) or b"")


def test_masked_values_come_back_and_other_data_does_not() -> None:
    outcome, _ = forwarded(asking(CHAT, "x", f"I am {MAIL}"), settings="{action: mask}")
    got = received(outcome, answering(CHAT, f"[EMAIL_ADDRESS_1] has {CARD}"))
    assert got is not None and content_of(CHAT, got, streamed=False)[0] == f"{MAIL} has [CREDIT_CARD]"


def test_a_type_that_nobody_finds_does_not_load() -> None:
    with pytest.raises(ConfigError, match="cannot be found in answers"):
        loads(CONFIG.replace("RULES", "").replace("SETTINGS", "{pii_types_denied: [PERSON]}"))


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": None}]}


def block(kind: str, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **block}}


def item(kind: str, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": 0, "item": {"type": kind, **item}}


@pytest.mark.parametrize(
    ("path", "events"),
    [
        (CHAT, [chunk(0, content="ok"), chunk(1, content=CARD)]),
        (CHAT, [chunk(content=[{"type": "text", "text": each}]) for each in (CARD[:7], CARD[7:])]),
        (CHAT, [chunk(audio={"id": "a", "transcript": CARD[:7]}), chunk(audio={"transcript": CARD[7:]})]),
        (CHAT, [chunk(tool_calls=[{"index": 0, "custom": {"name": "f", "input": f"to {CARD}"}}])]),
        (CHAT, [chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": CARD}]}])]),
        (CHAT, [chunk(annotations=[{"type": "url_citation", "url_citation": {"title": CARD}}])]),
        (MESSAGES, [block("text", text=CARD[:7]), {"type": "content_block_delta", "index": 0,
                                                   "delta": {"type": "text_delta", "text": CARD[7:]}}]),
        (MESSAGES, [block("tool_use", id="t", name="f", input={"id": {"user": int(CARD.replace(" ", ""))}})]),
        (RESPONSES, [item("function_call", name="f", arguments=json.dumps({"card": CARD}))]),
        (RESPONSES, [item("mcp_call", output=CARD)]),
    ],
)  # fmt: skip
def test_it_is_found_in_whatever_an_event_says(path: str, events: list[dict[str, Any]]) -> None:
    for action, matches in (("block", 1), ("mask", 1), ("report", 1)):
        answered = Answered(path, action)
        screened = answered.screen.screened(answered.dialect.ANSWER, streamed=True)
        got = screened.feed(sse(*events)) + screened.feed(b"", last=True)
        assert answered.matches == matches
        assert (b"1111" in got) is (action == "report")
        assert (b"[CREDIT_CARD]" in got) is (action == "mask")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CHAT, {"choices": [{"message": {"content": "ok"}}, {"message": {"content": CARD}}]}),
        (CHAT, {"choices": [{"message": {"content": [{"type": "text", "text": CARD}]}}]}),
        (CHAT, {"choices": [{"message": {"content": None, "audio": {"transcript": CARD}}}]}),
        (MESSAGES, {"content": [{"type": "tool_use", "input": {"id": {"user": int(CARD.replace(" ", ""))}}}]}),
        (RESPONSES, {"output": [{"type": "mcp_call", "output": CARD}]}),
    ],
)
def test_it_is_found_wherever_a_whole_answer_has_it(path: str, answer: dict[str, Any]) -> None:
    for action in ("block", "mask"):
        answered = Answered(path, action)
        got = answered.screen.screened(answered.dialect.ANSWER, streamed=False).feed(
            json.dumps(answer).encode(), last=True
        )
        assert answered.matches == 1 and b"1111" not in got


def test_what_an_answer_repeats_of_its_request_is_no_leak() -> None:
    answered = Answered(RESPONSES, "block")
    answer = json.dumps({"instructions": f"Write to {MAIL}", "output": [], "metadata": {"x": CARD}}).encode()
    assert answered.screen.screened(answered.dialect.ANSWER, streamed=False).feed(answer, last=True) == answer


LONG = b"x" * (8 * 1024 * 1024)


@pytest.mark.parametrize("action", ["block", "mask", "report"])
@pytest.mark.parametrize(
    ("streamed", "body"),
    [
        (False, b'{"choices": [{"message": {"content": "4111 1111 1111 1111 ' + LONG + b'"}}]}'),
        (False, b'["4111 1111 1111 1111"]'),
        (False, b"4111 1111 1111 1111"),
        (True, b'data: {"choices": [{"delta": {"content": "4111 1111 1111 1111 ' + LONG + b'"}}]}\n\n'),
        (True, b'data: ["4111 1111 1111 1111"]\n\n'),
        (True, b"data: 4111 1111 1111 1111\n\n"),
    ],
)
def test_what_cannot_be_read_does_not_pass(streamed: bool, body: bytes, action: Any) -> None:
    answered = Answered(CHAT, action)
    screened = answered.screen.screened(answered.dialect.ANSWER, streamed=streamed)
    got = screened.feed(body[:-9]) + screened.feed(body[-9:]) + screened.feed(b"", last=True)
    assert (b"1111" in got) is (action == "report")
    if not streamed and action != "report":
        assert content_of(CHAT, got, streamed=False)[0] == "Withheld."


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\r"])
def test_lines_may_end_in_any_way(end: bytes) -> None:
    stream = b"".join(b"data: " + json.dumps(chunk(content=each)).encode() + end for each in (CARD[:9], CARD[9:], "."))
    for place in range(0, len(stream), 5):
        answered = Answered(CHAT, "block")
        screened = answered.screen.screened(answered.dialect.ANSWER, streamed=True)
        got = screened.feed(b": hello" + end + stream[:place]) + screened.feed(stream[place:], last=True)
        assert answered.matches == 1 and b"1111 1" not in got


@pytest.mark.parametrize("headers", [{"content-type": "application/json", "content-encoding": "gzip"}, {}])
def test_a_response_that_cannot_be_read_is_withheld(headers: dict[str, str]) -> None:
    for settings, passes in (("{}", False), ("{action: mask}", False), ("{action: report}", True)):
        outcome, _ = forwarded(asking(CHAT, "x", "hello"), settings=settings)
        assert outcome.observer is not None
        assert outcome.observer.on_headers(200, headers) is not passes
        assert passes or outcome.observer.on_body(b"\x1f\x8b", last=True) == b""


def test_tokens_of_a_screened_answer_are_not_asked_for() -> None:
    body = asking(CHAT, "x", "hello", logprobs=True, top_logprobs=2)
    outcome, _ = forwarded(body)
    assert outcome.body is not None and b"logprobs" not in outcome.body
    assert outcome.response_headers["x-vsr-ignored"] == "logprobs,top_logprobs"
    outcome, _ = forwarded(body, settings="{action: report}")
    assert b"logprobs" in (outcome.body or json.dumps(body).encode())
