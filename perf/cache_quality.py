"""What the semantic cache gets wrong and what it finds, by threshold, with and without the guard.

Pairs are JSON lines `{"a", "b", "label", "source"}`: label 1 if the two questions ask the same. A pair is a hit when
its cosine reaches the threshold and, with the guard, `triton_router.cache.guard.difference` finds none.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.encoder import OnnxEncoder
from perf.results import write_results
from triton_router.cache.guard import difference
from triton_router.config.services import CacheSettings

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
THRESHOLDS = (0.75, 0.80, 0.85, 0.92, 0.95)


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """Two questions. ``hard``: they are not the same although most words are; ``same`` is the label."""

    earlier: str
    now: str
    same: bool
    hard: bool


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A pair with its cosine and what the guard says; ``seconds`` is how long that took."""

    pair: QuestionPair
    cosine: float
    difference: str | None
    seconds: float


class Embedder:
    """The encoder as it is served on CPU, without Triton."""

    def __init__(self, repository: Path) -> None:
        """Raises FileNotFoundError where no model was exported."""
        self._encoder = OnnxEncoder.served(repository)
        assert self._encoder.trunk.embedding is not None
        self._output = self._encoder.trunk.embedding.output

    def __call__(self, text: str) -> NDArray[np.float32]:
        """The embedding of ``text`` at unit length; several windows are averaged."""
        vector = self._encoder.encode([text])[self._output][0]
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def read_pairs(path: Path) -> list[QuestionPair]:
    """Raises ValueError, with the line's number, for a line that is no pair."""
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            pairs.append(QuestionPair(row["a"], row["b"], bool(row["label"]), "high-overlap" in row.get("source", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}:{number}: {error!r}") from error
    return pairs


def judge(pairs: Sequence[QuestionPair], embed: Embedder) -> list[PairVerdict]:
    cosines = [float(embed(pair.earlier) @ embed(pair.now)) for pair in pairs]
    verdicts = []
    for pair, cosine in zip(pairs, cosines, strict=True):
        # Read once before, as words are that a service meets all the time.
        refusal = difference(pair.earlier, pair.now)
        started = time.process_time()
        difference(pair.earlier, pair.now)
        verdicts.append(PairVerdict(pair, cosine, refusal, time.process_time() - started))
    return verdicts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines of `a`, `b`, `label`, `source`")
    parser.add_argument("--picture", type=Path, default=Path("docs/assets/cache-quality.png"), help="the curve")


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.pairs, arguments.out, arguments.picture)


def measure(path: Path, out: Path, picture: Path) -> None:
    """Measure, print the tables, write `cache-quality.json` and `.md` to ``out``, draw the curve as ``picture``."""
    verdicts = judge(read_pairs(path), Embedder(REPOSITORY))
    default = CacheSettings().similarity_threshold
    document = summary(verdicts, sorted({*THRESHOLDS, default}), default)
    command = f"python -m perf {' '.join(sys.argv[1:])}"
    write_results(out, "cache-quality", document, table(document, command))
    draw(verdicts, default, picture)


def summary(verdicts: Sequence[PairVerdict], thresholds: Sequence[float], default: float) -> dict[str, Any]:
    """Counts by threshold; shares are of all duplicates, of all others, and of the hard ones among these."""
    same = [one for one in verdicts if one.pair.same]
    others = [one for one in verdicts if not one.pair.same]
    hard = [one for one in others if one.pair.hard]
    rows = []
    for threshold in thresholds:
        for guarded in (False, True):
            hits, wrong, wrong_hard = (_hits(group, threshold, guarded) for group in (same, others, hard))
            rows.append(
                {
                    "threshold": threshold, "guard": guarded, "found": hits, "wrong": wrong, "wrong_hard": wrong_hard,
                    "recall": hits / max(len(same), 1), "wrong_share": wrong / max(len(others), 1),
                    "wrong_hard_share": wrong_hard / max(len(hard), 1),
                }
            )  # fmt: skip
    near = [one for one in verdicts if one.cosine >= default]
    return {
        "duplicates": len(same), "others": len(others), "hard": len(hard), "default": default, "rows": rows,
        "refused": {
            name: dict(Counter(one.difference for one in near if one.difference and one.pair.same is label))
            for name, label in (("duplicates", True), ("others", False))
        },
        "guard_us": {
            "p50": float(np.percentile([one.seconds for one in verdicts], 50)) * 1e6,
            "p99": float(np.percentile([one.seconds for one in verdicts], 99)) * 1e6,
        },
    }  # fmt: skip


def _hits(group: Sequence[PairVerdict], threshold: float, guarded: bool) -> int:
    return sum(one.cosine >= threshold and not (guarded and one.difference) for one in group)


def table(document: dict[str, Any], command: str) -> str:
    """The summary as Markdown."""
    lines = [
        f"`{command}`; {document['duplicates']} duplicates, {document['others']} others, "
        f"{document['hard']} of them hard",
        "",
        "| threshold | found | wrong | wrong, hard | found with guard | wrong | wrong, hard |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for plain, guarded in zip(document["rows"][::2], document["rows"][1::2], strict=True):
        mark = " (default)" if plain["threshold"] == document["default"] else ""
        cells = [
            f"{row['recall']:.1%} | {row['wrong_share']:.1%} ({row['wrong']}) | {row['wrong_hard_share']:.1%} "
            f"({row['wrong_hard']})"
            for row in (plain, guarded)
        ]
        lines.append(f"| {plain['threshold']:.2f}{mark} | {' | '.join(cells)} |")
    duplicates, others = document["refused"]["duplicates"], document["refused"]["others"]
    took = document["guard_us"]
    lines += [
        "",
        "Refused by the guard at the default:",
        "",
        "| difference | others | duplicates |",
        "| --- | ---: | ---: |",
        *(f"| {kind} | {others.get(kind, 0)} | {duplicates.get(kind, 0)} |" for kind in sorted({*duplicates, *others})),
        "",
        f"Guard: p50 {took['p50']:.0f} µs, p99 {took['p99']:.0f} µs of CPU a comparison.",
    ]
    return "\n".join(lines) + "\n"


def draw(verdicts: Sequence[PairVerdict], default: float, picture: Path) -> None:
    """Shares of hits by threshold, with and without the guard. Needs matplotlib (extra `train`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = {
        "duplicates": [one for one in verdicts if one.pair.same],
        "others": [one for one in verdicts if not one.pair.same],
        "hard others": [one for one in verdicts if one.pair.hard and not one.pair.same],
    }
    grid = np.linspace(0.6, 1.0, 161)
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), sharex=True)
    for axis, guarded, title in zip(axes, (False, True), ("cosine alone", "cosine and guard"), strict=True):
        for (name, group), colour in zip(groups.items(), ("tab:green", "tab:red", "tab:orange"), strict=True):
            if group:
                shares = [100 * _hits(group, float(at), guarded) / len(group) for at in grid]
                axis.plot(grid, shares, label=name, color=colour)
        axis.axvline(default, color="grey", linestyle=":", label=f"default {default:g}")
        axis.set(title=title, xlabel="similarity_threshold", ylabel="% that are hits", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
