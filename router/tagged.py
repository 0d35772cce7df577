"""Names and addresses in a text, out of what a head says of each token; see the model `names` of `export/models.yaml`.

The head tags given names and surnames, and the parts of an address. Words that stand together are one finding; those
that it is less sure of count next to sure ones.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triton_router.personal import Finding

HEAD = "names"
TYPES = ("PERSON", "STREET_ADDRESS", "GPE", "ZIP_CODE")

NAMES = frozenset({"GIVEN_NAME", "SURNAME"})
_STREETS = frozenset({"BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS"})
ADDRESSES = _STREETS | {"CITY", "STATE", "ZIP_CODE"}
_ALONE = {"CITY": "GPE", "STATE": "GPE", "ZIP_CODE": "ZIP_CODE"}

# Least probabilities of a name, of one in small letters where a text has capitals, of an address, of a place without
# one, and of what goes on next to it; measured in docs/protection.md.
PERSON, SMALL, ADDRESS, PLACE, GOES_ON = 0.7, 0.9, 0.9, 0.99, 0.27

# Characters that are tagged at once, in which the tagger's author found its recall best, and how many are shared; and
# within how many of them a word ends.
LENGTH, OVERLAP, WORD = 480, 64, 32

# What stands between two words of one name, of one address and of one place.
_IN_NAME = re.compile(r"[ \t]{0,2}|\.?[ \t]+(?:[^\W\d_]\.?[ \t]+)?|[ \t]?[-'\u2019][ \t]?")
_IN_ADDRESS = re.compile(
    r"(?i)[\s,.#?]{0,7}['\u2019-]?"
    r"(?:(?:suite|apt|unit|box|ste|floor|p\.?\s?o\.? box|psc|st|str|street|no|ul)\b\.?[\s,#]*)*"
)
_IN_PLACE = re.compile(r"[ \t.'\u2019-]{0,2}")
# On either side of a term of a sum.
_BEFORE_TERM, _BEHIND_TERM = (
    re.compile(r"\d\s+[-+*/=<>\u00d7\u00f7\u2212]\s+$"),
    re.compile(r"\s+[-+*/=<>\u00d7\u00f7\u2212]\s+\d"),
)
# What comes before an address, and how it goes on behind its tagged words: on the same line, or on a short one.
_BEFORE = re.compile(r"(?i)(?:\d{1,6} +|(?:suite|apt\.?|unit|box|p\.?\s?o\.? box|psc)[ #]+)+$")
_NEXT = re.compile(
    r"(?:\.(?= \d))?(?:[ \t]*,)?(?:[ \t]+|[ \t]*\n[ \t,]*(?=[^\n:]{1,40}$))([^\W_][\w'\u2019-]*+)(?![.,]\d)",
    re.MULTILINE,
)
# A corner of two streets.
_CORNER, _AND = re.compile(r"(?i)\b(?:the )?corner of +$"), re.compile(r"[ \t]+(?:and|&)(?=[ \t])")
# What stands between the street of an address and the next line that is tagged.
_TO_NEXT_LINE = re.compile(r"\.?(?:[ \t]*\n[^\n:]{0,30}){1,2}")
# An initial, which is not the end of a name, and the word behind it.
_BEHIND_INITIAL = re.compile(r"(?<![^\s.])([^\W\d_])\.?[ \t]+([^\W\d_][\w'\u2019-]+)")
# Of the armed forces of the United States.
_MILITARY = re.compile(r"(?i)\b(?:PSC|CMR|Unit|US[A-Z]{1,3}) [^\n]{2,30}[\s,]+[AFD]PO,? A[AEP] \d{5}(?:-\d{4})?\b")
# Words of a name by their letters: with a capital, as short as a particle, or neither.
_CAPITAL, _PARTICLE, _SMALL = "Xxs"
_CAPITALISED = re.compile("X(?:[Xx]*X)?")
# What stands before the second half of a compound.
_COMPOUND = re.compile(r"[^\W_]-")
# Scripts without spaces between words begin here.
_WORDLESS = "\u2e80"


class Tag(NamedTuple):
    """A word that is a ``kind`` of name or address, at [start, end) characters of a text."""

    start: int
    end: int
    kind: str
    probability: float


class Tagging(NamedTuple):
    """What a head says of the tokens of one window: their [start, end) in the text, and FP32 [tokens, labels]."""

    places: Sequence[tuple[int, int]]
    probabilities: NDArray[np.float32]


def windows(text: str) -> Iterator[tuple[int, str]]:
    """The pieces of ``text`` that are tagged, each with its place."""
    start = 0
    while True:
        end = _behind_word(text, start + LENGTH)
        if (piece := text[start:end]).strip():
            yield start, piece
        if end == len(text):
            return
        start = _behind_word(text, end - OVERLAP)


def _behind_word(text: str, place: int) -> int:
    """Where the last word before ``place`` ends; ``place`` itself in text without spaces."""
    if place >= len(text):
        return len(text)
    return next((each for each in range(place, place - WORD, -1) if text[each - 1].isspace()), place)


def tags(piece: str, taggings: Iterable[Tagging], labels: Sequence[str]) -> tuple[Tag, ...]:
    """The words of ``piece`` that may be names or parts of addresses."""
    kinds = [label[2:] for label in labels]
    person = np.array([kind in NAMES for kind in kinds])
    address = np.array([kind in ADDRESSES for kind in kinds])
    result: list[Tag] = []
    for start, end, row in (word for tagging in taggings for word in _words(piece, tagging)):
        name, place = float(row[person].sum()), float(row[address].sum())
        if max(name, place) >= GOES_ON:
            kind = "PERSON" if name >= place else kinds[int(np.argmax(np.where(address, row, 0)))]
            result.append(Tag(start, end, kind, max(name, place)))
    return tuple(result)


def _words(piece: str, tagging: Tagging) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """The places of words and the means of their tokens' probabilities."""
    words: list[tuple[int, int, list[NDArray[np.float32]]]] = []
    for (start, end), row in zip(tagging.places, tagging.probabilities, strict=True):
        if end <= start or not any(map(str.isalnum, piece[start:end])):
            continue
        if words and words[-1][1] == start and piece[start - 1] < _WORDLESS > piece[start]:
            words[-1] = words[-1][0], end, [*words[-1][2], row]
        else:
            words.append((start, end, [row]))
    for start, end, rows in words:
        yield start, end, np.mean(rows, axis=0)


