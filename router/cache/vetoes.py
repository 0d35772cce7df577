"""Differences that keep two questions apart whatever a judge says: numbers, negations, names, exchanged places.

An encoder hardly sees them, and each can be seen without any grammar. A veto too many costs a question to the backend.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LONGEST = 1000  # Longer texts are hardly ever put in other words.
# Code, markup, several lines: each character counts.
LITERAL = re.compile(r"[{}\[\]=<>`|\\~_\n]|;(?!\s[a-z])|\w\(")
QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"', "„": '"'})

# Chinese and Japanese have no spaces: each character is a word.
_WORD = re.compile(r"[぀-ヿ㐀-鿿]|(?:(?![぀-ヿ㐀-鿿])[^\W\d_])+(?:'[^\W\d_]+)*|\d+(?:[.,:]\d+)*")
_NUMBER = re.compile(r"((?<![\w.])-)?\d+(?:[.,:]\d+)*(?:(?:st|nd|rd|th)\b)?")
_ORDINAL = re.compile(r"[a-z]+$")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MARKS = re.compile(r"[+*/^%#@\u00d7÷√±$€£¥]|(?<=\d) - (?=\d)|\((?=[^)]*[+*/^])")
_QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)")
_ACRONYM = re.compile(r"[A-Z]{2,}s?$")
# mW is not MW, and Mb not MB.
_INNER_CAPITAL = re.compile(r"(?<=\d) ?([a-zA-Z]+[A-Z]\w*|[A-Z]|[KMGT]b\w*)\b")

Written = Sequence[tuple[str, int]]  # words, each with its place


def bare(word: str) -> str:
    """``word`` without the ending of a possessive or a plural."""
    return word.removesuffix("'s").removesuffix("s")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _groups(text: str) -> dict[str, str]:
    """Each word of a group to the group's first."""
    return {bare(word): group.split()[0] for group in text.split(";") for word in group.split()}


SPELT = _groups(
    "0 zero;2 two 二 两;3 three 三;4 four 四;5 five 五;6 six 六;7 seven 七;8 eight 八;9 nine 九;10 ten 十;11 "
    "eleven;12 twelve dozen;13 thirteen;14 fourteen;15 fifteen;16 sixteen;17 seventeen;18 eighteen;19 nineteen;20 "
    "twenty;30 thirty;40 forty;50 fifty;60 sixty;70 seventy;80 eighty;90 ninety;100 hundred;1000 thousand;1000000 "
    "million;1000000000 billion;1th first;2th second;3th third;4th fourth;5th fifth;6th sixth;7th seventh;8th "
    "eighth;9th ninth;10th tenth;half;quarter"
)
UNITS = _groups(
    "km kilometre kilometer;m metre meter;cm centimetre centimeter;mm millimetre millimeter;mile mi;foot feet ft;inch "
    "inches;yard;kg kilo kilogram;g gram;mg milligram;pound lb £ gbp;ounce oz;ton tonne;l litre liter;ml millilitre "
    "milliliter;gallon;cup;tablespoon tbsp;teaspoon tsp;sec seconds;min minute;h hour hr;day daily;week weekly;month "
    "monthly;year yearly annual;century centuries;c celsius;f fahrenheit;dollar $ usd;euro € eur;yen ¥;rupee;percent % "
    "percentage;am;pm;kb kilobyte;mb megabyte;gb gigabyte;tb terabyte;kw kilowatt;volt v;watt w;mph;kph kmh"
)
_SHORT = _words("m g l h c f v w mi min am sec")  # units only behind a number
_DATES = _groups(
    "january jan;february feb;april apr;june jun;july jul;september sept;october oct;november nov;december dec;monday;"
    "tuesday;wednesday;thursday;friday;saturday;sunday;today;tonight;tomorrow;yesterday;summer;winter;autumn"
)
_NEGATIONS = {
    "en": _words(
        "no not nor none never neither nobody nothing nowhere cannot cant dont doesnt didnt isnt arent wasnt werent "
        "wont wouldnt shouldnt couldnt havent hasnt hadnt mustnt neednt without except unless hardly"
    ),
    "de": _words("nicht kein keine keinen keinem keiner nie niemals niemand nichts ohne außer"),
    "fr": _words("ne pas non jamais aucun aucune rien sans sauf"),
    "es": _words("no nunca jamás ningún ninguna ninguno nada nadie sin salvo tampoco"),
    "it": _words("non no mai nessuno nessuna niente nulla senza tranne"),
    "pt": _words("não nunca jamais nenhum nenhuma nada ninguém sem exceto"),
    "nl": _words("niet geen nooit niemand niets zonder behalve"),
    "zh": _words("不 没 无 未 非 别 勿"),
}
_CAPITONYMS = _words("it us who aids or in me pa polish turkey china march may august job mobile apple")
_OPPOSITES = _words(
    "before-after above-below over-under up-down left-right more-less more-fewer most-least best-worst better-worse "
    "max-min maximum-minimum highest-lowest higher-lower longer-shorter bigger-smaller warmer-colder faster-slower "
    "older-younger into-from inside-outside north-south east-west north-east north-west south-east south-west on-off "
    "onto-off road-street college-university increase-reduce all-some always-sometimes everyone-anyone normal-abnormal"
)
# What stands before one of these and what behind are not the same thing.
_DIRECTED = _words("to into from than over under by before after above below of in on for against with without per")
_SKIPPED = _words("a an the my your")


