"""Vector search in memory: exact while vectors are few, through a graph (HNSW) once they are many.

The graph is usearch's: a wheel of 2 MB (faiss is ten times that, hnswlib comes as source), holding vectors as int8,
with which adding takes a fifth of the time that float32 takes. It only proposes; the float32 rows here decide, so
scores are exact in both regimes. What is removed stays in the graph as a waypoint: a removal there hands the place to
the next vector, with stale links around it, and one near neighbour in twenty was lost after half of the vectors had
been replaced. Once as many are dead as half of what lives, the graph is built anew, in a thread, while the old one
answers.
"""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from triton_router.cache.entry import Vector

if TYPE_CHECKING:
    from usearch.index import Index

# Up to here a scan is as fast as the graph: 4,096 x 384 take half a millisecond.
EXACT = 4096
# Rows are kept in blocks, so that growing copies nothing.
BLOCK = 1024
# How many vectors a thread adds at once; a build that is cancelled waits for that.
BATCH = 128
# Candidates that the graph proposes for each answer asked, and at least: int8 blurs the order of near ones. More are
# asked for, up to the most, while removed ones take their places (a question that was stored again and again).
PROPOSED, LEAST_PROPOSED, MOST_PROPOSED = 4, 32, 1024

Item = TypeVar("Item")


def require_graph() -> None:
    """Raises RuntimeError where the library is not installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f'a memory cache of more than {EXACT} entries needs usearch: pip install "triton-router[cache]"'
        ) from error


class Vectors(Generic[Item]):
    """Items under unit vectors, float32 ``[dimension]``. Labels count up from 0 and are never used again."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._blocks: list[Vector] = []
        # Row by row, without gaps; `_rows` finds the row of a label, in the order of labels.
        self._items: list[Item] = []
        self._labels: list[int] = []
        self._rows: dict[int, int] = {}
        self._next = 0
        self._graph: Index | None = None
        self._dead = 0
        self._building: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def add(self, vector: Vector, item: Item) -> int:
        """Keep ``item``. Returns its label; raises ValueError for another dimension."""
        if vector.shape != (self._dimension,):
            raise ValueError(f"an embedding of {vector.shape} among those of ({self._dimension},)")
        label, row = self._next, len(self._items)
        self._grow(row)
        self._blocks[row // BLOCK][row % BLOCK] = vector
        self._items.append(item)
        self._labels.append(label)
        self._rows[label] = row
        self._next += 1
        if self._graph is not None:
            self._graph.add(label, vector, threads=1)
        self._maintain()
        return label

    def vector(self, label: int) -> Vector:
        """A copy of what `add` was given."""
        row = self._rows[label]
        copy: Vector = self._blocks[row // BLOCK][row % BLOCK].copy()
        return copy

    def remove(self, label: int) -> None:
        """Forget one."""
        row, last = self._rows.pop(label), len(self._items) - 1
        if row != last:
            self._blocks[row // BLOCK][row % BLOCK] = self._blocks[last // BLOCK][last % BLOCK]
            self._items[row], self._labels[row] = self._items[last], self._labels[last]
            self._rows[self._labels[row]] = row
        self._items.pop()
        self._labels.pop()
        if last % BLOCK == 0:
            self._blocks.pop()
        self._dead += self._graph is not None
        self._maintain()

    def nearest(self, vector: Vector, limit: int, least: float) -> list[tuple[float, Item]]:
        """Up to ``limit`` items with a cosine of ``least`` or more, best first; the newer of equal ones first."""
        if not self._items or limit < 1:
            return []
        if self._graph is None:
            scores = np.concatenate([block @ vector for block in self._blocks])[: len(self._items)]
            rows = np.flatnonzero(scores >= least)
            scores = scores[rows]
            if len(rows) > limit:
                best = np.argpartition(-scores, limit - 1)[:limit]
                rows, scores = rows[best], scores[best]
        else:
            rows = self._proposed(self._graph, vector, limit)
            scores = np.array([self._blocks[row // BLOCK][row % BLOCK] @ vector for row in rows], dtype=np.float32)
        found = sorted(
            ((float(score), self._labels[row], row) for score, row in zip(scores, rows, strict=True) if score >= least),
            reverse=True,
        )
        return [(score, self._items[row]) for score, _, row in found[:limit]]

    def _proposed(self, graph: Index, vector: Vector, limit: int) -> NDArray[np.intp]:
        """Rows that may be among the nearest ``limit``."""
        count = max(limit * PROPOSED, LEAST_PROPOSED)
        while True:
            labels = graph.search(vector, count, threads=1).keys.tolist()
            rows = [self._rows[label] for label in labels if label in self._rows]
            if len(rows) >= min(limit * 2, len(self)) or len(labels) < count or count >= MOST_PROPOSED:
                return np.array(rows, np.intp)
            count *= 4

    def close(self) -> None:
        """Stop building."""
        if self._building is not None:
            self._building.cancel()

    def _grow(self, row: int) -> None:
        """Make room for ``row``. Most partitions stay small, so a first block starts small."""
        block, place = divmod(row, BLOCK)
        if block == len(self._blocks):
            self._blocks.append(np.zeros((BLOCK if block else 4, self._dimension), np.float32))
        elif place == len(self._blocks[block]):
            self._blocks[block] = np.concatenate([self._blocks[block], np.zeros_like(self._blocks[block])])

    def _maintain(self) -> None:
        if self._graph is not None and len(self) < EXACT // 2:
            self._graph, self._dead = None, 0
        if self._building is None and (
            len(self) > EXACT if self._graph is None else self._dead > max(len(self), EXACT) // 2
        ):
            self._building = asyncio.get_running_loop().create_task(self._build())

    async def _build(self) -> None:
        """Make a graph of all that is held, in a thread, and of what is added meanwhile."""
        try:
            graph, waiting, few = _graph(self._dimension), list(self._rows), 1
            while len(waiting) > few:
                for start in range(0, len(waiting), BATCH):
                    labels = [label for label in waiting[start : start + BATCH] if label in self._rows]
                    if labels:
                        await asyncio.to_thread(self._insert, graph, labels, [self.vector(label) for label in labels])
                # Were puts faster than the thread, a fixed number would never be reached.
                waiting, few = self._newer(waiting[-1]), few * 2
            # From here on nothing else runs, so nothing is missed.
            if waiting:
                self._insert(graph, waiting, [self.vector(label) for label in waiting])
            self._graph, self._dead = graph, len(graph) - len(self)
        finally:
            self._building = None

    def _newer(self, label: int) -> list[int]:
        return list(takewhile(lambda other: other > label, reversed(self._rows)))[::-1]

    @staticmethod
    def _insert(graph: Index, labels: list[int], vectors: list[Vector]) -> None:
        graph.add(np.array(labels, np.uint64), np.stack(vectors), threads=1)


def _graph(dimension: int) -> Index:
    from usearch.index import Index

    return Index(
        ndim=dimension, metric="cos", dtype="i8", connectivity=16, expansion_add=48, expansion_search=48, multi=False
    )
