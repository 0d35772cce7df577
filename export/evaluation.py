"""What an evaluation measures of a bundle's model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import head as head_file
from export import quality
from export.manifest import ModelSpec

BATCHMATES = 8


@dataclass(frozen=True)
class EvaluationResult:
    """One flavour on one data set. Probabilities and embeddings row by row, in the order of `labels` and `rows`."""

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def hit(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.truth)

    @property
    def accuracy(self) -> float:
        return float(self.hit.mean())

    @property
    def error(self) -> float:
        return quality.calibration_error(self.probabilities, self.truth)

    def confusion(self) -> NDArray[np.int64]:
        """[truth, predicted]"""
        table = np.zeros((len(self.labels), len(self.labels)), np.int64)
        np.add.at(table, (self.truth, self.predicted), 1)
        return table


@dataclass(frozen=True)
class Likeness:
    """How well similarities of an embedding follow what people said of pairs, on one set, by trunk and flavour."""

    name: str
    pairs: int
    measure: str
    values: dict[tuple[str, str], float]
    """By trunk (`published`, `delta`) and flavour."""


@dataclass(frozen=True)
class BatchDependence:
    """How much a row's outputs depend on the rows that it is batched with (dynamic int8 ranges are per batch)."""

    agreement: float
    """Share of rows whose most probable label is the same alone and in a batch."""
    shift: float
    """Mean absolute change of the most probable label's probability."""
    cosine: float
    """Least cosine of the two embeddings of a row."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured of a model."""

    model: ModelSpec
    file: Path
    """Of the head."""
    head: head_file.HeadWeights
    results: dict[str, dict[str, EvaluationResult]]
    """By flavour and data set."""
    likeness: list[Likeness]
    latency: dict[str, dict[int, float]]
    """Median milliseconds by flavour and bucket."""
    batch: BatchDependence

    @property
    def served(self) -> dict[str, EvaluationResult]:
        """By data set, of the flavour that is served on CPU."""
        return self.results[self.model.precision.cpu]
