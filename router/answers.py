"""Reading a backend's answer as it passes by: JSON in one piece, or server-sent events cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

# More than that is no chat answer that anybody would want to keep; reading it stops.
LARGEST = 8 * 1024 * 1024


class Events:
    """Server-sent events out of pieces that end anywhere, also inside a character or a line end."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that ``piece`` completes."""
        held = self._rest + piece
        # A carriage return at the end may be half of a line end.
        whole = held[:-1] if held.endswith(b"\r") else held
        *lines, rest = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held[len(whole) :]
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the backend counted them."""

    prompt: int
    completion: int
    cached: int


@dataclass(slots=True)
class Answer:
    """What one chat answer came to, read with :meth:`feed` and :meth:`finish`.

    ``complete`` says that the end was seen and understood; ``chunks`` counts the pieces of a stream that carried text.
    """

    streamed: bool
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    written_usage: dict[str, Any] | None = None
    tool_calls: bool = False
    complete: bool = False
    chunks: int = 0
    model: str | None = None
    _events: Events = field(default_factory=Events)
    _body: bytearray = field(default_factory=bytearray)
    _broken: bool = False

    def feed(self, piece: bytes) -> bool:
        """Read a piece of the body; whether it carried text of the answer (for streams)."""
        if not self.streamed:
            if len(self._body) + len(piece) <= LARGEST:
                self._body += piece
            else:
                self._broken = True
            return False
        before = self.chunks
        for data in self._events.feed(piece):
            self._event(data)
        return self.chunks > before

    def finish(self) -> None:
        """The body is whole."""
        if self.streamed or self._broken:
            return
        answer = _object(bytes(self._body))
        self._body.clear()
        if answer is None:
            return
        self._take(answer, "message")
        self.complete = self.finish_reason is not None

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.complete = not self._broken
            return
        chunk = _object(data)
        if chunk is None or "error" in chunk:
            self._broken = True
            return
        self._take(chunk, "delta")

    def _take(self, answer: dict[str, Any], part: str) -> None:
        if self.model is None and isinstance(model := answer.get("model"), str):
            self.model = model
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.usage, self.written_usage = _usage(usage), usage
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        said = choice.get(part)
        if isinstance(said, dict):
            self._listen(said)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = reason

    def _listen(self, said: dict[str, Any]) -> None:
        content = said.get("content")
        if isinstance(content, str) and content:
            self.chunks += 1
            if len(self.text) < LARGEST:
                self.text += content
        elif said.get("reasoning_content") or said.get("reasoning"):
            self.chunks += 1
        if said.get("tool_calls"):
            self.chunks += 1
            self.tool_calls = True


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
