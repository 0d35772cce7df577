"""Vector search in memory: exact while vectors are few, through a graph (HNSW) once they are many.

The graph is usearch's: a wheel of 2 MB (faiss is ten times that, hnswlib comes as source), over int8, with which adding
takes a fifth of the time that float32 takes. It only proposes; the float32 rows here decide, so scores are exact in
both regimes. A removed vector stays in the graph as a waypoint: a removal there hands the place to the next vector,
with stale links around it, and one near neighbour in twenty was lost after half of the vectors had been replaced. Once
the dead nodes are half as many as the living vectors, a thread builds a new graph, while the old one answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import KeysView, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from triton_router.cache.entry import Vector

# Up to here a scan is as fast as the graph: 4,096 x 384 take half a millisecond.
EXACT = 4096
# Rows are kept in blocks, so that growing copies nothing.
BLOCK = 1024
# Blocks that are looked at before others get their turn: 4,096 vectors.
BLOCKS_AT_ONCE = 4
# How many vectors a thread adds at once; a build that is cancelled waits for that.
BATCH = 128
# Candidates that the graph proposes for each answer asked, and at least: int8 blurs the order of near ones. More are
# asked for, up to the most, while dead nodes take their places.
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
        self._graph: _Graph | None = None
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
            self._graph.add([label], vector[np.newaxis])
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
        if self._graph is not None:
            self._graph.remove(label)
        self._maintain()

    async def nearest(self, vector: Vector, limit: int, least: float) -> list[tuple[float, Item]]:
        """Up to ``limit`` items with a cosine of ``least`` or more, best first; the newer of equal ones first."""
        if not self._items or limit < 1:
            return []
        rows = self._proposed(self._graph, vector, limit) if self._graph is not None else None
        if rows is None:
            ranked = await self._scanned(vector, limit, least)
        else:
            scores = [float(self._blocks[row // BLOCK][row % BLOCK] @ vector) for row in rows]
            ranked = [(score, self._labels[row]) for score, row in zip(scores, rows, strict=True) if score >= least]
        # While others had their turns some may have gone.
        living = [(score, label) for score, label in sorted(ranked, reverse=True) if label in self._rows]
        return [(score, self._items[self._rows[label]]) for score, label in living[:limit]]

    async def _scanned(self, vector: Vector, limit: int, least: float) -> list[tuple[float, int]]:
        """The scores and labels of the nearest by a look at all; others get their turns after some blocks each.

        A vector that changes its row meanwhile may be missed.
        """
        best: list[tuple[float, int]] = []
        for start in range(0, len(self._items), BLOCKS_AT_ONCE * BLOCK):
            if start:
                await asyncio.sleep(0)
            blocks = self._blocks[start // BLOCK : start // BLOCK + BLOCKS_AT_ONCE]
            if start >= len(self._items):
                break
            scores = np.concatenate([block @ vector for block in blocks])[: len(self._items) - start]
            rows = np.flatnonzero(scores >= least)
            if len(rows) > limit:
                # As many as are asked for, and those that tie with the last of them.
                rows = rows[scores[rows] >= np.partition(scores[rows], -limit)[-limit]][-MOST_PROPOSED:]
            best += [(float(scores[row]), self._labels[start + row]) for row in rows]
        return best

    def _proposed(self, graph: _Graph, vector: Vector, limit: int) -> NDArray[np.intp] | None:
        """Rows that may be among the nearest ``limit``; ``None`` where dead nodes hide them, until the next graph."""
        count = max(limit * PROPOSED, LEAST_PROPOSED)
        while True:
            nodes, labels = graph.search(vector, count, limit * PROPOSED)
            if len(labels) >= min(limit * 2, len(self)):
                return np.array([self._rows[label] for label in labels], np.intp)
            if nodes < count or count >= MOST_PROPOSED:
                self._start_building()
                return None
            count = min(count * 4, MOST_PROPOSED)

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
            self._graph = None
        if len(self) > EXACT if self._graph is None else self._graph.dead > max(len(self), EXACT) // 2:
            self._start_building()

    def _start_building(self) -> None:
        if self._building is None:
            self._building = asyncio.get_running_loop().create_task(self._build())

    async def _build(self) -> None:
        """Make a graph of all that is held, in a thread, and of what is added meanwhile."""
        try:
            graph, waiting, few = _Graph(self._dimension), list(self._rows), 1
            while len(waiting) > few:
                for start in range(0, len(waiting), BATCH):
                    labels = [label for label in waiting[start : start + BATCH] if label in self._rows]
                    if labels:
                        await asyncio.to_thread(graph.add, labels, self._stacked(labels))
                # Were puts faster than the thread, a fixed number would never be reached.
                waiting, few = self._newer(waiting[-1]), few * 2
            # From here on nothing else runs, so nothing is missed.
            if waiting:
                graph.add(waiting, self._stacked(waiting))
            for label in graph.labels - self._rows.keys():
                graph.remove(label)
            self._graph = graph
        finally:
            self._building = None

    def _stacked(self, labels: list[int]) -> Vector:
        return np.stack([self.vector(label) for label in labels])

    def _newer(self, label: int) -> list[int]:
        return list(takewhile(lambda other: other > label, reversed(self._rows)))[::-1]


class _Graph:
    """The nearest of many vectors by their int8 codes; labels may be removed, nodes stay.

    Vectors of one code share a node. A graph of equal vectors, living or removed, cannot be relied on: how soon one of
    them cannot be reached any more depends on the CPU, for the links between them are chosen by rounding errors of
    their distances. Between two codes the cosine differs by 3e-5 or more, which float32 can tell.
    """

    def __init__(self, dimension: int) -> None:
        from usearch.index import Index

        self._index = Index(
            ndim=dimension, metric="cos", dtype="i8", connectivity=16, expansion_add=48, expansion_search=48
        )
        # By the hash of its code, and by each living label; a node is named by the label that it was made for.
        self._nodes: dict[int, int] = {}
        self._node_of: dict[int, int] = {}
        self._living: dict[int, list[int]] = {}
        self.dead = 0

    def __len__(self) -> int:
        """The number of nodes, dead ones too."""
        return len(self._living)

    @property
    def labels(self) -> KeysView[int]:
        """The living ones."""
        return self._node_of.keys()

    def add(self, labels: Sequence[int], vectors: Vector) -> None:
        """Add ``vectors``, ``[labels, dimension]``, under labels that were never here."""
        codes, new = _codes(vectors), []
        for row, label in enumerate(labels):
            node = self._nodes.setdefault(hash(codes[row].tobytes()), label)
            if node == label:
                self._living[node] = []
                new.append(row)
            elif not self._living[node]:
                self.dead -= 1
            self._living[node].append(label)
            self._node_of[label] = node
        if new:
            self._index.add(np.array([labels[row] for row in new], np.uint64), codes[new], threads=1)

    def remove(self, label: int) -> None:
        living = self._living[self._node_of.pop(label)]
        living.remove(label)
        if not living:
            self.dead += 1

    def search(self, vector: Vector, count: int, newest: int) -> tuple[int, list[int]]:
        """How many of the nearest nodes, at most ``count``, there are, and the ``newest`` living labels of each."""
        nodes = self._index.search(_codes(vector), count, threads=1).keys.tolist()
        return len(nodes), [label for node in nodes for label in self._living[node][-newest:]]


def _codes(vectors: Vector) -> NDArray[np.int8]:
    codes: NDArray[np.int8] = np.rint(vectors * 127).astype(np.int8)
    return codes
