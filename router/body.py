"""The JSON object that a request carries: reading it, and changing a few members byte for byte in place.

The body is never re-serialised: members that nobody changes keep their exact text, so large integers, lone surrogates,
number formats, key order and unknown fields survive.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from triton_router.errors import MalformedRequest

T = TypeVar("T")

_SPACE = re.compile(r"[ \t\n\r]*")
# Between a member's name and its value, and behind the value.
_COLON, _BEHIND = re.compile(r"[ \t\n\r]*:[ \t\n\r]*"), re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")


def _integer(digits: str) -> int | str:
    # `int` refuses more digits than this (CPython's guard against quadratic time); the text itself is kept anyway.
    return int(digits) if len(digits) <= 4000 else digits


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def unique(pairs: list[tuple[str, T]]) -> dict[str, T]:
    """The object of ``pairs``. Of two members with one name, the router may read one and the backend the other.

    Raises:
        ValueError: a name is there twice.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"member {name!r} is there twice")
    return members


_scan = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant, object_pairs_hook=unique).raw_decode

_text = json.JSONEncoder(separators=(",", ":")).encode

# Bodies beyond either are read beside the event loop; a body within both takes it a few milliseconds.
LARGE_BYTES, LARGE_SEPARATORS = 256 * 1024, 5_000
# The APIs know less than a hundred members. Values: an array of tokens is the longest that clients send.
MOST_MEMBERS, MOST_VALUES = 1_000, 500_000
# Characters that one call of the C scanner may read of a large body.
_PIECE = 65_536
_UNITS = re.compile(r"(?:[^\\]{1,64}+|\\u[0-9a-fA-F]{4}|\\[^u]){1,1024}+", re.DOTALL)
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")


class _TooMany(ValueError):
    """The body is valid, and has more of something than a request needs."""


Undo = tuple[int, int, str] | None
"""What a member's text was: so many characters from its start and to its end are the same, and what stood between
them. ``None``: the member was not there."""

Scan = Callable[[str, int], tuple[Any, int]]
"""Reads the JSON value at a place; returns it and the place behind it."""


def is_large(body: bytes) -> bool:
    """Whether reading ``body`` would hold up other requests."""
    return len(body) > LARGE_BYTES or body.count(b",") > LARGE_SEPARATORS


