"""Event signals: types, severities, codes and urgency that an alert names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from triton_router.config.signals import EventSignal
from triton_router.signals.contract import Evaluation, Evaluations, Setup, SignalInput, SignalKind, SignalResults

_URGENT = ("urgent", "immediate", "asap", "deadline", "time-sensitive", "time sensitive", "now", "critical window")


class Events(SignalKind[EventSignal]):
    """A signal matches if one of its criteria does; each further one makes it surer."""

    SETTINGS = EventSignal

    def __init__(self, signals: Sequence[EventSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._criteria = [
            [_words(each) for each in (signal.event_types, signal.severities, signal.action_codes, urgent) if each]
            for signal in self.signals
            for urgent in ([_URGENT if signal.temporal else ()])
        ]

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        evaluations: dict[tuple[str, str], Evaluation] = {}
        for key, signal, criteria in zip(self.keys, self.signals, self._criteria, strict=True):
            text = query.text(signal)
            count = sum(expression.search(text) is not None for expression in criteria)
            sure = 0.5 + 0.5 * count / len(criteria) if count else 0.0
            evaluations[key] = Evaluation(count > 0, sure)
        return evaluations


def _words(words: Iterable[str]) -> re.Pattern[str]:
    """Any of ``words`` by itself; letters of other scripts may stand next to it."""
    return re.compile(rf"(?a:\b)(?:{'|'.join(re.escape(word.strip()) for word in words)})(?a:\b)", re.IGNORECASE)
