"""What becomes of attacks, and of prompts that look like them, where the head `jailbreak` reads every passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.encoder import OnnxEncoder, Row
from triton_router.config.protection import JailbreakSignal
from triton_router.inference.language import identify
from triton_router.signals.passages import pieces

HEAD = "jailbreak"
BENIGN, REQUEST = "benign", "harmful_request"
# Where a rule's signal says nothing else: what it adds up, and from where it matches.
RULE = JailbreakSignal(name="default")


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


def judge(encoders: Mapping[str, OnnxEncoder], rows: Sequence[Row]) -> Judged:
    """Each passage by the first trunk with the head that reads its language; where none does it is not judged.

    Raises ValueError where no trunk has the head.
    """
    having = [encoder for encoder in encoders.values() if encoder.trunk.head(HEAD) is not None]
    if not having:
        raise ValueError(f"no trunk of the bundle has a head `{HEAD}`")
    return Judged(tuple(rows), np.asarray([max(_scores(having, row.text), default=0.0) for row in rows]))


def _scores(having: Sequence[OnnxEncoder], text: str) -> list[float]:
    scores = []
    for piece in pieces(text):
        language = identify(piece)
        encoder = next((each for each in having if each.trunk.reads(language)), None)
        if encoder is None:
            continue
        head = encoder.trunk.head(HEAD)
        assert head is not None
        columns = [head.labels.index(label) for label in RULE.labels]
        scores.append(float(encoder.encode([piece])[HEAD][0][columns].sum()))
    return scores
