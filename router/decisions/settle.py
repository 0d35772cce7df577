"""What has to be known before a decision is certain, so that nothing is asked that cannot change the outcome.

Each node of a rule tree has the set of values that it could still come to: true, false, unknown. A signal that was not
asked could come to any of them. Parts are taken as independent, so a set may hold a value too many, never one too few.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from triton_router.config.kinds import Key
from triton_router.config.plugins import SemanticCachePlugin
from triton_router.config.schema import Decision, Rule
from triton_router.decisions.rules import evaluate
from triton_router.signals import Evaluations
from triton_router.signals.contract import Open

TRUE, FALSE, UNKNOWN = 1, 2, 4
_ANY = TRUE | FALSE | UNKNOWN
_VALUES = {True: TRUE, False: FALSE, None: UNKNOWN}


def hangs_on(decisions: Sequence[Decision], strategy: str, evaluations: Evaluations, pending: Collection[Key]) -> Open:
    """What the choice among ``decisions`` still hangs on. ``pending`` signals have not been asked."""
    values = [TRUE if each.rules is None else possible(each.rules, evaluations, pending) for each in decisions]
    able = [index for index, value in enumerate(values) if value & TRUE]
    certain = [index for index in able if values[index] == TRUE]
    rank = _tier if strategy == "confidence" else _rank
    if certain:
        best = max(rank(decisions[index], index) for index in certain)
        able = [index for index in able if rank(decisions[index], index) >= best]
    # Without a rival nothing hangs on how sure a decision is.
    settled = len(able) == 1 and values[able[0]] == TRUE
    rules = [] if settled else [decisions[index].rules for index in able]
    # How sure a decision is hangs on all of its parts, whether it matches only on those that are not certain.
    leaves = _leaves if strategy == "confidence" else _uncertain
    return Open(
        {key for rule in rules if rule is not None for key in leaves(rule, evaluations, pending)},
        embedding=any(_caches_meaning(decisions[index]) for index in able),
        hints=any(_takes_hints(decisions[index]) for index in able),
    )


def possible(rule: Rule, evaluations: Evaluations, pending: Collection[Key]) -> int:
    """The values that ``rule`` could come to, as bits."""
    if rule.operator is None:
        return _ANY if (rule.type, rule.name) in pending else _VALUES[evaluate(rule, evaluations).matched]
    below = [possible(condition, evaluations, pending) for condition in rule.conditions]
    if rule.operator == "NOT":
        (value,) = below
        return value & UNKNOWN | (value & TRUE) << 1 | (value & FALSE) >> 1
    # OR is AND with true and false changed for each other.
    neutral, decisive = (TRUE, FALSE) if rule.operator == "AND" else (FALSE, TRUE)
    value = decisive if any(each & decisive for each in below) else 0
    if all(each & neutral for each in below):
        value |= neutral
    if all(each & (neutral | UNKNOWN) for each in below) and any(each & UNKNOWN for each in below):
        value |= UNKNOWN
    return value


def _leaves(rule: Rule, evaluations: Evaluations, pending: Collection[Key]) -> Iterator[Key]:
    """The pending signals in ``rule``."""
    if (rule.type, rule.name) in pending:
        yield str(rule.type), str(rule.name)
    for condition in rule.conditions:
        yield from _leaves(condition, evaluations, pending)


def _uncertain(rule: Rule, evaluations: Evaluations, pending: Collection[Key]) -> Iterator[Key]:
    """The pending signals in those parts of ``rule`` that could come to more than one value."""
    if possible(rule, evaluations, pending) in (TRUE, FALSE, UNKNOWN):
        return
    if (rule.type, rule.name) in pending:
        yield str(rule.type), str(rule.name)
    for condition in rule.conditions:
        yield from _uncertain(condition, evaluations, pending)


def _tier(decision: Decision, index: int) -> tuple[int, ...]:
    return (-decision.tier,)


def _rank(decision: Decision, index: int) -> tuple[int, ...]:
    return -decision.tier, decision.priority, -index


def _caches_meaning(decision: Decision) -> bool:
    return any(isinstance(plugin, SemanticCachePlugin) and plugin.by_meaning for plugin in decision.plugins)


def _takes_hints(decision: Decision) -> bool:
    return bool(decision.hints.models or decision.hints.adapters or decision.hints.reasoning)
