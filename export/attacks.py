"""What becomes of attacks, and of prompts that look like them, where the head `jailbreak` reads every passage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.encoder import OnnxEncoder, Row
from triton_router.config.protection import JailbreakSignal
from triton_router.dialects import ChatRequest, ModelRequest
from triton_router.inference.language import identify
from triton_router.signals import SignalInput
from triton_router.signals.passages import passages

HEAD = "jailbreak"
BENIGN, REQUEST = "benign", "harmful_request"
# Where a rule's signal says nothing else: what it adds up, and from where it matches.
RULE = JailbreakSignal(name="default")


class Verdict(NamedTuple):
    """What the rule adds up for a request, and whether it has a passage in a language that no trunk reads."""

    score: float
    unread: bool

    @property
    def matched(self) -> bool:
        return self.score >= RULE.threshold


@dataclass(frozen=True)
class Judged:
    """Rows of one set; ``scores`` [rows]: what the rule adds up, in the passage that has most of it."""

    rows: tuple[Row, ...]
    scores: NDArray[np.float64]

    def of(self, *labels: str) -> NDArray[np.float64]:
        """Scores of the rows with these labels."""
        return self.scores[np.isin([row.label for row in self.rows], labels)]

    @property
    def labels(self) -> list[str]:
        return sorted({row.label for row in self.rows})

    def flagged(self, *labels: str) -> float:
        """Share of the rows with these labels that the rule matches at its default; of all where none is named."""
        scores = self.of(*labels) if labels else self.scores
        return float((scores >= RULE.threshold).mean())

    def by_source(self, label: str) -> dict[str, tuple[int, float]]:
        """Rows with ``label``, and how many of them are matched, by the part of `source` before the colon."""
        names = np.asarray([row.source.partition(":")[0] if row.label == label else "" for row in self.rows])
        shares = {name: self.scores[names == name] >= RULE.threshold for name in sorted(set(names.tolist()) - {""})}
        return {name: (len(share), float(share.mean())) for name, share in shares.items()}

    def threshold_of(self, rate: float) -> float:
        """The score that at most such a share of the benign rows reaches."""
        benign = np.sort(self.of(BENIGN))[::-1]
        return float(np.nextafter(benign[int(rate * len(benign))], 1.0))

    def caught(self, threshold: float) -> float:
        """Share of the attacks that reach a threshold."""
        return float((self.of(*RULE.labels) >= threshold).mean())


class Judge:
    """The rule at its default, on encoders that have the head, in the order of a bundle.

    Raises ValueError where none has it.
    """

    def __init__(self, encoders: Iterable[OnnxEncoder]) -> None:
        self._having = [encoder for encoder in encoders if encoder.trunk.head(HEAD) is not None]
        if not self._having:
            raise ValueError(f"no trunk of the bundle has a head `{HEAD}`")
        self._passage = cache(self._score)

    def judge(self, request: ModelRequest) -> Verdict:
        """By the passage that has most of it, each read by the trunk that the router asks."""
        scores = [self._passage(piece.text) for piece in passages(SignalInput(request).everything())]
        return Verdict(max((score for score in scores if score is not None), default=0.0), None in scores)

    def _score(self, passage: str) -> float | None:
        """None where no trunk reads the language."""
        language = identify(passage)
        most = max(self._having, key=lambda encoder: len(encoder.trunk.languages))
        encoder = next((each for each in self._having if language in each.trunk.languages), most)
        if not encoder.trunk.reads(language):
            return None
        head = encoder.trunk.head(HEAD)
        assert head is not None
        columns = [head.labels.index(label) for label in RULE.labels]
        batch = encoder.windows.batch(passage)
        windows = encoder.run(batch.ids, batch.mask)[HEAD]
        return float(windows.max(axis=0)[columns].sum())


def judge(encoders: Mapping[str, OnnxEncoder], rows: Sequence[Row]) -> Judged:
    """Each row as a chat request; a passage that no trunk reads is not judged. Raises ValueError: see `Judge`."""
    judge = Judge(encoders.values())
    scores = [judge.judge(ChatRequest.saying(row.text)).score for row in rows]
    return Judged(tuple(rows), np.asarray(scores))
