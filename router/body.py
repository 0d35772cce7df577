"""The JSON object that a request carries: reading it, and changing a few members byte for byte in place.

The body is never re-serialised: members that nobody changes keep their exact text, so large integers, lone surrogates,
number formats, key order and unknown fields survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from triton_router.errors import MalformedRequest

_SPACE = re.compile(r"[ \t\n\r]*")


def _integer(digits: str) -> int | str:
    # `int` refuses more digits than this (CPython's guard against quadratic time); the text itself is kept anyway.
    return int(digits) if len(digits) <= 4000 else digits


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_scan = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant).raw_decode


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the top-level object: its value, and where key and value stand in the text."""

    value: Any
    key_start: int
    start: int
    end: int


@dataclass(slots=True)
class Body:
    """A parsed body.

    ``members`` are the top-level members in order. Rewriting methods collect edits; :meth:`encode` applies them.
    """

    text: str
    members: dict[str, Member]
    _close: int
    _changed: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read ``body``.

        Raises:
            MalformedRequest: it is not UTF-8, not a JSON object, or names a top-level member twice.
        """
        try:
            text = body.decode("utf-8-sig") if body.startswith(b"\xef\xbb\xbf") else body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedRequest(f"the body is not UTF-8 (byte {error.start})") from error
        try:
            members, close = _top_level(text)
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise MalformedRequest(f"the body is not valid JSON: {reason}") from error
        return cls(text, members, close)

    def get(self, name: str) -> Any:
        """Value of a top-level member as the client sent it, or ``None``."""
        member = self.members.get(name)
        return None if member is None else member.value

    def current(self, name: str) -> Any:
        """Value of a top-level member as it is to be sent, or ``None``."""
        if name not in self._changed:
            return self.get(name)
        text = self._changed[name]
        return None if text is None else _scan(text, 0)[0]

    @property
    def model(self) -> str | None:
        model = self.get("model")
        if model is not None and not isinstance(model, str):
            raise MalformedRequest("`model` must be a string", "model")
        return model or None

    def set(self, name: str, value: Any) -> None:
        """Give a top-level member a new value; append it if it is not there."""
        self._changed[name] = json.dumps(value, separators=(",", ":"))

    def remove(self, name: str) -> None:
        """Take a top-level member out, if it is there."""
        self._changed[name] = None

    def merge(self, name: str, value: Mapping[str, Any]) -> None:
        """Set keys inside a top-level object, keeping its other keys as they are written."""
        text = self._text_of(name)
        if text is None or not text.startswith("{"):
            self.set(name, value)
            return
        inner, close = _members(text, 0)
        changed = {key: json.dumps(item, separators=(",", ":")) for key, item in value.items()}
        self._changed[name] = _splice(text, 0, inner, close, changed)

    def edit_elements(self, name: str, edit: Callable[[list[str], list[Any]], list[str]]) -> None:
        """Rewrite a top-level array as texts.

        ``edit`` gets the JSON text of each element and the parsed elements, and returns the texts to send; a text that
        it returns unchanged stays byte for byte. A member that is no array counts as an empty one.
        """
        texts = self._elements_of(name)
        self._changed[name] = "[" + ",".join(edit(texts, self.current(name) if texts else [])) + "]"

    def keep_elements(self, name: str, kept: Collection[int]) -> None:
        """Leave only the elements at the places ``kept`` in a top-level array, each as it is written."""
        self.edit_elements(name, lambda texts, _: [text for index, text in enumerate(texts) if index in kept])

    def _text_of(self, name: str) -> str | None:
        """What a member is to be sent as; ``None`` if it is not there, or no longer."""
        if name in self._changed:
            return self._changed[name]
        member = self.members.get(name)
        return None if member is None else self.text[member.start : member.end]

    def _elements_of(self, name: str) -> list[str]:
        text = self._text_of(name)
        if text is None or not text.startswith("[") or not text[1:-1].strip():
            return []
        return _elements(text, 0)

    @property
    def changed(self) -> bool:
        """Whether anything was edited."""
        return bool(self._changed)

    def encode(self) -> bytes:
        """The body to send, UTF-8, with all edits applied."""
        return _splice(self.text, 0, list(self.members.items()), self._close, self._changed, tail=True).encode()


def with_member(text: str, name: str, value: Any) -> str:
    """The JSON object ``text`` with one member set, all else as written."""
    members, close = _members(text, 0)
    return _splice(text, 0, members, close, {name: json.dumps(value, separators=(",", ":"))})


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _members(text: str, position: int) -> tuple[list[tuple[str, Member]], int]:
    """Members of the object that begins at ``position``, and the place of its closing brace."""
    members: list[tuple[str, Member]] = []
    position = _skip_space(text, position + 1)
    if text[position : position + 1] == "}":
        return members, position
    while True:
        if text[position : position + 1] != '"':
            raise ValueError(f"expected a member name (character {position})")
        key_start = position
        name, position = _scan(text, position)
        position = _skip_space(text, position)
        if text[position : position + 1] != ":":
            raise ValueError(f"expected ':' (character {position})")
        start = _skip_space(text, position + 1)
        value, end = _scan(text, start)
        members.append((name, Member(value, key_start, start, end)))
        position = _skip_space(text, end)
        if text[position : position + 1] == "}":
            return members, position
        if text[position : position + 1] != ",":
            raise ValueError(f"expected ',' or '}}' (character {position})")
        position = _skip_space(text, position + 1)


def _top_level(text: str) -> tuple[dict[str, Member], int]:
    begin = _skip_space(text, 0)
    if text[begin : begin + 1] != "{":
        raise ValueError("it must be an object")
    listed, close = _members(text, begin)
    if _skip_space(text, close + 1) != len(text):
        raise ValueError(f"something follows the object (character {close + 1})")
    members: dict[str, Member] = {}
    for name, member in listed:
        # Two readers of one body may each believe another value: what we route by is not what the backend obeys.
        if name in members:
            raise ValueError(f"member {name!r} is there twice")
        members[name] = member
    return members, close


def _splice(
    text: str,
    begin: int,
    members: list[tuple[str, Member]],
    close: int,
    changed: Mapping[str, str | None],
    *,
    tail: bool = False,
) -> str:
    """The object at ``begin`` with members replaced (text), removed (``None``) or added; ``tail`` keeps the rest."""
    pieces = [text[begin : members[0][1].key_start if members else close]]
    previous_end, empty = close, True
    for name, member in members:
        value = changed.get(name, text[member.start : member.end])
        if value is not None:
            # The text between two members holds their comma.
            pieces += [
                "" if empty else text[previous_end : member.key_start],
                text[member.key_start : member.start],
                value,
            ]
            empty = False
        previous_end = member.end
    known = {name for name, _ in members}
    for name, value in changed.items():
        if value is not None and name not in known:
            pieces += ["" if empty else ",", json.dumps(name), ":", value]
            empty = False
    pieces.append(text[previous_end if members else close : close] + (text[close:] if tail else "}"))
    return "".join(pieces)


def _elements(text: str, start: int) -> list[str]:
    """The texts of the elements of the (valid, non-empty) array that begins at ``start``."""
    elements = []
    position = start
    while True:
        position = _skip_space(text, position + 1)
        _, end = _scan(text, position)
        elements.append(text[position:end])
        position = _skip_space(text, end)
        if text[position] == "]":
            return elements
