"""Rule trees in three-valued logic, and picking a decision."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.config.schema import Decision, Rule
from triton_router.decisions import choose, evaluate, nearness
from triton_router.signals import Evaluation

NAMES = ("a", "b", "c")


def leaf(name: str) -> Rule:
    return Rule(type="keyword", name=name)


rules = st.recursive(
    st.sampled_from(NAMES).map(leaf),
    lambda below: (
        st.builds(
            lambda operator, conditions: Rule(operator=operator, conditions=tuple(conditions)),
            st.sampled_from(("AND", "OR")),
            st.lists(below, min_size=1, max_size=3),
        )
        | below.map(lambda rule: Rule(operator="NOT", conditions=(rule,)))
    ),
    max_leaves=8,
)


def signals(values: dict[str, bool | None]) -> dict[tuple[str, str], Evaluation]:
    return {("keyword", name): Evaluation(matched, float(matched or 0)) for name, matched in values.items()}


def boolean(rule: Rule, values: dict[str, bool]) -> bool:
    if rule.operator is None:
        return values[str(rule.name)]
    below = [boolean(condition, values) for condition in rule.conditions]
    return {"AND": all(below), "OR": any(below), "NOT": not below[0]}[rule.operator]


@given(rules, st.fixed_dictionaries({name: st.sampled_from((True, False, None)) for name in NAMES}))
def test_a_rule_is_as_sure_as_its_truth_table(rule: Rule, values: dict[str, bool | None]) -> None:
    """Kleene's logic never claims more than all ways of filling in the unknowns agree on."""
    unknown = [name for name in NAMES if values[name] is None]
    outcomes = {
        boolean(rule, {**{k: bool(v) for k, v in values.items()}, **dict(zip(unknown, filled, strict=True))})
        for filled in itertools.product((True, False), repeat=len(unknown))
    }
    verdict = evaluate(rule, signals(values))
    if verdict.matched is None:
        assert unknown
    else:
        assert outcomes == {verdict.matched}
    if not unknown:
        assert verdict.matched is not None


def test_a_signal_that_is_down_does_not_fire_its_negation() -> None:
    rule = Rule(operator="NOT", conditions=(leaf("a"),))
    assert evaluate(rule, signals({"a": None})).matched is None
    assert evaluate(rule, {}).matched is None


@pytest.mark.parametrize(("operator", "confidence"), [("AND", 0.6), ("OR", 0.9)])
def test_confidence_is_the_weakest_part_of_and_the_strongest_of_or(operator: Any, confidence: float) -> None:
    rule = Rule(operator=operator, conditions=(leaf("a"), leaf("b")))
    evaluations = {("keyword", "a"): Evaluation(True, 0.6), ("keyword", "b"): Evaluation(True, 0.9)}
    assert evaluate(rule, evaluations).confidence == confidence


def decision(name: str, priority: int, signal: str | None) -> Decision:
    return Decision(name=name, priority=priority, rules=leaf(signal) if signal else None)


@pytest.mark.parametrize(("strategy", "winner"), [("priority", "second"), ("confidence", "first")])
def test_the_strategy_decides_between_priority_and_confidence(strategy: str, winner: str) -> None:
    decisions = [decision("first", 1, "a"), decision("second", 5, "b"), decision("third", 5, "b")]
    evaluations = {("keyword", "a"): Evaluation(True, 0.9), ("keyword", "b"): Evaluation(True, 0.5)}
    choice = choose(decisions, evaluations, strategy)
    assert choice.decision is not None
    assert choice.decision.name == winner


def test_of_equal_decisions_the_first_declared_wins() -> None:
    decisions = [decision("zebra", 5, "a"), decision("ant", 5, "a")]
    for strategy in ("priority", "confidence"):
        choice = choose(decisions, signals({"a": True}), strategy)
        assert choice.decision is decisions[0]


def test_nothing_matches_when_nothing_is_known() -> None:
    assert choose([decision("d", 1, "a")], {}, "priority").decision is None


def test_a_decision_without_rules_catches_all_but_only_after_sure_ones() -> None:
    decisions = [decision("catch_all", 9, None), decision("sure", 1, "a")]
    assert choose(decisions, signals({"a": True}), "priority").decision is decisions[0]
    assert choose(decisions, signals({"a": True}), "confidence").decision is decisions[1]


@pytest.mark.parametrize(
    ("evaluation", "predicate", "matched", "confidence"),
    [
        (Evaluation(False, 0.4), {"gte": 0.3}, True, 0.4),
        (Evaluation(True, 0.9), {"lt": 0.5}, False, 0.1),
        (Evaluation(False, 0.2), {"lt": 0.5}, True, 0.8),
        (Evaluation(False, 0.0, measure=7.0), {"gt": 5, "lte": 7}, True, 1.0),
        (Evaluation(True, 1.0, measure=7.0), {"gt": 7}, False, 0.0),
        (Evaluation(None), {"gte": 0.0}, None, 0.0),
    ],
)
def test_a_predicate_takes_the_place_of_the_signals_own_condition(
    evaluation: Evaluation, predicate: dict[str, float], matched: bool | None, confidence: float
) -> None:
    rule = Rule(type="domain", name="a", predicate=predicate)
    verdict = evaluate(rule, {("domain", "a"): evaluation})
    assert (verdict.matched, verdict.confidence) == (matched, pytest.approx(confidence))


@pytest.mark.parametrize(("strategy", "winner"), [("priority", "b"), ("confidence", "c")])
def test_the_lowest_tier_with_a_match_decides_alone(strategy: str, winner: str) -> None:
    decisions = [
        Decision(name="a", tier=2, priority=99, rules=leaf("a")),
        Decision(name="b", tier=1, priority=5, rules=leaf("b")),
        Decision(name="c", tier=1, priority=1, rules=leaf("c")),
        Decision(name="d", tier=0, priority=1, rules=Rule(type="keyword", name="nobody")),
    ]
    evaluations = {("keyword", name): Evaluation(True, value) for name, value in (("a", 1.0), ("b", 0.5), ("c", 0.9))}
    choice = choose(decisions, evaluations, strategy)
    assert choice.decision is not None and choice.decision.name == winner


def test_how_near_a_decision_came_is_known_without_a_match() -> None:
    near = {("keyword", "a"): Evaluation(False, 0.2, 0.5), ("keyword", "b"): Evaluation(False, 0.4, 0.5)}

    def of(rule: Rule | None) -> float | None:
        return nearness(evaluate(rule, near))

    assert of(leaf("a")) == 0.2
    assert of(Rule(operator="OR", conditions=(leaf("a"), leaf("b")))) == 0.4
    assert of(Rule(operator="AND", conditions=(leaf("a"), leaf("b")))) == 0.2
    assert of(Rule(operator="NOT", conditions=(leaf("a"),))) == 0.8
    # Nobody knows about `c`.
    assert of(leaf("c")) is None
    assert of(Rule(operator="OR", conditions=(leaf("b"), leaf("c")))) == 0.4
    assert of(Rule(operator="OR", conditions=(leaf("c"),))) is None
    assert of(None) is None
