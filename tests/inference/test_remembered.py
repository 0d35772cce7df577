"""Rows that were encoded before: whoever asks again, and however they are padded, Triton sees them once."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from triton_router.inference.remembered import Remembered, Vector
from triton_router.inference.windows import Batch


class Model:
    """Outputs that tell which row they belong to, as a whole and for each token."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []

    async def infer(self, batch: Batch) -> dict[str, Vector]:
        self.rows += [tuple(ids[mask == 1].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True)]
        await asyncio.sleep(0)
        sums = (batch.ids * batch.mask).sum(axis=1)
        return {
            "whole": sums[:, None].astype(np.float32),
            "tokens": (batch.ids * batch.mask)[..., None] * np.ones(2, np.float32),
        }


def batch(*rows: list[int], length: int = 8) -> Batch:
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return Batch(ids, mask)


@given(st.lists(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4), max_size=8))
async def test_each_row_is_asked_about_once_and_answered_as_if_it_were_new(batches: list[list[list[int]]]) -> None:
    model, remembered = Model(), Remembered()
    padded = [batch(*rows, length=4 + place) for place, rows in enumerate(batches)]
    answers = await asyncio.gather(*(remembered.run(each, model.infer) for each in padded))
    assert len(model.rows) == len(set(model.rows))
    for each, answer in zip(padded, answers, strict=True):
        for name, values in (await Model().infer(each)).items():
            np.testing.assert_array_equal(answer[name], values)


async def test_a_call_that_fails_is_made_again() -> None:
    model, remembered = Model(), Remembered()

    async def fail(_: Batch) -> dict[str, Vector]:
        await asyncio.sleep(0)
        raise ConnectionError

    first = asyncio.create_task(remembered.run(batch([1]), fail))
    second = asyncio.create_task(remembered.run(batch([1]), model.infer))
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], ConnectionError)
    assert (await second)["whole"][0] == 1
    assert model.rows == [(1,)]


async def test_the_oldest_rows_go() -> None:
    model, remembered = Model(), Remembered(most_bytes=200)
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 9):
        await remembered.run(batch([number]), model.infer)
    assert model.rows.count((1,)) == 2
    assert model.rows.count((9,)) == 1
