"""What the semantic cache gets wrong and what it finds: by cosine alone, and with vetoes and the judge of pairs.

Pairs are JSON lines `{"a", "b", "label", "source"}`: label 1 if the two questions ask the same. A pair is a hit when
its cosine reaches the threshold and, with the judge, no veto keeps it apart and the judge takes both for the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import page
from export.encoder import OnnxEncoder
from perf.results import write_results
from triton_router.cache.judge import SURE, loose, plain, simple
from triton_router.cache.vetoes import Marks, veto
from triton_router.config.services import CacheSettings
from triton_router.inference import load_bundle

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY, QUESTIONS = ROOT / "model_repository", ROOT / "tests" / "cache"
TEMPLATE = Path(__file__).parent / "templates" / "cache-quality.md.j2"
THRESHOLDS = (0.75, 0.80, 0.85, 0.92, 0.95)
WRONG = (1, 2, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """Two questions. ``hard``: they are not the same although most words are; ``same`` is the label."""

    earlier: str
    now: str
    same: bool
    hard: bool = False


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A pair with its cosine, the veto against it, and how sure the judge is that both ask the same.

    ``probability`` is 0 under a veto; ``seconds`` is how long looking for one took.
    """

    pair: QuestionPair
    cosine: float
    veto: str | None
    probability: float
    seconds: float


class Judges:
    """The encoders as they are served on CPU, without Triton."""

    def __init__(self, repository: Path) -> None:
        """Raises FileNotFoundError where no model was exported, StopIteration where none reads pairs."""
        bundle, _ = load_bundle(repository / "bundle.json")
        self._embedder = OnnxEncoder.served(repository)
        self._reader = OnnxEncoder.served(repository, next(trunk.name for trunk in bundle.trunks if trunk.pairs))
        assert self._embedder.trunk.embedding is not None
        self._output = self._embedder.trunk.embedding.output
        self.reader = self._reader.trunk.name

    def judge(self, pairs: Iterable[QuestionPair]) -> list[PairVerdict]:
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: QuestionPair) -> PairVerdict:
        cosine = float(self._embedding(pair.earlier) @ self._embedding(pair.now))
        started = time.process_time()
        equal = plain(pair.earlier) == plain(pair.now)
        kind = None if equal else veto(Marks.of(pair.earlier), Marks.of(pair.now))
        seconds = time.process_time() - started
        equal = equal or (kind is None and loose(pair.earlier) == loose(pair.now))
        texts = simple(pair.earlier), simple(pair.now)
        probability = 1.0 if equal else 0.0 if kind else self._reader.same(*texts)
        return PairVerdict(pair, cosine, kind, probability, seconds)

    def _embedding(self, text: str) -> NDArray[np.float32]:
        """At unit length; several windows are averaged."""
        vector = self._embedder.encode([text])[self._output][0]
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def read_pairs(path: Path, same: Collection[int] = ()) -> list[QuestionPair]:
    """The pairs of a file, those in the lines ``same`` (from 1) as the same whatever their label is.

    Raises ValueError, with the line's number, for a line that is no pair.
    """
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            label = bool(row["label"]) or number in same
            pairs.append(QuestionPair(row["a"], row["b"], label, "high-overlap" in row.get("source", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}:{number}: {error!r}") from error
    return pairs


def own_sets(directory: Path) -> dict[str, list[QuestionPair]]:
    """The questions of the tests by name: rewordings, and pairs that only look alike."""

    def rows(name: str) -> list[Any]:
        return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]

    twins = rows("minimal_pairs")
    sets = {
        "paraphrases of the twins' questions": [QuestionPair(row["question"], row["paraphrase"], True) for row in twins]
    }
    for name in ("paraphrases", "exchanged", "fresh", "blind"):
        sets[name] = [QuestionPair(earlier, now, True) for earlier, now in rows(name)]
    sets["twins"] = [
        QuestionPair(row[form], row["changed"], False) for row in twins for form in ("question", "paraphrase")
    ]
    return sets | {"look-alikes": [QuestionPair(earlier, now, False) for earlier, now in rows("look_alikes")]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines of `a`, `b`, `label`, `source`")
    parser.add_argument(
        "--same", type=int, action="append", default=[], metavar="LINE", help="line of a pair that asks the same"
    )
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="Triton model repository")
    parser.add_argument("--picture", type=Path, default=Path("docs/assets/cache-quality.png"), help="the curve")


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.pairs, arguments.out, arguments.picture, same=arguments.same, repository=arguments.repository)


