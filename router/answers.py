"""Reading a backend's answer as it passes by: JSON in one piece, or server-sent events cut anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import orjson

# More than that is no answer that anybody would want to keep; reading it stops.
LARGEST = 8 * 1024 * 1024


class Events:
    """Server-sent events out of pieces that end anywhere, also inside a character or a line end."""

    __slots__ = ("_data", "_rest", "held")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        # Bytes that wait for the end of their event.
        self.held = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that ``piece`` completes."""
        self._rest.append(piece)
        self.held += len(piece)
        # A long line is put together once, when its end has come.
        if b"\n" in piece or b"\r" in piece or any(part.endswith(b"\r") for part in self._rest[-2:-1]):
            yield from self._lines(b"".join(self._rest))

    def _lines(self, held: bytes) -> Iterator[bytes]:
        # A carriage return at the end may be half of a line end.
        whole = held[:-1] if held.endswith(b"\r") else held
        *lines, rest = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = [rest + held[len(whole) :]]
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
        self.held = len(self._rest[0]) + sum(map(len, self._data))


Channel = tuple[Any, ...]
"""Which text of an answer a piece belongs to: the number of its choice or block, and names."""


class Piece(NamedTuple):
    """A piece of what a model says, as ``holder[name]`` in an event. Those of one ``channel`` make one text.

    ``arguments``: that text is JSON, the arguments of a call.
    """

    holder: dict[str, Any]
    name: str
    channel: Channel
    arguments: bool = False

    @property
    def text(self) -> str:
        return str(self.holder[self.name])


@dataclass(slots=True)
class Usage:
    """Tokens, as the backend counted them. Of those of the prompt it had ``cached`` some, and ``written`` others into
    its cache."""

    prompt: int
    completion: int
    cached: int
    written: int = 0


@dataclass(slots=True)
class Answer(ABC):
    """The content of one response, read with :meth:`feed` and :meth:`finish`. Each dialect has a subclass.

    ``complete`` says that the end was seen and understood; ``chunks`` counts the pieces of a stream that carried text.
    ``finish_reason`` is in the chat API's words, ``written_usage`` in the backend's. ``tool_calls`` is set by whatever
    the text alone does not say: a call, its result, a citation.

    It has 13 attributes: nine results, and four for the state of a body that comes in pieces.
    """

    # Whether a line behind the last event says that a stream is whole; newer APIs say it in an event.
    DONE_LINE: ClassVar[bool] = False

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
        if self._events.held > LARGEST:
            self._broken, self._events = True, Events()
        return self.chunks > before

    def finish(self) -> None:
        """The body is whole."""
        if self.streamed or self._broken:
            return
        answer = _object(bytes(self._body))
        self._body.clear()
        if answer is not None:
            self._read_model(answer)
            self._read_whole(answer)
            self.complete = self.finish_reason is not None

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            if self.DONE_LINE:
                self._complete()
            return
        event = _object(data)
        if event is None or event.get("error") is not None or event.get("type") == "error":
            self._broken = True
        else:
            if self.model is None:
                self._read_model(event)
            self._read_event(event)

    def _read_model(self, message: dict[str, Any]) -> None:
        """The model's name, which newer APIs put into an event's ``message`` or ``response``."""
        for holder in (message, message.get("message"), message.get("response")):
            if isinstance(name := inside(holder, "model"), str):
                self.model = name
                return

    @classmethod
    @abstractmethod
    def pieces(cls, event: dict[str, Any]) -> Iterator[Piece]:
        """The pieces of text in an event of a stream, all strings."""

    @classmethod
    @abstractmethod
    def ended(cls, event: dict[str, Any]) -> Iterator[Channel]:
        """The channels, or how they begin, that have no more to come with or after ``event``."""

    @classmethod
    def another(cls, event: dict[str, Any], piece: Piece, text: str) -> dict[str, Any]:
        """An event behind ``event`` that adds ``text`` to the channel of ``piece``, one of its pieces, and no more."""
        more = {**piece.holder, piece.name: text}
        return more if piece.holder is event else {**event, "delta": more}

    @classmethod
    @abstractmethod
    def cut_off(cls, first: dict[str, Any], event: dict[str, Any], channel: Channel, text: str) -> list[dict[str, Any]]:
        """The events that end a stream behind ``event``, as its API says that content was withheld.

        ``first`` is the stream's first event; ``text`` is what the ``channel`` of one of its pieces has said.
        """

    @classmethod
    @abstractmethod
    def withheld(cls, answer: dict[str, Any], message: str) -> dict[str, Any]:
        """A whole answer that says ``message`` in the place of what it said."""

    @abstractmethod
    def _read_whole(self, answer: dict[str, Any]) -> None: ...

    @abstractmethod
    def _read_event(self, event: dict[str, Any]) -> None: ...

    # --- for the dialects that read -----------------------------------------------------------------------

    def _complete(self) -> None:
        self.complete = not self._broken

    def _add_text(self, text: Any) -> None:
        """A piece of the answer's text."""
        if isinstance(text, str) and text:
            self.chunks += 1
            if len(self.text) + len(text) <= LARGEST:
                self.text += text
            else:
                self._broken = True

    def _add_more_than_text(self) -> None:
        self.chunks += 1
        self.tool_calls = True

    def _set_usage(
        self, counts: Any, prompt: str, completion: str, cached: int, written: int = 0, beside: int = 0
    ) -> None:
        """Usage as its ``counts`` say, of which two have these names; ``beside`` are tokens of the prompt not in the
        first."""
        if isinstance(counts, dict):
            self.usage = Usage(count(counts.get(prompt)) + beside, count(counts.get(completion)), cached, written)
            self.written_usage = counts


def count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def inside(value: Any, name: str) -> Any:
    """What an object has under ``name``; ``None`` if it is no object."""
    return value.get(name) if isinstance(value, dict) else None


def first(value: Any) -> Any:
    """The first element of a list; ``None`` if there is none."""
    return value[0] if isinstance(value, list) and value else None


def strings(holder: Any, names: Iterable[str], channel: Channel, *, arguments: bool = False) -> Iterator[Piece]:
    """Those of an object's members called ``names`` that are strings, as pieces."""
    for name in names:
        if isinstance(inside(holder, name), str):
            yield Piece(holder, name, (*channel, name), arguments)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
