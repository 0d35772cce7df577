"""A trained classification head: the file that is tracked, read and written."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import wide

# A head reads pooled hidden states, each scaled to unit length and concatenated in the order given:
# `mean.N`, `max.N` or `cls.N` of the tokens' states after layer N. The embedding is `mean.LAST`.
FORMAT = 1
KEYS = ("name", "labels", "features", "temperature", "training", "layers")
# Decimals kept in the file. The features of one state have unit length, so an error of 0.005 in every weight moves a
# logit by a hundredth at most in practice, and the file stays at a few tens of KB.
DECIMALS = 2


@dataclass(frozen=True)
class Layer:
    weight: NDArray[np.float32]
    """[in, out]"""
    bias: NDArray[np.float32]
    """[out]"""


@dataclass(frozen=True)
class HeadWeights:
    """Probabilities = softmax((layers(features) + wide branch) / temperature), ReLU between layers.

    A mixture of two experts (Jacobs et al., 1991) has 2 · labels + 1 outputs and temperature 1: the last one's sigmoid
    is how much the first expert's probabilities count, and the second's count the rest.
    """

    name: str
    labels: tuple[str, ...]
    features: tuple[str, ...]
    layers: tuple[Layer, ...]
    temperature: float
    training: dict[str, Any]
    """How it was made: data files with rows and checksums, versions, settings, flavour."""
    wide: wide.Table | None = None
    """Weights of the n-grams of tokens, added to the last layer; not of a mixture."""

    @property
    def mixed(self) -> bool:
        return self.layers[-1].weight.shape[1] == 2 * len(self.labels) + 1

    def logits(self, features: NDArray[np.float32], ngrams: Any = None) -> NDArray[np.float32]:
        """Before temperature: [rows, labels] from unit-length, concatenated features [rows, width], and of a head with
        a wide branch `wide.counts`.

        Of a mixture the logarithms of its probabilities.
        """
        x = features
        for index, layer in enumerate(self.layers):
            x = x @ layer.weight + layer.bias
            if index < len(self.layers) - 1:
                x = np.maximum(x, 0)
        if not self.mixed:
            return x if self.wide is None else x + ngrams @ self.wide
        count = len(self.labels)
        first, second, gate = x[:, :count], x[:, count : 2 * count], x[:, -1:]
        parts = (first - np.logaddexp(0, -gate), second - np.logaddexp(0, gate))
        norms = (np.logaddexp.reduce(logits, axis=1, keepdims=True) for logits in (first, second))
        mixture: NDArray[np.float32] = np.logaddexp(*(p - n for p, n in zip(parts, norms, strict=True)))
        return mixture


def load(path: Path) -> HeadWeights:
    """Raises ValueError when the file is not there, is no head of this format, its shapes do not fit together, or it
    holds NaN or infinity, which JSON files of Python can."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"head {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if document.get("format") != FORMAT:
        raise ValueError(f"{path}: format {document.get('format')!r}, expected {FORMAT}")
    if missing := [key for key in KEYS if key not in document]:
        raise ValueError(f"{path}: there is no {', '.join(missing)} in it")
    layers = tuple(
        Layer(np.asarray(layer["weight"], np.float32), np.asarray(layer["bias"], np.float32))
        for layer in document["layers"]
    )
    labels, temperature = tuple(document["labels"]), float(document["temperature"])
    if not all(np.isfinite(part).all() for layer in layers for part in (layer.weight, layer.bias)):
        raise ValueError(f"{path}: its weights hold NaN or infinity")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{path}: temperature {temperature:g}, expected a positive number")
    for before, after in itertools.pairwise(layers):
        if before.weight.shape[1] != after.weight.shape[0]:
            raise ValueError(f"{path}: layers of shapes {before.weight.shape} and {after.weight.shape} do not follow")
    if layers[-1].weight.shape[1] not in (len(labels), 2 * len(labels) + 1):
        raise ValueError(f"{path}: {layers[-1].weight.shape[1]} outputs for {len(labels)} labels")
    if "wide" in document and layers[-1].weight.shape[1] != len(labels):
        raise ValueError(f"{path}: a mixture has no wide branch")
    try:
        table = wide.unpacked(document["wide"], len(labels)) if "wide" in document else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return HeadWeights(
        name=document["name"],
        labels=labels,
        features=tuple(document["features"]),
        layers=layers,
        temperature=temperature,
        training=document["training"],
        wide=table,
    )


def save(head: HeadWeights, path: Path) -> None:
    """Writes one line a weight row, so that a retrained head gives a readable diff."""
    document = {
        "format": FORMAT,
        "name": head.name,
        "labels": list(head.labels),
        "features": list(head.features),
        "temperature": round(head.temperature, 4),
        "training": head.training,
        **({} if head.wide is None else {"wide": wide.packed(head.wide)}),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)[:-2]
    layers = ",\n".join(
        '  {"weight": [\n' + ",\n".join(_row(row) for row in layer.weight) + f'\n  ],\n  "bias": {_row(layer.bias)}}}'
        for layer in head.layers
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{text},\n "layers": [\n{layers}\n ]\n}}\n')


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rounded(layer: Layer) -> Layer:
    """As the layer will be once saved and loaded."""
    return Layer(
        np.asarray(json.loads("[" + ",".join(_row(row) for row in layer.weight) + "]"), np.float32),
        np.asarray(json.loads(_row(layer.bias)), np.float32),
    )


def _row(values: NDArray[np.float32]) -> str:
    return "[" + ",".join(str(round(value, DECIMALS)) for value in values.tolist()) + "]"
