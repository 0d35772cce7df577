"""Language signals: which language a prompt is written in."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from triton_router.config.kinds import Key
from triton_router.config.plain import rules
from triton_router.config.report import Report
from triton_router.config.signals import LanguageSignal
from triton_router.signals.contract import Evaluation, Evaluations, Setup, SignalInput, SignalKind, SignalResults

# What is looked at: more characters change no verdict, and cost time.
SCANNED = 2000
# With fewer letters anything could be any language.
LEAST_LETTERS = 3

_MISSING = 'language signals need: pip install "triton-router[language]"'


class Languages(SignalKind[LanguageSignal]):
    """Detects among all the languages that the detector knows, not only those declared. A text without letters is in
    no language.

    Raises:
        RuntimeError: the detector is not installed.
    """

    SETTINGS = LanguageSignal

    def __init__(self, signals: Sequence[LanguageSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError as error:
            raise RuntimeError(_MISSING) from error
        self._identifier: Any = LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        paths = [path for path, rule in rules(data) if rule.get("type") == LanguageSignal.TYPE]
        if paths and importlib.util.find_spec("py3langid") is None:
            report.error(paths[0], f"{_MISSING}, or remove the rule")

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        evaluations: dict[Key, Evaluation] = {}
        for names in dict.fromkeys(signal.parts for signal in self.signals):
            started = perf_counter()
            ranked = self._ranked(query.read(names)[:SCANNED])
            ms = (perf_counter() - started) * 1000
            for key, signal in zip(self.keys, self.signals, strict=True):
                if signal.parts == names:
                    evaluations[key] = _evaluated(signal, ranked, ms)
        return evaluations

    def _ranked(self, text: str) -> dict[str, float]:
        """Probabilities by language, the likeliest first; none of a text with too few letters."""
        if _letters(text) < LEAST_LETTERS:
            return {}
        return dict(self._identifier.rank(text.encode("utf-8", "replace").decode()))


def _evaluated(signal: LanguageSignal, ranked: Mapping[str, float], ms: float) -> Evaluation:
    probability = float(ranked.get(signal.name, 0.0))
    matched = signal.name == next(iter(ranked), None) and probability >= signal.threshold
    return Evaluation(matched, probability, signal.threshold, ms)


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
