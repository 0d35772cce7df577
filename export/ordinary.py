"""Prompts as people type them: they say how large activations are, where weights become int8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any

import numpy as np

from export.encoder import read_rows
from export.manifest import ModelSpec
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows

_PROMPTS = Path(__file__).parent / "prompts"
# Of each file every so many-th; of the second too where an encoder reads more than English.
EVERY = 10
ENGLISH, OTHER_LANGUAGES = _PROMPTS / "user_train.jsonl", _PROMPTS / "languages_train.jsonl"


def files(model: ModelSpec) -> list[Path]:
    return [ENGLISH] if model.languages == ("en",) else [ENGLISH, OTHER_LANGUAGES]


def batches(model: ModelSpec, trunk: Trunk, tokenizer: bytes) -> Iterator[dict[str, Any]]:
    """Tokenized for ``trunk``, one prompt at a time, or two that follow each other, and without padding."""
    windows = Windows(trunk, tokenizer)
    texts = [row.text for path in files(model) for row in read_rows(path)[::EVERY]]
    rows: Iterable[list[int] | None] = (windows.rows(text)[0] for text in texts)
    if trunk.pairs:
        rows = starmap(windows.pair, pairwise(texts))
    for tokens in filter(None, rows):
        yield {"input_ids": np.asarray([tokens], np.int64), "attention_mask": np.ones((1, len(tokens)), np.int64)}