def findings(text: str, words: Iterable[Tag]) -> list[Finding]:
    """Names and addresses in order and without overlaps."""
    distinct: list[Tag] = []
    for tag in sorted(words):
        # Windows share words.
        if not distinct or distinct[-1].end <= tag.start:
            distinct.append(tag)
        elif tag.probability > distinct[-1].probability:
            distinct[-1] = tag
    names = _names(text, [tag for tag in distinct if tag.kind == "PERSON"])
    addresses = _addresses(text, [tag for tag in distinct if tag.kind != "PERSON"], [name.start for name in names])
    result: list[Finding] = []
    for each in sorted([*names, *addresses], key=lambda finding: (finding.start, -finding.end)):
        if not result or result[-1].end <= each.start:
            result.append(each)
    return result


def _runs(text: str, words: Iterable[Tag], between: re.Pattern[str]) -> Iterator[list[Tag]]:
    """Words that stand together."""
    run: list[Tag] = []
    for tag in words:
        if run and not between.fullmatch(text, run[-1].end, tag.start):
            yield run
            run = []
        run.append(tag)
    if run:
        yield run


def _names(text: str, words: Sequence[Tag]) -> list[Finding]:
    small = SMALL if text != text.lower() else PERSON
    names = [
        Finding(name[0].start, _behind_initial(text, name[-1].end), "PERSON")
        for run in _runs(text, words, _IN_NAME)
        for name in _whole(text, run, small)
    ]
    # Who was named in full is later called by the surname.
    surnames = {surname for each in names if (surname := _surname(text[each.start : each.end]))}
    if surnames:
        again = (match.span() for match in re.finditer(r"\w+(?:-\w+)*", text) if match[0] in surnames)
        names = sorted({*names, *(Finding(start, end, "PERSON") for start, end in again)})
    return names


def _whole(text: str, run: Sequence[Tag], small: float) -> Iterator[Sequence[Tag]]:
    """The names in words that stand together. ``small``: the least probability of a word in small letters."""
    letters = "".join(_letters(text[tag.start : tag.end]) for tag in run)
    sure = [tag.probability >= (small if text[tag.start].islower() else PERSON) for tag in run]
    capital = any(each and letter == _CAPITAL for each, letter in zip(sure, letters, strict=True))
    parts = (match.span() for match in _CAPITALISED.finditer(letters)) if capital else [(0, len(run))]
    for start, end in parts:
        start = _of_compound(text, run, start, end)
        if any(sure[start:end]):
            yield run[start:end]


def _of_compound(text: str, run: Sequence[Tag], start: int, end: int) -> int:
    """The first word of a name, which has both halves of a compound ("al-Amin") or none ("ex-Marine")."""
    place = run[start].start
    if not _COMPOUND.fullmatch(text[max(0, place - 2) : place]):
        return start
    if start and run[start - 1].end == place - 1:
        return start - 1
    return start + 1 if end - start > 1 else start


def _behind_initial(text: str, end: int) -> int:
    """Where a name ends whose tagged words end at ``end``: an initial goes on with a word that is written alike."""
    match = _BEHIND_INITIAL.match(text, max(0, end - 1))
    alike = match and (match[1].islower() if match[2][0].islower() else match[1].isupper())
    return match.end() if match and alike else end


