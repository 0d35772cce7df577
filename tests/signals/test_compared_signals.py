"""Signals that compare embeddings: embedding, complexity, reask."""

from __future__ import annotations

import json

import numpy as np
import pytest

from triton_router.config.signals import ComplexitySignal, EmbeddingSignal, ReaskSignal
from triton_router.dialects import ChatRequest
from triton_router.signals.complexity import ComplexityRules
from triton_router.signals.embedding import EmbeddingRules
from triton_router.signals.reask import ReaskRules

EAST, NORTH = np.eye(2, dtype=np.float32)


def toward(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


@pytest.mark.parametrize(
    ("method", "threshold", "matched", "value"),
    [
        ("max", 0.85, True, 0.866),
        ("max", 0.87, False, 0.866),
        ("any", 0.85, True, 0.866),
        ("any", 0.87, False, 0.866),
        ("mean", 0.68, True, 0.683),
        ("mean", 0.70, False, 0.683),
    ],
)
def test_aggregation_means_what_it_says(method: str, threshold: float, matched: bool, value: float) -> None:
    """Similarities are 0.866 and 0.5: the largest, or their mean, and nothing under the threshold."""
    signal = EmbeddingSignal(name="e", threshold=threshold, candidates=["a", "b"], aggregation_method=method)
    found = EmbeddingRules([signal], {"a": EAST, "b": NORTH}).evaluate(toward(30))["embedding", "e"]
    assert found.matched is matched
    assert found.value == pytest.approx(value, abs=1e-3)


def test_without_an_embedding_nothing_is_known() -> None:
    signal = EmbeddingSignal(name="e", candidates=["a", "b"])
    assert EmbeddingRules([signal], {"a": EAST, "b": NORTH}).evaluate(None)["embedding", "e"].matched is None
    assert EmbeddingRules([signal], {"a": EAST}).evaluate(EAST)["embedding", "e"].matched is None


@pytest.mark.parametrize(("degrees", "level"), [(80, "hard"), (45, "medium"), (10, "easy")])
def test_complexity_is_the_nearer_side(degrees: float, level: str) -> None:
    signal = ComplexitySignal(
        name="task", threshold=0.2, hard={"candidates": ["proof"]}, easy={"candidates": ["spelling"]}
    )
    rules = ComplexityRules([signal], {"proof": NORTH, "spelling": EAST})
    found = rules.evaluate(toward(degrees))
    assert [name for (_, name), evaluation in found.items() if evaluation.matched] == [f"task:{level}"]
    assert {evaluation.matched for evaluation in rules.evaluate(None).values()} == {None}


def asked(*turns: str) -> ChatRequest:
    messages = []
    for turn in turns:
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "no idea"}]
    return ChatRequest.parse(json.dumps({"messages": messages[:-1]}).encode())


def test_a_repeated_question_is_seen_in_a_streak() -> None:
    rules = ReaskRules([ReaskSignal(name="once"), ReaskSignal(name="twice", lookback_turns=2)])
    assert rules.earlier(asked("one", "two", "three", "four")) == ["three", "two"]
    assert rules.earlier(asked("one")) == []

    def matched(*earlier: np.ndarray) -> list[bool | None]:
        found = rules.evaluate(EAST, earlier)
        return [found["reask", "once"].matched, found["reask", "twice"].matched]

    assert matched(toward(5), toward(10)) == [True, True]
    assert matched(toward(5), toward(80)) == [True, False]
    assert matched(toward(80), toward(5)) == [False, False]
    assert matched(toward(5)) == [True, False]
    assert matched() == [False, False]
    assert {evaluation.matched for evaluation in rules.evaluate(None, None).values()} == {None}
