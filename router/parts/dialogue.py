"""A dialogue in one text: lines that begin with the names of two speakers, whatever they are."""

from __future__ import annotations

import re
from collections import Counter

from triton_router.parts.asking import points_at_text, works_on_text
from triton_router.parts.part import Part
from triton_router.parts.shapes import reading_by_name

# Fewer turns may be a list.
FEWEST, MOST_SPEAKERS = 3, 3
_TURN = re.compile(
    r"^(\[?\d\d?:\d\d(?::\d\d)?\]?[ \t]*)?\**([^\W\d_][\w .'-]{0,24}?)\**[ \t]?[:：]\**(?:[ \t]+|$)", re.MULTILINE
)
_GAP = re.compile(r"\n[ \t]*\n")


def dialogue(text: str) -> list[Part]:
    """The parts of ``text``, where it is a dialogue that a person goes on with; nothing where it is not.

    The last turn counts, if the person speaks it, or what stands behind it. A dialogue that an instruction in front of
    it is about stays whole.
    """
    if "\n" not in text or text.count(":") + text.count("：") < FEWEST or "```" in text:
        return []
    turns = list(_TURN.finditer(text))
    speakers = Counter(turn[2].casefold() for turn in turns)
    if len(turns) < FEWEST or not 2 <= len(speakers) <= MOST_SPEAKERS or max(speakers.values()) < 2:
        return []
    lead = text[: turns[0].start()]
    if works_on_text(lead) or points_at_text(lead) or "?" in lead:
        return []
    persons = next((name for name in speakers if reading_by_name(name) == "words"), turns[0][2].casefold())
    last = turns[-1]
    speech, behind = _speech(text[last.end() :])
    if behind and (last[1] or last[2].casefold() != persons):
        start = len(text) - len(behind)
    elif last[2].casefold() == persons and (speech or behind):
        start = last.end()
    else:
        number = max(number for number, turn in enumerate(turns) if turn[2].casefold() == persons)
        start, end = turns[number].end(), turns[number + 1].start() if number + 1 < len(turns) else len(text)
        return _parts(text, start, end, last[2])
    return _parts(text, start, len(text), last[2])


def _speech(text: str) -> tuple[str, str]:
    """What a turn says, and what stands behind it, after an empty line."""
    gap = _GAP.search(text)
    return (text[: gap.start()].strip(), text[gap.end() :]) if gap else (text.strip(), "")


def _parts(text: str, start: int, end: int, speaker: str) -> list[Part]:
    pieces = [
        Part("context", text[:start].strip(), "dialogue"),
        Part("words", text[start:end].strip(), f"label {speaker}"),
        Part("context", text[end:].strip(), "dialogue"),
    ]
    return [piece for piece in pieces if piece.text]
