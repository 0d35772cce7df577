"""`fast_response`: a fixed answer at once, as JSON or as a stream, whichever the client asked for."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from router.chat import ChatRequest
from router.config.schema import FastResponseSettings


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in OpenAI's shape."""

    content_type: str
    body: bytes


def fast_response(settings: FastResponseSettings, request: ChatRequest, model: str) -> Answer:
    """The answer to ``request``. Nothing was generated, so the usage counts nothing."""
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if request.get("stream") is True:
        return Answer("text/event-stream", _stream(head, settings.message, request))
    message = {"role": "assistant", "content": settings.message}
    body = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _NO_USAGE,
    }
    return Answer("application/json", orjson.dumps(body))


_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _stream(head: dict[str, Any], message: str, request: ChatRequest) -> bytes:
    options = request.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True

    def event(choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices}
        return b"data: " + orjson.dumps(chunk | ({"usage": usage} if with_usage else {})) + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    events = [event(choice({"role": "assistant", "content": message}, None), None), event(choice({}, "stop"), None)]
    if with_usage:
        events.append(event([], _NO_USAGE))
    return b"".join((*events, b"data: [DONE]\n\n"))
