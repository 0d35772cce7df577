"""A decision's rule tree in Kleene's strong three-valued logic: true, false, or unknown.

A signal that could not be evaluated is unknown, and stays so through NOT: a rule must not fire because a part is down.
A node's `on_unknown` may say what it counts as.
Confidence follows Zadeh's rules for the probability that a node holds: AND is its weakest part, OR the strongest part
that matched, NOT the complement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from triton_router.config.schema import Rule
from triton_router.signals import UNKNOWN, Evaluation, Evaluations


class Verdict(NamedTuple):
    """What a node came to: ``matched`` (``None`` is unknown), ``confidence`` in [0, 1], and the nodes below."""

    rule: Rule | None
    matched: bool | None
    confidence: float
    below: tuple[Verdict, ...] = ()


Node = Callable[[Evaluations], Verdict]
"""A rule that was compiled: its verdict on what signals say."""

MATCH_ALL = Verdict(None, True, 0.0)


def evaluate(rule: Rule | None, evaluations: Evaluations) -> Verdict:
    """The verdict on ``rule``; no rule at all matches everything, with no confidence."""
    return compiled(rule)(evaluations)


def compiled(rule: Rule | None) -> Node:
    """:func:`evaluate` for a rule that is evaluated often."""
    if rule is None:
        return lambda _: MATCH_ALL
    node = _leaf(rule) if rule.operator is None else _combined(rule, tuple(map(compiled, rule.conditions)))
    if rule.on_unknown not in ("match", "no_match"):
        return node
    matches = rule.on_unknown == "match"

    def known(evaluations: Evaluations) -> Verdict:
        verdict = node(evaluations)
        return verdict._replace(matched=matches) if verdict.matched is None else verdict

    return known


def fails(verdict: Verdict) -> bool:
    """Whether the request fails because ``verdict`` is unknown."""
    if verdict.matched is not None or verdict.rule is None:
        return False
    return verdict.rule.on_unknown == "fail_request" or any(map(fails, verdict.below))


def may_fail(rule: Rule | None) -> bool:
    """Whether some verdict on ``rule`` :func:`fails`."""
    return rule is not None and (rule.on_unknown == "fail_request" or any(map(may_fail, rule.conditions)))


def _combined(rule: Rule, parts: tuple[Node, ...]) -> Node:
    def both(evaluations: Evaluations) -> Verdict:
        matched: bool | None = True
        below = []
        for part in parts:
            verdict = part(evaluations)
            below.append(verdict)
            if not verdict.matched and matched is not False:
                matched = verdict.matched
        return Verdict(rule, matched, min([verdict.confidence for verdict in below], default=0.0), tuple(below))

    def either(evaluations: Evaluations) -> Verdict:
        matched: bool | None = False
        below, surest = [], 0.0
        for part in parts:
            verdict = part(evaluations)
            below.append(verdict)
            if verdict.matched:
                matched, surest = True, max(surest, verdict.confidence)
            elif verdict.matched is None and matched is False:
                matched = None
        return Verdict(rule, matched, surest, tuple(below))

    def negation(evaluations: Evaluations) -> Verdict:
        below = parts[0](evaluations)
        if below.matched is None:
            return Verdict(rule, None, 0.0, (below,))
        return Verdict(rule, not below.matched, 1.0 - below.confidence, (below,))

    def alone(evaluations: Evaluations) -> Verdict:
        below = parts[0](evaluations)
        return Verdict(rule, below.matched, below.confidence if conjunctive or below.matched else 0.0, (below,))

    conjunctive = rule.operator == "AND"
    if rule.operator == "NOT":
        return negation
    # Most rules of most tables have one part: the same, in a third of the time.
    return alone if len(parts) == 1 else both if conjunctive else either


def _leaf(rule: Rule) -> Node:
    key = str(rule.type), str(rule.name)

    def plain(evaluations: Evaluations) -> Verdict:
        evaluation = evaluations.get(key, UNKNOWN)
        return Verdict(rule, evaluation.matched, evaluation.value)

    return plain if rule.predicate is None else lambda evaluations: _bounded(rule, evaluations.get(key, UNKNOWN))


def nearness(verdict: Verdict) -> float | None:
    """How near a decision came in [0, 1], whether it matched or not; ``None`` where nobody knows or it has no rules.

    Unlike its confidence, an OR that did not match has the nearest of its parts: what a log shows beside the winner.
    """
    if verdict.rule is None:
        return None
    if verdict.rule.operator not in ("AND", "OR"):
        return None if verdict.matched is None else verdict.confidence
    values = [near for near in map(nearness, verdict.below) if near is not None]
    return (min if verdict.rule.operator == "AND" else max)(values, default=None)


def _bounded(rule: Rule, evaluation: Evaluation) -> Verdict:
    if evaluation.matched is None or rule.predicate is None:
        return Verdict(rule, evaluation.matched, evaluation.value)
    if evaluation.measure is not None:
        matched = rule.predicate.holds(evaluation.measure)
        return Verdict(rule, matched, float(matched))
    # Bounds on a probability: one that only asks for little of it is as sure as the rest of it.
    at_least = rule.predicate.gt is not None or rule.predicate.gte is not None
    confidence = evaluation.value if at_least else 1.0 - evaluation.value
    return Verdict(rule, rule.predicate.holds(evaluation.value), confidence)
