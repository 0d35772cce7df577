"""The command `fit-centre`: how much of the mean embedding is taken off (`export/centre.py`)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import bundle
from export.centre import Vectors, centred, save
from export.checksums import sha256
from export.encoder import OnnxEncoder, ScoredPair, read_pairs, read_rows

# Where the shares of twins are compared: thresholds that people set.
THRESHOLDS = np.arange(0.7, 0.97, 0.01)
SHARES = np.arange(0, 1.0001, 0.01)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--data", type=Path, action="append", required=True, help="prompts of every language; repeat")
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines of `a`, `b`, `label` 1 for twins")
    parser.add_argument("--without", action="append", default=[], metavar="SOURCE", help="pairs left out; repeat")
    parser.add_argument("--pair-limit", type=int, default=1500, help="number of twins (default: %(default)s)")
    parser.add_argument("--like", type=Path, default=bundle.ROOT / "model_repository", metavar="REPOSITORY",
                        help="whose first trunk's cosines are the measure")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file to write")


def run(arguments: argparse.Namespace) -> None:
    exporter = bundle.exporter(arguments)
    model = exporter.models[0].model_copy(update={"heads": (), "centre": None})
    texts = [row.text for path in arguments.data for row in read_rows(path)]
    twins = _twins(read_pairs(arguments.pairs, arguments.without), arguments.pair_limit)
    measure = OnnxEncoder.served(arguments.like)
    encoder = exporter.encoder(model, model.precision.cpu)
    exporter.progress(f"{len(texts)} prompts, {len(twins)} pairs of twins")
    wanted = _shares(*(_embedded(measure, side) for side in _sides(twins)))
    mean = _embedded(encoder, texts).mean(axis=0)
    first, second = (_embedded(encoder, side) for side in _sides(twins))
    errors = [
        float(np.abs(_shares(centred(first, share * mean), centred(second, share * mean)) - wanted).mean())
        for share in SHARES
    ]
    best = int(np.argmin(errors))
    fitted = {
        "share_of_mean": round(float(SHARES[best]), 2),
        "texts": {path.name: sha256(path) for path in arguments.data},
        "pairs": {arguments.pairs.name: sha256(arguments.pairs)},
        "like": measure.trunk.name,
        "delta": exporter.delta(model).get("sha256", ""),
    }
    save(SHARES[best] * mean, fitted, arguments.out)
    print(
        f"{arguments.out}: {SHARES[best]:.2f} of the mean; the share of twins at a threshold differs from that of "
        f"{measure.trunk.name} by {errors[best]:.1%} on average, without a centre by {errors[0]:.1%}"
    )


def _twins(pairs: Sequence[ScoredPair], most: int) -> list[ScoredPair]:
    """Evenly over the file, whose sources follow each other."""
    twins = [pair for pair in pairs if pair.label == 1]
    return twins[:: -(-len(twins) // most)]


def _sides(pairs: Sequence[ScoredPair]) -> tuple[list[str], list[str]]:
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def _embedded(encoder: OnnxEncoder, texts: Sequence[str]) -> Vectors:
    return encoder.encode(texts)["embedding"]


def _shares(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """Of the pairs that reach each of THRESHOLDS."""
    return np.asarray(((first * second).sum(axis=1) >= THRESHOLDS[:, None]).mean(axis=1))
