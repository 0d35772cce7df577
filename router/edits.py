"""A response changed on its way: server-sent events one by one, out of pieces that end anywhere; or a whole answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol, runtime_checkable

import orjson

from triton_router.answers import LARGEST
from triton_router.completion import DONE
from triton_router.jsontext import LONG_NUMBER

# Half of a line end at the end of a piece waits for the other half.
EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")


class BodyFilter(Protocol):
    """Changes a body that comes in pieces."""

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """Take in a piece; returns what the client gets now."""


@runtime_checkable
class Checked(Protocol):
    """A filter that has to ask somebody about a piece first."""

    async def check(self, piece: bytes, *, last: bool) -> None:
        """Look at a piece before :meth:`BodyFilter.feed` takes it in."""


class EventEditor(Protocol):
    """Changes the events of one stream."""

    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """What the client gets in the place of ``event``, which may be changed; ``None`` for its bytes as they are."""

    def rest(self) -> list[dict[str, Any]]:
        """What is still to be said, before the stream ends."""

    @property
    def cut_off(self) -> bool:
        """Whether the stream has ended, whatever the backend still says."""


class EditedEvents:
    """A stream of events, each as ``editor`` has it. The beginning of one waits for its end.

    What cannot be read passes as it is: data that is no object; an event of more than 8 MiB, and all behind it. Where
    that is ``withheld``, such data is left out, and such an event ends the stream. ``done_line``: a line says that a
    stream has ended.
    """

    __slots__ = ("_done_line", "_editor", "_ended", "_gave_up", "_held", "_named", "_numbers", "_withheld")

    def __init__(self, editor: EventEditor, *, done_line: bool = False, withheld: bool = False) -> None:
        self._editor, self._done_line, self._withheld = editor, done_line, withheld
        self._ended = False
        self._held = b""
        self._named = self._gave_up = False
        # How many events were added, where events have numbers.
        self._numbers = 0

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`BodyFilter`."""
        if self._ended:
            return b""
        stream, self._held, start, out = self._held + piece, b"", 0, []
        if not self._gave_up:
            for end in EVENT_END.finditer(stream):
                out.append(self._edited(stream[start : end.end()]))
                start = end.end()
                if self._editor.cut_off:
                    self._ended = True
                    return b"".join([*out, DONE] if self._done_line else out)
        rest = stream[start:]
        if last:
            out.append(self._edited(rest) if rest and not self._gave_up else rest)
            out += [self._written(event) for event in self._editor.rest()]
        elif self._gave_up or len(rest) > LARGEST:
            self._gave_up, self._ended = True, self._withheld
            out.append((DONE if self._done_line else b"") if self._withheld else rest)
        else:
            self._held = rest
        return b"".join(out)

    def _edited(self, raw: bytes) -> bytes:
        lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        self._named |= any(line.startswith(b"event:") for line in lines)
        if data.strip() == b"[DONE]":
            return b"".join(self._written(event) for event in self._editor.rest()) + raw
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            return b"" if self._withheld and data else raw
        number = event.get("sequence_number")
        edited = self._editor.edit(event)
        if edited is None and not (self._numbers and isinstance(number, int)):
            return raw
        events = [event] if edited is None else edited
        if isinstance(number, int):
            for each in events:
                each["sequence_number"] = number + self._numbers
                self._numbers += 1
            self._numbers -= 1
        return b"".join(map(self._written, events))

    def _written(self, event: dict[str, Any]) -> bytes:
        kind = event.get("type")
        head = f"event: {kind}\n".encode() if self._named and isinstance(kind, str) else b""
        return head + b"data: " + _json(event) + b"\n\n"


class EditedAnswer:
    """A whole answer, held until it is all there.

    One that cannot be read, or has more than 8 MiB, passes as it is; the client gets ``withheld`` instead if that is
    given.
    """

    __slots__ = ("_edit", "_held", "_withheld")

    def __init__(
        self, edit: Callable[[dict[str, Any]], dict[str, Any] | None], withheld: dict[str, Any] | None = None
    ) -> None:
        self._edit, self._withheld = edit, withheld
        self._held: bytearray | None = bytearray()

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`BodyFilter`."""
        if self._held is None:
            return piece if self._withheld is None else b""
        self._held += piece
        if not last and len(self._held) <= LARGEST:
            return b""
        whole, self._held = bytes(self._held), None
        try:
            answer = json.loads(whole) if last else None
        except (ValueError, RecursionError):
            answer = None
        edited = self._edit(answer) if isinstance(answer, dict) else self._withheld
        return whole if edited is None else _json(edited)


class Withheld:
    """A response that nobody can read."""

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`BodyFilter`."""
        return b""


class Chained:
    """Filters one behind the other."""

    __slots__ = ("_filters",)

    def __init__(self, filters: Iterable[BodyFilter]) -> None:
        self._filters = tuple(filters)

    @property
    def checks(self) -> bool:
        """Whether :meth:`check` has something to do."""
        return any(each.checks if isinstance(each, Chained) else isinstance(each, Checked) for each in self._filters)

    async def check(self, piece: bytes, *, last: bool) -> None:
        """Let those filters look at ``piece`` that have to ask somebody, before :meth:`feed` takes it in."""
        for each in self._filters:
            if isinstance(each, Checked):
                await each.check(piece, last=last)

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`BodyFilter`."""
        for each in self._filters:
            piece = each.feed(piece, last=last)
        return piece


def mapped(value: Any, change: Callable[[str, str], str], name: str = "", skip: Collection[str] = ()) -> Any:
    """``value`` with what ``change`` makes of each string and number in it and the name of its member; the same object
    where nothing changes. Members named in ``skip`` stay, except in the arguments of calls."""
    match value:
        case str():
            return change(value, name)
        case list():
            items = [mapped(item, change, name, skip) for item in value]
            return value if all(one is two for one, two in zip(items, value, strict=True)) else items
        case dict():
            members = {
                key: item if key in skip else mapped(item, change, key, () if key == "input" else skip)
                for key, item in value.items()
            }
            return value if all(members[key] is item for key, item in value.items()) else members
        case int() if abs(value) >= LONG_NUMBER:
            written = str(value)
            changed = change(written, name)
            return value if changed == written else changed
    return value


def _json(value: dict[str, Any]) -> bytes:
    # Lone surrogates stay escapes, which UTF-8 could not carry.
    return json.dumps(value, separators=(",", ":")).encode()