def measure(
    path: Path, out: Path, picture: Path, *,
    same: Collection[int] = (), repository: Path = REPOSITORY, questions: Path = QUESTIONS,
) -> None:  # fmt: skip
    """Measure, print the tables, write `cache-quality.json` and `.md` to ``out``, draw the curve as ``picture``.

    With ``same`` once by the labels of the file, and once with those lines corrected. ``questions`` has the files of
    :func:`own_sets`.
    """
    judges, default = Judges(repository), CacheSettings().similarity_threshold
    verdicts = judges.judge(read_pairs(path, same))
    labels = read_pairs(path)
    as_labelled = [
        PairVerdict(pair, each.cosine, each.veto, each.probability, each.seconds)
        for pair, each in zip(labels, verdicts, strict=True)
    ]
    thresholds = sorted({*THRESHOLDS, default})
    document: dict[str, Any] = {
        "command": f"python -m perf {' '.join(sys.argv[1:])}", "default": default, "judge": judges.reader,
        "labels": {"as labelled": summary(as_labelled, thresholds, default)},
        "sets": {name: taken(judges.judge(pairs), default) for name, pairs in own_sets(questions).items()},
        "veto_us": {str(at): float(np.percentile([each.seconds for each in verdicts], at)) * 1e6 for at in (50, 99)},
    }  # fmt: skip
    if same:
        document["labels"][f"{len(same)} corrected"] = summary(verdicts, thresholds, default)
    write_results(out, "cache-quality", document, page.render(TEMPLATE, **document))
    draw(as_labelled, default, picture)


def summary(verdicts: Sequence[PairVerdict], thresholds: Sequence[float], default: float) -> dict[str, Any]:
    """Counts by threshold; shares are of all duplicates, of all others, and of the hard ones among these.

    ``auc`` and ``at_wrong`` rank all pairs: how many are found before so many are wrong.
    """
    same = [each for each in verdicts if each.pair.same]
    others = [each for each in verdicts if not each.pair.same]
    hard = [each for each in others if each.pair.hard]
    rows = []
    for threshold in thresholds:
        for judged in (False, True):
            hits, wrong, wrong_hard = (_hits(group, threshold, judged) for group in (same, others, hard))
            rows.append(
                {
                    "threshold": threshold, "judged": judged, "found": hits, "wrong": wrong, "wrong_hard": wrong_hard,
                    "recall": hits / max(len(same), 1), "wrong_share": wrong / max(len(others), 1),
                    "wrong_hard_share": wrong_hard / max(len(hard), 1),
                }
            )  # fmt: skip
    near = [each for each in verdicts if each.cosine >= default]
    scores = {
        "cosine": [each.cosine for each in verdicts],
        "judge": [each.probability for each in verdicts],
        f"judge, cosine from {default:g}": [each.probability * (each.cosine >= default) for each in verdicts],
    }
    labels = np.asarray([each.pair.same for each in verdicts])
    return {
        "duplicates": len(same), "others": len(others), "hard": len(hard), "rows": rows,
        "auc": {name: auc(np.asarray(score), labels) for name, score in scores.items()},
        "at_wrong": {
            name: {wrong: found_before(np.asarray(score), labels, wrong) / max(len(same), 1) for wrong in WRONG}
            for name, score in scores.items()
        },
        "vetoed": {
            name: dict(Counter(each.veto for each in near if each.veto and each.pair.same is label))
            for name, label in (("duplicates", True), ("others", False))
        },
    }  # fmt: skip


def taken(verdicts: Sequence[PairVerdict], default: float) -> dict[str, Any]:
    """How many pairs of a set the judge takes for the same, and how many of those the default threshold lets pass."""
    near = [each for each in verdicts if each.cosine >= default]
    return {
        "same": verdicts[0].pair.same, "pairs": len(verdicts), "near": len(near),
        "taken": sum(each.probability >= SURE for each in verdicts), "near_taken": _hits(near, default, True),
    }  # fmt: skip


def auc(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_]) -> float:
    """How often a duplicate has the higher score than another pair; half of equal scores count."""
    same, others = scores[labels][:, None], scores[~labels][None, :]
    return float(((same > others) + (same == others) / 2).mean())


def found_before(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_], wrong: int) -> int:
    """Duplicates over the highest score at which more than ``wrong`` others are taken too."""
    others = np.sort(scores[~labels])[::-1]
    limit = others[wrong] if wrong < len(others) else -np.inf
    return int((scores[labels] > max(limit, 0)).sum())


def _hits(group: Sequence[PairVerdict], threshold: float, judged: bool) -> int:
    return sum(each.cosine >= threshold and (each.probability >= SURE or not judged) for each in group)


def draw(verdicts: Sequence[PairVerdict], default: float, picture: Path) -> None:
    """Shares of hits by threshold, with and without the judge. Needs matplotlib (extra `train`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = {
        "duplicates": [each for each in verdicts if each.pair.same],
        "others": [each for each in verdicts if not each.pair.same],
        "hard others": [each for each in verdicts if each.pair.hard and not each.pair.same],
    }
    grid = np.linspace(0.6, 1.0, 161)
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), sharex=True)
    for axis, judged, title in zip(axes, (False, True), ("cosine alone", "cosine and judge"), strict=True):
        for (name, group), colour in zip(groups.items(), ("tab:green", "tab:red", "tab:orange"), strict=True):
            if group:
                shares = [100 * _hits(group, float(at), judged) / len(group) for at in grid]
                axis.plot(grid, shares, label=name, color=colour)
        axis.axvline(default, color="grey", linestyle=":", label=f"default {default:g}")
        axis.set(title=title, xlabel="similarity_threshold", ylabel="% that are hits", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
