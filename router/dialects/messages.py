"""Messages: `POST /v1/messages`, Anthropic's API as vLLM speaks it.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from triton_router.answers import Answer, Channel, Piece, count, inside, strings
from triton_router.completion import Completion, event, streamed, whole
from triton_router.dialects.request import (
    SYSTEM_ROLES,
    Mode,
    ModelRequest,
    Turn,
    blocks_of,
    images_in,
    joined,
    named,
    names,
    objects,
    parts_of,
    role_of,
    text_of,
)
from triton_router.errors import MalformedRequest
from triton_router.names import MESSAGES_PATH

PATH = MESSAGES_PATH

# In the words of the chat API. A stop sequence is named in the answer, so it is not the same as an end.
_REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
_TEXT_OR_THOUGHT = ("text", "thinking", "redacted_thinking")
_DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}
_DELTAS_OF_THOUGHT = ("thinking_delta", "signature_delta")
_NO_USAGE = {"input_tokens": 0, "output_tokens": 0}
# vLLM joins the blocks of a system text without anything between them.
_PARAGRAPH = "\n\n"


class MessagesAnswer(Answer):
    """Reads the content blocks of a message, or the events that build them."""

    __slots__ = ()

    @classmethod
    def pieces(cls, event: dict[str, Any]) -> Iterator[Piece]:
        channel = (event.get("index"),)
        begun = strings(event.get("content_block"), ("text", "thinking"), channel)
        yield from (piece for piece in begun if piece.text)
        yield from strings(event.get("delta"), ("text", "thinking"), channel)
        yield from strings(event.get("delta"), ("partial_json",), channel, arguments=True)

    @classmethod
    def another(cls, event: dict[str, Any], piece: Piece, text: str) -> dict[str, Any]:
        delta = {"type": _DELTAS[piece.name], piece.name: text}
        return {"type": "content_block_delta", "index": event.get("index"), "delta": delta}

    @classmethod
    def ended(cls, event: dict[str, Any]) -> Iterator[Channel]:
        if event.get("type") == "content_block_stop":
            yield (event.get("index"),)

    @classmethod
    def cut_off(cls, first: dict[str, Any], event: dict[str, Any], channel: Channel, text: str) -> list[dict[str, Any]]:
        stop = {"stop_reason": "refusal", "stop_sequence": None}
        return [
            {"type": "content_block_stop", "index": event.get("index")},
            {"type": "message_delta", "delta": stop, "usage": _NO_USAGE},
            {"type": "message_stop"},
        ]

    @classmethod
    def withheld(cls, answer: dict[str, Any], message: str) -> dict[str, Any]:
        return {
            **answer,
            "content": [{"type": "text", "text": message}],
            "stop_reason": "refusal",
            "stop_sequence": None,
        }

    def _read_whole(self, answer: dict[str, Any]) -> None:
        for block in parts_of(answer.get("content")):
            self._block(block)
            self._add_text(inside(block, "text"))
        self._count(answer.get("usage"))
        self._stop(answer.get("stop_reason"))

    def _read_event(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._count(inside(event.get("message"), "usage"))
            case "content_block_start":
                block = event.get("content_block")
                self._block(block)
                self._add_text(inside(block, "text"))
            case "content_block_delta":
                self._delta(event.get("delta"))
            case "message_delta":
                self._stop(inside(event.get("delta"), "stop_reason"))
                self._count(event.get("usage"))
            case "message_stop":
                self._complete()

    def _delta(self, delta: Any) -> None:
        match inside(delta, "type"):
            case "text_delta":
                self._add_text(delta.get("text"))
            case kind if kind in _DELTAS_OF_THOUGHT:
                self.chunks += 1
            case _:
                self._add_more_than_text()

    def _block(self, block: Any) -> None:
        if inside(block, "type") not in _TEXT_OR_THOUGHT or inside(block, "citations"):
            self._add_more_than_text()

    def _count(self, usage: Any) -> None:
        """A stream counts twice: the prompt at its start, all of it at its end."""
        if isinstance(usage, dict):
            counts = (self.written_usage or {}) | {name: value for name, value in usage.items() if value is not None}
            cached = count(counts.get("cache_read_input_tokens"))
            written = count(counts.get("cache_creation_input_tokens"))
            # `input_tokens` are only those that were neither read from the backend's cache nor written to it.
            self._set_usage(counts, "input_tokens", "output_tokens", cached, written, beside=cached + written)

    def _stop(self, reason: Any) -> None:
        if isinstance(reason, str):
            self.finish_reason = _REASONS.get(reason, reason)


class MessagesRequest(ModelRequest):
    """A request for a message. System text stands beside the messages, tool results stand in the user's."""

    __slots__ = ()

    NAME = "messages"
    CONVERSATION = "messages"
    TOKEN_LIMITS = ("max_tokens",)
    NEEDED = frozenset({"model", "messages", "max_tokens", "stream"})
    MEMBERS = NEEDED | names(
        """
        cache_control container context_management inference_geo mcp_servers metadata output_config
        output_format service_tier speed stop_sequences system temperature thinking tool_choice tools top_k
        top_p chat_template_kwargs kv_transfer_params
        """
    )
    ANSWER = MessagesAnswer

    def _read(self) -> Iterator[Turn]:
        system = self.get("system")
        if system is not None and not isinstance(system, str | list):
            raise MalformedRequest("`system` must be a string or an array", "system")
        if system:
            yield Turn("system", text_of(system))
        for message in objects(self, "messages"):
            yield from _turns(message)

    def refers_to_stored(self) -> bool:
        """A container holds the files of earlier requests."""
        container = self.get("container")
        return bool(inside(container, "id") if isinstance(container, dict) else container)

    def tell(self, prompt: str, mode: Mode) -> None:
        """`system` is a text or a list of blocks. vLLM also takes system messages, and joins them to it."""
        own = self.current("system")
        if mode == "replace":
            self.set("system", prompt)
            messages = self.current("messages") or []
            remaining = [index for index, message in enumerate(messages) if message.get("role") not in SYSTEM_ROLES]
            if len(remaining) < len(messages):
                self.keep_elements("messages", remaining)
        elif isinstance(own, list) and own:
            text = _PARAGRAPH + prompt if mode == "append" else prompt + _PARAGRAPH
            block = _json_block(text)
            self.edit_elements("system", lambda texts, _: [*texts, block] if mode == "append" else [block, *texts])
        else:
            own = own if isinstance(own, str) else ""
            self.set("system", joined(own, prompt) if mode == "append" else joined(prompt, own))

    def think(self, parameter: str, enabled: bool) -> None:
        """vLLM reads its own switch and no `thinking`; for whoever does, one that says otherwise is taken out."""
        self.merge("chat_template_kwargs", {parameter: enabled})
        switch = inside(self.current("thinking"), "type")
        if switch is not None and (switch != "disabled") != enabled:
            self.remove("thinking")

    def think_with(self, effort: str) -> None:
        # This API knows no `minimal`.
        self.merge("output_config", {"effort": "low" if effort == "minimal" else effort})

    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        counted = usage or _NO_USAGE
        message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": counted,
        }
        if self.get("stream") is not True:
            return whole(message)
        begun = {**message, "content": [], "stop_reason": None, "usage": {**counted, "output_tokens": 0}}
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": counted},
            {"type": "message_stop"},
        ]
        return streamed(event(each, each["type"]) for each in events)


def _turns(message: dict[str, Any]) -> Iterator[Turn]:
    """One message: the results of tools in it first, each a turn of its own, then what was said."""
    role, content = role_of(message), message.get("content")
    blocks = [block for block in parts_of(content) if isinstance(block, dict)]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    for result in results:
        content_of = result.get("content")
        yield Turn("tool", text_of(content_of), images_in(content_of), answers=named(result, "tool_use_id"))
    calls = tuple(named(block, "id") for block in blocks if block.get("type") == "tool_use")
    if len(results) < len(parts_of(content)) or not results:
        yield Turn(role, text_of(content), images_in(content), calls, blocks=blocks_of(content))


def _json_block(text: str) -> str:
    return json.dumps({"type": "text", "text": text}, separators=(",", ":"))
