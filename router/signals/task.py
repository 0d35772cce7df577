"""Task signals: what a client's program asks for itself, such as a title for a chat."""

from __future__ import annotations

from triton_router.config.signals import TaskSignal
from triton_router.signals.contract import Evaluations, SignalInput, SignalKind, SignalResults, certain


class Tasks(SignalKind[TaskSignal]):
    """Never unknown."""

    SETTINGS = TaskSignal

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        task = query.parts.task
        return {key: certain(task in signal.tasks) for key, signal in zip(self.keys, self.signals, strict=True)}
