"""One message, from text to parts: by listed marks where it has some, otherwise by the network's choice.

Everything is linear in the text. Of a text over ``LONGEST`` the middle is one piece of material, unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from triton_router.parts.asking import asks, begins_asking
from triton_router.parts.choice import choose
from triton_router.parts.directions import OPENINGS, directs
from triton_router.parts.ends import turns_as_labels
from triton_router.parts.lines import runs
from triton_router.parts.part import Kind, Part
from triton_router.parts.positions import positions
from triton_router.parts.shapes import SHAPES, ShapeTable, name_of, names_speech
from triton_router.parts.tags import elements

LONGEST = 32_768
# A line that only announces what follows is no longer than this.
CAPTION = 80
# Text of a program from so many characters on is something to work on.
LONG = 300
_QUOTED = re.compile(r'["\u201c\u201e\u00ab](.+)["\u201d\u201c\u00bb]$', re.DOTALL)
_COMMENTS = ("# ", "// ", "-- ")
# Marks, and what a program closes a line with.
_BRACKETS, _QUOTES, _ENDS = re.compile(r"[<\[{|\t\n]"), re.compile('["“„«「»›]'), frozenset(")]}*_~'”」`>#:=-")
# A name, a number or a time in front.
_MARKED = re.compile(r".{0,90}?(?:[:：]|[ \t][—–>→-]+[ \t]|=)|\w[.)]|\d")
# Words of a program that directs; in a line that has some so near to an end, there is something to tell apart. So short
# a line is a person's: "the answer is wrong, answer again".
NEAR, SHORT = 240, 60
_DIRECTIVES = (
    "you are", "you're", "your ", "answer", "reply", "respond", "assistant", "user", "antwort", "respuest", "répon",
    "rispond", "resposta", "du bist", "sie sind", "eres ", "tu es ", "vous êtes", "sei un", "você é", "ответ", "你是",
    "回答", "答え", "あなた",
)  # fmt: skip
_ANSWERS = frozenset({"assistant", "answer", "response", "reply", "bot", "ai"})
_NO_SHAPES = ShapeTable(())
_APART = "\n\n---\n\n"


def partition(blocks: Sequence[str], shapes: ShapeTable) -> list[Part]:
    """The parts of what one message of a user says, in its order; ``blocks`` are the texts that it was sent in.

    Of a message that only listed context is in, nothing is words.
    """
    if len(blocks) == 1 and _is_bare(text := blocks[0].strip()):
        return positions(Part("words", text))
    blocks = [turns_as_labels(block.replace("\r\n", "\n")) for block in blocks if block.strip()]
    if any(map(shapes.may_name_persons, blocks)):
        parts = [part for block in blocks for part in _read(block, shapes)]
        if any(_is_listed(part, shapes) for part in parts):
            return _marked(parts, shapes)
    pieces = [piece for block in blocks for piece in elements(block, shapes, listed_only=True)]
    context = [piece for piece in pieces if piece.kind != "words"]
    free = [piece.text.strip("\n") for piece in pieces if piece.kind == "words"]
    return [*context, *_blocks_chosen(free, shapes)] if any(text.strip() for text in free) else context


def _blocks_chosen(texts: Sequence[str], shapes: ShapeTable) -> Iterator[Part]:
    """The parts of ``texts``, which one message was sent in: what is apart in it is told from the rest as by a rule."""
    for part in _chosen(_APART.join(texts), shapes):
        if text := part.text.replace(_APART, "\n\n").strip().removeprefix("---").removesuffix("---").strip():
            yield part._replace(text=text) if len(texts) > 1 else part


def _is_bare(text: str) -> bool:
    """Whether ``text`` is one line without a mark: most turns of a chat are, and all of it is the person's."""
    if not 0 < len(text) <= 2 * LONGEST or _BRACKETS.search(text):
        return False
    if not (text[0].isalnum() or text[0] in "¿¡") or text[-1] in _ENDS or _MARKED.match(text):
        return False
    if _QUOTES.search(text) and not begins_asking(text):
        return False
    ends = f"{text[:NEAR]} {text[-NEAR:]}".casefold()
    return (len(text) <= SHORT and not text.startswith(OPENINGS)) or not any(word in ends for word in _DIRECTIVES)


