"""Reading the answers of each API as they pass, however they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.answers import Answer, Usage
from triton_router.dialects.completions import CompletionsAnswer
from triton_router.dialects.messages import MessagesAnswer
from triton_router.dialects.responses import ResponsesAnswer

TEXT = "Héllo, 世界 🌍"
PIECES = ("Héllo, ", "世界 🌍")


def frame(data: dict[str, Any], *, named: bool = True, end: str = "\n\n") -> str:
    head = f"event: {data['type']}\n" if named else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}{end}"


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 5}, "total_tokens": 10}
    message = {"type": "message", "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
    return {"id": "r", "status": status, "output": [thought, message], "usage": usage, "error": None, **more}


def responses_stream(last: dict[str, Any], *between: dict[str, Any]) -> bytes:
    events = [
        {"type": "response.created", "response": {"status": "in_progress", "usage": None, "error": None}},
        {"type": "response.output_item.added", "item": {"type": "reasoning"}},
        {"type": "response.reasoning_text.delta", "delta": "hm"},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        *({"type": "response.output_text.delta", "delta": piece} for piece in PIECES),
        {"type": "response.output_text.done", "text": TEXT},
        *between,
        last,
    ]
    return "".join(frame(event) for event in events).replace("hm", "h\u2026").encode()


def messages_stream(reason: str | None = "end_turn", *between: dict[str, Any]) -> bytes:
    count = {"input_tokens": 2, "output_tokens": 0, "cache_read_input_tokens": 5}
    delta = {"type": "content_block_delta", "index": 0}
    events = [
        {"type": "message_start", "message": {"content": [], "stop_reason": None, "usage": count}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {**delta, "delta": {"type": "thinking_delta", "thinking": "h\u2026"}},
        {**delta, "delta": {"type": "signature_delta", "signature": "x"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *({**delta, "delta": {"type": "text_delta", "text": piece}} for piece in PIECES),
        {"type": "content_block_stop", "index": 1},
        *between,
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return "".join(frame(event, end="\r\n\r\n" if i % 2 else "\n\n") for i, event in enumerate(events)).encode()


def completions_stream() -> bytes:
    choices = [{"index": 0, "text": piece, "finish_reason": None} for piece in PIECES]
    events: list[dict[str, Any]] = [{"choices": [choice]} for choice in choices]
    events.append({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
    events.append({"choices": [], "usage": usage})
    return ("".join(frame(event, named=False) for event in events) + "data: [DONE]\n\n").encode()


STREAMS: list[tuple[type[Answer], bytes, int]] = [
    (ResponsesAnswer, responses_stream({"type": "response.completed", "response": response()}), 3),
    (MessagesAnswer, messages_stream(), 4),
    (CompletionsAnswer, completions_stream(), 2),
]
NAMES = [reader.__name__ for reader, _, _ in STREAMS]


def read(reader: type[Answer], *pieces: bytes, streamed: bool = True) -> Answer:
    answer = reader(streamed)
    for piece in pieces:
        answer.feed(piece)
    answer.finish()
    return answer


@pytest.mark.parametrize(("reader", "stream", "chunks"), STREAMS, ids=NAMES)
def test_a_stream_cut_at_any_byte_gives_the_same_text(reader: type[Answer], stream: bytes, chunks: int) -> None:
    for cut in range(len(stream) + 1):
        answer = read(reader, stream[:cut], stream[cut:])
        assert (answer.text, answer.finish_reason, answer.complete) == (TEXT, "stop", True), cut
        assert (answer.usage, answer.chunks, answer.tool_calls) == (Usage(7, 3, 5), chunks, False), cut


@pytest.mark.parametrize(("reader", "stream", "chunks"), STREAMS, ids=NAMES)
def test_a_stream_that_breaks_off_is_not_complete(reader: type[Answer], stream: bytes, chunks: int) -> None:
    last = stream.rstrip().rfind(b"\n\n") if reader is not MessagesAnswer else stream.rfind(b"event: message_stop")
    for cut in range(last):
        assert not read(reader, stream[:cut]).complete


@given(st.sampled_from([reader for reader, _, _ in STREAMS]), st.binary())
def test_no_bytes_break_a_reader(reader: type[Answer], data: bytes) -> None:
    read(reader, data)
    read(reader, data, streamed=False)


scalars = st.none() | st.booleans() | st.integers() | st.text()
KEYS = st.sampled_from(
    ["type", "delta", "response", "item", "output", "content", "usage", "text", "status", "content_block", "message",
     "stop_reason", "choices", "finish_reason", "input_tokens_details", "incomplete_details", "reason"]
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.completed", "response.incomplete", "response.output_item.added", "response.output_text.delta", "message",
     "message_start", "message_delta", "content_block_start", "content_block_delta", "text_delta", "output_text"]
)  # fmt: skip
odd = st.recursive(
    scalars | TYPES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@given(st.sampled_from([reader for reader, _, _ in STREAMS]), st.dictionaries(KEYS, odd))
def test_no_shape_breaks_a_reader(reader: type[Answer], data: dict[str, Any]) -> None:
    read(reader, f"data: {json.dumps(data)}\n\n".encode())
    read(reader, json.dumps(data).encode(), streamed=False)


# --- one piece -----------------------------------------------------------------------------------------------------

USAGE = {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 5}


def message(*blocks: dict[str, Any], reason: str = "end_turn") -> bytes:
    return json.dumps({"type": "message", "content": blocks, "stop_reason": reason, "usage": USAGE}).encode()


def made(status: str = "completed", **more: Any) -> bytes:
    return json.dumps(response(status, **more)).encode()


def test_answers_in_one_piece() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    for reader, body, prompt in (
        (ResponsesAnswer, made(), 7),
        # Anthropic counts what its cache gave beside the input, not in it.
        (MessagesAnswer, message(thought, {"type": "text", "text": TEXT}), 12),
    ):
        answer = read(reader, body[:9], body[9:], streamed=False)
        assert (answer.text, answer.finish_reason, answer.complete) == (TEXT, "stop", True)
        assert (answer.usage, answer.tool_calls) == (Usage(prompt, 3, 5), False)
        assert not read(reader, body[:-1], streamed=False).complete


def test_tokens_that_a_backend_wrote_into_its_cache_are_counted_apart() -> None:
    anthropic = {"input_tokens": 2, "output_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 4}
    openai = {"input_tokens": 11, "output_tokens": 3}
    openai |= {"input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 4}}
    body = {"content": [], "stop_reason": "end_turn", "usage": anthropic}
    assert read(MessagesAnswer, json.dumps(body).encode(), streamed=False).usage == Usage(11, 3, 5, 4)
    body = response(usage=openai)
    assert read(ResponsesAnswer, json.dumps(body).encode(), streamed=False).usage == Usage(11, 3, 5, 4)


@pytest.mark.parametrize(
    ("reader", "body", "reason", "more"),
    [
        (MessagesAnswer, message({"type": "text", "text": "x"}, reason="max_tokens"), "length", False),
        (MessagesAnswer, message({"type": "text", "text": "x"}, reason="stop_sequence"), "stop_sequence", False),
        (MessagesAnswer, message({"type": "text", "text": "x"}, reason="refusal"), "content_filter", False),
        (MessagesAnswer, message({"type": "tool_use", "id": "1", "name": "f", "input": {}}, reason="tool_use"),
         "tool_calls", True),
        (MessagesAnswer, message({"type": "text", "text": "x", "citations": [{"type": "page"}]}), "stop", True),
        (MessagesAnswer, message({"type": "server_tool_use"}, {"type": "text", "text": "x"}), "stop", True),
        (ResponsesAnswer, made("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length", False),
        (ResponsesAnswer, made("failed"), "error", False),
        (ResponsesAnswer, made(output=[{"type": "function_call"}]), "tool_calls", True),
        (ResponsesAnswer, made(output=[{"type": "message", "content": [{"type": "refusal"}]}]), "tool_calls", True),
    ],
)  # fmt: skip
def test_other_endings(reader: type[Answer], body: bytes, reason: str, more: bool) -> None:
    answer = read(reader, body, streamed=False)
    assert (answer.finish_reason, answer.tool_calls, answer.complete) == (reason, more, True)


def test_other_endings_of_streams() -> None:
    call = {"type": "response.output_item.added", "item": {"type": "function_call"}}
    answer = read(ResponsesAnswer, responses_stream({"type": "response.completed", "response": response()}, call))
    assert (answer.finish_reason, answer.tool_calls) == ("tool_calls", True)
    cut = {"type": "response.incomplete", "response": response("incomplete", incomplete_details=None)}
    assert read(ResponsesAnswer, responses_stream(cut)).finish_reason == "other"
    assert not read(ResponsesAnswer, responses_stream({"type": "error", "message": "x"})).complete
    use = {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "1", "name": "f"}}
    assert read(MessagesAnswer, messages_stream("tool_use", use)).tool_calls
    assert not read(MessagesAnswer, messages_stream("end_turn", {"type": "error", "error": {"type": "x"}})).complete
