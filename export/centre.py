"""What is taken off every embedding, so that a cosine means with each encoder what it means with the others.

The embeddings of some encoders point much the same way: those of E5 have a cosine of 0.77, whatever their texts say.
Without most of their mean their cosines spread as those of others do, and a threshold says the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

FORMAT = 1
DECIMALS = 5


def load(path: Path, delta_sha256: str) -> Vectors:
    """[dimension], for embeddings that were moved by this delta (empty: by none).

    Raises ValueError for a file that is not there, is no centre, or was fitted to other embeddings.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, expected {FORMAT}")
        vector, delta = np.asarray(document["centre"], np.float32), document["fitted_on"]["delta"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"centre {path}: {error!r}") from error
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError(f"centre {path}: `centre` is no row of numbers")
    if delta != delta_sha256:
        raise ValueError(
            f"centre {path}: was fitted with delta {delta[:12] or '(none)'}, the manifest has "
            f"{delta_sha256[:12] or '(none)'}; fit it again with `fit-centre`"
        )
    return vector


def centred(embeddings: Vectors, centre: Vectors) -> Vectors:
    """Both of unit length: [rows, dimension]."""
    moved = embeddings - centre
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), np.float32)


def save(vector: Vectors, fitted_on: dict[str, Any], path: Path) -> None:
    numbers = [round(float(value), DECIMALS) for value in vector]
    document = {"format": FORMAT, "fitted_on": fitted_on, "centre": numbers}
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
