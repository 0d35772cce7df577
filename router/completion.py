"""A chat answer of the router's own making, as JSON or as a stream, whichever the client asked for."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from router.chat import ChatRequest

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer in OpenAI's shape."""

    content_type: str
    body: bytes


def completion(request: ChatRequest, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
    """``text`` as the answer of ``model`` to ``request``."""
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if request.get("stream") is True:
        return Completion("text/event-stream", _stream(head, text, request, usage or NO_USAGE))
    message = {"role": "assistant", "content": text}
    body = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage or NO_USAGE,
    }
    return Completion("application/json", orjson.dumps(body))


def _stream(head: dict[str, Any], text: str, request: ChatRequest, usage: dict[str, Any]) -> bytes:
    options = request.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True

    def event(choices: list[dict[str, Any]], counted: dict[str, Any] | None) -> bytes:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices}
        return b"data: " + orjson.dumps(chunk | ({"usage": counted} if with_usage else {})) + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    events = [event(choice({"role": "assistant", "content": text}, None), None), event(choice({}, "stop"), None)]
    if with_usage:
        events.append(event([], usage))
    return b"".join((*events, b"data: [DONE]\n\n"))