def _is_listed(part: Part, shapes: ShapeTable) -> bool:
    """Whether a listed mark names the person's words or a transcript."""
    mark, _, name = part.reason.partition(" ")
    if part.kind not in ("words", "history") or mark not in ("tag", "title", "label"):
        return False
    if mark == "tag":
        return name_of(name) in shapes.tags
    # What stands behind "Question:" may be an example's or a record's. The network sees shipped labels in their places.
    shape = shapes.labels.get(name_of(name))
    return shape is not None and shape not in SHAPES


def _chosen(text: str, shapes: ShapeTable) -> list[Part]:
    """The parts of ``text``, whose marks no list names."""
    if len(text) > 2 * LONGEST:
        ends = _chosen(f"{text[: LONGEST - 1]}\n\n{text[1 - LONGEST :]}", shapes)
        return [*ends[:1], Part("material", text[LONGEST - 1 : 1 - LONGEST], "length"), *ends[1:]]
    choice = choose(text, shapes)
    if choice is None:
        return _own(Part("words", text))
    return [
        *_rest(text[: choice.start], shapes),
        *_own(Part("words", choice.words)),
        *_rest(text[choice.end :], shapes),
    ]


def _own(part: Part) -> list[Part]:
    """A person's text as words, and what it works on as material."""
    parts = [inner for each in _sections(part) for inner in (positions(each) if each.kind == "words" else [each])]
    if any(each.kind == "words" for each in parts):
        return parts
    return [each._replace(kind="words") for each in parts]


def _rest(text: str, shapes: ShapeTable) -> Iterator[Part]:
    """The parts of a program's text around a person's."""
    for part in _pieces(text, shapes) if any(map(str.isalnum, text)) else ():
        if part.kind != "words":
            yield part
        elif text := part.text.strip():
            kind: Kind = "template" if asks(text) or directs(text) else "material" if len(text) >= LONG else "context"
            yield Part(kind, text, part.reason or "position")


def _marked(parts: list[Part], shapes: ShapeTable) -> list[Part]:
    """``parts`` with only the words that marks name as words."""
    marked = [number for number, part in enumerate(parts) if part.kind == "words" and _is_mark(part)]
    if not marked:
        words = any(part.kind == "words" for part in parts)
        return (
            [inner for part in parts for inner in (_own(part) if part.kind == "words" else [part])] if words else parts
        )
    latest = _latest(parts, _clearest(parts, marked, shapes))
    return [inner for number, part in enumerate(parts) for inner in _around(part, number in latest, shapes)]


def _is_mark(part: Part) -> bool:
    return part.reason.startswith(("tag", "title", "label"))


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
        if any(map(_is_answer, parts[before + 1 : after])):
            return frozenset(number for number in marked if number >= after)
    return frozenset(marked)


def _is_answer(part: Part) -> bool:
    """Whether a mark names ``part`` as what an assistant said."""
    mark, _, name = part.reason.partition(" ")
    if mark == "tag":
        return part.kind != "words" and not _ANSWERS.isdisjoint(name_of(name).split("_"))
    return part.kind == "template" and mark in ("label", "title")


def _around(part: Part, latest: bool, shapes: ShapeTable) -> list[Part]:
    """Marked words that count are read as the person's; around them stand the program's own directions."""
    if latest:
        return [
            each._replace(reason=each.reason or part.reason)
            for each in _chosen(_unquoted(part.text).strip(), _NO_SHAPES)
        ]
    if part.kind == "words":
        return [part._replace(kind="context" if _is_mark(part) else "template")]
    return [part]


def _unquoted(text: str) -> str:
    """What stands between quote marks around ``text``, or in a comment."""
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
    parts: list[Part] = []
    for piece in elements(text, shapes):
        parts += [piece] if piece.kind != "words" or piece.reason else _sections(piece, shapes)
    return parts


def _sections(piece: Part, shapes: ShapeTable = _NO_SHAPES) -> list[Part]:
    """The parts of words without tags, by labels and lines. Words that a mark already names stay named."""
    text = piece.text.strip()
    if "\n" not in text:
        return [Part("words", text, piece.reason)]
    pieces = [
        Part(kind, joined, reason or piece.reason)
        for kind, reason, lines in runs(text, shapes)
        if (joined := "\n".join(lines).strip())
    ]
    return _captions_apart(pieces)


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


def _announces(text: str) -> bool:
    """Whether ``text`` is a heading, or a line with a colon, and asks for nothing."""
    line = text.strip()
    return (
        (line.startswith("#") or line.endswith((":", "：")))
        and len(line) <= CAPTION
        and "\n" not in line
        and not asks(line)
    )
