"""Telling alike questions apart that are not the same.

An embedding hardly sees a "not", another number or a swapped direction. Two questions count as the same only if the
words that say something are the same, in the same order. That is strict: a paraphrase with other words is taken for
another question, and the backend is asked once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*|[^\s\w]")
_CONTRACTIONS = (
    (re.compile(r"\bcan't\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'(?:s|re|m|ll|ve|d)\b"), " "),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that are there for politeness or grammar.
_SILENT = _words(
    """
         a an the this that these those please kindly could can would will shall may might should do does did is are
    was were     be been being am have has had i me my we us our you your it its what which tell explain describe
    define give show     help know want need like question answer hi hello hey thanks thank so just really actually
    about of for in on at and     as with there here let lets s quick quickly briefly simply exactly ok okay well
    to
    """
)
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen twenty
        """.split()  # noqa: SIM905  # one word beside the other
    )
}
_MARKS = frozenset("+-*/=<>%€$£#@^&")
_NEGATIONS = _words(
    """
    not no never none nothing nobody without neither nor except unless lack lacks
    """
)
_QUANTITIES = _words(
    """
    all some any every each most few many both several only half
    """
)
_COMPARISONS = _words(
    """
    more less most least best worst better worse larger smaller bigger greater higher lower faster slower cheaper
    older newer longer shorter max min maximum minimum than
    """
)
_DIRECTIONS = _words(
    """
    from into before after than versus vs over under between via by against left right up down
    """
)
_DATES = _words(
    """
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december today tomorrow yesterday morning evening week month year
    """
)
_UNITS = _words(
    """
    kg g mg lb lbs oz km m cm mm mile miles inch inches ft l ml liter litre gallon c f celsius fahrenheit kelvin usd
    eur dollar dollars euro euros seconds minutes hours days gb mb tb kb percent
    """
)


def difference(earlier: str, now: str) -> str | None:
    """The kind of difference that makes two alike questions different ones, or ``None``.

    One of `negation`, `number`, `unit`, `date`, `direction`, `comparison`, `quantifier`, `name` and `content`.
    """
    first, second = _said(earlier), _said(now)
    if first == second:
        return None
    apart = set(first) ^ set(second)
    if apart:
        return _kind(apart, earlier + " " + now)
    # The same words in another order: from here to there, and from there to here.
    return "direction"


def _said(text: str) -> list[str]:
    """The words of ``text`` that say something, in a common form."""
    text = text.casefold().replace("\u2019", "'")
    for expression, replacement in _CONTRACTIONS:
        text = expression.sub(replacement, text)
    words = (_NUMBERS.get(word, word) for word in _WORD.findall(text))
    return [_stem(word) for word in words if word not in _SILENT and (word[0].isalnum() or word in _MARKS)]


def _stem(word: str) -> str:
    """Singular and plural as one; nothing that could join two words."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _kind(apart: Iterable[str], written: str) -> str:
    apart = set(apart)
    for kind, words in (
        ("negation", _NEGATIONS), ("quantifier", _QUANTITIES), ("comparison", _COMPARISONS), ("date", _DATES),
        ("unit", _UNITS), ("direction", _DIRECTIONS),
    ):  # fmt: skip
        if apart & (words | {_stem(word) for word in words}):
            return kind
    if any(word[0].isdigit() for word in apart):
        return "number"
    capitals = {word.casefold() for word in re.findall(r"(?<!^)(?<![.?!] )\b[A-Z]\w*", written)}
    return "name" if apart & (capitals | {_stem(word) for word in capitals}) else "content"
