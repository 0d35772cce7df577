"""Pictures of what an evaluation measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

from export import quality
from export.attacks import BENIGN, RULE, Judged
from export.evaluation import EvaluationResult

BINS = 10


def draw_confusion(result: EvaluationResult, name: str, path: Path) -> None:
    table = result.confusion()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = pyplot.subplots(figsize=(7.5, 6.5), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(result.labels)), result.labels, rotation=60, ha="right")
    axes.set_yticks(range(len(result.labels)), result.labels)
    axes.set(xlabel="said", ylabel="label", title=f"{name}: {result.accuracy:.1%} of {len(result.truth)}")
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def draw_operating(sets: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]], path: Path) -> None:
    """Coverage over accuracy by set, from probabilities [rows, labels] and the index of each row's label."""
    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    for name, (probabilities, truth) in sets.items():
        points = quality.operating_curve(probabilities, truth, np.linspace(0, 0.99, 100).tolist())
        # A share of a handful of rows would show noise.
        shown = [
            (point.threshold, point.coverage, point.accuracy)
            for point in points
            if point.accuracy is not None and point.coverage * len(truth) >= 10
        ]
        (line,) = axes.plot([coverage for _, coverage, _ in shown], [accuracy for *_, accuracy in shown], label=name)
        for threshold in (0.5, 0.7, 0.9):
            mark = next(((x, y) for at, x, y in shown if abs(at - threshold) < 0.005), None)
            if mark is not None:
                axes.plot([mark[0]], [mark[1]], marker="o", color=line.get_color())
                axes.annotate(f"{threshold:g}", mark, fontsize=8, xytext=(4, 4),
                              textcoords="offset points")  # fmt: skip
    axes.set(xlabel="share of rows left to the head", ylabel="share of them that is right", xlim=(0, 1.02))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def draw_attacks(judged: Judged, path: Path) -> None:
    """Share of attacks that are matched over that of benign rows, at any threshold; the default's is marked."""
    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    thresholds = np.unique([*judged.scores, RULE.threshold])
    wrong = np.asarray([(judged.of(BENIGN) >= at).mean() for at in thresholds])
    for label in RULE.labels:
        caught = np.asarray([(judged.of(label) >= at).mean() for at in thresholds])
        (line,) = axes.plot(wrong, caught, label=label)
        at = int(np.searchsorted(thresholds, RULE.threshold))
        axes.plot([wrong[at]], [caught[at]], marker="o", color=line.get_color())
    axes.set(xlabel="share of benign rows that is matched", ylabel="share of attacks", xlim=(0, 0.2), ylim=(0, 1.02))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def draw_reliability(results: Mapping[str, EvaluationResult], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for name, result in results.items():
        confidence = result.probabilities.max(axis=1)
        places = np.minimum((confidence * BINS).astype(int), BINS - 1)
        # A bin of a handful of rows would show noise.
        filled = [place for place in range(BINS) if (places == place).sum() >= 10]
        axes.plot(
            [confidence[places == place].mean() for place in filled],
            [result.hit[places == place].mean() for place in filled],
            marker="o",
            label=f"{name} (ECE {result.error:.1%})",
        )
    axes.set(xlabel="probability of the label", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
