"""Personal data under cover: placeholders on the way to a model, the values again on the way back.

What stands for what is known to the exchange alone, and forgotten with it. Placeholders are numbered in the order of
the texts, so the same conversation with one turn more gets the same ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import ahocorasick_rs

from triton_router import personal
from triton_router.answers import Answer, Channel, Piece
from triton_router.dialects import ModelRequest
from triton_router.dialects.texts import change_texts, spoken
from triton_router.edits import BodyFilter, EditedAnswer, EditedEvents, mapped
from triton_router.jsontext import encodable
from triton_router.personal import Finding
from triton_router.signals.pii import beside

# Members of an answer whose strings are JSON themselves.
_ARGUMENTS = frozenset({"arguments", "partial_json"})
_TEXT_MEMBERS = frozenset({"content", "text", "delta"})
# Members of requests that may ask for an answer in JSON.
_FORMATS = ("response_format", "text", "output_format", "output_config", "structured_outputs", "guided_json")


class Mask:
    """Placeholders of one exchange, for personal data of ``types``. Whole values are kept in memory only.

    ``tagged`` are the names and addresses in each part of the request, if any were asked for.

    ``request`` is what the model gets: like the one that came, with a placeholder for each value, the same for the same
    value, wherever it stands. A line in which data is disguised becomes a placeholder as a whole.
    """

    def __init__(
        self, request: ModelRequest, types: frozenset[str], tagged: Sequence[Sequence[Finding]] | None = None
    ) -> None:
        self._types = types
        self._numbers: dict[str, int] = {}
        self._placeholders: dict[str, str] = {}
        parts = [
            (where, [text for text, _ in part]) for where, part in groupby(request.texts(), key=lambda text: text.where)
        ]
        self._text = "\n".join(text for _, texts in parts for text in texts)
        for number, (_, texts) in enumerate(parts):
            part = "\n".join(texts)
            findings = personal.find(encodable(part))
            if tagged is not None:
                findings += beside(part, findings, tagged[number])
            for finding in sorted(findings):
                if finding.type in types:
                    self._placeholder(part[finding.start : finding.end], finding.type)
        values = _Occurrences(self._placeholders)
        masked = iter([text for where, texts in parts for text in self._masked_part(where, texts, values)])
        change_texts(request, lambda text, where: next(masked))
        self.request = type(request).parse(request.encode())
        self._json = any("json" in name or "json" in str(request.get(name)) for name in _FORMATS if request.get(name))

    def __bool__(self) -> bool:
        return bool(self._placeholders)

    @property
    def originals(self) -> Mapping[str, str]:
        """Values by placeholder."""
        return {placeholder: value for value, placeholder in self._placeholders.items()}

    @property
    def values(self) -> Values:
        """What puts them back."""
        return Values(self.originals, json_wanted=self._json)

    def _placeholder(self, value: str, type: str) -> str:
        if value not in self._placeholders:
            while True:
                self._numbers[type] = number = self._numbers.get(type, 0) + 1
                if (placeholder := f"[{type}_{number}]") not in self._text:
                    break
            self._placeholders[value] = placeholder
        return self._placeholders[value]

    def _masked_part(self, where: str, texts: Sequence[str], values: _Occurrences) -> list[str]:
        masked = [self._masked(text, values) for text in texts]
        # One that is split over blocks is whole again where a chat template writes them one behind the other.
        split = self._types & personal.types(encodable("".join(masked))) if len(texts) > 1 and spoken(where) else ()
        return [self._placeholder(text, min(split)) for text in texts] if split else masked

    def _masked(self, text: str, values: _Occurrences) -> str:
        text = values.replaced(text)
        if not self._types & personal.types(encodable(text)):
            return text
        lines = text.split("\n")
        disguised = [sorted(self._types & personal.types(encodable(line))) for line in lines]
        if not any(disguised):
            return self._placeholder(text, min(self._types & personal.types(encodable(text))))
        return "\n".join(
            self._placeholder(line, types[0]) if types else line for line, types in zip(lines, disguised, strict=True)
        )


class Values:
    """``originals`` by placeholder, and how they are put into texts. ``json_wanted``: the answer's text is JSON."""

    def __init__(self, originals: Mapping[str, str], *, json_wanted: bool) -> None:
        self.originals, self.json_wanted = originals, json_wanted
        self._escaped = {placeholder: json.dumps(value)[1:-1] for placeholder, value in originals.items()}
        self._any = re.compile("|".join(map(re.escape, originals)))

    def restored(self, reads: type[Answer], *, streamed: bool) -> BodyFilter:
        """What puts them into a response that ``reads`` can read."""
        return EditedEvents(_Restorer(self, reads)) if streamed else EditedAnswer(self.in_answer)

    def put(self, text: str, *, arguments: bool) -> str:
        """``text`` with values for placeholders; as in a JSON string where the text is JSON."""
        values = self._escaped if arguments else self.originals
        return self._any.sub(lambda match: values[match.group()], text)

    def begins(self, text: str) -> int:
        """Where a placeholder begins that ``text`` may have only the beginning of; its length where none does."""
        place = text.rfind("[")
        if place < 0 or text[place:] in self.originals:
            return len(text)
        return place if any(each.startswith(text[place:]) for each in self.originals) else len(text)

    def in_answer(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        """A whole answer with the values; ``None`` if it has none."""
        changed = self.inside(answer)
        return None if changed is answer else changed

    def inside(self, value: Any) -> Any:
        """``value`` with each placeholder in its strings replaced; the same object where there is none."""
        return mapped(value, self._put)

    def _put(self, text: str, name: str) -> str:
        if "[" not in text:
            return text
        changed = self.put(text, arguments=name in _ARGUMENTS or (self.json_wanted and name in _TEXT_MEMBERS))
        return text if changed == text else changed


class _Restorer:
    """Puts values into the events of a stream. What may be the beginning of a placeholder waits for the next piece."""

    def __init__(self, values: Values, reads: type[Answer]) -> None:
        self._values, self._reads = values, reads
        self._held: dict[Channel, tuple[str, Callable[[str], dict[str, Any]]]] = {}

    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """See :class:`.edits.EventEditor`."""
        ended = list(self._reads.ended(event))
        pieces = list(self._reads.pieces(event))
        if not pieces and not self._held:
            changed = self._values.inside(event)
            return None if changed is event else [changed]
        late = list(self._late(ended, {piece.channel for piece in pieces}))
        before = [piece.text for piece in pieces]
        for piece in pieces:
            piece.holder[piece.name] = self._ready(event, piece, last=_belongs(piece.channel, ended))
        same = before == [piece.text for piece in pieces]
        rest = event if pieces else self._values.inside(event)
        return None if same and rest is event and not late else [*late, rest]

    def rest(self) -> list[dict[str, Any]]:
        """See :class:`.edits.EventEditor`."""
        return list(self._late([()], set()))

    @property
    def cut_off(self) -> bool:
        """See :class:`.edits.EventEditor`."""
        return False

    def _ready(self, event: dict[str, Any], piece: Piece, *, last: bool) -> str:
        held, _ = self._held.pop(piece.channel, ("", None))
        text = held + piece.text
        place = len(text) if last else self._values.begins(text)
        if place < len(text):
            self._held[piece.channel] = text[place:], lambda more: self._reads.another(event, piece, more)
        return self._values.put(text[:place], arguments=piece.arguments or self._values.json_wanted)

    def _late(self, ended: Iterable[Channel], own: set[Channel]) -> Iterator[dict[str, Any]]:
        """What is held of channels that have ended, in events of its own."""
        for channel in [each for each in self._held if each not in own and _belongs(each, ended)]:
            text, event_with = self._held.pop(channel)
            yield event_with(text)


def _belongs(channel: Channel, beginnings: Iterable[Channel]) -> bool:
    return any(channel[: len(each)] == each for each in beginnings)


class _Occurrences:
    """Where values stand in a text, whole and not inside a word or a number; of two that overlap the longer."""

    def __init__(self, placeholders: Mapping[str, str]) -> None:
        self._placeholders = tuple(placeholders.values())
        self._values = ahocorasick_rs.AhoCorasick([encodable(value) for value in placeholders])

    def replaced(self, text: str) -> str:
        """``text`` with the placeholder of each value."""
        places = self._values.find_matches_as_indexes(encodable(text), overlapping=True) if self._placeholders else ()
        pieces, end = [], 0
        for number, start, stop in sorted(places, key=lambda place: (place[1], -place[2])):
            if start >= end and not _inside_word(text, start) and not _inside_word(text, stop):
                pieces += [text[end:start], self._placeholders[number]]
                end = stop
        return "".join([*pieces, text[end:]]) if pieces else text


def _inside_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and all(each.isalnum() or each == "_" for each in text[place - 1 : place + 1])
