"""Telling alike questions apart that are not the same.

An embedding hardly sees a "not", another number or a swapped direction. Two questions count as the same only if they
say the same words in the same order, once all is taken away that is known not to matter: see
:mod:`.wording`. A paraphrase with a word of its own is taken for another question, and the backend is asked
once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from triton_router.wording import LONGEST, Wording, english, plain, read

_CAPITALS = re.compile(r"(?<!^)(?<![.?!] )\b[A-Z]\w+")
_ACRONYMS = re.compile(r"\b[A-Z]{2,}\b")
_CLIPPED = re.compile(r"[^aeiou]*[aeiou][bcdfgklmnprstvz]")

# How many words may be others that stand for the same.
MOST_NEAR = 2
# Questions that the guard need not read again, some 3 KB each.
READINGS = 1024


def difference(earlier: str, now: str) -> str | None:
    """The kind of difference that makes two alike questions different ones, or ``None``.

    One of `negation`, `number`, `unit`, `date`, `direction`, `comparison`, `quantifier`, `name` and `content`; `text`
    for languages other than English, code and long texts, of which only the same text is the same.
    """
    return comparing(now)(earlier)


class Guard:
    """:func:`difference`, which remembers how it read the last questions."""

    def __init__(self) -> None:
        self._read = lru_cache(READINGS)(read)

    def reading(self, prompt: str) -> Wording | None:
        """``wording.read``, remembered; not for texts that it reads nothing of, which may be megabytes."""
        return self._read(prompt) if len(prompt) <= LONGEST else None

    def comparing(self, now: str) -> Callable[[str], str | None]:
        """See :func:`comparing`."""
        return comparing(now, self.reading)

    def forget(self) -> None:
        """Nothing of a question stays."""
        self._read.cache_clear()


Reading = Callable[[str], Wording | None]


def comparing(now: str, reading: Reading = read) -> Callable[[str], str | None]:
    """:func:`difference` to one question, which is read once for all earlier ones.

    ``reading`` reads the questions and may remember those that it has read.
    """
    second = reading(now)

    def difference_to(earlier: str) -> str | None:
        if earlier == now:
            return None
        first = reading(earlier) if second else None
        if first is None or second is None:
            shouted = earlier.isupper() or now.isupper()
            return None if plain(earlier, shouted=shouted) == plain(now, shouted=shouted) else "text"
        if _names_what_is_small(earlier, now) or _names_what_is_small(now, earlier):
            return "name"
        one, other = first.flat(), second.flat()
        if _same_words(_with_question(one, other), _with_question(other, one)) or _moved(first, second):
            return None
        if _nearly_same(_with_question(one, other), _with_question(other, one), earlier + " " + now):
            return None
        apart = set(one) ^ set(other)
        # The same words in another order: from here to there, and from there to here.
        return _kind(apart, earlier + " " + now) if apart else "direction"

    return difference_to


def _with_question(words: list[str], beside: list[str]) -> list[str]:
    """``words`` with the question that a bare phrase leaves out: "best sushi in Kyoto" beside "what is the best …"."""
    bare = words and not words[0].startswith("?")
    if beside[:1] == ["?what"]:
        if bare:
            return ["?what", *words]
        if words[:1] == ["?which"] and words[1:2] and words[1] in english.CATEGORIES and len(words) > len(beside):
            return ["?what", *words[2:]]
    return words


def _same_words(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _nearly_same(one: list[str], other: list[str], written: str) -> bool:
    """Whether they differ only in a word or two that may stand for each other."""
    if len(one) != len(other):
        return False
    apart = [(a, b) for a, b in zip(one, other, strict=True) if not _same(a, b)]
    if len(apart) > MOST_NEAR:
        return False
    beside, names = {*one, *other}, _names(written)
    return all(
        any(
            y in neighbours and neighbours[y].isdisjoint(beside)
            for x in (a, *_bases(a))
            if (neighbours := english.NEARLY.get(x)) is not None
            for y in (b, *_bases(b))
        )
        and names.isdisjoint((a, b))
        for a, b in apart
    )


def _named(written: str) -> set[str]:
    """Words that are a name by their capitals, and something else without: "the Polish", "IT"."""
    if written.isupper():
        return set()
    words = {*_CAPITALS.findall(written), *_ACRONYMS.findall(written)}
    return {word.lower() for word in words} & english.CAPITONYMS


def _names_what_is_small(one: str, other: str) -> bool:
    names = _named(one)
    return bool(names) and not names.isdisjoint(re.findall(r"\w+", other))


def _names(written: str) -> set[str]:
    """Common forms of words that begin with a capital where no sentence does."""
    return {english.common(word.lower()) for word in _CAPITALS.findall(written)}


def _same(one: str, other: str) -> bool:
    if one == other or frozenset((one, other)) in english.NEAR:
        return True
    return not {one, *_bases(one)}.isdisjoint({other, *_bases(other)})


def _bases(word: str) -> tuple[str, ...]:
    """The verbs that ``word`` may be a form of: "making" of "make", "stopped" of "stop", "opened" of "open"."""
    stem = word.removesuffix("ing") if word.endswith("ing") else word.removesuffix("ed")
    if stem == word or len(stem) < 2 or word in english.NOT_GERUNDS or word in english.NOT_PARTICIPLES:
        return ()
    if stem[-1] == "i":
        return (stem[:-1] + "y",)
    if len(stem) > 3 and stem[-1] == stem[-2]:
        return stem, stem[:-1]
    # "Hoping" is of "hope": of "hop" it would have two p.
    return (stem + "e",) if _CLIPPED.fullmatch(stem) else (stem, stem + "e")


def _moved(first: Wording, second: Wording) -> bool:
    """Whether they differ only in where adverbials stand: "to Rome from Oslo"."""
    if first.bound or second.bound or len(first.parts) != len(second.parts):
        return False
    one, other = (sorted(wording.parts[1:], key=lambda part: part.joint) for wording in (first, second))
    if not all(part.joint in english.MOVABLE for part in one):
        return False
    return _same_words(first.parts[0].words, second.parts[0].words) and all(
        a.joint == b.joint and _same_words(a.words, b.words) for a, b in zip(one, other, strict=True)
    )


def _kind(apart: set[str], written: str) -> str:
    for kind, words in (
        ("negation", english.NEGATIONS), ("quantifier", english.QUANTITIES), ("comparison", english.COMPARISONS),
        ("date", english.DATES), ("unit", english.UNIT_WORDS),
    ):  # fmt: skip
        if apart & words:
            return kind
    if apart <= english.DIRECTIONS:
        return "direction"
    if any(word.startswith("#") for word in apart):
        return "number"
    return "name" if apart & _names(written) else "content"
