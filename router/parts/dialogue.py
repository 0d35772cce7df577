"""A dialogue in one text: lines that begin with the names of some speakers, whatever they are, or the log of a chat."""

from __future__ import annotations

import re
from collections import Counter

from triton_router.dialects.request import names
from triton_router.parts.asking import asks, delegates, points_at_text, works_on_text
from triton_router.parts.part import Part
from triton_router.parts.shapes import reading_by_name

# Fewer turns may be a list. More people speak only where their turns have times.
FEWEST, MOST_SPEAKERS, MOST_IN_A_LOG = 3, 3, 12
_TURN = re.compile(
    # when, if that is said: "09:14", "[14.05.26, 18:02:11]", "2026-05-14 18:02 -"
    r"\n(\[?(?:\d{1,4}[./-]\d\d?[./-]\d{1,4},?[ T]{1,2})?\d\d?:\d\d(?::\d\d)?(?: ?[AaPp]\.?[Mm]\.?)?\]?(?: -)?[ \t]*)?+"
    # A colon or ">" soon: without one it is not worthwhile to look at each way to read a name.
    r"(?=[^\n:：>]{1,40}+[:：>])"
    # who: "Ines:", "**Ines**:", "<@U12> [09:14]:", and "<ines>" behind a time
    r"(?:(?(1)<[@+%~ ]?([\w.|-]{1,24})>(?=[ \t])|(?!))"
    r"|<?[@*]*([^\W\d_][\w .'()-]{0,24}?)>?\**([ \t]?\[\d\d?:\d\d[^\]\n]{0,9}\])?[ \t]?[:：]\**)(?:[ \t]+|$)",
    re.MULTILINE,
)
_GAP = re.compile(r"\n[ \t]*\n")
_ADDRESS = re.compile(r"(?:<?@[\w.-]{2,40}>?|([\w-]{2,20})[:,])[ \t]+")
_ANSWERING = names("assistant bot support agent ai system model tutor helper desk advisor staff operator service")


def dialogue(text: str) -> list[Part]:
    """The parts of ``text``, where it is a dialogue that a person goes on with; nothing where it is not.

    The last turn counts, if the person speaks it, or what stands behind it. A dialogue that an instruction in front of
    it is about stays whole.
    """
    if "\n" not in text or text.count(":") + text.count("：") < FEWEST or "```" in text:
        return []
    text = f"\n{text}"
    turns = list(_TURN.finditer(text))
    if len(turns) < FEWEST:
        return []
    stamped = [turn for turn in turns if turn[1] or turn[4]]
    logged = len(stamped) >= FEWEST and len(stamped) * 2 > len(turns)
    turns = stamped if logged else turns
    names = list(map(_speaker, turns))
    speakers = Counter(names)
    if not 2 <= len(speakers) <= (MOST_IN_A_LOG if logged else MOST_SPEAKERS):
        return []
    if max(speakers.values()) < 2 and not logged:
        return []
    lead = text[: turns[0].start() + 1]
    if works_on_text(lead) or points_at_text(lead) or "?" in lead:
        return []
    person = next((name for name in speakers if name == "you" or reading_by_name(name) == "words"), "")
    if not person:
        person = names[-1] if logged and not _answers(names[-1]) else names[0]
    last = turns[-1]
    start = _past_address(text, last.end())
    speech, behind = _speech(text[start:])
    # In a log somebody may ask something, and the person speaks behind it; not where the program is spoken to.
    apart = names[-1] != person or (logged and start == last.end() and (asks(behind) or not asks(speech)))
    if names[-1] == person and delegates(behind):
        return _parts(text, start, len(text) - len(behind), person)
    if behind and apart:
        return _parts(text, _past_address(text, len(text) - len(behind)), len(text), names[-1])
    if names[-1] == person and (speech or behind):
        return _parts(text, start, len(text), person)
    number = max(number for number, name in enumerate(names) if name == person)
    start, end = turns[number].end(), turns[number + 1].start() if number + 1 < len(turns) else len(text)
    return _parts(text, start, end, names[-1])


def _speaker(turn: re.Match[str]) -> str:
    return (turn[2] or turn[3]).casefold()


def _answers(name: str) -> bool:
    return not _ANSWERING.isdisjoint(name.split())


def _speech(text: str) -> tuple[str, str]:
    """What a turn says, and what stands behind it, after an empty line."""
    gap = _GAP.search(text)
    return (text[: gap.start()].strip(), text[gap.end() :]) if gap else (text.strip(), "")


def _past_address(text: str, start: int) -> int:
    """Where the speech that begins at ``start`` goes on behind the name of a program that it is for."""
    address = _ADDRESS.match(text, start)
    return address.end() if address and (not address[1] or _answers(address[1].casefold())) else start


def _parts(text: str, start: int, end: int, speaker: str) -> list[Part]:
    pieces = [
        Part("context", text[:start].strip(), "dialogue"),
        Part("words", text[start:end].strip(), f"label {speaker}"),
        Part("context", text[end:].strip(), "dialogue"),
    ]
    return [piece for piece in pieces if piece.text]
