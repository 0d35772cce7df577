"""Signals: what a request is like. Each kind is a module; each evaluation says what was found, or that nobody knows."""

from triton_router.signals.contract import (
    UNKNOWN,
    EncodedTexts,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
    certain,
)

__all__ = [
    "UNKNOWN",
    "EncodedTexts",
    "Evaluation",
    "Evaluations",
    "Needs",
    "Setup",
    "SignalInput",
    "SignalKind",
    "SignalResults",
    "certain",
]
