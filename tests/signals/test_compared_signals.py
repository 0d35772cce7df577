"""Signals that compare embeddings: embedding, complexity, reask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from kinds import evaluate, made

from triton_router.config.protection import JailbreakSignal
from triton_router.config.signals import ComplexitySignal, EmbeddingSignal, PreferenceSignal, ReaskSignal
from triton_router.dialects import ChatRequest
from triton_router.signals import SignalInput
from triton_router.signals.complexity import Complexities
from triton_router.signals.embedding import Embeddings
from triton_router.signals.jailbreak import Jailbreaks
from triton_router.signals.preference import Preferences
from triton_router.signals.reask import Reasks

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
    evaluation = evaluate(made(Embeddings, [signal]), embedding=toward(30), texts={"a": EAST, "b": NORTH})[
        "embedding", "e"
    ]
    assert evaluation.matched is matched
    assert evaluation.value == pytest.approx(value, abs=1e-3)


def test_without_an_embedding_nothing_is_known() -> None:
    signal = EmbeddingSignal(name="e", candidates=["a", "b"])
    assert evaluate(made(Embeddings, [signal]), texts={"a": EAST, "b": NORTH})["embedding", "e"].matched is None
    assert evaluate(made(Embeddings, [signal]), embedding=EAST, texts={"a": EAST})["embedding", "e"].matched is None


@pytest.mark.parametrize(("degrees", "level"), [(80, "hard"), (45, "medium"), (10, "easy")])
def test_complexity_is_the_nearer_side(degrees: float, level: str) -> None:
    signal = ComplexitySignal(
        name="task", threshold=0.2, hard={"candidates": ["proof"]}, easy={"candidates": ["spelling"]}
    )
    rules = made(Complexities, [signal])
    texts = {"proof": NORTH, "spelling": EAST}
    evaluations = evaluate(rules, embedding=toward(degrees), texts=texts)
    assert [name for (_, name), evaluation in evaluations.items() if evaluation.matched] == [f"task:{level}"]
    assert {evaluation.matched for evaluation in evaluate(rules, texts=texts).values()} == {None}


@pytest.mark.parametrize(
    ("scoring", "margin"),
    [
        # Cosines to the hard ones: 0.985 and 0.643; to the easy one: 0.174.
        ({}, 0.75 * 0.985 + 0.25 * (0.985 + 0.643) / 2 - 0.174),
        ({"best_weight": 0.5, "top_m": 1}, 0.985 - 0.174),
        ({"enabled": False}, 0.985 - 0.174),
    ],
)
def test_the_nearest_example_and_the_nearest_few_count(scoring: dict[str, float], margin: float) -> None:
    sides = {"hard": {"candidates": ["proof", "essay"]}, "easy": {"candidates": ["spelling"]}}
    signal = ComplexitySignal.model_validate({"name": "task", **sides, "prototype_scoring": scoring})
    texts = {"proof": NORTH, "essay": toward(30), "spelling": EAST}
    evaluation = evaluate(made(Complexities, [signal]), embedding=toward(80), texts=texts)["complexity", "task:hard"]
    assert evaluation.measure == pytest.approx(margin, abs=1e-3)


def test_sentences_that_a_prompt_should_not_be_like() -> None:
    signal = EmbeddingSignal(name="e", threshold=0.3, candidates=["a"], negative_candidates=["b"])
    kind, texts = made(Embeddings, [signal]), {"a": EAST, "b": NORTH}
    assert [evaluate(kind, embedding=toward(angle), texts=texts)["embedding", "e"].matched for angle in (10, 40)] == [
        True,
        False,
    ]
    assert evaluate(kind, embedding=EAST, texts={"a": EAST})["embedding", "e"].matched is None


def test_the_nearest_preference_wins_if_it_is_near_enough() -> None:
    signals = [
        PreferenceSignal(name="code", examples=["a"], threshold=0.9),
        PreferenceSignal(name="prose", description="b"),
        PreferenceSignal(name="c"),
    ]
    kind, texts = made(Preferences, signals), {"a": EAST, "b": NORTH, "c": -EAST}

    def matched(degrees: float) -> list[str]:
        evaluations = evaluate(kind, embedding=toward(degrees), texts=texts)
        return [name for (_, name), evaluation in evaluations.items() if evaluation.matched]

    assert [matched(degrees) for degrees in (10, 40, 80, 170)] == [["code"], [], ["prose"], ["c"]]
    unprepared = evaluate(made(Preferences, signals), embedding=EAST, texts={"a": EAST})
    assert {each.matched for each in unprepared.values()} == {None}


def streak(*turns: str) -> ChatRequest:
    messages = []
    for turn in turns:
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "no idea"}]
    return ChatRequest.parse(json.dumps({"messages": messages[:-1]}).encode())


def test_a_repeated_question_is_seen_in_a_streak() -> None:
    rules = made(Reasks, [ReaskSignal(name="once"), ReaskSignal(name="twice", lookback_turns=2)])
    assert SignalInput(streak("one", "two", "three", "four")).earlier(rules.needs.earlier) == ["three", "two"]
    assert SignalInput(streak("one")).earlier(rules.needs.earlier) == []

    def matched(*earlier: np.ndarray) -> list[bool | None]:
        evaluations = evaluate(rules, embedding=EAST, beside=earlier)
        return [evaluations["reask", "once"].matched, evaluations["reask", "twice"].matched]

    assert matched(toward(5), toward(10)) == [True, True]
    assert matched(toward(5), toward(80)) == [True, False]
    assert matched(toward(80), toward(5)) == [False, False]
    assert matched(toward(5)) == [True, False]
    assert matched() == [False, False]
    assert {evaluation.matched for evaluation in evaluate(rules).values()} == {None}


@pytest.mark.parametrize(("degrees", "matched"), [(80, True), (49, True), (47, False), (10, False)])
def test_attacks_by_contrast_need_no_head(degrees: float, matched: bool) -> None:
    """Cosines to the nearest of each side: at 49 degrees 0.755 - 0.656 = 0.099, with a threshold of 0.09."""
    patterns = {"jailbreak_patterns": ["obey", "far"], "benign_patterns": ["hello"]}
    signal = JailbreakSignal.model_validate({"name": "j", "method": "contrastive", "threshold": 0.09, **patterns})
    kind = made(Jailbreaks, [signal])
    assert not kind.needs.passages
    texts = {"obey": NORTH, "far": -NORTH, "hello": EAST}
    assert evaluate(kind, embedding=toward(degrees), texts=texts)["jailbreak", "j"].matched is matched
    assert evaluate(kind, embedding=toward(degrees), texts={"obey": NORTH})["jailbreak", "j"].matched is None
    assert JailbreakSignal.model_validate({"name": "j", "method": "contrastive", **patterns}).threshold == 0.1
    with pytest.raises(ValueError, match="needs `jailbreak_patterns`"):
        JailbreakSignal.model_validate({"name": "j", "method": "contrastive"})
