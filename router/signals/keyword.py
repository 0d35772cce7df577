"""Keyword signals: words, phrases or expressions that are in the prompt, or are not.

All literal keywords of a configuration are one Aho-Corasick automaton and all expressions one RE2 set, for each way to
compare letters, so the prompt is read a few times however many rules there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any

import ahocorasick_rs
import numpy as np
import re2

from triton_router.config import expressions
from triton_router.config.document import Path
from triton_router.config.plain import DECISIONS, SIGNALS, items, rules
from triton_router.config.report import Report
from triton_router.config.signals import KeywordSignal
from triton_router.config.whole_words import holding
from triton_router.jsontext import encodable
from triton_router.parts.normal import normalised, pieces
from triton_router.signals.contract import (
    Evaluation,
    Evaluations,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
    certain,
)
from triton_router.signals.lexical import Grams, Stems

# Characters in which words with letters wrong are looked for: of 65,536, with 50 keywords, in 16 ms.
FUZZY_READS = 65_536
# A word may not be changed beyond recognition: at most one edit for so many characters.
CHARACTERS_AN_EDIT = 3

# Han, Kana and Hangul are written without spaces, or with endings grown on: each character is a word.
_UNSPACED = r"\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED += r"\uff66-\uffdc\U00020000-\U0003ffff"
_SPACED_WORD = re.compile(rf"([^\W{_UNSPACED}]+)")
WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
FAST_RESPONSE = "fast_response"
# Stands beside words; no keyword is written with it.
_MARK = "\x01"

Keyword = tuple[int, str]
"""The place of a signal, and one of its keywords."""


class Keywords(SignalKind[KeywordSignal]):
    """Never unknown; ``measure`` is the number of different keywords that the text has.

    Raises:
        ValueError: an expression that RE2 does not take.
    """

    SETTINGS = KeywordSignal
    # Of more, words with letters wrong take more than some milliseconds.
    ON_LOOP = 16_384

    def __init__(self, signals: Sequence[KeywordSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        if refused := [problem for signal in self.signals for problem in problems(signal)]:
            raise ValueError("; ".join(refused))
        self._nor = [signal.keys[0] for signal in self.signals if signal.operator == "NOR"]
        self._rules = [(signal.operator, len(_compared(signal))) for signal in self.signals]
        self._finders = {
            names: [
                _finder(match, self.signals, keywords, case_sensitive)
                for match in ("substring", "word", "regex", "fuzzy", "bm25", "ngram")
                for case_sensitive in (False, True)
                if (keywords := list(_keywords(self.signals, names, match, case_sensitive)))
            ]
            for names in dict.fromkeys(signal.parts for signal in self.signals)
        }

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        protective = dict(_protective(data))
        for path, signal in items(data, (*SIGNALS, KeywordSignal.LIST)):
            words = signal.get("keywords")
            if not {"match", "method", "fuzzy_match"} & signal.keys() or signal.get("match") == "substring":
                _warn_of_holders(words, path, report)
            if (decision := protective.get(str(signal.get("name")))) and "parts" not in signal:
                message = f"decision `{decision}` answers by itself on these words, but reads only the user's words"
                report.warning(path, f"{message}; `parts: [all]` reads the whole request")
            if "regex" in (signal.get("match"), signal.get("method")) and isinstance(words, list):
                for index, word in enumerate(words):
                    if isinstance(word, str) and (why := expressions.refused(word)):
                        report.error((*path, "keywords", index), f"not an RE2 expression: {why}")

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        started = perf_counter()
        counts: dict[int, int] = {}
        for names, finders in self._finders.items():
            text = encodable(query.read(names))
            plain = normalised(text)
            for finder in finders:
                # An expression says itself what spaces and marks it means.
                for place in finder.find(text if isinstance(finder, _Expressions) else plain):
                    counts[place] = counts.get(place, 0) + 1
        ms = (perf_counter() - started) * 1000
        # Most of many signals find nothing, and the others much the same: they share a few evaluations.
        evaluations = dict.fromkeys(self.keys, certain(False, 0, ms)) | dict.fromkeys(self._nor, certain(True, 0, ms))
        shared: dict[tuple[bool, int], Evaluation] = {}
        for place, count in counts.items():
            operator, keywords = self._rules[place]
            outcome = (count == keywords if operator == "AND" else operator == "OR", count)
            if outcome not in shared:
                shared[outcome] = certain(*outcome, ms)
            evaluations[self.keys[place]] = shared[outcome]
        return evaluations


def _warn_of_holders(words: Any, path: Path, report: Report) -> None:
    for index, word in enumerate(words if isinstance(words, list) else []):
        if isinstance(word, str) and (holders := holding(word)):
            message = f"`{word}` is also found in {', '.join(f'`{each}`' for each in holders)}"
            report.warning((*path, "keywords", index), f"{message}; `match: word` finds whole words only")


def _protective(data: Any) -> Iterator[tuple[str, Any]]:
    """The names of keyword signals in rules of decisions that answer by themselves, each with the decision's name."""
    answering = {
        path[: len(DECISIONS) + 1]: decision.get("name")
        for path, decision in items(data, DECISIONS)
        if any(plugin.get("type") == FAST_RESPONSE for _, plugin in items(decision, ("plugins",)))
    }
    for path, rule in rules(data):
        if rule["type"] == KeywordSignal.TYPE and (name := answering.get(path[: len(DECISIONS) + 1])):
            yield str(rule.get("name")), name


