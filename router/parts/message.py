"""One message, from text to parts: by tags, labels, fences, quotes and logs, in this order, and by position.

Everything is linear in the text. Of a text over ``LONGEST`` the middle is one piece of material, unread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, pairwise, zip_longest

from triton_router.parts.asking import asks, delegates
from triton_router.parts.delimiters import delimited
from triton_router.parts.dialogue import dialogue
from triton_router.parts.directions import OPENINGS, directions_apart
from triton_router.parts.ends import caption_of, data_apart, stamp_of, turns_as_labels
from triton_router.parts.lines import runs
from triton_router.parts.part import Part
from triton_router.parts.positions import positions
from triton_router.parts.reported import reported
from triton_router.parts.scoring import persons, segments_of
from triton_router.parts.segments import Segment
from triton_router.parts.shapes import ShapeTable, name_of, names_speech
from triton_router.parts.tags import elements, leaf

LONGEST = 32_768
# A line that only announces what follows is no longer than this.
CAPTION = 80
_BETWEEN = re.compile(
    r"\b(?:question|message|request|query|prompt|input|instruction)s?\b[^.\n]{0,40}"
    r"\b(?:between|delimited|enclosed|inside|within|surrounded|wrapped|in)\b[^.\n]{0,20}"
    r"\b(?:quotes?|backticks|quotation|fences?|brackets|delimiters|marks)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'["\u201c\u201e\u00ab](.+)["\u201d\u201c\u00bb](?=\n|$)', re.DOTALL)
_COMMENTS = ("# ", "// ", "-- ")
_NO_SHAPES = ShapeTable(())


def partition(blocks: Sequence[str], shapes: ShapeTable) -> list[Part]:
    """The parts of what one message of a user says, in its order; ``blocks`` are the texts that it was sent in.

    Of a message that only listed context is in, nothing is words.
    """
    if len(blocks) == 1 and _is_bare(text := blocks[0].strip()):
        return positions(Part("words", text))
    parts = [part for block in blocks if block.strip() for part in _read(block, shapes)]
    return _settled(parts, shapes)


def _is_bare(text: str) -> bool:
    """Whether ``text`` is one line without a mark: most turns of a chat are, and all of it is the person's."""
    if not 0 < len(text) <= 2 * LONGEST or "\n" in text or "<" in text or "[" in text or "{" in text:
        return False
    return not text.startswith(OPENINGS) and not stamp_of(text) and not reported(text)


def _settled(parts: list[Part], shapes: ShapeTable) -> list[Part]:
    """The person's words in a message that seems to have none, or only those of a template, are looked for again."""
    marked = [number for number, part in enumerate(parts) if _is_marked(part)]
    if marked:
        latest = _latest(parts, _clearest(parts, marked, shapes))
        return [inner for number, part in enumerate(parts) for inner in _around(part, number in latest)]
    unlisted = [part for part in parts if part.reason.startswith("tag") and name_of(part.reason[4:]) not in shapes.tags]
    if any(part.kind == "words" for part in parts):
        records = any("</" in part.text for part in unlisted)
        if not (records and all(delegates(part.text) for part in parts if part.kind == "words")):
            return _uncaptioned(_own(_between_marks(parts)))
        parts = [part._replace(kind="template") if part.kind == "words" else part for part in parts]
    chosen = next((part for part in reversed(unlisted) if asks(part.text)), unlisted[-1] if unlisted else None)
    if chosen is not None and (inner := leaf(chosen.text)):
        around = chosen._replace(text=chosen.text.replace(inner, "", 1), kind="context")
        parts = [
            each for part in parts for each in ((around, chosen._replace(text=inner)) if part is chosen else (part,))
        ]
        return [part._replace(kind="words") if part.text is inner else part for part in parts]
    if chosen is None:
        chosen = next((part for part in reversed(parts) if part.kind == "material"), None)
    if chosen is None:
        return _last_paragraph(parts) if any(part.kind == "context" for part in parts) else _directions(parts)
    return [part._replace(kind="words") if part is chosen else part for part in parts]


def unmarked(text: str, shapes: ShapeTable) -> list[Segment]:
    """The segments among which the person's words are looked for; none where marks name them."""
    parts = _pieces(text, shapes)
    return [] if any(map(_is_marked, parts)) else segments_of(parts)


