"""Signals: what a prompt is like. Each kind is a module; each evaluation says what was found, or that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One signal on one prompt.

    ``matched`` is ``None`` when the signal could not be evaluated. ``value`` in [0, 1] is the probability that the
    signal holds, ``threshold`` what it had to reach, ``ms`` the milliseconds spent (a shared forward pass counts for
    each signal that it served).
    """

    matched: bool | None
    value: float = 0.0
    threshold: float | None = None
    ms: float = 0.0


Evaluations = Mapping[tuple[str, str], Evaluation]
"""Evaluations by signal type and name."""

UNKNOWN = Evaluation(None)
