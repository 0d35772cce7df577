"""The model report: what `evaluate` measured, as a page with pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from export import page, pictures, quality
from export.evaluation import BATCHMATES, Evaluation, EvaluationResult, Likeness
from export.exporter import Exporter
from export.precision import FLAVOURS

TEMPLATE = Path(__file__).parent / "templates" / "model-report.md.j2"
# Below it a loss rounds to 0.000 on the page.
SMALLEST_LOSS = 0.0005


def write(exporter: Exporter, evaluation: Evaluation, path: Path) -> None:
    """Write the page, and its pictures in assets/ next to it."""
    assets = path.parent / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    served = evaluation.served
    for name, result in served.items():
        pictures.draw_confusion(result, name, assets / f"confusion-{_slug(name)}.png")
    pictures.draw_reliability(served, assets / "reliability.png")
    pictures.draw_operating({name: (r.probabilities, r.truth) for name, r in served.items()}, assets / "operating.png")
    path.write_text(render(exporter, evaluation))


def render(exporter: Exporter, evaluation: Evaluation) -> str:
    results, head, served = evaluation.results, evaluation.head, evaluation.served
    return page.render(
        TEMPLATE,
        model=evaluation.model,
        trunk=exporter.trunk(evaluation.model),
        file=evaluation.file,
        head=head,
        weights=sum(layer.weight.size + layer.bias.size for layer in head.layers),
        settings=_settings(head.training),
        flavours=FLAVOURS,
        results=results,
        served=served,
        likeness=evaluation.likeness,
        trunks={"published": "as published", "delta": "with the delta"},
        delta_loss=_delta_loss(evaluation.likeness),
        macro_f1={name: _macro_f1(result) for name, result in served.items()},
        noise={name: quality.calibration_noise(result.probabilities) for name, result in served.items()},
        operating=_operating(served),
        classes={name: _classes(result) for name, result in served.items()},
        agreement={name: _agreement(results, name) for name in served},
        int8_loss=max(results["fp32"][name].accuracy - results["int8"][name].accuracy for name in served),
        latency=evaluation.latency,
        onnxruntime=version("onnxruntime"),
        batch=evaluation.batch,
        batchmates=BATCHMATES,
        slug=_slug,
    )


def _settings(training: Mapping[str, Any]) -> str:
    elsewhere = ("data", "method", "flavour", "delta", "embedding_cosine")
    settings = [f"{key.replace('_', ' ')} {value}" for key, value in training.items() if key not in elsewhere]
    return textwrap.fill(", ".join(settings), 110)


def _delta_loss(likeness: Sequence[Likeness]) -> tuple[float, str, str] | None:
    """The most that the delta costs on any set, the set and the flavour; ``None`` without a delta or a loss."""
    losses = [
        (entry.values["published", flavour] - value, entry.name, flavour)
        for entry in likeness
        for (trunk, flavour), value in entry.values.items()
        if trunk == "delta"
    ]
    return max((loss for loss in losses if loss[0] >= SMALLEST_LOSS), default=None)


def _macro_f1(result: EvaluationResult) -> float:
    table = result.confusion()
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)))


def _operating(served: Mapping[str, EvaluationResult]) -> list[tuple[quality.OperatingPoint, ...]]:
    """The points of all sets, threshold by threshold."""
    curves = [quality.operating_curve(result.probabilities, result.truth) for result in served.values()]
    return list(zip(*curves, strict=True))


def _classes(result: EvaluationResult) -> list[dict[str, Any]]:
    confusion = result.confusion()
    rows = []
    for score, counts in zip(
        quality.class_scores(result.probabilities, result.truth, result.labels), confusion, strict=True
    ):
        wrong = np.where(np.asarray(result.labels) == score.label, -1, counts)
        taken_for = (result.labels[wrong.argmax()], int(wrong.max())) if wrong.max() > 0 else None
        rows.append({"score": score, "taken_for": taken_for})
    return rows


def _agreement(results: Mapping[str, Mapping[str, EvaluationResult]], name: str) -> float:
    first, second = (results[flavour][name].predicted for flavour in FLAVOURS)
    return float(np.mean(first == second))


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")