def _directions(parts: list[Part]) -> list[Part]:
    """The person's words, where all was taken for a program's directions."""
    bare = all(part.reason == "heading" for part in parts)
    shown = [part.kind == "template" and (bare or part.reason != "heading") for part in parts]
    return [part._replace(kind="words") if show else part for part, show in zip(parts, shown, strict=True)]


def _last_paragraph(parts: list[Part]) -> list[Part]:
    """The person's words, where a label rules all of the text: its last paragraph, behind a blank line."""
    for number in range(len(parts) - 1, -1, -1):
        before, gap, last = parts[number].text.rstrip().rpartition("\n\n")
        if gap and parts[number].kind == "context" and parts[number].reason.startswith(("label", "title")):
            split = [parts[number]._replace(text=before), Part("words", last, "position")]
            return [*parts[:number], *split, *parts[number + 1 :]]
    return _directions(parts)


def _is_marked(part: Part) -> bool:
    return part.kind == "words" and part.reason.startswith(("tag", "title", "label"))


def _clearest(parts: Sequence[Part], marked: Sequence[int], shapes: ShapeTable) -> Sequence[int]:
    """Of the words that marks name, those of the clearest kind of marks.

    Listed tags come first, then titles, then what names speech ("Message:") and not only a person ("Customer:").
    """
    marks = {number: parts[number].reason.partition(" ") for number in marked}
    for clear in (
        [number for number, (kind, _, name) in marks.items() if kind == "tag" and name_of(name) in shapes.tags],
        [number for number, (kind, _, _) in marks.items() if kind == "title"],
        [number for number, (_, _, name) in marks.items() if names_speech(name)],
    ):
        if clear:
            return clear
    return marked


def _latest(parts: Sequence[Part], marked: Sequence[int]) -> frozenset[int]:
    """Of the words that marks name, those behind the last answer: what comes before are examples or earlier turns.

    A label that comes again names the person's words the last time.
    """
    last = parts[marked[-1]].reason
    again = [number for number in marked[:-1] if parts[number].reason == last]
    if again and (
        last.startswith(("label", "title"))
        or any(part.kind == "template" or not part.reason for part in parts[again[-1] + 1 : marked[-1]])
    ):
        return frozenset(marked[-1:])
    for before, after in zip(reversed(marked[:-1]), reversed(marked[1:]), strict=True):
        if any(
            part.kind == "template" and part.reason.startswith(("label", "title")) for part in parts[before + 1 : after]
        ):
            return frozenset(number for number in marked if number >= after)
    return frozenset(marked)


def _own(parts: Sequence[Part]) -> list[Part]:
    """``parts`` with the person's own text as words, and what it works on as material."""
    return [inner for part in persons(parts) for inner in (positions(part) if part.kind == "words" else [part])]


def _uncaptioned(parts: list[Part]) -> list[Part]:
    """``parts`` with what a program put before the person's words on their line: "Utterance: ...", "<@U12> ..."."""
    first = next(number for number, part in enumerate(parts) if part.kind == "words")
    text = parts[first].text
    if all(part.kind == "words" for part in parts) or not (label := caption_of(text)):
        return parts
    caption = Part("context", label.strip(), "caption")
    return [*parts[:first], caption, parts[first]._replace(text=text[len(label) :]), *parts[first + 1 :]]


def _between_marks(parts: Sequence[Part]) -> Sequence[Part]:
    """``parts`` with the person's words where directions say that they are: between quote marks or fences."""
    fenced = [part for part in parts if part.reason == "fence"]
    if len(fenced) != 1 or not any(part.kind == "words" and _BETWEEN.search(part.text) for part in parts):
        return parts
    inner = fenced[0]._replace(kind="words", text="\n".join(fenced[0].text.split("\n")[1:-1]), reason="quote marks")
    return [inner if part is fenced[0] else part._replace(kind="template") for part in parts]


def _around(part: Part, latest: bool) -> list[Part]:
    """Marked words that count are looked at once more; around them stand the program's own directions."""
    if latest:
        return _own(_sections(part._replace(text=_unquoted(part.text))))
    if _is_marked(part):
        return [part._replace(kind="context")]
    return [part._replace(kind="template") if part.kind == "words" else part]


