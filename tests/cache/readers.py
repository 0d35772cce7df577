"""A reader of pairs that tests set up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from triton_router.errors import Unavailable
from triton_router.inference.bundle import Trunk


class Reader:
    """Sure of the pairs in ``same``, and of no other; ``down`` it gives no answer. ``calls`` are the pairs of each."""

    def __init__(self, same: Collection[tuple[str, str]] = (), languages: Sequence[str] = ("en",)) -> None:
        self.trunk = Trunk.model_validate({
            "name": "pairs", "model": "pairs", "pairs": True, "inputs": {"ids": "i", "mask": "m"},
            "heads": [{"name": "same_question", "output": "s", "labels": ["different", "same"]}],
            "tokenizer": {"file": "t", "sha256": "", "pad_id": 0, "cls_id": 1, "sep_id": 2},
            "buckets": [8], "max_tokens": 8, "max_windows": 1, "languages": languages,
        })  # fmt: skip
        self.same, self.down = same, False
        self.calls: list[list[tuple[str, str]]] = []

    async def judge_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.calls.append(list(pairs))
        if self.down:
            raise Unavailable("deadline")
        return [0.9 if pair in self.same else 0.1 for pair in pairs]
