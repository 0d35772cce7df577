"""Requests that are no conversation: `POST /v1/embeddings`, and what other gateways let through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triton_router.completion import Completion
from triton_router.dialects.request import Mode, ModelRequest, Turn, tokens_in
from triton_router.errors import Refusal


class OtherRequest(ModelRequest):
    """Texts for a model that does not answer in words. Nothing is told to it, only what it must not see is kept out."""

    __slots__ = ()

    NAME = "other"
    CONVERSATION = "input"
    TOKEN_LIMITS = ()
    NEEDED = frozenset({"model", "input"})
    MEMBERS = NEEDED | {"dimensions", "encoding_format", "user"}
    ANSWER = None

    def _read(self) -> Iterator[Turn]:
        yield Turn("user", "\n".join(text for text, _ in self.texts()))

    def has_tokens(self) -> bool:
        return super().has_tokens() or tokens_in(self.get("input")) or tokens_in(self.get("prompt"))

    def tell(self, prompt: str, mode: Mode) -> None:
        self._ignore("system_prompt")

    def think(self, parameter: str, enabled: bool) -> None:
        self._ignore("reasoning")

    def think_with(self, effort: str) -> None:
        self._ignore("reasoning")

    def answer(self, text: str, model: str, usage: dict[str, Any] | None = None) -> Completion:
        """Raises ``Refusal``: words are no answer here."""
        raise Refusal(403, text, code="blocked")
