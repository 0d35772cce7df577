"""Knowledge base signals: which labels of a set of examples a prompt is near to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triton_router.config.knowledge import BEST_MATCHED_SCORE, BEST_SCORE, KBS, KnowledgeBase, KnowledgeSignal
from triton_router.config.plain import SIGNALS, at, items
from triton_router.config.report import Report, nearest
from triton_router.signals.contract import (
    ENCODER,
    EncodedTexts,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)
from triton_router.signals.prototypes import nearness

Vector = NDArray[np.float32]


class _Scores(NamedTuple):
    """One knowledge base on one prompt: scores by name."""

    labels: dict[str, float]
    groups: dict[str, float]
    metrics: dict[str, float]


class KnowledgeBases(SignalKind[KnowledgeSignal]):
    """A base with an exemplar that is not encoded (yet) is unknown. ``measure`` is the score, a cosine or a margin."""

    SETTINGS = KnowledgeSignal

    def __init__(self, signals: Sequence[KnowledgeSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        used = {signal.kb for signal in self.signals}
        self._bases = [base for base in setup.config.global_.model_catalog.kbs if base.name in used]
        texts = (text for base in self._bases for label in base.labels.values() for text in label.exemplars)
        self.needs = Needs(embedding=True, texts=tuple(texts))
        self._exemplars: dict[str, dict[str, Vector]] = {}

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        bases = {str(base.get("name")): (path, base) for path, base in items(data, KBS)}
        for path, signal in items(data, (*SIGNALS, KnowledgeSignal.LIST)):
            name = signal.get("kb")
            if not isinstance(name, str):
                continue
            if name not in bases:
                if (suggestion := nearest(name, bases)) is not None:
                    report.error((*path, "kb"), f"no knowledge base named `{name}`", suggestion)
                else:
                    message = f"the file has no knowledge base named `{name}`: rules that depend on it never match"
                    report.does_nothing((*path, "kb"), "kb", message, protects=True)
                continue
            where, base = bases[name]
            if not base.get("labels"):
                report.error(where, f"the knowledge base `{name}` has no labels, and a signal reads it")
            else:
                targets = _names(base).get(str(at(signal, "target", "kind")), [])
                value = at(signal, "target", "value")
                if isinstance(value, str) and value not in targets:
                    kind = at(signal, "target", "kind")
                    message = f"the knowledge base `{name}` has no {kind} named `{value}`"
                    report.error((*path, "target", "value"), message, nearest(value, targets))

    def prepare(self, texts: EncodedTexts) -> None:
        self._exemplars = {
            base.name: {
                name: np.stack([texts.embeddings[text] for text in label.exemplars])
                for name, label in base.labels.items()
                if label.exemplars
            }
            for base in self._bases
            if all(text in texts.embeddings for label in base.labels.values() for text in label.exemplars)
        }

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None:
            return {}
        embedding, ms = results.encoding.embedding, results.took(ENCODER)
        bases = {base.name: base for base in self._bases if self._exemplars.get(base.name)}
        scores = {name: _scores(base, self._exemplars[name], embedding) for name, base in bases.items()}
        return {
            (signal.TYPE, signal.name): _evaluated(signal, bases[signal.kb], scores[signal.kb], ms)
            for signal in self.signals
            if signal.kb in scores
        }


def _names(base: Mapping[str, Any]) -> dict[str, list[str]]:
    """What signals may read of a base, by kind of target."""
    metrics = [str(metric.get("name")) for _, metric in items(base, ("metrics",))]
    labels, groups = base.get("labels"), base.get("groups")
    return {
        "label": list(labels) if isinstance(labels, dict) else [],
        "group": list(groups) if isinstance(groups, dict) else [],
        "metric": [*metrics, BEST_SCORE, BEST_MATCHED_SCORE],
    }


def _scores(base: KnowledgeBase, exemplars: Mapping[str, Vector], embedding: Vector) -> _Scores:
    labels = {name: nearness(base.prototype_scoring, vectors @ embedding) for name, vectors in exemplars.items()}
    groups = {name: max((labels.get(label, 0.0) for label in members), default=0.0)
              for name, members in base.groups.items()}  # fmt: skip
    groups = {name: max(score, 0.0) for name, score in groups.items()}
    matched = [score for name, score in labels.items() if score >= _threshold(base, name)]
    metrics = {
        BEST_SCORE: max(labels.values()),
        BEST_MATCHED_SCORE: max(matched, default=0.0),
    }
    for metric in base.metrics:
        metrics[metric.name] = groups.get(metric.positive_group, 0.0) - groups.get(metric.negative_group, 0.0)
    return _Scores(labels, groups, metrics)


def _threshold(base: KnowledgeBase, label: str) -> float:
    return base.label_thresholds.get(label, base.threshold)


def _evaluated(signal: KnowledgeSignal, base: KnowledgeBase, scores: _Scores, ms: float) -> Evaluation:
    kind, name = signal.target.kind, signal.target.value
    among = {"label": scores.labels, "group": scores.groups, "metric": scores.metrics}[kind]
    score = among.get(name, 0.0)
    value = min(max(score, 0.0), 1.0)
    if kind == "metric":
        return Evaluation(score > 0, value, 0.0, ms, score)
    if signal.match == "best":
        best = max(among.values(), default=0.0)
        # Two groups that share their best label are both the nearest.
        return Evaluation(name in among and score == best, value, best, ms, score)
    labels = [name] if kind == "label" else base.groups.get(name, ())
    nearest_first = sorted(labels, key=lambda label: _threshold(base, label) - scores.labels.get(label, 0.0))
    matched = any(scores.labels.get(label, 0.0) >= _threshold(base, label) for label in labels)
    return Evaluation(matched, value, _threshold(base, nearest_first[0]) if nearest_first else None, ms, score)
