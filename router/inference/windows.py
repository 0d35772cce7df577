"""From text to padded token windows.

A text over the encoder's limit is read in windows (head, middle, tail), never cut silently. What is tokenised is capped
too: tokenising two megabytes takes seconds, and no window could hold the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triton_router.inference.bundle import Trunk
from triton_router.inference.tokens import load_tokenizer

Tokens = NDArray[np.int64]

# Far above the longest English token sequences met (about 5 characters a token), so that a slice fills its window.
_CHARACTERS_A_TOKEN = 12

# A window of so much of the room that its characters promise: words have different numbers of tokens.
_FILL = 0.85
# The weight of a window next to one that says what is wanted.
_BESIDE = 0.2

Cut = Callable[[str, int, int], Sequence[tuple[str, bool]]]
"""Cuts a text into windows of so many characters, so many at most, each with whether it says what is wanted."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids and attention mask, both INT64 [windows, bucket]."""

    ids: Tokens
    mask: Tokens

    @property
    def windows(self) -> int:
        return int(self.ids.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(windows, bucket)."""
        return self.windows, int(self.ids.shape[1])


class Windows:
    """Tokenises for one trunk: special tokens and prefix, windows, padding to the smallest bucket that fits."""

    def __init__(self, trunk: Trunk, tokenizer: bytes) -> None:
        self._tokens = load_tokenizer(tokenizer)
        self._ids = self._tokens.ids
        self._buckets = sorted(trunk.buckets)
        self._most = trunk.max_windows
        self._special = trunk.tokenizer
        self._before = [trunk.tokenizer.cls_id, *(self._ids(trunk.prefix) if trunk.prefix else ())]
        self._longest = min(trunk.max_tokens, self._buckets[-1])
        self._room = self._longest - len(self._before) - 1

    def batch(self, text: str) -> Batch:
        """The windows of one text, one row each."""
        return self.pad(self.rows(text))

    def rows(self, text: str) -> list[list[int]]:
        """Token ids of each window of ``text``, special tokens and prefix included, not padded."""
        characters = self._room * _CHARACTERS_A_TOKEN
        if len(text) <= self._most * characters:
            pieces = self._split(self._ids(text))
        else:
            pieces = [self._slice(text, characters, place) for place in _places(self._most)]
        return [[*self._before, *piece, self._special.sep_id] for piece in pieces]

    def pair(self, first: str, second: str) -> list[int] | None:
        """Token ids of two texts in one row, each with a token behind it; ``None`` where they are longer than that."""
        end = self._special.sep_id
        row = [self._special.cls_id, *self._ids(first), end, *self._ids(second), end]
        return row if len(row) <= self._longest else None

    def weighed(self, text: str, cut: Cut) -> tuple[list[list[int]], list[float]]:
        """Token ids of each window of ``text``, as ``cut`` cuts it, and the weight of each; the weights' sum is 1.

        Of a window that has more tokens than its characters let expect, the end is not read.
        """
        sample = text[: self._room * _CHARACTERS_A_TOKEN]
        ids = self._ids(sample)
        if len(ids) <= self._room and len(sample) == len(text):
            return [[*self._before, *ids, self._special.sep_id]], [1.0]
        characters = max(1, int(_FILL * self._room * len(sample) / max(len(ids), 1)))
        pieces = cut(text, characters, self._most)
        rows = [[*self._before, *self._ids(piece)[: self._room], self._special.sep_id] for piece, _ in pieces]
        weights = [1.0 if asks else _BESIDE for _, asks in pieces]
        total = sum(weights)
        return rows, [weight / total for weight in weights]

    def placed(self, text: str) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Windows over all of a short text, a quarter of each shared: token ids as of :meth:`rows`, and the place,
        [start, end) characters, of each that is no special token."""
        tokens = self._tokens.places(text)
        step = self._room * 3 // 4
        windows = []
        for start in range(0, max(len(tokens) - self._room + step, 1), step):
            piece = tokens[start : start + self._room]
            ids = [self._special.cls_id, *(token for token, _, _ in piece), self._special.sep_id]
            windows.append((ids, [(begin, end) for _, begin, end in piece]))
        return windows

    def pad(self, rows: list[list[int]]) -> Batch:
        """One batch of ``rows``, padded to the smallest bucket that holds the longest."""
        longest = max(len(row) for row in rows)
        length = next(bucket for bucket in self._buckets if bucket >= longest)
        ids = np.full((len(rows), length), self._special.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), length), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return Batch(ids, mask)

    def _split(self, ids: list[int]) -> list[list[int]]:
        if len(ids) <= self._room:
            return [ids]
        count = min(self._most, -(-len(ids) // self._room))
        starts = [round(place * (len(ids) - self._room)) for place in _places(count)]
        return [ids[start : start + self._room] for start in starts]

    def _slice(self, text: str, characters: int, place: float) -> list[int]:
        start = round(place * (len(text) - characters))
        ids = self._ids(text[start : start + characters])
        skipped = round(place * max(0, len(ids) - self._room))
        return ids[skipped : skipped + self._room]


def _places(count: int) -> list[float]:
    """``count`` places evenly over [0, 1]: the head, what lies between, the tail."""
    return [index / (count - 1) for index in range(count)] if count > 1 else [0.0]
