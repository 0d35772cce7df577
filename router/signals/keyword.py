"""Keyword signals: words or phrases that are in the prompt, or are not."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

from router.config.schema import KeywordSignal
from router.signals import Evaluation

TYPE = "keyword"


class KeywordMatcher:
    """Evaluates keyword signals on a text; each keyword is a substring, in any letter case unless told otherwise."""

    def __init__(self, signals: Iterable[KeywordSignal]) -> None:
        self._signals = tuple(
            (signal, tuple(word if signal.case_sensitive else word.casefold() for word in signal.keywords))
            for signal in signals
        )

    def evaluate(self, text: str) -> dict[tuple[str, str], Evaluation]:
        """One evaluation for each signal; never unknown."""
        started = perf_counter()
        folded = text.casefold()
        found = {
            signal.name: _holds(signal.operator, words, text if signal.case_sensitive else folded)
            for signal, words in self._signals
        }
        ms = (perf_counter() - started) * 1000
        return {(TYPE, name): Evaluation(match, float(match), None, ms) for name, match in found.items()}


def _holds(operator: str, words: tuple[str, ...], text: str) -> bool:
    if operator == "AND":
        return all(word in text for word in words)
    found = any(word in text for word in words)
    return not found if operator == "NOR" else found
