"""Rows that were encoded before, for configurations that are compared: Triton sees each of them once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from triton_router.inference.windows import Batch

Vector = NDArray[np.float32]
Infer = Callable[[Batch], Awaitable[dict[str, Vector]]]

# Those of some ten thousand prompts, also where a head judges tokens.
MOST_BYTES = 256 * 1024 * 1024


class Remembered:
    """The outputs of rows, whatever they were padded to and whoever asked; the oldest go beyond ``most_bytes``.

    In int8 a batch's neighbours move an embedding: what is remembered is the same for both configurations.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._rows: OrderedDict[bytes, dict[str, Vector]] = OrderedDict()
        self._pending: dict[bytes, asyncio.Event] = {}

    async def run(self, batch: Batch, infer: Infer) -> dict[str, Vector]:
        """The outputs of ``batch``; ``infer`` is asked about the rows of it that are not known."""
        rows = [ids[mask == 1] for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        keys = [row.tobytes() for row in rows]
        while earlier := [self._pending[key] for key in keys if key in self._pending]:
            await earlier[0].wait()
        known = {key: self._rows[key] for key in keys if key in self._rows}
        unknown = {key: place for place, key in enumerate(keys) if key not in known}
        if unknown:
            known |= await self._infer(unknown, batch, infer)
        return {
            name: np.stack([_padded(known[key][name], batch.ids.shape[1]) for key in keys]) for name in known[keys[0]]
        }

    async def _infer(self, unknown: dict[bytes, int], batch: Batch, infer: Infer) -> dict[bytes, dict[str, Vector]]:
        answered = asyncio.Event()
        self._pending |= dict.fromkeys(unknown, answered)
        try:
            places = list(unknown.values())
            outputs = await infer(Batch(batch.ids[places], batch.mask[places]))
        finally:
            for key in unknown:
                del self._pending[key]
            answered.set()
        fresh = {}
        for number, (key, place) in enumerate(unknown.items()):
            tokens = int(batch.mask[place].sum())
            # Copies: a slice would hold the whole message.
            fresh[key] = {
                name: (values[number, :tokens] if values.ndim == 3 else values[number]).copy()
                for name, values in outputs.items()
            }
            self._keep(key, fresh[key])
        return fresh

    def _keep(self, key: bytes, row: dict[str, Vector]) -> None:
        self._rows[key] = row
        self._bytes += _size(key, row)
        while self._bytes > self._most_bytes:
            self._bytes -= _size(*self._rows.popitem(last=False))


def _size(key: bytes, row: dict[str, Vector]) -> int:
    return len(key) + sum(values.nbytes for values in row.values())


def _padded(values: Vector, tokens: int) -> Vector:
    """A row of a head that judges tokens is as long as the batch."""
    return np.pad(values, ((0, tokens - len(values)), (0, 0))) if values.ndim == 2 else values
