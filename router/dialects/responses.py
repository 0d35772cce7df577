"""Responses: `POST /v1/responses`, OpenAI's API as vLLM speaks it.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import time
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
    place_system,
    role_of,
    text_of,
)
from triton_router.errors import MalformedRequest
from triton_router.names import RESPONSES_PATH

PATH = RESPONSES_PATH

# In the words of the chat API. A run that failed has no finish reason there.
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
# Pieces of a stream that are no text of the answer, and still something that the model said.
_THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta", "response.reasoning.delta")
# What an answer tells of its request, and what stands there where the request says nothing.
_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


class ResponsesAnswer(Answer):
    """Reads the `output` items of a response, or the events that build them."""

    __slots__ = ()

    @classmethod
    def pieces(cls, event: dict[str, Any]) -> Iterator[Piece]:
        kind, delta, _ = str(event.get("type")).partition(".delta")
        if delta:
            # A call's arguments are JSON; what a custom tool gets is any text.
            yield from strings(event, ("delta",), _channel(event, kind), arguments="arguments" in kind)

    @classmethod
    def ended(cls, event: dict[str, Any]) -> Iterator[Channel]:
        kind, suffix, _ = str(event.get("type")).partition(".done")
        if suffix:
            yield _channel(event, kind)

    @classmethod
    def cut_off(cls, first: dict[str, Any], event: dict[str, Any], channel: Channel, text: str) -> list[dict[str, Any]]:
        begun = first.get("response")
        response = cls.withheld(begun if isinstance(begun, dict) else {}, text)
        return [{"type": "response.incomplete", "sequence_number": event.get("sequence_number"), "response": response}]

    @classmethod
    def withheld(cls, answer: dict[str, Any], message: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": message, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "incomplete"}
        reason = {"reason": "content_filter"}
        output = [{**item, "content": [part]}]
        return {**answer, "status": "incomplete", "incomplete_details": reason, "output": output}

    def _read_whole(self, answer: dict[str, Any]) -> None:
        for item in parts_of(answer.get("output")):
            self._item(item)
        self._end(answer)

    def _read_event(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "response.output_text.delta":
                self._add_text(event.get("delta"))
            case kind if kind in _THOUGHTS:
                self.chunks += 1
            case "response.function_call_arguments.delta" | "response.output_text.annotation.added":
                self._add_more_than_text()
            case "response.refusal.delta":
                self._add_more_than_text()
            case "response.output_item.added":
                if inside(event.get("item"), "type") not in ("message", "reasoning"):
                    self._add_more_than_text()
            case "response.completed" | "response.incomplete" | "response.failed":
                self._end(event.get("response"))
                self._complete()

    def _item(self, item: Any) -> None:
        kind = inside(item, "type")
        if kind != "message":
            self.tool_calls |= kind != "reasoning"
            return
        for part in parts_of(item.get("content")):
            if inside(part, "type") == "output_text":
                self._add_text(part.get("text"))
                self.tool_calls |= bool(part.get("annotations"))
            else:
                self.tool_calls = True

    def _end(self, response: Any) -> None:
        usage = inside(response, "usage")
        details = inside(usage, "input_tokens_details")
        cached, written = count(inside(details, "cached_tokens")), count(inside(details, "cache_write_tokens"))
        self._set_usage(usage, "input_tokens", "output_tokens", cached, written)
        match inside(response, "status"):
            case "completed":
                self.finish_reason = "tool_calls" if self.tool_calls else "stop"
            case "incomplete":
                reason = inside(inside(response, "incomplete_details"), "reason")
                self.finish_reason = _REASONS.get(reason, "other") if isinstance(reason, str) else "other"
            case "failed" | "cancelled":
                self.finish_reason = "error"


class ResponsesRequest(ModelRequest):
    """A request for a response. `input` is a text or a list of items, of which messages are one kind."""

    __slots__ = ()

    NAME = "responses"
    CONVERSATION = "input"
    IN_ITS_PLACE = ("previous_response_id", "conversation", "prompt")
    TOKEN_LIMITS = ("max_output_tokens",)
    NEEDED = frozenset({"model", "input", "stream", "previous_response_id", "conversation", "prompt"})
    MEMBERS = NEEDED | names(
        """
        background context_management include instructions max_output_tokens max_tool_calls metadata moderation
        parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
        safety_identifier service_tier store stream_options temperature text tool_choice tools top_logprobs
        top_p truncation user cache_salt chat_template_kwargs enable_response_messages frequency_penalty
        ignore_eos include_reasoning include_stop_str_in_output kv_transfer_params logit_bias media_io_kwargs
        mm_processor_kwargs presence_penalty previous_input_messages priority repetition_penalty request_id seed
        session_id skip_special_tokens stop structured_outputs top_k vllm_xargs
        """
    )
    ANSWER = ResponsesAnswer

    def _read(self) -> Iterator[Turn]:
        instructions = self.get("instructions")
        if instructions is not None and not isinstance(instructions, str):
            raise MalformedRequest("`instructions` must be a string", "instructions")
        if instructions:
            yield Turn("system", instructions)
        source = self.get("input")
        if isinstance(source, str):
            yield Turn("user", source)
        elif source is not None and not isinstance(source, list):
            raise MalformedRequest("`input` must be a string or an array", "input")
        else:
            yield from _turns(objects(self, "input"))

    def tell(self, prompt: str, mode: Mode) -> None:
        """`instructions` are the first system text; system messages in the `input` come after them."""
        own = self.current("instructions") or ""
        items = self.current("input")
        later = isinstance(items, list) and any(map(_is_system, items))
        message = {"type": "message", "role": "system", "content": prompt}
        if mode == "replace":
            self.set("instructions", prompt)
            if later:
                self.keep_elements("input", [index for index, item in enumerate(items) if not _is_system(item)])
        elif later and (mode == "append" or (mode == "insert" and not own)):
            self.edit_elements("input", lambda texts, parsed: place_system(texts, parsed, message, mode, _is_system))
        elif mode == "append":
            self.set("instructions", joined(own, prompt))
        else:
            self.set("instructions", joined(prompt, own))

    def think_with(self, effort: str) -> None:
        self.merge("reasoning", {"effort": effort})

    def refers_to_stored(self) -> bool:
        if any(self.get(name) for name in self.IN_ITS_PLACE):
            return True
        source = self.get("input")
        return isinstance(source, list) and any(_refers(item) for item in source)

    def text_suffices(self) -> bool:
        """Not with an earlier response that only the backend knows, nor where somebody may come back to this one."""
        elsewhere = ("previous_response", "previous_input_messages")
        more = ("store", "background", "include", "top_logprobs", "enable_response_messages")
        return super().text_suffices() and not any(self.get(name) for name in (*elsewhere, *more))

    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        response = self._response(model)
        message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant"}
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {**message, "status": "completed", "content": [part]}
        completed = {**response, "status": "completed", "output": [item], "usage": usage or _no_usage()}
        if self.get("stream") is not True:
            return whole(completed)
        begun = {**message, "status": "in_progress", "content": []}
        place = {"item_id": message["id"], "output_index": 0}
        within = {**place, "content_index": 0}
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": response}),
            ("response.in_progress", {"response": response}),
            ("response.output_item.added", {"output_index": 0, "item": begun}),
            ("response.content_part.added", {**within, "part": {**part, "text": ""}}),
            ("response.output_text.delta", {**within, "delta": text, "logprobs": []}),
            ("response.output_text.done", {**within, "text": text, "logprobs": []}),
            ("response.content_part.done", {**within, "part": part}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": completed}),
        ]
        return streamed(
            event({"type": kind, "sequence_number": number, **fields}, kind)
            for number, (kind, fields) in enumerate(events)
        )

    def _response(self, model: str) -> dict[str, Any]:
        repeated = {name: _or(self.get(name), default) for name, default in _REPEATED.items()}
        head = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time())}
        # Nobody will find it under its id.
        state = {"status": "in_progress", "background": False, "store": False, "error": None}
        return {**head, **state, "incomplete_details": None, "model": model, **repeated, "output": [], "usage": None}


def _channel(event: dict[str, Any], kind: str) -> tuple[Any, ...]:
    """Whose piece an event of a ``kind`` such as `response.output_text` is."""
    return (kind, *(event.get(name) for name in ("output_index", "content_index", "summary_index")))


def _turns(items: list[dict[str, Any]]) -> Iterator[Turn]:
    """The turns of an `input`. Calls that follow each other are one turn of the assistant, as in a chat."""
    calls: list[str] = []
    for item in items:
        kind = item.get("type") or "message"
        if isinstance(kind, str) and kind.endswith("_call"):
            calls.append(named(item, "call_id"))
            continue
        if calls:
            yield Turn("assistant", "", 0, tuple(calls))
            calls = []
        if kind == "message":
            content = item.get("content")
            yield Turn(role_of(item), text_of(content), images_in(content), blocks=blocks_of(content))
        elif isinstance(kind, str) and kind.endswith("_output"):
            output = item.get("output")
            yield Turn("tool", text_of(output), images_in(output), answers=named(item, "call_id"))
    if calls:
        yield Turn("assistant", "", 0, tuple(calls))


def _is_system(item: Any) -> bool:
    return item.get("role") in SYSTEM_ROLES and item.get("type") in (None, "message")


def _refers(item: Any) -> bool:
    """Whether an item of the `input` only names what the backend has stored."""
    return isinstance(item, dict) and (
        item.get("type") == "item_reference" or ("id" in item and "content" not in item and item.get("type") is None)
    )


def _no_usage() -> dict[str, Any]:
    return {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
