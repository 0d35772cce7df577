"""How good probabilities and embeddings are, on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata, spearmanr

Numbers = NDArray[np.floating[Any]]

# Of the square of a label's offset, beside the mean cross-entropy.
OFFSET_PENALTY = 0.01
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class ClassScore:
    """``None`` where nothing is divided by: no row has the label, or none was given it."""

    label: str
    rows: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """Of the rows with at least ``threshold`` as their best probability: their share, and how many of them are right.

    ``accuracy`` is ``None`` where there is no such row.
    """

    threshold: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Drift:
    """Cosine of the embeddings of a text before and after, over texts."""

    mean: float
    least: float

    @classmethod
    def of(cls, before: Numbers, after: Numbers) -> Drift:
        """Both [rows, width], of unit length."""
        cosines = (before * after).sum(axis=1)
        return cls(float(cosines.mean()), float(cosines.min()))


def softmax(logits: Numbers) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


def fit_calibration(logits: Numbers, truth: NDArray[np.int64], weights: Numbers) -> tuple[float, NDArray[np.float64]]:
    """The temperature and the offsets, one a label, with the least weighted cross-entropy of logits / T + offsets.

    Temperature scaling (Guo et al., 2017) with a bias for each label (Alexandari et al., 2020), which is held small:
    few of the rows have the same label.
    """
    rows = np.arange(len(truth))

    def loss(parameters: NDArray[np.float64]) -> float:
        scaled = logits * np.exp(-parameters[0]) + parameters[1:]
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        entropy = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, truth]
        return float(np.average(entropy, weights=weights) + OFFSET_PENALTY * np.square(parameters[1:]).sum())

    logits = logits.astype(np.float64)
    best = minimize(loss, np.zeros(1 + logits.shape[1]), bounds=[(-3, 3), *[(-3, 3)] * logits.shape[1]]).x
    return float(np.exp(best[0])), np.asarray(best[1:])


def calibration_error(probabilities: Numbers, truth: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error (Naeini et al., 2015): |accuracy - confidence|, equal-width bins weighted by size."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    return float(_gaps(confidence, hit[None], bins)[0])


def calibration_noise(probabilities: Numbers, bins: int = 15, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """What :func:`calibration_error` says of a head that is calibrated: its mean, and the bound of 19 in 20 samples.

    The error of a finite sample is never zero. Hits are drawn with the probabilities that were said (Bröcker and Smith,
    2007, "Increasing the reliability of reliability diagrams").
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    drawn = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    errors = _gaps(confidence, drawn, bins)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def _gaps(confidence: Numbers, hits: NDArray[np.bool_], bins: int) -> Numbers:
    """[draws, rows] to the calibration error of each draw."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = places[:, None] == np.arange(bins)
    return np.asarray(np.abs((hits - confidence) @ inside).sum(axis=1) / len(confidence))


def class_scores(probabilities: Numbers, truth: NDArray[np.int64], labels: Sequence[str]) -> list[ClassScore]:
    predicted = probabilities.argmax(axis=1)
    scores = []
    for index, label in enumerate(labels):
        hits = int(((predicted == index) & (truth == index)).sum())
        rows, predictions = int((truth == index).sum()), int((predicted == index).sum())
        scores.append(
            ClassScore(label, rows, hits / predictions if predictions else None, hits / rows if rows else None)
        )
    return scores


def macro_f1(probabilities: Numbers, truth: NDArray[np.int64], labels: Sequence[str]) -> float:
    """Mean over the labels of the harmonic mean of precision and recall; 0 for a label that is never right."""
    pairs = [(score.precision or 0.0, score.recall or 0.0) for score in class_scores(probabilities, truth, labels)]
    return float(np.mean([2 * precision * recall / ((precision + recall) or 1.0) for precision, recall in pairs]))


def operating_curve(
    probabilities: Numbers, truth: NDArray[np.int64], thresholds: Sequence[float] = THRESHOLDS
) -> list[OperatingPoint]:
    """What is left to the head, and how right it is there, where a caller trusts it from a probability on."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    points = []
    for threshold in thresholds:
        chosen = confidence >= threshold
        points.append(
            OperatingPoint(threshold, float(chosen.mean()), float(hit[chosen].mean()) if chosen.any() else None)
        )
    return points


def rank_correlation(similarities: Numbers, grades: Numbers) -> float:
    """Spearman's, of pairs graded by hand."""
    return float(spearmanr(similarities, grades)[0])


def separation(similarities: Numbers, same: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a pair that is the same is nearer than one that is not.

    By ranks (Mann and Whitney, 1947). Raises ValueError where all pairs are of one kind.
    """
    positives = int(same.sum())
    negatives = len(same) - positives
    if not positives or not negatives:
        raise ValueError("pairs labelled 0 and pairs labelled 1 are needed")
    ranks = rankdata(similarities)
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))
