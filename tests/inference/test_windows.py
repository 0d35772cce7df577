"""Tokens, windows and buckets."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from triton_router import parts
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows

WORDS = [f"w{n}" for n in range(5000)]
PAD, CLS, SEP, UNK = 0, 1, 2, 3


def tokenizer_json() -> bytes:
    vocabulary = {"[PAD]": PAD, "[CLS]": CLS, "[SEP]": SEP, "[UNK]": UNK} | {w: n + 4 for n, w in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding(length=7)
    return tokenizer.to_str().encode()


def windows(buckets: tuple[int, ...] = (8, 16, 32), max_windows: int = 3, prefix: str = "") -> Windows:
    content = tokenizer_json()
    trunk = Trunk.model_validate(
        {
            "name": "t", "model": "t", "inputs": {"ids": "i", "mask": "m"},
            "embedding": {"output": "e", "dimension": 2}, "heads": [],
            "tokenizer": {"file": "x", "sha256": hashlib.sha256(content).hexdigest(),
                          "pad_id": PAD, "cls_id": CLS, "sep_id": SEP},
            "buckets": buckets, "max_tokens": buckets[-1], "max_windows": max_windows,
            "prefix": prefix,
        }
    )  # fmt: skip
    return Windows(trunk, content)


def text(first: int, last: int) -> str:
    return " ".join(WORDS[first:last])


@pytest.mark.parametrize(("words", "bucket"), [(0, 8), (1, 8), (6, 8), (7, 16), (14, 16), (15, 32), (30, 32)])
def test_a_text_is_padded_to_the_smallest_bucket_that_holds_it(words: int, bucket: int) -> None:
    batch = windows().batch(text(0, words))
    assert batch.ids.shape == batch.mask.shape == (1, bucket)
    assert batch.ids.dtype == batch.mask.dtype == np.int64
    assert batch.ids[0].tolist() == [CLS, *range(4, 4 + words), SEP] + [PAD] * (bucket - words - 2)
    assert batch.mask.sum() == words + 2


@pytest.mark.parametrize(("words", "count"), [(31, 2), (60, 2), (61, 3), (1000, 3)])
def test_a_long_text_is_read_from_its_head_to_its_tail(words: int, count: int) -> None:
    batch = windows().batch(text(0, words))
    assert batch.ids.shape == (count, 32)
    assert batch.ids[0, 1] == 4
    assert batch.ids[-1, -2] == 4 + words - 1
    if count == 3:
        assert abs(int(batch.ids[1, 15]) - 4 - words // 2) < 16


def test_every_window_starts_with_the_prefix() -> None:
    ours = windows(prefix="w0 w1")
    for rows in (ours.rows(text(9, 12)), ours.rows(text(9, 90)), ours.weighed(text(9, 90), parts.windows)[0]):
        assert all(row[:3] == [CLS, 4, 5] and row[-1] == SEP and len(row) <= 32 for row in rows)
    assert ours.rows(text(9, 12)) == [[CLS, 4, 5, 13, 14, 15, SEP]]
    assert len(ours.rows(text(9, 37))) == 1 and len(ours.rows(text(9, 38))) == 2


def test_two_windows_leave_no_gap() -> None:
    batch = windows().batch(text(0, 60))
    tokens = {int(token) for row in batch.ids for token in row} - {PAD, CLS, SEP}
    assert tokens == set(range(4, 64))


def test_megabytes_are_not_tokenised_whole() -> None:
    huge = " ".join(WORDS) + " x" * 5_000_000 + " " + " ".join(WORDS)
    batch = windows().batch(huge)
    assert batch.ids.shape == (3, 32)
    assert batch.ids[0, 1] == 4
    assert batch.ids[-1, -2] == 4 + len(WORDS) - 1


def test_characters_outside_the_vocabulary_are_no_obstacle() -> None:
    assert windows().batch("解释 \ud83d 😀 \x00").mask.sum() >= 3


@given(st.text("ab w1?.\n\ud800解", max_size=400), st.sampled_from([1, 3]))
def test_windows_that_are_weighed_fit_and_have_weights(text: str, most: int) -> None:
    rows, weights = windows(max_windows=most).weighed(text, parts.windows)
    assert 1 <= len(rows) == len(weights) <= most
    assert all(2 <= len(row) <= 32 and row[0] == CLS and row[-1] == SEP for row in rows)
    assert sum(weights) == pytest.approx(1) and min(weights) > 0


def test_the_window_that_asks_counts_most() -> None:
    statement = " ".join(f"{text(0, 12)}." for _ in range(8))
    rows, weights = windows().weighed(f"{statement} {text(20, 26)} why?", parts.windows)
    assert len(rows) == 3 and weights.index(max(weights)) == 2
    rows, weights = windows().weighed(f"Why {text(20, 26)}? {statement}", parts.windows)
    assert len(rows) == 3 and weights.index(max(weights)) == 0


def test_a_short_text_is_one_window() -> None:
    ours = windows()
    rows, weights = ours.weighed(text(0, 9), parts.windows)
    assert (rows, weights) == (ours.rows(text(0, 9)), [1.0])
