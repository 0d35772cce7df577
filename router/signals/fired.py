"""Which parts of a request made which signals match, for whoever wants to know why."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from triton_router.config.kinds import Key
from triton_router.signals.contract import TOPIC, SignalInput, SignalKind, SignalResults

Kind = SignalKind[Any]


def fired_by(
    kinds: Iterable[Kind], free: Iterable[Kind], query: SignalInput, results: SignalResults
) -> dict[Key, list[int]]:
    """The places among all parts of those that made a signal match, by signals that read text.

    Those that suffice by themselves, as signals of the ``free`` kinds are evaluated on each; otherwise all that the
    signal read.
    """
    free, parts = list(free), list(query.parts.all())
    alone = [_matches(free, replace(query, only=part.text)) for part in parts]
    fired: dict[Key, list[int]] = {}
    for kind in kinds:
        for signal in kind.signals:
            names = getattr(signal, "parts", TOPIC if kind.needs.encoder else ())
            candidates = query.parts.places(parts, names) if names else []
            for key in signal.keys if candidates else ():
                if results.evaluations[key].matched:
                    fired[key] = [place for place in candidates if key in alone[place]] or candidates
    return fired


def _matches(kinds: Iterable[Kind], query: SignalInput) -> set[Key]:
    """The signals that match ``query``, which is one part."""
    matches: set[Key] = set()
    for kind in kinds:
        with suppress(Exception):  # it failed on the whole request too, and that was said
            evaluations = kind.evaluate(query, SignalResults())
            matches.update(key for key, evaluation in evaluations.items() if evaluation.matched)
    return matches
