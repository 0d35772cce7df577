"""A decision's rule tree in Kleene's strong three-valued logic: true, false, or unknown.

A signal that could not be evaluated is unknown, and stays so through NOT: a rule must not fire because a part is down.
A node's `on_unknown` may say what it counts as.
Confidence follows Zadeh's rules for the probability that a node holds: AND is its weakest part, OR the strongest part
that matched, NOT the complement.
"""

from __future__ import annotations

from typing import NamedTuple

from triton_router.config.schema import Rule
from triton_router.signals import UNKNOWN, Evaluation, Evaluations


class Verdict(NamedTuple):
    """What a node came to: ``matched`` (``None`` is unknown), ``confidence`` in [0, 1], and the nodes below."""

    rule: Rule | None
    matched: bool | None
    confidence: float
    below: tuple[Verdict, ...] = ()


MATCH_ALL = Verdict(None, True, 0.0)


def evaluate(rule: Rule | None, evaluations: Evaluations) -> Verdict:
    """The verdict on ``rule``; no rule at all matches everything, with no confidence."""
    if rule is None:
        return MATCH_ALL
    verdict = _evaluate(rule, evaluations)
    if verdict.matched is None and rule.on_unknown in ("match", "no_match"):
        return verdict._replace(matched=rule.on_unknown == "match")
    return verdict


def fails(verdict: Verdict) -> bool:
    """Whether the request fails because ``verdict`` is unknown."""
    if verdict.matched is not None or verdict.rule is None:
        return False
    return verdict.rule.on_unknown == "fail_request" or any(map(fails, verdict.below))


def _evaluate(rule: Rule, evaluations: Evaluations) -> Verdict:
    if rule.operator is None:
        return _leaf(rule, evaluations.get((str(rule.type), str(rule.name)), UNKNOWN))
    below = tuple(evaluate(condition, evaluations) for condition in rule.conditions)
    if rule.operator == "AND":
        return Verdict(rule, _all(below), min((verdict.confidence for verdict in below), default=0.0), below)
    if rule.operator == "OR":
        matched = [verdict.confidence for verdict in below if verdict.matched]
        return Verdict(rule, _any(below), max(matched, default=0.0), below)
    (verdict,) = below
    negated = None if verdict.matched is None else not verdict.matched
    return Verdict(rule, negated, 0.0 if negated is None else 1.0 - verdict.confidence, below)


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


def _leaf(rule: Rule, evaluation: Evaluation) -> Verdict:
    if evaluation.matched is None or rule.predicate is None:
        return Verdict(rule, evaluation.matched, evaluation.value)
    if evaluation.measure is not None:
        matched = rule.predicate.holds(evaluation.measure)
        return Verdict(rule, matched, float(matched))
    # Bounds on a probability: one that only asks for little of it is as sure as the rest of it.
    at_least = rule.predicate.gt is not None or rule.predicate.gte is not None
    confidence = evaluation.value if at_least else 1.0 - evaluation.value
    return Verdict(rule, rule.predicate.holds(evaluation.value), confidence)


def _all(below: tuple[Verdict, ...]) -> bool | None:
    values = [verdict.matched for verdict in below]
    if False in values:
        return False
    return None if None in values else True


def _any(below: tuple[Verdict, ...]) -> bool | None:
    values = [verdict.matched for verdict in below]
    if True in values:
        return True
    return None if None in values else False
