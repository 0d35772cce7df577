"""Knowledge bases: labelled examples on the embedding, against scores that were worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kinds import evaluate, made

from triton_router.config import loads
from triton_router.config.knowledge import KnowledgeSignal
from triton_router.signals import Evaluation
from triton_router.signals.kb import KnowledgeBases


def at(cosine: float) -> np.ndarray:
    """A unit vector whose cosine to (1, 0) is ``cosine``."""
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


# The prompt is (1, 0). With the nearest at 0.75 and the mean of the nearest two at 0.25:
# code 0.75 * 0.8 + 0.25 * (0.8 + 0.4) / 2 = 0.75, pii 0.5, weather 0.75 * 0.6 + 0.25 * 0.3 = 0.525
TEXTS = {"a": at(0.8), "b": at(0.4), "c": at(0.1), "d": at(0.5), "e": at(0.6), "f": at(0.0)}
KBS = """
providers: {models: [{name: m, backend_refs: [{endpoint: "h:1"}]}]}
global:
  model_catalog:
    kbs:
      - name: privacy
        labels: {code: {exemplars: [a, b, c]}, pii: {exemplars: [d]}, weather: {exemplars: [e, f]}}
        threshold: 0.51
        label_thresholds: {code: 0.8}
        groups: {private: [code, pii], public: [weather]}
        metrics: [{name: private_vs_public, positive_group: private, negative_group: public}]
"""


def outcome(kind: str, value: str, match: str = "threshold", text: str = KBS) -> Evaluation:
    signal = KnowledgeSignal.model_validate(
        {"name": "s", "kb": "privacy", "target": {"kind": kind, "value": value}, "match": match}
    )
    bases = made(KnowledgeBases, [signal], loads(text).config)
    return evaluate(bases, embedding=at(1.0), texts=TEXTS)["kb", "s"]


@pytest.mark.parametrize(
    ("kind", "value", "match", "matched", "score"),
    [
        ("label", "code", "best", True, 0.75),
        ("label", "weather", "best", False, 0.525),
        ("label", "code", "threshold", False, 0.75),
        ("label", "pii", "threshold", False, 0.5),
        ("label", "weather", "threshold", True, 0.525),
        ("group", "private", "best", True, 0.75),
        ("group", "private", "threshold", False, 0.75),
        ("group", "public", "threshold", True, 0.525),
        ("metric", "private_vs_public", "threshold", True, 0.225),
        ("metric", "best_score", "threshold", True, 0.75),
        ("metric", "best_matched_score", "threshold", True, 0.525),
    ],
)
def test_scores_of_labels_groups_and_metrics(kind: str, value: str, match: str, matched: bool, score: float) -> None:
    evaluation = outcome(kind, value, match)
    assert evaluation.matched is matched
    assert evaluation.measure == pytest.approx(score, abs=1e-6)


def test_groups_that_share_the_nearest_label_are_both_the_nearest() -> None:
    text = KBS.replace("public: [weather]", "public: [weather], code_only: [code]")
    assert [outcome("group", name, "best", text).matched for name in ("private", "code_only", "public")] == [
        True, True, False,
    ]  # fmt: skip


def test_the_nearest_exemplar_alone_may_count() -> None:
    text = KBS.replace("threshold: 0.51", "threshold: 0.51\n        prototype_scoring: {enabled: false}")
    assert outcome("label", "code", text=text).measure == pytest.approx(0.8)


def test_a_base_that_is_not_encoded_is_unknown() -> None:
    signal = KnowledgeSignal.model_validate(
        {"name": "s", "kb": "privacy", "target": {"kind": "label", "value": "code"}}
    )
    bases = made(KnowledgeBases, [signal], loads(KBS).config)
    assert evaluate(bases, embedding=at(1.0), texts={"a": at(0.8)})["kb", "s"].matched is None
    assert evaluate(bases, texts=TEXTS)["kb", "s"].matched is None
    assert set(bases.needs.texts) == set("abcdef")


def test_sums_read_metrics() -> None:
    inputs: dict[str, Any] = {"type": "kb_metric", "kb": "privacy", "metric": "private_vs_public", "weight": 1}
    text = (
        KBS
        + f"""
routing:
  projections:
    scores: [{{name: bias, inputs: [{inputs}]}}]
    mappings: [{{name: b, source: bias, outputs: [{{name: local, gte: 0}}]}}]
  decisions: [{{name: a, rules: {{type: projection, name: local}}}}]
"""
    )
    signals = loads(text).config.routing.signals
    (metric,) = signals.of("kb")
    assert isinstance(metric, KnowledgeSignal)
    assert (metric.kb, metric.target.kind, metric.target.value) == ("privacy", "metric", "private_vs_public")
    (projection,) = signals.of("projection")
    assert projection.made_of == (("kb", metric.name),)