@dataclass(frozen=True, slots=True)
class Marks:
    """What two questions must have in common. ``words`` are in small letters and in order."""

    words: tuple[str, ...]
    numbers: tuple[str, ...]
    units: frozenset[str]
    dates: frozenset[str]
    negations: int
    names: frozenset[str]
    capitonyms: Counter[str]

    @classmethod
    def of(cls, text: str, language: str = "en") -> Marks | None:
        """``None`` for texts of which each character counts."""
        if len(text) > LONGEST or LITERAL.search(text.strip()):
            return None
        text = unicodedata.normalize("NFKC", text).translate(QUOTES)
        written = [(match[0], match.start()) for match in _WORD.finditer(text)]
        words = tuple(word.lower() for word, _ in written)
        inner = _inner_capitals(text, written)
        return cls(
            words=words,
            numbers=tuple(_numbers(text, written)),
            units=frozenset(_units(text, words)),
            dates=frozenset(date for word in words if (date := _DATES.get(bare(word)))),
            negations=sum(word in _NEGATIONS.get(language, ()) or word.endswith("n't") for word in words),
            names=frozenset(_names(text, written, inner)),
            capitonyms=Counter(word for word in inner if word.lower() in _CAPITONYMS),
        )


def veto(earlier: Marks | None, now: Marks | None) -> str | None:
    """The kind of difference that keeps two questions apart, which are not equal; ``None`` if there is none.

    One of `text`, `number`, `unit`, `date`, `negation`, `name` and `direction`.
    """
    if earlier is None or now is None:
        return "text"
    for kind in ("numbers", "dates", "negations"):
        if getattr(earlier, kind) != getattr(now, kind):
            return kind.removesuffix("s")
    if earlier.units and now.units and earlier.units != now.units:
        return "unit"
    lack = earlier.names - set(map(bare, now.words)) or now.names - set(map(bare, earlier.words))
    if earlier.capitonyms != now.capitonyms or lack:
        return "name"
    return "direction" if _exchanged(earlier.words, now.words) else None


def _numbers(text: str, written: Written) -> Iterator[str]:
    """In order, with the marks of sums and shares. "One" may be no number, so 1 is none."""
    numbers = [(match.start(), _ORDINAL.sub("th", _THOUSANDS.sub("", match[0]))) for match in _NUMBER.finditer(text)]
    for word, place in written:
        if (number := SPELT.get(bare(word.lower()))) and word.isalpha():
            numbers.append((place, number))
    numbers += [(match.start(), match[0]) for match in _MARKS.finditer(text) if match[0] not in UNITS]
    return (number for _, number in sorted(numbers) if number != "1")


def _units(text: str, words: Sequence[str]) -> Iterator[str]:
    yield from (UNITS[mark] for mark in _MARKS.findall(text) if mark in UNITS)
    yield from (unit for unit in _INNER_CAPITAL.findall(text) if bare(unit.lower()) not in UNITS or unit[1:2] == "b")
    for before, word in zip(("", *words), words, strict=False):
        if (unit := UNITS.get(bare(word))) and (word not in _SHORT or before[-1:].isdigit()):
            yield unit


def _inner_capitals(text: str, written: Written) -> list[str]:
    """Words with a capital where no sentence begins; none of texts that have capitals throughout."""
    capitals = [each for each in written if each[0][0].isupper() and each[0].partition("'")[0] != "I"]
    if text.isupper() or (len(written) > 3 and len(capitals) > 0.75 * len(written)):
        return []
    return [word for word, place in capitals if text[:place].rstrip(" \"'(")[-1:] not in ("", *".?!:")]


def _names(text: str, written: Written, inner: Iterable[str]) -> Iterator[str]:
    """Those in ``inner``, acronyms, and each word in quotes."""
    quoted = (word for match in _QUOTED.findall(text) for word in _WORD.findall("".join(match)))
    acronyms = () if text.isupper() else (word for word, _ in written if _ACRONYM.match(word))
    return (name for word in (*quoted, *inner, *acronyms) if (name := bare(word.lower())) not in UNITS)


def _exchanged(earlier: Sequence[str], now: Sequence[str]) -> bool:
    """Whether words have changed places, or stand for opposite directions."""
    lost, new = set(earlier) - set(now), set(now) - set(earlier)
    pairs = [*(pair.split("-") for pair in _OPPOSITES), *([word, f"un{word}"] for word in lost | new)]
    if any((one in lost and other in new) or (one in new and other in lost) for one, other in pairs):
        return True
    first, second = list(_joints(earlier)), list(_joints(now))
    if any((after, joint, before) in second for before, joint, after in first if before != after):
        return True
    ways = [{word: joint for _, joint, word in joints if joint in ("from", "to")} for joints in (first, second)]
    if any(ways[1].get(word, joint) != joint for word, joint in ways[0].items()):
        return True
    return sorted(earlier) == sorted(now) and not _rotated(earlier, now)


def _joints(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(word before, directed word, word behind)."""
    kept = [word for word in words if word not in _SKIPPED]
    return (each for each in zip(kept, kept[1:], kept[2:], strict=False) if each[1] in _DIRECTED)


def _rotated(earlier: Sequence[str], now: Sequence[str]) -> bool:
    """Whether, between what begins and ends both, two phrases of two or more words have changed places."""
    start = next((place for place, (a, b) in enumerate(zip(earlier, now, strict=True)) if a != b), len(now))
    end = next((place for place, (a, b) in enumerate(zip(earlier[::-1], now[::-1], strict=True)) if a != b), 0)
    one, other = list(earlier[start : len(earlier) - end]), list(now[start : len(now) - end])
    return one == other or any(one[cut:] + one[:cut] == other for cut in range(2, len(one) - 1))
