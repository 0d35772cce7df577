"""The wide branch of a head: a weight for each label of single tokens, pairs and triples (Cheng et al., 2016).

States tell what a text is about; the table knows wordings. Its rows are chosen by hash (Weinberger et al., 2009), so
some n-grams share one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRAMS = 3
# Of the hash: a number for every token but the last.
FACTORS = (1_000_003, 7_919)

Table = NDArray[np.float32]
"""[GRAMS * buckets, labels]: rows of single tokens, then of pairs, then of triples."""


def slots(ids: Any, buckets: int) -> tuple[Any, Any, Any]:
    """Rows of the table for the tokens, pairs and triples of ``ids`` [..., length], INT64 of numpy or PyTorch."""
    pairs = ids[..., :-1] * FACTORS[0] + ids[..., 1:]
    triples = pairs[..., :-1] * FACTORS[1] + ids[..., 2:]
    return ids % buckets, pairs % buckets + buckets, triples % buckets + 2 * buckets


def counts(texts: Sequence[Sequence[Sequence[int]]], buckets: int) -> Any:
    """[texts, GRAMS * buckets]: how often each text, token ids by window, has an n-gram, divided by the root of its
    length. A sparse matrix of SciPy, which serving does without."""
    from scipy import sparse

    rows, columns, values = [], [], []
    for number, windows in enumerate(texts):
        own = np.concatenate([each for window in windows for each in slots(np.asarray(window, np.int64), buckets)])
        rows.append(np.full(len(own), number))
        columns.append(own)
        values.append(np.full(len(own), sum(map(len, windows)) ** -0.5, np.float32))
    places = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), places), shape=(len(texts), GRAMS * buckets))


def packed(table: Table) -> dict[str, Any]:
    """For a head's file: in bytes with one scale."""
    scale = float(np.abs(table).max()) / 127 or 1.0
    numbers = np.rint(table / scale).astype(np.int8)
    return {"scale": scale, "table": base64.b64encode(numbers.tobytes()).decode()}


def unpacked(document: dict[str, Any], labels: int) -> Table:
    """Raises ValueError where the numbers are not those of a table for so many labels."""
    try:
        numbers = np.frombuffer(base64.b64decode(document["table"], validate=True), np.int8)
        scale = float(document["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"wide branch: `table` must be base64 and `scale` a number: {error!r}") from error
    if not len(numbers) or len(numbers) % (GRAMS * labels) or not 0 < scale < np.inf:
        raise ValueError(f"wide branch: {len(numbers)} weights of scale {scale:g} for {GRAMS} kinds of {labels} labels")
    return numbers.reshape(-1, labels).astype(np.float32) * np.float32(scale)
