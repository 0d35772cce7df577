"""Keyword signals: words, phrases or expressions that are in the prompt, or are not.

All literal keywords of a configuration are one Aho-Corasick automaton and all expressions one RE2 set, so the prompt is
read once however many rules there are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import ClassVar

import ahocorasick_rs
import numpy as np
import re2

from router.config import expressions
from router.config.schema import KeywordSignal
from router.signals import Evaluation, certain

TYPE = "keyword"
# A word may not be changed beyond recognition: at most one edit for so many characters.
CHARACTERS_AN_EDIT = 3

_WORD = re.compile(r"\w+")
# What stands between words. In scripts that are written without spaces each character is a word.
_BETWEEN = re.compile(r"(\W+)", re.ASCII)
_BETWEEN_OR_UNSPACED = re.compile(r"(\W+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
# Set between them; no text is written with it.
_MARK = "\x01"

Hits = dict[int, set[int]]
"""The places of the keywords that were found, by place of their signal."""


class KeywordMatcher:
    """Evaluates keyword signals on a text. Raises ``ValueError`` for an expression that RE2 does not take."""

    def __init__(self, signals: Iterable[KeywordSignal]) -> None:
        self._signals = tuple(signals)
        self._keys = [(TYPE, signal.name) for signal in self._signals]
        self._nor = [(TYPE, signal.name) for signal in self._signals if signal.operator == "NOR"]
        self._finders = [
            finder(self._signals, case_sensitive)
            for finder in (_Literals, _WholeWords, _Expressions, _Fuzzy)
            for case_sensitive in (False, True)
        ]
        self._finders = [finder for finder in self._finders if finder]

    def evaluate(self, text: str) -> dict[tuple[str, str], Evaluation]:
        """One evaluation for each signal; never unknown. ``measure`` is the number of different keywords found."""
        if not self._signals:
            return {}
        started = perf_counter()
        text = encodable(text)
        hits: Hits = defaultdict(set)
        for finder in self._finders:
            finder.find(text, hits)
        ms = (perf_counter() - started) * 1000
        nothing, something = certain(False, 0, ms), certain(True, 0, ms)
        evaluations = dict.fromkeys(self._keys, nothing) | dict.fromkeys(self._nor, something)
        for place, found in hits.items():
            signal = self._signals[place]
            evaluations[TYPE, signal.name] = certain(_holds(signal, found), len(found), ms)
        return evaluations


def encodable(text: str) -> str:
    """``text`` without lone surrogates, which JSON can carry and UTF-8 cannot; its length stays."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _holds(signal: KeywordSignal, found: set[int]) -> bool:
    if signal.operator == "AND":
        return len(found) == len(signal.keywords)
    return bool(found) is (signal.operator == "OR")


def _of(
    signals: Sequence[KeywordSignal], modes: tuple[str, ...], case_sensitive: bool
) -> Iterable[tuple[int, int, KeywordSignal, str]]:
    """(signal, keyword) by place, with the signal and the keyword in the form that is compared."""
    for place, signal in enumerate(signals):
        if signal.match in modes and signal.case_sensitive is case_sensitive:
            for index, word in enumerate(signal.keywords):
                folded = word if case_sensitive or signal.match == "regex" else word.casefold()
                yield place, index, signal, encodable(folded)


class _Literals:
    """Words and phrases, as they are written: one automaton for all of them."""

    modes: ClassVar[tuple[str, ...]] = ("substring",)

    def __init__(self, signals: Sequence[KeywordSignal], case_sensitive: bool) -> None:
        self._case_sensitive = case_sensitive
        owners: dict[str, list[tuple[int, int]]] = {}
        for place, index, _, word in _of(signals, self.modes, case_sensitive):
            owners.setdefault(self._prepared(word), []).append((place, index))
        self._owners = list(owners.values())
        self._automaton = ahocorasick_rs.AhoCorasick(list(owners), store_patterns=False) if owners else None

    def __bool__(self) -> bool:
        return self._automaton is not None

    def find(self, text: str, hits: Hits) -> None:
        assert self._automaton is not None
        text = self._prepared(text if self._case_sensitive else text.casefold())
        matches = self._automaton.find_matches_as_indexes(text, overlapping=True)
        for pattern in {match[0] for match in matches}:
            for place, index in self._owners[pattern]:
                hits[place].add(index)

    def _prepared(self, text: str) -> str:
        return text


class _WholeWords(_Literals):
    """The same with each word set apart, so that a part of a word is none."""

    modes = ("word",)

    def _prepared(self, text: str) -> str:
        parts = (_BETWEEN if text.isascii() else _BETWEEN_OR_UNSPACED).split(text)
        # No mark where the text neither begins nor ends with a word: what comes there is not the keyword's business.
        return _MARK.join((*([""] if parts[0] else []), *_trimmed(parts), *([""] if parts[-1] else [])))


def _trimmed(parts: list[str]) -> list[str]:
    return parts[(not parts[0]) : len(parts) - (not parts[-1])]


class _Expressions:
    """RE2 expressions: linear in the text, whatever they are."""

    def __init__(self, signals: Sequence[KeywordSignal], case_sensitive: bool) -> None:
        self._owners: list[tuple[int, int]] = []
        self._set = re2.Set.SearchSet(expressions.options(case_sensitive))
        for place, index, signal, word in _of(signals, ("regex",), case_sensitive):
            if why := expressions.refused(word):
                raise ValueError(f"keyword signal `{signal.name}`: `{word}` is not an RE2 expression: {why}")
            self._set.Add(word)
            self._owners.append((place, index))
        if self._owners:
            self._set.Compile()

    def __bool__(self) -> bool:
        return bool(self._owners)

    def find(self, text: str, hits: Hits) -> None:
        for expression in self._set.Match(text) or ():
            place, index = self._owners[expression]
            hits[place].add(index)


class _Fuzzy:
    """Whole words and phrases with a few letters wrong (Levenshtein distance)."""

    def __init__(self, signals: Sequence[KeywordSignal], case_sensitive: bool) -> None:
        self._case_sensitive = case_sensitive
        # By number of words and edits: what is compared with the same runs of words, under the same bound.
        self._groups: dict[tuple[int, int], tuple[list[str], list[tuple[int, int]]]] = {}
        for place, index, signal, word in _of(signals, ("fuzzy",), case_sensitive):
            words = _WORD.findall(word)
            phrase = " ".join(words)
            edits = min(signal.fuzzy_threshold, len(phrase) // CHARACTERS_AN_EDIT)
            phrases, owners = self._groups.setdefault((len(words), edits), ([], []))
            phrases.append(phrase)
            owners.append((place, index))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def find(self, text: str, hits: Hits) -> None:
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        words = _WORD.findall(text if self._case_sensitive else text.casefold())
        for (count, edits), (phrases, owners) in self._groups.items():
            runs = list({" ".join(words[start : start + count]) for start in range(len(words) - count + 1)})
            if not runs or not count:
                continue
            distances = cdist(phrases, runs, scorer=Levenshtein.distance, score_cutoff=edits, dtype=np.uint8)
            for phrase in np.flatnonzero((distances <= edits).any(axis=1)):
                place, index = owners[phrase]
                hits[place].add(index)
