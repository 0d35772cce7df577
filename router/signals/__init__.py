"""Signals: what a request is like. Each kind is a module; each evaluation says what was found, or that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from triton_router.dialects import ModelRequest


class Evaluation(NamedTuple):
    """One signal on one request.

    ``matched`` is ``None`` when the signal could not be evaluated. ``value`` in [0, 1] is how surely the signal holds
    (a probability, a similarity), ``threshold`` what it had to reach, ``ms`` the milliseconds spent (a shared forward
    pass counts for each signal that it served). ``measure`` is the number that the signal counts, where it counts one.
    """

    matched: bool | None
    value: float = 0.0
    threshold: float | None = None
    ms: float = 0.0
    measure: float | None = None


Evaluations = Mapping[tuple[str, str], Evaluation]
"""Evaluations by signal type and name."""

UNKNOWN = Evaluation(None)


@dataclass(frozen=True, slots=True)
class SignalInput:
    """What signals look at: what the user last said, the whole request, its headers (names in lower case).

    ``hurried`` requests do without encoders: there are more of them than can be served otherwise.
    """

    prompt: str
    request: ModelRequest
    headers: Mapping[str, str] = field(default_factory=dict)
    hurried: bool = False


def certain(matched: bool, measure: float | None = None, ms: float = 0.0) -> Evaluation:
    """An evaluation about which there is no doubt."""
    return Evaluation(matched, float(matched), None, ms, measure)
