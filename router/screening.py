"""Personal data that an answer must not have: found as it passes, before the client gets it.

Of a stream only what may be the beginning of such data waits for more, and never more than ``WINDOW`` characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

from triton_router import personal
from triton_router.answers import Answer, Channel, Piece
from triton_router.dialects import ModelRequest
from triton_router.edits import BodyFilter, EditedAnswer, EditedEvents, mapped
from triton_router.jsontext import encodable
from triton_router.personal import Finding

Action = Literal["block", "mask", "report"]

# Characters that wait at most, and those that were sent and still tell what follows, such as "password:".
WINDOW, BEFORE = 256, 64
# What may go on: an account number, numbers in groups, a date behind a word such as "born"; a word that has not ended.
_OPEN = re.compile(
    r"(?:\b[A-Za-z]{2}\d{2}[A-Za-z0-9 -]*|[+(]?\d[\d ().\-/]*"
    r"|(?i:\b(?:d\.?o\.?b\.?|birth\w*|born|n\u00e9e?|geb\w*)\b.{0,40}))?\S*\Z"
)
# Members of an answer that no model has written: names and ids, and what the answer repeats of its request.
_NOT_SAID = frozenset({
    "call_id", "created", "created_at", "encrypted_content", "finish_reason", "id", "instructions", "item_id",
    "metadata", "model", "object", "prompt", "role", "signature", "status", "stop_reason", "system_fingerprint",
    "tool_choice", "tool_use_id", "tools", "type", "user",
})  # fmt: skip


class Screen:
    """Looks at one answer for personal data of ``types``, other than what the request itself has.

    ``matched`` says whether there was some. ``on_match`` is called once.
    """

    def __init__(
        self, request: ModelRequest, types: Collection[str], action: Action, message: str,
        on_match: Callable[[], None],
    ) -> None:  # fmt: skip
        self._types, self._action, self._message, self._on_match = frozenset(types), action, message, on_match
        texts = [encodable(text) for text, _ in request.texts()]
        self._own = {text[each.start : each.end] for text in texts for each in personal.find(text)}
        self.matched = False

    def screened(self, reads: type[Answer], *, streamed: bool) -> BodyFilter:
        """What looks at a response that ``reads`` can read."""
        if streamed:
            return EditedEvents(_Screening(self, reads), done_line=reads.DONE_LINE, withheld=self.withholds)
        withheld = reads.withheld({}, self._message) if self.withholds else None
        return EditedAnswer(lambda answer: self._whole(answer, reads), withheld)

    @property
    def withholds(self) -> bool:
        """Whether what cannot be read is not for the client."""
        return self._action != "report"

    @property
    def blocks(self) -> bool:
        """Whether an answer ends where a finding begins."""
        return self._action == "block"

    def findings(self, text: str, start: int = 0) -> list[Finding]:
        """Those in ``text`` that end behind ``start`` and count."""
        return [
            each
            for each in personal.find(encodable(text))
            if each.end > start and each.type in self._types and text[each.start : each.end] not in self._own
        ]

    def replaced(self, text: str, findings: Iterable[Finding]) -> str:
        """``text`` as the client may read it; its beginning where answers are blocked."""
        pieces, end = [], 0
        for each in findings:
            self._note()
            if self._action == "report":
                continue
            pieces.append(text[end : each.start])
            end = max(each.end, 0)
            if self.blocks:
                return "".join(pieces)
            pieces.append(f"[{each.type}]")
        return "".join([*pieces, text[end:]])

    def _note(self) -> None:
        if not self.matched:
            self.matched = True
            self._on_match()

    def mapped(self, value: dict[str, Any], skip: Collection[str] = ()) -> dict[str, Any]:
        """``value``, an answer or an event, as the client may read it, but for the members named in ``skip``."""

        def change(text: str, name: str) -> str:
            findings = self.findings(text)
            return self.replaced(text, findings) if findings else text

        changed: dict[str, Any] = mapped(value, change, skip=_NOT_SAID.union(skip))
        return changed

    def _whole(self, answer: dict[str, Any], reads: type[Answer]) -> dict[str, Any] | None:
        changed = self.mapped(answer)
        if self.matched and self.blocks:
            return reads.withheld(answer, self._message)
        return None if changed is answer or self._action == "report" else changed


class _Screening:
    """The events of one stream."""

    def __init__(self, screen: Screen, reads: type[Answer]) -> None:
        self._screen, self._reads = screen, reads
        self._first: dict[str, Any] | None = None
        # By channel: what was sent, as far as it is still looked at; what waits; how to send it; all that was sent.
        self._tails: dict[Channel, str] = {}
        self._held: dict[Channel, tuple[str, dict[str, Any], Piece]] = {}
        self._texts: dict[Channel, list[str]] = {}
        self._cut_off = False

    @property
    def cut_off(self) -> bool:
        """See :class:`.edits.EventEditor`."""
        return self._cut_off

    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """See :class:`.edits.EventEditor`."""
        self._first = self._first or event
        ended, pieces = list(self._reads.ended(event)), list(self._reads.pieces(event))
        own = {piece.channel for piece in pieces}
        late = [each for channel in [*self._held] if channel not in own and _belongs(channel, ended)
                for each in self._late(channel)]  # fmt: skip
        if self._cut_off:
            return late
        changed = False
        for piece in pieces:
            text = self._ready(event, piece, last=_belongs(piece.channel, ended))
            changed |= text != piece.text
            piece.holder[piece.name] = text
            if self._cut_off:
                return [*late, event, *self._end(event, piece.channel)]
        # What comes at once, or repeats what was said.
        rest = self._screen.mapped(event, [piece.name for piece in pieces])
        if rest is not event and self._screen.blocks:
            self._cut_off = True
            return [*late, rest, *self._end(rest, pieces[0].channel if pieces else ())]
        return [*late, rest] if late or changed or rest is not event else None

    def rest(self) -> list[dict[str, Any]]:
        """See :class:`.edits.EventEditor`."""
        return [each for channel in [*self._held] for each in self._late(channel)]

    def _ready(self, event: dict[str, Any], piece: Piece, *, last: bool) -> str:
        held, *_ = self._held.pop(piece.channel, ("", event, piece))
        previous = self._tails.get(piece.channel, "")
        text, start = previous + held + piece.text, len(previous)
        end = len(text) if last else max(start, _closed(text))
        if len(text) - end > WINDOW:
            end = len(text) - WINDOW
        findings = self._screen.findings(text, start)
        # What goes on behind the end is not whole yet.
        end = min([end, *(each.start for each in findings if each.start > start and each.start < end < each.end)])
        counted = [each._replace(start=max(each.start, start)) for each in findings if each.start < end]
        now = self._screen.replaced(text[:end], [each for each in counted if each.end <= end or each.start < end])
        now = now[start:]
        if counted and self._screen.blocks:
            self._cut_off = True
        elif end < len(text):
            self._held[piece.channel] = text[end:], event, piece
        self._tails[piece.channel] = text[max(0, end - BEFORE) : end]
        self._texts.setdefault(piece.channel, []).append(now)
        return now

    def _late(self, channel: Channel) -> list[dict[str, Any]]:
        """What is held of a channel that has ended, in an event of its own."""
        _, event, piece = self._held[channel]
        more = self._reads.another(event, piece, "")
        (empty,) = (each for each in self._reads.pieces(more) if each.channel == channel)
        empty.holder[empty.name] = self._ready(more, empty, last=True)
        return [more, *self._end(more, empty.channel)] if self._cut_off else [more]

    def _end(self, event: dict[str, Any], channel: Channel) -> list[dict[str, Any]]:
        assert self._first is not None
        return self._reads.cut_off(self._first, event, channel, "".join(self._texts.get(channel, ())))


def _closed(text: str) -> int:
    """Where what may go on begins."""
    tail = text[-WINDOW:]
    match = _OPEN.search(tail)
    return len(text) - len(tail) + match.start() if match else len(text)


def _belongs(channel: Channel, beginnings: Iterable[Channel]) -> bool:
    return any(channel[: len(each)] == each for each in beginnings)
