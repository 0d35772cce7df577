"""Tokens, windows and buckets."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

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


def windows(buckets: tuple[int, ...] = (8, 16, 32), max_windows: int = 3) -> Windows:
    content = tokenizer_json()
    trunk = Trunk.model_validate(
        {
            "name": "t", "model": "t", "inputs": {"ids": "i", "mask": "m"},
            "embedding": {"output": "e", "dimension": 2}, "heads": [],
            "tokenizer": {"file": "x", "sha256": hashlib.sha256(content).hexdigest(),
                          "pad_id": PAD, "cls_id": CLS, "sep_id": SEP},
            "buckets": buckets, "max_tokens": buckets[-1], "max_windows": max_windows,
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


def test_two_windows_leave_no_gap() -> None:
    batch = windows().batch(text(0, 60))
    seen = {int(token) for row in batch.ids for token in row} - {PAD, CLS, SEP}
    assert seen == set(range(4, 64))


def test_megabytes_are_not_tokenised_whole() -> None:
    huge = " ".join(WORDS) + " x" * 5_000_000 + " " + " ".join(WORDS)
    batch = windows().batch(huge)
    assert batch.ids.shape == (3, 32)
    assert batch.ids[0, 1] == 4
    assert batch.ids[-1, -2] == 4 + len(WORDS) - 1


def test_characters_outside_the_vocabulary_are_no_obstacle() -> None:
    assert windows().batch("解释 \ud83d 😀 \x00").mask.sum() >= 3
