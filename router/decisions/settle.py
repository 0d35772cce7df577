"""What has to be known before a decision is certain, so that nothing is asked that cannot change the outcome.

Each node of a rule tree has the set of values that it could still come to: true, false, unknown. A signal that was not
asked could come to any of them. Parts are taken as independent, so a set may hold a value too many, never one too few.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

from triton_router.config.kinds import Key
from triton_router.config.plugins import SemanticCachePlugin
from triton_router.config.schema import Decision, Rule
from triton_router.decisions.rules import compiled, may_fail
from triton_router.signals import Evaluations
from triton_router.signals.contract import Open

TRUE, FALSE, UNKNOWN = 1, 2, 4
_VALUES = {True: TRUE, False: FALSE, None: UNKNOWN}

Outlook = tuple[int, frozenset[Key]]
"""The values that a node could come to, as bits, and the signals that this hangs on."""
Node = Callable[[Evaluations], Outlook]

_SURE: dict[int, Outlook] = {value: (value, frozenset()) for value in (TRUE, FALSE, UNKNOWN)}


_NOTHING = Open()


class _Contender(NamedTuple):
    """A decision: ``leaves`` are all of its signals that have not been asked.

    ``counts`` are the values that end the search: true, and unknown where the request then fails.
    """

    outlook: Node
    leaves: frozenset[Key]
    caches: bool
    hints: bool
    counts: int


class Settling:
    """What the choice among ``decisions`` hangs on; rules are compiled at the first call. Without other state."""

    def __init__(self, decisions: Sequence[Decision], strategy: str) -> None:
        self._decisions = decisions
        self._by_confidence = strategy == "confidence"
        self._pending: Collection[Key] | None = None
        self._ranks: list[list[_Contender]] = []

    def __call__(self, evaluations: Evaluations, pending: Collection[Key]) -> Open:
        """``pending`` are the signals that have not been asked; the same object at every call saves time."""
        if pending is not self._pending:
            self._ranks, self._pending = self._compiled(frozenset(pending)), pending
        if not self._ranks:
            return _NOTHING
        able: list[_Contender] = []
        hanging: list[frozenset[Key]] = []
        certain = sure = False
        for rank in self._ranks:
            for contender in rank:
                value, leaves = contender.outlook(evaluations)
                counting = value & contender.counts
                if not counting:
                    continue
                if counting & UNKNOWN and contender.leaves:
                    # Not every unknown fails the request: which one it is hangs on all parts.
                    leaves = contender.leaves
                elif counting == value:
                    certain = True
                sure = value in _SURE
                able.append(contender)
                hanging.append(contender.leaves if self._by_confidence else leaves)
            if certain:  # nothing below can win
                break
        if certain and sure and len(able) == 1:
            # How sure a decision is hangs on all of its parts, and counts where it has a rival.
            hanging.clear()
        signals = frozenset[Key]().union(*hanging)
        return Open(signals, any([each.caches for each in able]), any([each.hints for each in able]))

    def _compiled(self, pending: frozenset[Key]) -> list[list[_Contender]]:
        """Decisions from the first that may win to the last; those that compete by confidence stand together."""

        def rank(decision: Decision) -> tuple[int, int]:
            return decision.tier, 0 if self._by_confidence else -decision.priority

        ranks = [list(together) for _, together in groupby(sorted(self._decisions, key=rank), rank)]
        if not self._by_confidence:  # the first declared wins a tie
            ranks = [[decision] for together in ranks for decision in together]
        compiled = [[_contender(decision, pending) for decision in together] for together in ranks]
        # With all known, only caches can want more.
        return compiled if pending or any(each.caches for together in compiled for each in together) else []


def _contender(decision: Decision, pending: frozenset[Key]) -> _Contender:
    hints = decision.hints
    return _Contender(
        _node(decision.rules, pending),
        frozenset(_leaves(decision.rules)) & pending,
        any(isinstance(plugin, SemanticCachePlugin) and plugin.by_meaning for plugin in decision.plugins),
        bool(hints.models or hints.adapters or hints.reasoning),
        TRUE | UNKNOWN if may_fail(decision.rules) else TRUE,
    )


def _node(rule: Rule | None, pending: frozenset[Key]) -> Node:
    if rule is None:
        return lambda evaluations: _SURE[TRUE]
    node = _unsettled(rule, pending)
    if rule.on_unknown in ("match", "no_match"):
        return partial(_settled, TRUE if rule.on_unknown == "match" else FALSE, node)
    return node


def _settled(stands_for_unknown: int, node: Node, evaluations: Evaluations) -> Outlook:
    value, leaves = node(evaluations)
    if value & UNKNOWN:
        value = value & ~UNKNOWN | stands_for_unknown
    return _SURE.get(value) or (value, leaves)


def _unsettled(rule: Rule, pending: frozenset[Key]) -> Node:
    leaves = frozenset(_leaves(rule))
    if not leaves & pending:
        verdict = compiled(rule)
        return lambda evaluations: _SURE[_VALUES[verdict(evaluations).matched]]
    if leaves <= pending:
        anything = TRUE | FALSE | UNKNOWN, leaves
        return lambda evaluations: anything
    return partial(_combined, str(rule.operator), [_node(condition, pending) for condition in rule.conditions])


def _combined(operator: str, parts: Sequence[Node], evaluations: Evaluations) -> Outlook:
    below = [part(evaluations) for part in parts]
    if operator == "NOT":
        ((value, leaves),) = below
        return value & UNKNOWN | (value & TRUE) << 1 | (value & FALSE) >> 1, leaves
    # OR is AND with true and false changed for each other.
    neutral, decisive = (TRUE, FALSE) if operator == "AND" else (FALSE, TRUE)
    value = decisive if any(each & decisive for each, _ in below) else 0
    if all(each & neutral for each, _ in below):
        value |= neutral
    if all(each & (neutral | UNKNOWN) for each, _ in below) and any(each & UNKNOWN for each, _ in below):
        value |= UNKNOWN
    return _SURE.get(value) or (value, frozenset().union(*(leaves for _, leaves in below)))


def _leaves(rule: Rule | None) -> Iterator[Key]:
    if rule is not None and rule.operator is None:
        yield str(rule.type), str(rule.name)
    for condition in rule.conditions if rule is not None else ():
        yield from _leaves(condition)