def problems(signal: KeywordSignal) -> list[str]:
    """Why RE2 does not take expressions of ``signal``, a sentence each."""
    if signal.match != "regex":
        return []
    return [
        f"keyword signal `{signal.name}`: `{expression}` is not an RE2 expression: {why}"
        for expression in signal.keywords
        if (why := expressions.refused(expression))
    ]


def ends(text: str, most: int) -> str:
    """``text``, or the first and the last half of ``most`` of its characters: where people say what they want."""
    return text if len(text) <= most else f"{text[: most // 2]}\n{text[-(most // 2) :]}"


def marked(text: str) -> str:
    """``text`` with each word set apart: what is marked is in it only as whole words.

    A word is a run of letters, digits and underscores. Characters of scripts without spaces stay bare, for a word may
    begin and end beside any of them.
    """
    return _MARK.join(_SPACED_WORD.split(text))


def _compared(signal: KeywordSignal) -> set[str]:
    """The different keywords of ``signal``, in the form that is compared."""
    if signal.match == "regex":
        return set(signal.keywords)
    words = (normalised(word) or word for word in signal.keywords)
    return set(words) if signal.case_sensitive else {word.casefold() for word in words}


def _keywords(
    signals: Sequence[KeywordSignal], names: tuple[str, ...], match: str, case_sensitive: bool
) -> Iterator[Keyword]:
    for place, signal in enumerate(signals):
        if signal.parts == names and signal.match == match and signal.case_sensitive is case_sensitive:
            yield from ((place, word) for word in _compared(signal))


def _finder(
    match: str, signals: Sequence[KeywordSignal], keywords: list[Keyword], case_sensitive: bool
) -> _Literals | _Expressions | _Fuzzy | Stems | Grams:
    match match:
        case "bm25":
            return Stems(signals, keywords, case_sensitive)
        case "ngram":
            return Grams(signals, keywords, case_sensitive)
        case "regex":
            return _Expressions(keywords, case_sensitive)
        case "fuzzy":
            return _Fuzzy(signals, keywords, case_sensitive)
        case _:
            return _Literals(keywords, case_sensitive, whole_words=match == "word")


class _Literals:
    """Words and phrases: one automaton for all of them."""

    def __init__(self, keywords: list[Keyword], case_sensitive: bool, *, whole_words: bool) -> None:
        self._whole_words = whole_words
        self._case_sensitive = case_sensitive
        self._longest = max(len(word) for _, word in keywords)
        owners: dict[bytes, list[int]] = {}
        for place, word in keywords:
            owners.setdefault(self._prepared(word), []).append(place)
        self._owners = list(owners.values())
        # Bytes, as the places of matches in a text are of no interest, and cost time to find out.
        self._automaton = ahocorasick_rs.BytesAhoCorasick(list(owners))

    def find(self, text: str) -> Iterable[int]:
        """The place of each keyword's signal, once for each keyword that is in ``text``."""
        hits: set[int] = set()
        for piece in pieces(text, self._longest):
            piece = piece if self._case_sensitive else piece.casefold()
            matches = self._automaton.find_matches_as_indexes(self._prepared(piece), overlapping=True)
            hits |= {match[0] for match in matches}
        return chain.from_iterable([self._owners[pattern] for pattern in hits])

    def _prepared(self, text: str) -> bytes:
        return (marked(text) if self._whole_words else text).encode()


class _Expressions:
    """RE2 expressions: linear in the text, whatever they are."""

    def __init__(self, keywords: list[Keyword], case_sensitive: bool) -> None:
        self._owners = [place for place, _ in keywords]
        self._set = re2.Set.SearchSet(expressions.options(case_sensitive))
        try:
            for _, expression in keywords:
                self._set.Add(expression)
            self._set.Compile()
        except re2.error as error:
            # Each is fine by itself, or the check before would have said so.
            raise ValueError(f"{len(keywords)} expressions of keyword signals are too large for one RE2 set") from error

    def find(self, text: str) -> Iterable[int]:
        return [self._owners[expression] for expression in self._set.Match(text) or ()]


class _Fuzzy:
    """Whole words and phrases with a few letters wrong (Levenshtein distance)."""

    def __init__(self, signals: Sequence[KeywordSignal], keywords: list[Keyword], case_sensitive: bool) -> None:
        # Here, as only fuzzy signals need it.
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        self._distances = partial(cdist, scorer=Levenshtein.distance, dtype=np.uint8)
        self._case_sensitive = case_sensitive
        # By number of words and edits: what is compared with the same runs of words, under the same bound.
        self._groups: dict[tuple[int, int], list[Keyword]] = {}
        for place, keyword in keywords:
            words = WORD.findall(keyword)
            phrase = " ".join(words)
            # Neither what is compared nor what was written may be shorter than the edits deserve.
            length = min(len(phrase), len(keyword))
            edits = min(signals[place].edits(length), length // CHARACTERS_AN_EDIT)
            if words:
                self._groups.setdefault((len(words), edits), []).append((place, phrase))

    def find(self, text: str) -> Iterator[int]:
        text = ends(text, FUZZY_READS)
        words = WORD.findall(text if self._case_sensitive else text.casefold())
        for (length, edits), keywords in self._groups.items():
            runs = list({" ".join(words[start : start + length]) for start in range(len(words) - length + 1)})
            if runs:
                distances = self._distances([phrase for _, phrase in keywords], runs, score_cutoff=edits)
                yield from (keywords[row][0] for row in np.flatnonzero((distances <= edits).any(axis=1)))