@dataclass(slots=True)
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
            MalformedRequest: it is not UTF-8, not a JSON object, or has an object that names a member twice.
        """
        try:
            text = body.decode("utf-8-sig") if body.startswith(b"\xef\xbb\xbf") else body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedRequest(f"the body is not UTF-8 (byte {error.start})") from error
        try:
            members, close = _top_level(text, _Patient().value if is_large(body) else _scan)
        except _TooMany as error:
            problem = f"the body has {error}"
        except RecursionError:
            problem = "the body is not valid JSON: nested too deep"
        except ValueError as error:
            problem = f"the body is not valid JSON: {error}"
        else:
            return cls(text, members, close)
        # Not from within: whoever catches it would have to free all that was read by then.
        raise MalformedRequest(problem)

    def get(self, name: str) -> Any:
        """Value of a top-level member as the client sent it, or ``None``."""
        member = self.members.get(name)
        return None if member is None else member.value

    def current(self, name: str) -> Any:
        """Value of a top-level member as it is to be sent, or ``None``."""
        if name not in self._changed:
            return self.get(name)
        text = self._changed[name]
        return None if text is None else _scanner(text)(text, 0)[0]

    @property
    def model(self) -> str | None:
        model = self.get("model")
        if model is not None and not isinstance(model, str):
            raise MalformedRequest("`model` must be a string", "model")
        return model or None

    def set(self, name: str, value: Any) -> None:
        """Give a top-level member a new value; append it if it is not there."""
        self._changed[name] = _text(value)

    def edits(self) -> dict[str, str | None]:
        """The edits until now, for :meth:`undo_since`."""
        return dict(self._changed)

    def undo_since(self, edits: Mapping[str, str | None]) -> dict[str, Undo]:
        """What takes back each edit since ``edits``, by member, once :meth:`encode` has written it."""
        undo: dict[str, Undo] = {}
        for name, after in self._changed.items():
            before = edits[name] if name in edits else self._written(name)
            if before != after:
                undo[name] = _difference(before, after)
        return undo

    def undo(self, name: str, undo: Undo) -> None:
        """Give a top-level member the text that it had before."""
        if undo is None:
            self._changed[name] = None
            return
        start, end, before = undo
        after = self._written(name) or ""
        self._changed[name] = after[:start] + before + after[len(after) - end :]

    def remove(self, name: str) -> None:
        """Take a top-level member out, if it is there."""
        self._changed[name] = None

    def merge(self, name: str, value: Mapping[str, Any]) -> None:
        """Set keys inside a top-level object, keeping its other keys as they are written."""
        text = self._text_of(name)
        if text is None or not text.startswith("{"):
            self.set(name, value)
            return
        inner, close = _members(text, 0, _scanner(text))
        changed = {key: _text(item) for key, item in value.items()}
        self._changed[name] = _splice(text, 0, inner, close, changed)

    def edit_elements(self, name: str, edit: Callable[[list[str], list[Any]], list[str]]) -> None:
        """Rewrite a top-level array as texts.

        ``edit`` gets the JSON text of each element and the parsed elements, and returns the texts to send; a text that
        it returns unchanged stays byte for byte, and they stand apart as before. A member that is no array counts as an
        empty one.
        """
        array, places = self._array_of(name)
        texts = [array[start:end] for start, end in places]
        head, comma, tail = "[", ",", "]"
        if places:
            head, tail = array[: places[0][0]], array[places[-1][1] :]
        if len(places) > 1:
            comma = array[places[0][1] : places[1][0]]
        self._changed[name] = head + comma.join(edit(texts, self.current(name) if texts else [])) + tail

    def keep_elements(self, name: str, places: Collection[int]) -> None:
        """Leave only the elements at the places ``places`` in a top-level array, each as it is written."""
        self.edit_elements(name, lambda texts, _: [text for index, text in enumerate(texts) if index in places])

    def _text_of(self, name: str) -> str | None:
        """What a member is to be sent as; ``None`` if it is not there, or no longer."""
        return self._changed[name] if name in self._changed else self._written(name)

    def _written(self, name: str) -> str | None:
        """A member as the client wrote it; ``None`` if it is not there."""
        member = self.members.get(name)
        return None if member is None else self.text[member.start : member.end]

    def _array_of(self, name: str) -> tuple[str, list[tuple[int, int]]]:
        text = self._text_of(name)
        if text is None or not text.startswith("[") or not text[1:-1].strip():
            return "[]", []
        return text, _elements(text)

    def release(self) -> None:
        """Let go of what was parsed, where nothing but the encoded body is needed any more."""
        self.members.clear()

    @property
    def changed(self) -> bool:
        """Whether anything was edited."""
        return bool(self._changed)

    def encode(self) -> bytes:
        """The body to send, UTF-8, with all edits applied."""
        return _splice(self.text, 0, list(self.members.items()), self._close, self._changed, tail=True).encode()


def with_member(text: str, name: str, value: Any) -> str:
    """The JSON object ``text`` with one member set, all else as written."""
    members, close = _members(text, 0, _scanner(text))
    return _splice(text, 0, members, close, {name: _text(value)})


def _difference(before: str | None, after: str | None) -> Undo:
    if before is None or after is None:
        return None if before is None else (0, 0, before)
    start = _shared(before, after)
    end = _shared(before[start:][::-1], after[start:][::-1])
    return start, end, before[start : len(before) - end]


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike. A conversation may be long: it is compared in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


class _Patient:
    """Reads JSON piece by piece, so that other threads get their turns: the C scanner lets nobody in between.

    Raises ValueError at more than ``MOST_VALUES`` values.
    """

    def __init__(self) -> None:
        self._remaining = MOST_VALUES

    def value(self, text: str, position: int) -> tuple[Any, int]:
        """See ``Scan``."""
        self._remaining -= 1
        if self._remaining < 0:
            raise _TooMany(f"more than {MOST_VALUES} values")
        match text[position : position + 1]:
            case "{":
                members, close = _members(text, position, self.value)
                return unique([(name, member.value) for name, member in members]), close + 1
            case "[":
                return self._array(text, position)
            case '"':
                return _string(text, position)
        return _scan(text, position)

    def _array(self, text: str, position: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        position = _skip_space(text, position + 1)
        if text[position : position + 1] == "]":
            return values, position + 1
        while True:
            value, position = self.value(text, position)
            values.append(value)
            position = _skip_space(text, position)
            match text[position : position + 1]:
                case "]":
                    return values, position + 1
                case ",":
                    position = _skip_space(text, position + 1)
                case _:
                    raise ValueError(f"expected ',' or ']' (character {position})")


def _string(text: str, position: int) -> tuple[str, int]:
    end = text.find('"', position + 1)
    while end > 0 and text[end - 1] == "\\" and _is_escaped(text, end):
        end = text.find('"', end + 1)
    if end - position <= _PIECE:
        return _scan(text, position)
    pieces, start = [], position + 1
    while start < end:
        units = _UNITS.match(text, start, end)
        if units is None:
            raise ValueError(f"invalid escape (character {start})")
        stop = units.end()
        if _HIGH_SURROGATE.search(text, max(start, stop - 6), stop):
            # Both halves of a character have to be read together.
            stop = min(stop + 6, end) if text[stop : stop + 2] == "\\u" else stop
        pieces.append(_scan(f'"{text[start:stop]}"', 0)[0])
        start = stop
    return "".join(pieces), end + 1


def _is_escaped(text: str, position: int) -> bool:
    start = position
    while text[start - 1] == "\\":
        start -= 1
    return (position - start) % 2 == 1


def _scanner(text: str) -> Scan:
    """What reads a part of a body of this length."""
    return _scan if len(text) <= _PIECE else _Patient().value


def _members(
    text: str, position: int, scan: Scan = _scan, most: int = MOST_VALUES
) -> tuple[list[tuple[str, Member]], int]:
    """Members of the object that begins at ``position``, and the place of its closing brace."""
    members: list[tuple[str, Member]] = []
    position = _skip_space(text, position + 1)
    if text[position : position + 1] == "}":
        return members, position
    while True:
        if text[position : position + 1] != '"':
            raise ValueError(f"expected a member name (character {position})")
        key_start = position
        if len(members) == most:
            raise _TooMany(f"more than {most} members")
        name, position = scan(text, position)
        colon = _COLON.match(text, position)
        if colon is None:
            raise ValueError(f"expected ':' (character {_skip_space(text, position)})")
        start = colon.end()
        value, end = scan(text, start)
        members.append((name, Member(value, key_start, start, end)))
        behind = _BEHIND.match(text, end)
        if behind is None:
            raise ValueError(f"expected ',' or '}}' (character {_skip_space(text, end)})")
        if behind[1] == "}":
            return members, behind.start(1)
        position = behind.end()


def _top_level(text: str, scan: Scan) -> tuple[dict[str, Member], int]:
    begin = _skip_space(text, 0)
    if text[begin : begin + 1] != "{":
        raise ValueError("it must be an object")
    listed, close = _members(text, begin, scan, MOST_MEMBERS)
    if _skip_space(text, close + 1) != len(text):
        raise ValueError(f"something follows the object (character {close + 1})")
    return unique(listed), close


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
    present = {name for name, _ in members}
    for name, value in changed.items():
        if value is not None and name not in present:
            pieces += ["" if empty else ",", json.dumps(name), ":", value]
            empty = False
    pieces.append(text[previous_end if members else close : close] + (text[close:] if tail else "}"))
    return "".join(pieces)


def _elements(text: str) -> list[tuple[int, int]]:
    """Where each element of the (valid, non-empty) array ``text`` begins and ends."""
    elements, scan = [], _scanner(text)
    position = 0
    while True:
        position = _skip_space(text, position + 1)
        _, end = scan(text, position)
        elements.append((position, end))
        position = _skip_space(text, end)
        if text[position] == "]":
            return elements
