"""From text to words in their common form: contractions, numbers, units and dates, and what is quoted.

A number becomes `#12`, an ordinal `#12th`; a word that is talked about (in quotes, behind a colon) gets a
quotation mark in front and stays as it is written.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from triton_router.wording import english
from triton_router.wording.english import MONTHS, ORDINALS, POWERS, SMALL, TENS, UNITS, common, singular

# Longer prompts are hardly ever put in other words, and reading them would hold up the event loop.
LONGEST, MOST_WORDS = 1000, 200

_TOKEN = re.compile(
    r"(?:(?<![^\s(])-)?\d+(?:,\d{3})+(?!\d)(?:\.\d+)?"
    r"|(?:(?<![^\s(])-)?\d+(?:\.\d+)*"
    r"|(?<!\S)\.[^\W\d_][^\W_]*"
    r"|[^\W\d_][^\W_]*(?:'[^\W\d_]+)*"
    r"|[^\s\w]|_"
)
CODE = re.compile(r"[{}\[\]=<>`|\\~_\n]|;(?!\s[a-z])|\w\(")
_FORMULA = re.compile(
    r"[+*^#@\u2264\u2265\u2260\u00b1\u00d7\u00f7\u221a\u2211\u222b\u221e\u2248]|\w!\s|\)\s?[-/]|\d\s?[-/]\s?[(\d]|(?<!\S)\w\s?[-/]\s?\w(?!\S)"
)
CASED = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(map(re.escape, english.CASED_UNITS))})(?![^\W\d_])")
_QUOTED = re.compile(r"\"+[^\"]*\"+|(?<!\w)'[^']*'(?!\w)")
_CHOICE = re.compile(r"(?:\S+\s+){1,4}or\s+(?:\S+\s*){1,4}$", re.IGNORECASE)
_ANNOUNCED = re.compile(r"(?:^|[.!?]\s)[^.!?:]{0,20}\bquestion$", re.IGNORECASE)
_ACRONYM = re.compile(r"[A-Z]{2}s?$")
_COUNTRY = re.compile(r"\bU\.S\.(?:A\.)?|\bUSA?\b")
_HALF_DAY = re.compile(r"\b([ap])\.m\.", re.IGNORECASE)
_HYPHENATED = re.compile(r"\be-(?=mail|book|commerce)", re.IGNORECASE)
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"', "„": '"'})
# Marks that say nothing in prose. In formulas every mark counts.
_SILENT_MARKS = frozenset("()\"'-*!:;") | {"\u2013", "\u2014", "\u2026"}


class Word(NamedTuple):
    """``form`` is common to all spellings; ``written`` is lower case."""

    form: str
    written: str

    @property
    def number(self) -> bool:
        return self.form.startswith("#")

    @property
    def ordinal(self) -> bool:
        return self.form.startswith("#") and self.form.endswith("th")

    @property
    def cardinal(self) -> bool:
        return self.form.startswith("#") and self.form[-1].isdecimal()


NOTHING = Word("", "")
TIMES = {"once": 1, "twice": 2, "thrice": 3}
_IN_NUMBERS = frozenset({*SMALL, *TENS, *POWERS, *ORDINALS, *TIMES})
# Before these "one" is somebody or something.
_BEFORE_SOMEBODY = frozenset("which no every any each some do can would for".split())  # noqa: SIM905


def words_of(text: str) -> tuple[list[Word], bool] | None:
    """The words of an English text, commas and stops among them, and whether a formula is in it.

    ``None`` for other languages, for code, and for texts over `LONGEST` characters or `MOST_WORDS` words.
    """
    if len(text) > LONGEST:
        return None
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).strip()
    if CODE.search(text) or not _latin(text):
        return None
    text = _HALF_DAY.sub(r"\1m", _HYPHENATED.sub("e", text))
    if not text.isupper():
        text = _COUNTRY.sub("usa", text)
    formula = _FORMULA.search(text) is not None
    words = _words(text, formula)
    return (_counted(words), formula) if len(words) <= MOST_WORDS and _english(words) else None


def _latin(text: str) -> bool:
    """Whether all letters are of the alphabet that English uses, and no mark hangs on a letter."""
    if text.isascii():
        return True
    return not any(
        (letter.isalpha() and letter > "\u024f") or unicodedata.category(letter)[0] == "M"
        for letter in text
        if not letter.isascii()
    )


def _english(words: list[Word]) -> bool:
    written = [word.written for word in words]
    known = sum(word in english.MARKS_OF_ENGLISH for word in written)
    return known > sum(word in english.MARKS_OF_OTHERS for word in written)


def _words(text: str, formula: bool) -> list[Word]:
    """Words, numbers, and the marks that say something, commas and stops among them."""
    words: list[Word] = []
    shouted = text.isupper()
    literal_from = _literal_from(text)
    quoted = bytearray(len(text))
    for match in _QUOTED.finditer(text):
        quoted[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    for match in _TOKEN.finditer(text):
        token, start, end = match[0], match.start(), match.end()
        if len(words) > MOST_WORDS:
            break
        if start >= literal_from or quoted[start]:
            # Words that are talked about are no grammar: "was" and "the" count.
            if token not in _SILENT_MARKS:
                words.append(Word('"' + token.lower(), token.lower()))
        elif token[0].isdecimal() or (token[0] == "-" and len(token) > 1):
            words.append(Word("#" + token.replace(",", ""), token))
        elif token[0].isalpha() or len(token) > 1:
            before = words[-1] if words else NOTHING
            spelled = _spelled(
                token,
                after_number=before.number or before.written == "/" or before.form == "degree",
                inside=not shouted and bool(words) and before.form != ".",
                glued=start > 0 and text[start - 1].isdecimal(),
            )
            if spelled[0].form == "":
                words[-1] = Word(before.form + spelled[0].written, before.written)
            else:
                words += spelled
        elif token in ".?!" and (end == len(text) or not formula):
            if end == len(text) or text[end].isspace():
                words.append(Word(".", token))
        elif not formula and (token in ":\u2013\u2014" or text[max(start - 1, 0) : end + 1] == " - "):
            words.append(Word(",", ","))
        elif formula or token not in _SILENT_MARKS:
            words.append(Word(UNITS.get(token, token), token))
    return words


def _literal_from(text: str) -> int:
    """Where a colon ends the question and the text that it is about begins."""
    for match in re.finditer(r":\s", text):
        if not _CHOICE.fullmatch(text, match.end()) and not _ANNOUNCED.search(text, 0, match.start()):
            return match.end()
    return len(text)


@lru_cache(8192)
def _spelled(token: str, *, after_number: bool, inside: bool, glued: bool) -> tuple[Word, ...]:
    """The words of a token between spaces: contractions become two.

    ``inside``: it is not the first word of a sentence, and the text is not all capitals. ``glued``: a digit stands
    right before it. A first word with an empty form belongs to the number before: "2nd" is neither "2" nor "second 2".
    """
    lower = token.lower()
    if glued and lower in ("st", "nd", "rd", "th", "s"):
        return (Word("", "th" if lower != "s" else "s"),)
    if after_number and token in english.CASED_UNITS:
        return tuple(Word(part, lower) for part in english.CASED_UNITS[token].split())
    unit = UNITS.get(lower) or UNITS.get(singular(lower))
    if unit is not None and (after_number or len(lower) > 3 or lower in ("kg", "km", "cm", "lbs", "kwh", "mph")):
        return tuple(Word(part, lower) for part in unit.split())
    lower = english.CONTRACTIONS.get(lower, lower)
    if lower.endswith("n't"):
        stem = {"ca": "can", "wo": "will", "sha": "shall"}.get(lower[:-3], lower[:-3])
        return Word(common(stem), stem), Word("not", "not")
    head, apostrophe, tail = lower.partition("'")
    if inside and token == "A":
        # Vitamin A, plan A.
        first = Word('"a', "a")
    elif not inside or not _ACRONYM.search(token):
        first = Word(common(head), head)
    elif token.isupper() and english.grammatical(head):
        # The IT of a company, the WHO.
        first = Word('"' + head, head)
    else:
        first = Word(head.removesuffix("s") if token[-1] == "s" else english.COMMON.get(head, head), head)
    if not apostrophe:
        return (first,)
    if tail == "s":
        return first, Word("be", "is") if head in english.SHORT_IS else Word("'s", "'s")
    return first, Word(english.ENDINGS.get(tail, tail), tail)


def _counted(words: list[Word]) -> list[Word]:
    """Numbers in words as digits, amounts with their unit behind them, days behind their month."""
    return _dates(_amounts(_numbers(words)))


def _numbers(words: list[Word]) -> list[Word]:
    result: list[Word] = []
    tens = -1
    for word in words:
        form, written = word
        if form not in _IN_NUMBERS:
            result.append(word)
            continue
        before = result[-1] if result else NOTHING
        if form in SMALL and not (form == "one" and before.form in _BEFORE_SOMEBODY):
            joined = tens == len(result) - 1 and 0 < SMALL[form] < 10 and result
            tenfold = int(result.pop().form[1:]) if joined else 0
            result.append(Word(f"#{tenfold + SMALL[form]}", written))
        elif form in TENS:
            tens = len(result)
            result.append(Word(f"#{TENS[form]}", written))
        elif form in POWERS and before.cardinal:
            result[-1] = Word(f"#{_times(before.form[1:], POWERS[form])}", written)
        elif form in ORDINALS and tens == len(result) - 1 and 0 < ORDINALS[form] < 10 and result:
            result[-1] = Word(f"#{int(result[-1].form[1:]) + ORDINALS[form]}th", written)
        elif form in ORDINALS and not (form == "second" and (before.number or before.form in ("per", "/"))):
            result.append(Word(f"#{ORDINALS[form]}th", written))
        elif form in TIMES:
            result += (Word(f"#{TIMES[form]}", written), Word("time", written))
        else:
            result.append(word)
    return result


def _amounts(words: list[Word]) -> list[Word]:
    result: list[Word] = []
    for place, word in enumerate(words):
        form, written = word
        before = result[-1] if result else NOTHING
        after = words[place + 1] if place + 1 < len(words) else NOTHING
        if form in english.MOODS and before.form == "a":
            # A will, a can.
            form = '"' + form
        elif form == "a":
            form = _article(written, result, after)
        elif form == "/" and before.form in english.UNIT_WORDS:
            form = "per"
        elif form == "degree" and UNITS.get(after.written) in ("celsius", "fahrenheit", "k"):
            continue
        elif form in english.BOUNDS and after.number:
            # "Over 40" is "more than 40".
            result.append(Word(english.BOUNDS[form], written))
            form = "than"
        elif form == "fewer" and after.form == "than":
            form = "less"
        if before.form == "per" and (form in english.UNIT_WORDS or form in english.DATES):
            result[-1] = Word(f"per-{form}", written)
        elif word.number and before.written and before.written in "$€£¥":
            result[-1:] = (Word(form, written), before)
        else:
            result.append(Word(form, written) if form != word.form else word)
    return result


def _article(written: str, before: list[Word], after: Word) -> str:
    """What "a", "an" or "the" in front of ``after`` stands for."""
    if written == "a" and (not after.form or after.form in english.JOINTS or after.form in ".,"):
        # Vitamin A, plan A.
        return '"a'
    if written == "the":
        return "a"
    if after.form in english.PERIODS:
        # "Two glasses a day"
        counted = any(word.number or word.form in ("how", "once", "twice") for word in before)
        return "per" if counted else "a"
    if after.form in english.UNIT_WORDS:
        return "per" if before and before[-1].form in english.UNIT_WORDS else "#1"
    return "a"


def _dates(words: list[Word]) -> list[Word]:
    result: list[Word] = []
    for place, word in enumerate(words):
        form, written = word
        before = result[-1] if result else NOTHING
        after = words[place + 1] if place + 1 < len(words) else NOTHING
        month = _month(word, before, after)
        if month and (
            before.ordinal or (before.cardinal and before.form[1:].isdecimal() and int(before.form[1:]) <= 31)
        ):
            result[-1:] = (Word(month, written), Word(before.form.removesuffix("th"), before.written))
        elif word.ordinal and before.form in MONTHS:
            result.append(Word(form.removesuffix("th"), written))
        else:
            result.append(Word(month, written) if month else word)
    return result


def _month(word: Word, before: Word, after: Word) -> str | None:
    if word.written in english.SHORT_MONTHS and (before.number or after.number):
        return english.SHORT_MONTHS[word.written]
    if word.form == "may":
        dated = before.number or before.form in english.BEFORE_MONTH or (after.number and before.form != "i")
        return "may" if dated else None
    return word.form if word.form in MONTHS else None


def _times(number: str, power: int) -> str:
    if len(number) > 15 or number.count(".") > 1:
        return f"{number}*{power}"
    product = Decimal(number) * power
    return str(int(product)) if product == int(product) else str(product)
