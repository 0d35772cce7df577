"""Structure signals: what the prompt's text looks like, as a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import ahocorasick_rs
import re2

from triton_router.config import expressions
from triton_router.config.plain import SIGNALS, at, items
from triton_router.config.report import Report
from triton_router.config.signals import StructureSignal, StructureSource
from triton_router.jsontext import encodable
from triton_router.signals.contract import (
    Evaluation,
    Evaluations,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
    certain,
)
from triton_router.signals.keyword import WORD, ends, marked

Count = Callable[[str], int]

# Characters of a text in which words are counted (its first and last ones), and in which expressions are.
WORDS_READ, EXPRESSION_READS = 262_144, 32_768
# Matches of one expression, after which it counts no more.
MATCHES = 1_000


class Structures(SignalKind[StructureSignal]):
    """Never unknown; ``measure`` is the number.

    Raises:
        ValueError: an expression that RE2 does not take.
    """

    SETTINGS = StructureSignal
    # Up to here an expression takes a few milliseconds, whatever it is.
    ON_LOOP = 4_096

    def __init__(self, signals: Sequence[StructureSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._counters = [_counter(signal) for signal in self.signals]

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, StructureSignal.LIST)):
            pattern = at(signal, "feature", "source", "pattern")
            if isinstance(pattern, str) and (why := expressions.refused(pattern)):
                report.error((*path, "feature", "source", "pattern"), f"not an RE2 expression: {why}")

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        counted = zip(self.keys, self.signals, self._counters, strict=True)
        return {key: _evaluated(signal, count, encodable(query.text(signal))) for key, signal, count in counted}


def _evaluated(signal: StructureSignal, count: Count, text: str) -> Evaluation:
    started = perf_counter()
    number = float(count(text))
    match signal.feature.type:
        case "exists" | "sequence":
            number = float(number > 0)
        case "density":
            excerpt = text[:EXPRESSION_READS] if signal.feature.source.type == "regex" else ends(text, WORDS_READ)
            number /= max(len(WORD.findall(excerpt)), 1)
    holds = signal.predicate.holds(number) if signal.predicate else number > 0
    return certain(holds, number, (perf_counter() - started) * 1000)


def _counter(signal: StructureSignal) -> Count:
    """How often a text has what the signal looks for."""
    source = signal.feature.source
    match source.type:
        case "text_bytes":
            return lambda text: len(text.encode())
        case "keyword_set":
            return _keyword_counter(source)
        case "sequence":
            return _sequence_counter(source)
        case _:
            return _expression_counter(signal.name, source, 1 if signal.feature.type == "exists" else MATCHES)


def _keyword_counter(source: StructureSource) -> Count:
    """Occurrences of any keyword as whole words; those that overlap count once."""
    keywords = {_compared(source, keyword).encode() for keyword in source.keywords}
    automaton = ahocorasick_rs.BytesAhoCorasick(sorted(keywords), ahocorasick_rs.MatchKind.LeftmostLongest)
    return lambda text: len(automaton.find_matches_as_indexes(_compared(source, ends(text, WORDS_READ)).encode()))


def _sequence_counter(source: StructureSource) -> Count:
    """Sequences whose words are all there, as whole words, in this order and without overlap."""
    sequences = [[_compared(source, word) for word in words] for words in source.sequences]

    def count(text: str) -> int:
        compared = _compared(source, ends(text, WORDS_READ))
        return sum(_in_order(words, compared) for words in sequences)

    return count


def _in_order(words: Iterable[str], text: str) -> bool:
    end = 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            return False
        end = start + len(word)
    return True


def _compared(source: StructureSource, text: str) -> str:
    return marked(text if source.case_sensitive else text.casefold())


def _expression_counter(name: str, source: StructureSource, most: int) -> Count:
    pattern = source.pattern or ""
    if why := expressions.refused(pattern):
        raise ValueError(f"structure signal `{name}`: `{pattern}` is not an RE2 expression: {why}")
    expression = re2.compile(pattern, expressions.options(source.case_sensitive))
    # Each match may read the whole rest of the text.
    return lambda text: sum(1 for _ in islice(expression.finditer(text[:EXPRESSION_READS]), most))
