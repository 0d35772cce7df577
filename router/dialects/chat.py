"""Chat completions: `POST /v1/chat/completions`, OpenAI's API as vLLM speaks it.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, Self

from triton_router.answers import Answer, Channel, Piece, count, first, inside, strings
from triton_router.completion import DONE, Completion, event, streamed, whole
from triton_router.dialects.request import (
    SYSTEM_ROLES,
    Mode,
    ModelRequest,
    Turn,
    blocks_of,
    images_in,
    named,
    names,
    objects,
    parts_of,
    place_system,
    role_of,
    text_of,
)
from triton_router.errors import MalformedRequest
from triton_router.names import CHAT_PATH

PATH = CHAT_PATH

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_WORDS = ("content", "reasoning_content", "reasoning", "refusal")
# Beside its text, in a message or a piece of one.
_MORE_THAN_TEXT = ("tool_calls", "function_call", "annotations", "audio", "refusal")


class ChatAnswer(Answer):
    """Reads `choices`, one behind the other; the first says how it ends."""

    __slots__ = ()
    DONE_LINE = True

    @classmethod
    def pieces(cls, event: dict[str, Any]) -> Iterator[Piece]:
        for choice in parts_of(event.get("choices")):
            yield from cls._delta_texts(inside(choice, "delta"), (inside(choice, "index"),))

    @classmethod
    def _delta_texts(cls, delta: Any, channel: Channel) -> Iterator[Piece]:
        yield from strings(delta, _WORDS, channel)
        for part in parts_of(inside(delta, "content")):
            yield from strings(part, ("text",), (*channel, "content"))
        yield from strings(inside(delta, "audio"), ("transcript",), (*channel, "audio"))
        yield from strings(inside(delta, "function_call"), ("arguments",), channel, arguments=True)
        for call in parts_of(inside(delta, "tool_calls")):
            place = (*channel, "call", inside(call, "index"))
            yield from strings(inside(call, "function"), ("arguments",), place, arguments=True)
            yield from strings(inside(call, "custom"), ("input",), place)

    @classmethod
    def ended(cls, event: dict[str, Any]) -> Iterator[Channel]:
        for choice in parts_of(event.get("choices")):
            if inside(choice, "finish_reason") is not None:
                yield (choice.get("index"),)

    @classmethod
    def another(cls, event: dict[str, Any], piece: Piece, text: str) -> dict[str, Any]:
        more: dict[str, Any] = {piece.name: text}
        match piece.channel:
            case (_, "call", number, name):
                more = {"tool_calls": [{"index": number, "custom" if name == "input" else "function": more}]}
            case (_, "arguments"):
                more = {"function_call": more}
            case (_, "content", _):
                more = {"content": [{"type": "text", **more}]}
            case (_, "audio", _):
                more = {"audio": more}
        return with_choice(event, {"index": piece.channel[0], "delta": more})

    @classmethod
    def cut_off(cls, first: dict[str, Any], event: dict[str, Any], channel: Channel, text: str) -> list[dict[str, Any]]:
        return [with_choice(event, {"index": channel[0] if channel else 0, "delta": {}}, finish="content_filter")]

    @classmethod
    def withheld(cls, answer: dict[str, Any], message: str) -> dict[str, Any]:
        spoken = {"message": {"role": "assistant", "content": message}}
        return {**answer, "choices": [{"index": 0, **spoken, "logprobs": None, "finish_reason": "content_filter"}]}

    def _read_whole(self, answer: dict[str, Any]) -> None:
        self._take(answer, "message")

    def _read_event(self, event: dict[str, Any]) -> None:
        self._take(event, "delta")

    def _take(self, answer: dict[str, Any], part: str) -> None:
        usage, choices = answer.get("usage"), parts_of(answer.get("choices"))
        details = inside(usage, "prompt_tokens_details")
        cached, written = count(inside(details, "cached_tokens")), count(inside(details, "cache_write_tokens"))
        self._set_usage(usage, "prompt_tokens", "completion_tokens", cached, written)
        for choice in choices:
            self._listen(inside(choice, part))
        if isinstance(reason := inside(first(choices), "finish_reason"), str):
            self.finish_reason = reason

    def _listen(self, message: Any) -> None:
        if isinstance(message, dict):
            content = message.get("content")
            if content and not isinstance(content, str):
                # Some backends answer in parts: thoughts, references, and text between them that is not read here.
                self._add_more_than_text()
            elif content:
                self._add_text(content)
            elif message.get("reasoning_content") or message.get("reasoning"):
                self.chunks += 1
            if any(message.get(name) for name in _MORE_THAN_TEXT):
                self._add_more_than_text()


class ChatRequest(ModelRequest):
    """A chat request."""

    __slots__ = ()

    NAME = "chat"
    CONVERSATION = "messages"
    TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
    NEEDED = frozenset({"model", "messages", "stream"})
    MEMBERS = NEEDED | names(
        """
        audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
        metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort
        response_format safety_identifier seed service_tier stop store stream_options temperature tool_choice
        tools top_logprobs top_p user verbosity web_search_options add_generation_prompt add_special_tokens
        allowed_token_ids bad_words cache_salt chat_template chat_template_kwargs continue_final_message
        documents echo guided_choice guided_decoding_backend guided_grammar guided_json guided_regex
        guided_whitespace_pattern ignore_eos include_reasoning include_stop_str_in_output kv_transfer_params
        length_penalty logits_processors min_p min_tokens mm_processor_kwargs priority prompt_logprobs
        repetition_penalty request_id return_token_ids return_tokens_as_token_ids skip_special_tokens
        spaces_between_special_tokens stop_token_ids structural_tag structured_outputs top_k
        truncate_prompt_tokens use_beam_search vllm_xargs
        """
    )
    ANSWER = ChatAnswer

    @classmethod
    def saying(cls, text: str, model: str | None = None) -> Self:
        """A request, to ``model`` if it is given, in which the user says ``text`` and nothing else."""
        named = {} if model is None else {"model": model}
        return cls.parse(json.dumps({**named, "messages": [{"role": "user", "content": text}]}).encode())

    def _read(self) -> Iterator[Turn]:
        for message in objects(self, "messages"):
            role, content = role_of(message), message.get("content")
            calls = message.get("tool_calls") if role == "assistant" else None
            ids = [named(call, "id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else ()
            answers = named(message, "tool_call_id") if role == "tool" else ""
            yield Turn(role, text_of(content), images_in(content), tuple(ids), answers, blocks_of(content))

    def refers_to_stored(self) -> bool:
        """Of what was said aloud, only the id is sent again."""
        spoken = [message["audio"] for message in parts_of(self.get("messages")) if message.get("audio")]
        return any(inside(audio, "id") for audio in spoken)

    def require_conversation(self) -> None:
        if not self.get("messages") and self.get("input"):
            raise MalformedRequest(
                "`messages` must not be empty; `input` belongs to the Responses API, which is at /v1/responses",
                "messages",
            )
        super().require_conversation()

    def tell(self, prompt: str, mode: Mode) -> None:
        message = {"role": "system", "content": prompt}
        self.edit_elements("messages", lambda texts, parsed: place_system(texts, parsed, message, mode, _is_system))

    def think_with(self, effort: str) -> None:
        self.set("reasoning_effort", effort)

    def request_usage(self) -> bool:
        return include_usage(self)

    def text_suffices(self) -> bool:
        plain = self.get("n") in (None, 1) and not self.get("logprobs") and not asks_for_tokens(self)
        return plain and super().text_suffices()

    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        if self.get("stream") is True:
            return streamed(self._events(head, text, usage or NO_USAGE))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return whole({**head, "object": "chat.completion", "choices": [choice], "usage": usage or NO_USAGE})

    def _events(self, head: dict[str, Any], text: str, usage: dict[str, Any]) -> Iterator[bytes]:
        def chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
            return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

        text_chunk, end = chunk({"role": "assistant", "content": text}, None), chunk({}, "stop")
        yield from chunks({**head, "object": "chat.completion.chunk"}, [text_chunk, end], self, usage)


def with_choice(event: dict[str, Any], choice: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """An event of the same stream as ``event``, with one choice."""
    head = {name: value for name, value in event.items() if name != "usage"}
    return {**head, "choices": [{**choice, "logprobs": None, "finish_reason": finish}]}


def include_usage(request: ModelRequest) -> bool:
    """Ask for the usage of a stream of chat or completions. Returns whether the client did not, or may not."""
    if request.get("stream") is not True or inside(request.current("stream_options"), "include_usage") is True:
        return False
    request.merge("stream_options", {"include_usage": True})
    return True


def asks_for_tokens(request: ModelRequest) -> bool:
    """Whether vLLM is asked for more of the prompt or the answer than their text."""
    # No alternatives to the prompt's tokens (0) are still numbers for these.
    return bool(request.get("return_token_ids")) or request.get("prompt_logprobs") is not None


def chunks(
    head: dict[str, Any], choices: list[dict[str, Any]], request: ModelRequest, usage: dict[str, Any]
) -> Iterator[bytes]:
    """The events of a stream of chat or completions: one choice each, then the usage if it was asked for."""
    with_usage = inside(request.get("stream_options"), "include_usage") is True
    for choice in choices:
        yield event({**head, "choices": [choice]} | ({"usage": None} if with_usage else {}))
    if with_usage:
        yield event({**head, "choices": [], "usage": usage})
    yield DONE


def _is_system(message: Any) -> bool:
    return message.get("role") in SYSTEM_ROLES
