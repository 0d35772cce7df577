"""Training of a classification head on frozen features of the flavour that is served."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from export.encoder import Vectors, read_rows
from export.head import Head, Layer, rounded


@dataclass(frozen=True)
class DataFile:
    """Labelled JSON lines, each row counting `weight` times."""

    path: Path
    weight: float

    @classmethod
    def parse(cls, text: str) -> DataFile:
        """`PATH` or `PATH:WEIGHT`. Raises ValueError for a weight that is not above zero."""
        path, colon, weight = text.rpartition(":")
        if not colon or Path(text).exists():
            return cls(Path(text), 1.0)
        if not float(weight) > 0:
            raise ValueError(f"{text}: the weight must be above zero")
        return cls(Path(path), float(weight))


@dataclass(frozen=True)
class Settings:
    features: tuple[str, ...]
    inverse_penalty: float
    """scikit-learn's C: larger fits the training rows closer."""
    folds: int
    seed: int
    flavour: str


@dataclass(frozen=True)
class FoldScores:
    """Held-back accuracy of one data file over the folds, and the calibration error with the chosen temperature."""

    path: Path
    accuracy: float
    calibration_error: float


def train(
    name: str,
    files: Sequence[DataFile],
    settings: Settings,
    features: Callable[[Sequence[str]], Vectors],
    progress: Callable[[str], None],
) -> tuple[Head, list[FoldScores]]:
    """Multinomial logistic regression, then a temperature (Guo et al., 2017) fitted on held-back logits.

    The temperature comes from cross-validation (each row scored by a model that has not seen it), so that every row
    also trains the final model. features: texts to unit-length, concatenated features [texts, width].

    Raises ValueError when a file cannot be read or a label is missing from the folds.
    """
    rows = [read_rows(file.path) for file in files]
    labels = tuple(sorted({row.label for part in rows for row in part}))
    encoded = []
    for file, part in zip(files, rows, strict=True):
        progress(f"encoding {len(part)} rows of {file.path.name}")
        encoded.append(features([row.text for row in part]))
    x = np.concatenate(encoded)
    y = np.concatenate([[labels.index(row.label) for row in part] for part in rows])
    origin = np.concatenate([np.full(len(part), index) for index, part in enumerate(rows)])
    weights = np.asarray([file.weight for file in files])[origin]

    progress(f"cross-validating in {settings.folds} folds")
    held_back = np.empty((len(x), len(labels)), np.float64)
    # Folds keep the share of each label in each file.
    strata = origin * len(labels) + y
    splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for seen, unseen in splitter.split(x, strata):
        layer = _fit(x[seen], y[seen], weights[seen], settings, len(labels))
        held_back[unseen] = x[unseen] @ layer.weight + layer.bias
    temperature = fit_temperature(held_back, y, weights)

    progress(f"training on all {len(x)} rows")
    layer = rounded(_fit(x, y, weights, settings, len(labels)))
    scores = []
    for index, file in enumerate(files):
        part = origin == index
        probabilities = softmax(held_back[part] / temperature)
        hit = float(np.mean(probabilities.argmax(axis=1) == y[part]))
        scores.append(FoldScores(file.path, hit, calibration_error(probabilities, y[part])))
    training = {
        "data": [
            {
                "file": file.path.name,
                "rows": len(part),
                "weight": file.weight,
                "sha256": hashlib.sha256(file.path.read_bytes()).hexdigest(),
                "held_back_accuracy": round(score.accuracy, 4),
            }
            for file, part, score in zip(files, rows, scores, strict=True)
        ],
        "method": "multinomial logistic regression, temperature on cross-validated logits",
        "inverse_penalty": settings.inverse_penalty,
        "folds": settings.folds,
        "seed": settings.seed,
        "flavour": settings.flavour,
        "scikit_learn": sklearn.__version__,
    }
    return Head(name, labels, settings.features, (layer,), temperature, training), scores


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """The divisor of the logits with the least weighted cross-entropy."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(shifted).sum(axis=1))
        return float(np.average(log_total - shifted[np.arange(len(labels)), labels], weights=weights))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


def calibration_error(probabilities: NDArray[np.floating], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error (Naeini et al., 2015): |accuracy - confidence|, equal-width bins weighted by size."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(hit[places == place].mean() - confidence[places == place].mean()) * np.mean(places == place)
        for place in np.unique(places)
    ]
    return float(np.sum(gaps))


def unit(features: Sequence[Vectors]) -> Vectors:
    """Each [rows, width] scaled to unit length, then side by side: what a head in the graph reads."""
    return np.concatenate([x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in features], axis=1)


def _fit(x: Vectors, y: NDArray[np.int64], weights: NDArray[np.float64], settings: Settings, labels: int) -> Layer:
    model = LogisticRegression(C=settings.inverse_penalty, max_iter=2000, random_state=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", sklearn.exceptions.ConvergenceWarning)
        model.fit(x, y, sample_weight=weights)
    if len(model.classes_) != labels:
        raise ValueError(f"{len(model.classes_)} of {labels} labels in a fold; too few rows of some label")
    return Layer(model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32))
