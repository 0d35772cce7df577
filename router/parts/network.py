"""A small network that says which run of a message's units is the person's words.

Each unit is the sum of the vectors of what is seen of it; two layers see a unit with its neighbours and with what there
is in the whole message. They score each unit as the person's, as the first and as the last of the person's words.
``python -m export fit-parts`` trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
FILE = Path(__file__).parent / "network.npz"
# How far a layer looks to both sides.
REACH = 2
# All of a message is the person's unless a run in it is more probable by so much (a logarithm).
DOUBT = 3.0


class Network:
    """The mean of some networks. ``vocabulary`` numbers what can be seen of a unit.

    ``vectors`` are [keys, networks * width], weights [networks, from, to], biases [networks, 1, to].
    """

    __slots__ = ("_count", "_first", "_second", "_third", "_vectors", "_vocabulary")

    def __init__(self, vocabulary: Sequence[str], arrays: dict[str, Any]) -> None:
        self._vocabulary = {key: number for number, key in enumerate(vocabulary)}
        self._vectors: Array = arrays["vectors"]
        self._first, self._second, self._third = ((arrays[f"w{n}"], arrays[f"b{n}"]) for n in (1, 2, 3))
        self._count = len(self._first[0])

    @classmethod
    def load(cls, path: Path = FILE) -> Network:
        with np.load(path) as file:
            vocabulary = bytes(file["vocabulary"]).decode().split("\n")
            arrays: dict[str, Any] = {
                name: file[name].astype(np.float32) * file[f"{name}_scale"] if f"{name}_scale" in file else file[name]
                for name in ("vectors", "w1", "b1", "w2", "b2", "w3", "b3")
            }
        return cls(vocabulary, {name: np.asarray(value, np.float32) for name, value in arrays.items()})

    def scores(self, seen: Sequence[Sequence[str]]) -> Array:
        """[units, 3]: each unit as one of the person's, as their first, as their last."""
        known = self._vocabulary
        ids: list[int] = []
        starts: list[int] = []
        for keys in seen:
            starts.append(len(ids))
            ids += [known[key] for key in keys if key in known]
        rows = np.add.reduceat(self._vectors[ids], starts, axis=0)
        rows = rows.reshape(len(rows), self._count, -1).transpose(1, 0, 2)
        scores: Array = self._layer(self._layer(rows, *self._first), *self._second) @ self._third[0] + self._third[1]
        mean: Array = scores.mean(axis=0)
        return mean

    @staticmethod
    def _layer(rows: Array, weights: Array, bias: Array) -> Array:
        """[networks, units, width]"""
        networks, count, width = rows.shape
        padded = np.zeros((networks, count + 2 * REACH, width), np.float32)
        padded[:, REACH:-REACH] = rows
        window = np.concatenate([padded[:, shift : shift + count] for shift in range(2 * REACH + 1)], axis=2)
        whole = np.concatenate([rows.max(axis=1, keepdims=True), rows.mean(axis=1, keepdims=True)], axis=2)
        near = window.shape[2]
        inner = window @ weights[:, :near] + (whole @ weights[:, near:] + bias)
        hidden: Array = np.maximum(inner, 0)
        return hidden


def best_run(scores: Array) -> tuple[int, int]:
    """The first and the last unit of the most probable run; all of them where that is nearly as probable."""
    inside = np.cumsum(scores[:, 0])
    starts = scores[:, 1] - inside + scores[:, 0]
    totals = np.maximum.accumulate(starts) + scores[:, 2] + inside
    last = int(totals.argmax())
    if totals[last] - (starts[0] + scores[-1, 2] + inside[-1]) < DOUBT:
        return 0, len(scores) - 1
    return int(starts[: last + 1].argmax()), last


@cache
def network() -> Network:
    """The shipped one."""
    return Network.load()
