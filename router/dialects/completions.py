"""Completions: `POST /v1/completions`, OpenAI's API of old, as vLLM speaks it. A text in, its continuation out.

https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from triton_router.answers import Channel, Piece, inside, strings
from triton_router.completion import Completion, streamed, whole
from triton_router.dialects.chat import NO_USAGE, ChatAnswer, asks_for_tokens, chunks, include_usage, with_choice
from triton_router.dialects.request import Mode, ModelRequest, Turn, names, parts_of, tokens_in
from triton_router.errors import MalformedRequest
from triton_router.names import COMPLETIONS_PATH

PATH = COMPLETIONS_PATH


class CompletionsAnswer(ChatAnswer):
    """Reads `choices` too; each has its text at once, whole or in pieces."""

    __slots__ = ()

    @classmethod
    def pieces(cls, event: dict[str, Any]) -> Iterator[Piece]:
        for choice in parts_of(event.get("choices")):
            yield from strings(choice, ("text",), (inside(choice, "index"),))

    @classmethod
    def another(cls, event: dict[str, Any], piece: Piece, text: str) -> dict[str, Any]:
        return with_choice(event, {"index": piece.channel[0], "text": text})

    @classmethod
    def cut_off(cls, first: dict[str, Any], event: dict[str, Any], channel: Channel, text: str) -> list[dict[str, Any]]:
        return [with_choice(event, {"index": channel[0] if channel else 0, "text": ""}, finish="content_filter")]

    @classmethod
    def withheld(cls, answer: dict[str, Any], message: str) -> dict[str, Any]:
        return {
            **answer,
            "choices": [{"index": 0, "text": message, "logprobs": None, "finish_reason": "content_filter"}],
        }

    def _read_whole(self, answer: dict[str, Any]) -> None:
        self._take(answer, "text")

    def _read_event(self, event: dict[str, Any]) -> None:
        self._take(event, "text")

    def _listen(self, text: Any) -> None:
        self._add_text(text)


class CompletionsRequest(ModelRequest):
    """A request to continue a text. No chat template is filled in: there is no place for system text or thinking."""

    __slots__ = ()

    NAME = "completions"
    CONVERSATION = "prompt"
    IN_ITS_PLACE = ("prompt_embeds",)
    TOKEN_LIMITS = ("max_tokens",)
    NEEDED = frozenset({"model", "prompt", "stream"})
    MEMBERS = NEEDED | names(
        """
        best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop
        stream_options suffix temperature top_p user add_special_tokens allowed_token_ids bad_words cache_salt
        ignore_eos include_stop_str_in_output kv_transfer_params length_penalty logits_processors min_p
        min_tokens priority prompt_embeds prompt_logprobs repetition_penalty request_id response_format
        return_token_ids return_tokens_as_token_ids skip_special_tokens spaces_between_special_tokens
        stop_token_ids structured_outputs top_k truncate_prompt_tokens use_beam_search vllm_xargs
        """
    )
    ANSWER = CompletionsAnswer

    def _read(self) -> Iterator[Turn]:
        prompt = self.get("prompt")
        if isinstance(prompt, str):
            yield Turn("user", prompt)
        elif isinstance(prompt, list):
            # Tokens are not text, and no tokenizer of a backend's is at hand.
            yield Turn("user", "\n".join(text for text in prompt if isinstance(text, str)))
        elif prompt is not None:
            raise MalformedRequest("`prompt` must be a string or an array", "prompt")

    def has_tokens(self) -> bool:
        return super().has_tokens() or tokens_in(self.get("prompt")) or self.get("prompt_embeds") is not None

    def tell(self, prompt: str, mode: Mode) -> None:
        self._ignore("system_prompt")

    def think(self, parameter: str, enabled: bool) -> None:
        self._ignore("reasoning")

    def think_with(self, effort: str) -> None:
        self._ignore("reasoning")

    def request_usage(self) -> bool:
        return include_usage(self)

    def text_suffices(self) -> bool:
        one = all(self.get(name) in (None, 1) for name in ("n", "best_of"))
        special = any(self.get(name) for name in ("logprobs", "echo", "prompt_embeds"))
        more = special or self.get("logprobs") is not None or asks_for_tokens(self)
        return one and not more and isinstance(self.get("prompt"), str)

    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
        if self.get("stream") is True:
            return streamed(chunks(head, [choice], self, usage or NO_USAGE))
        return whole({**head, "choices": [choice], "usage": usage or NO_USAGE})