def _unquoted(text: str) -> str:
    """What stands between quote marks at the start of ``text`` and at the end of one of its lines, or in a comment."""
    if text.startswith(_COMMENTS):
        mark, _, _ = text.partition(" ")
        lines = text.split("\n")
        if all(line.startswith(mark) for line in lines):
            return "\n".join(line.removeprefix(mark).removeprefix(" ") for line in lines)
    quoted = _QUOTED.match(text.strip())
    return quoted[1] if quoted else text


def _read(text: str, shapes: ShapeTable) -> list[Part]:
    """The parts of one block, those of its middle as one where it is long."""
    if len(text) <= 2 * LONGEST:
        return _pieces(text, shapes)
    # The person speaks before or behind so long a text, not in the middle of it.
    ends = _pieces(f"{text[:LONGEST]}\n\n{text[-LONGEST:]}", shapes)
    return [*ends[:1], Part("material", text[LONGEST:-LONGEST], "length"), *ends[1:]]


def _pieces(text: str, shapes: ShapeTable) -> list[Part]:
    text = turns_as_labels(text.replace("\r\n", "\n"))
    if not (middle := delimited(text) or reported(text)):
        return _undelimited(text, shapes)
    inner = Part(middle.kind, text[middle.start : middle.end].strip(), f"title {middle.mark}")
    before, behind = text[: middle.start], text[middle.end :]
    if middle.kind == "words":
        return [Part("template", before, "directions"), inner, Part("template", behind, "directions")]
    rest = [before.rpartition("\n")[0], behind.partition("\n")[2]]
    first, last = (_undelimited(each, shapes) if each.strip() else [] for each in rest)
    return [*first, inner, *last]


def _undelimited(text: str, shapes: ShapeTable) -> list[Part]:
    directions, rest = directions_apart(text)
    rest, data = data_apart(rest)
    pieces = list(elements(rest, shapes))
    parts = [Part("context", each, "data") for each in data]
    if directions:
        parts.append(Part("template", directions, "directions"))
    alone = sum(piece.kind == "words" for piece in pieces) == 1
    for piece, after in zip_longest(pieces, pieces[1:]):
        if piece.kind != "words" or piece.reason:
            parts.append(piece)
        elif after and after.kind != "words" and _announces(piece.text, headings_only=alone):
            parts.append(Part("context", piece.text, "caption"))
        else:
            parts += dialogue(piece.text) or _sections(piece, shapes)
    return parts


def _sections(piece: Part, shapes: ShapeTable = _NO_SHAPES) -> list[Part]:
    """The parts of words without tags, by labels and lines. Words that a mark already names stay named."""
    text = piece.text.strip()
    stamp = stamp_of(text)
    stamped = [Part("context", stamp.strip(), "stamp")] if stamp else []
    text = text[len(stamp) :]
    if "\n" not in text:
        return [*stamped, Part("words", text, piece.reason)]
    pieces = [
        Part(kind, joined, reason or piece.reason)
        for kind, reason, lines in runs(text, shapes)
        if (joined := "\n".join(lines).strip())
    ]
    return stamped + _captions_apart(pieces)


def _captions_apart(parts: list[Part]) -> list[Part]:
    """A line that only announces what follows ("Metadata:") goes with it, where the person says more than that."""
    announces = [
        part.kind == "words" and after.kind in ("material", "context") and _announces(part.text)
        for part, after in pairwise(parts)
    ]
    if not any(announces) or sum(announces) == sum(part.kind == "words" for part in parts):
        return parts
    caption = chain(announces, [False])
    return [
        Part("context", part.text, "caption") if is_one else part for part, is_one in zip(parts, caption, strict=True)
    ]


def _announces(text: str, *, headings_only: bool = False) -> bool:
    """Whether ``text`` is a heading, or a line with a colon, and asks for nothing."""
    line = text.strip()
    mark = line.startswith("#") or (line.endswith((":", "：")) and not headings_only)
    return mark and len(line) <= CAPTION and "\n" not in line and not asks(line)