def _letters(word: str) -> str:
    return _CAPITAL if not word[0].islower() else _PARTICLE if len(word) <= 3 else _SMALL


def _surname(name: str) -> str | None:
    *given, surname = name.split()
    return surname if given and len(surname) > 2 else None


def _addresses(text: str, words: Sequence[Tag], names: Sequence[int]) -> list[Finding]:
    """``names``: where these begin."""
    military = [Finding(*match.span(), "STREET_ADDRESS") for match in _MILITARY.finditer(text)]
    limits = sorted([*names, *(each.start for each in military)])
    cased = text != text.lower()
    addresses: list[Finding] = []
    # Where an address ends of which only the street is known.
    street_end: int | None = None
    for run in _runs(text, _outside(words, military), _IN_ADDRESS):
        first = _first(text, run)
        kinds = {tag.kind for tag in run[first:]}
        if street_end is not None and _next_line(text, street_end, run, kinds, limits):
            addresses[-1] = addresses[-1]._replace(end=_end(text, run[-1].end, limits))
            street_end = None
            continue
        street_end = None
        if "STREET_NAME" in kinds or (kinds & _STREETS and len(kinds) > 1):
            start, end = _extent(text, run[first].start, run[-1].end, limits)
            # A street without a number is nobody's address.
            if any(map(str.isdigit, text[start:end])) and any(map(str.isalpha, text[start:end])):
                addresses.append(Finding(start, end, "STREET_ADDRESS"))
                street_end = end if kinds <= _STREETS else None
        else:
            addresses += _places(text, run, cased=cased)
    return [*military, *addresses]


def _outside(words: Iterable[Tag], addresses: Sequence[Finding]) -> Iterator[Tag]:
    """The words that are not in ``addresses``, which are in order."""
    ends = [each.end for each in addresses]
    for tag in words:
        place = bisect(ends, tag.start)
        if place == len(addresses) or tag.end <= addresses[place].start:
            yield tag


def _next_line(text: str, end: int, run: Sequence[Tag], kinds: Collection[str], limits: Sequence[int]) -> bool:
    """Whether an address that ends at ``end`` goes on with ``run``, of these ``kinds``, a line or two below."""
    # Another house is another address.
    if not kinds or "BUILDING_NUMBER" in kinds:
        return False
    start = next((tag.start for tag in run if tag.start >= end), end)
    return bool(_TO_NEXT_LINE.fullmatch(text, end, start)) and bisect(limits, end) == bisect(limits, start)


def _extent(text: str, start: int, end: int, limits: Sequence[int]) -> tuple[int, int]:
    """The [start, end) of an address whose tagged words are at [start, end)."""
    end = _end(text, end, limits)
    left = text[max(0, start - 25) : start]
    if (corner := _CORNER.search(left)) and (second := _AND.match(text, end)):
        further = _end(text, second.end(), limits)
        if further > second.end():
            return start - len(corner[0]), further
    before = _BEFORE.search(left)
    return start - len(before[0]) if before else start, end


def _first(text: str, run: Sequence[Tag]) -> int:
    """The first word of an address: the first one of the line with a sure word."""
    sure = next((place for place, tag in enumerate(run) if tag.probability >= ADDRESS), len(run))
    while 0 < sure < len(run) and "\n" not in text[run[sure - 1].end : run[sure].start]:
        sure -= 1
    return sure


def _end(text: str, end: int, names: Sequence[int]) -> int:
    """Where an address ends whose tagged words end at ``end``: capitalised words and numbers go on, up to a name."""
    place = bisect(names, end)
    limit = names[place] if place < len(names) else len(text)
    while (match := _NEXT.match(text, end, limit)) and (
        match[1][0].isupper() or (match[1][0].isdigit() and "\n" not in match[0])
    ):
        end = match.end()
    return end


def _places(text: str, run: Sequence[Tag], *, cased: bool) -> Iterator[Finding]:
    """Towns, states and postal codes that stand alone. In a text with capitals one without is no name."""
    sure = [tag for tag in run if tag.kind in _ALONE and tag.probability >= PLACE]
    for place in _runs(text, sure, _IN_PLACE):
        for kind in ("GPE", "ZIP_CODE"):
            same = [tag for tag in place if _ALONE[tag.kind] == kind]
            if not same or (cased and text[same[0].start].islower()):
                continue
            if kind != "ZIP_CODE" or not _in_sum(text, same[0].start, same[-1].end):
                yield Finding(same[0].start, same[-1].end, kind)


def _in_sum(text: str, start: int, end: int) -> bool:
    return bool(_BEFORE_TERM.search(text[max(0, start - 8) : start]) or _BEHIND_TERM.match(text[end : end + 8]))
