"""Structure signals: what the prompt's text looks like, as a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import re2

from router.config import expressions
from router.config.schema import StructureSignal, StructureSource
from router.signals import Evaluation, certain
from router.signals.keyword import encodable

TYPE = "structure"

# A character of a script without spaces counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

Count = Callable[[str], int]


class StructureMeter:
    """Evaluates structure signals; never unknown. ``measure`` is the number. Raises ``ValueError`` for an expression
    that RE2 does not take."""

    def __init__(self, signals: Iterable[StructureSignal]) -> None:
        self._signals = tuple((signal, counter(signal.feature.source)) for signal in signals)

    def evaluate(self, text: str) -> dict[tuple[str, str], Evaluation]:
        text = encodable(text)
        return {(TYPE, signal.name): _evaluated(signal, count, text) for signal, count in self._signals}


def _evaluated(signal: StructureSignal, count: Count, text: str) -> Evaluation:
    started = perf_counter()
    number = float(count(text))
    match signal.feature.type:
        case "exists" | "sequence":
            number = float(number > 0)
        case "density":
            number /= max(len(_WORDS.findall(text)), 1)
    holds = signal.predicate.holds(number) if signal.predicate else number > 0
    return certain(holds, number, (perf_counter() - started) * 1000)


def counter(source: StructureSource) -> Count:
    """How often a text has what ``source`` looks for. Raises ``ValueError``: RE2 does not take its expression."""
    match source.type:
        case "text_bytes":
            return lambda text: len(text.encode())
        case "sequence":
            chains = [_expression(".*?".join(map(_word, words)), source) for words in source.sequences]
            return lambda text: sum(chain.search(text) is not None for chain in chains)
        case "keyword_set":
            expression = _expression("|".join(map(_word, sorted(source.keywords, key=len, reverse=True))), source)
        case _:
            expression = _expression(source.pattern or "", source)
    return lambda text: sum(1 for _ in expression.finditer(text))


def _word(word: str) -> str:
    """``word`` as an expression; bounds only where a letter could go on (RE2's ``\\b`` knows ASCII alone)."""
    before, after = (r"\b" if re.match(r"[A-Za-z0-9_]", end) else "" for end in (word[0], word[-1]))
    return f"{before}{re2.escape(word)}{after}"


def _expression(pattern: str, source: StructureSource) -> Any:
    if why := expressions.refused(pattern):
        raise ValueError(f"`{pattern}` is not an RE2 expression: {why}")
    options = expressions.options(source.case_sensitive)
    options.dot_nl = True
    return re2.compile(pattern, options)
