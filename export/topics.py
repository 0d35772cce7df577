"""The command `fit-topics`: how topics are scored that the head does not know (`router/signals/domain.py`)."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import bundle
from export.checksums import sha256
from export.encoder import OnnxEncoder, read_rows
from triton_router.signals.domain import (
    AFFINITY_FLOOR,
    Prototype,
    label_texts,
)

Array = NDArray[np.float32]
Encode = Callable[[Sequence[str]], tuple[Array, Array]]

HEAD = "domain"
# Share of the head's own prompts that one new topic may take. The accepted limit is 3 %; a third is left for topics
# that are nearer to a label than those fitted on.
STOLEN = 0.02
FOLDS = 7
# Enough to describe ordinary prompts; more changes nothing but the time.
SAMPLE = 2500
DECIMALS = 4


@dataclass(frozen=True)
class Rows:
    """Labelled prompts: ``embeddings`` [rows, dimension], ``posteriors`` [rows, labels]."""

    labels: list[str]
    embeddings: Array
    posteriors: Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--topics", type=Path, required=True, help="prompts of topics that the head does not know")
    parser.add_argument("--user", type=Path, required=True, help="users' prompts of the head's labels")
    parser.add_argument("--exam", type=Path, required=True, help="exam questions of the head's labels")
    parser.add_argument("--out", type=Path, default=Path("export/topics.json"))
    parser.add_argument("--trunk", help="whose embeddings it is fitted to; default: the bundle's first")


def run(arguments: argparse.Namespace) -> None:
    """Fit and write the parameters, then the repository with them."""
    exporter = bundle.exporter(arguments)
    name = arguments.trunk or exporter.models[0].name
    encode, labels = local_encoder(arguments.repository, name)
    sources = {"topics": arguments.topics, "user": arguments.user, "exam": arguments.exam}
    topics, user, exam = (encode_rows(path, encode, most=SAMPLE) for path in sources.values())
    parameters = fit(topics, user, exam, labels, encode)
    parameters["fitted_on"] = {
        name: {"rows": len(rows.labels), "sha256": sha256(path)}
        for (name, path), rows in zip(sources.items(), (topics, user, exam), strict=True)
    }
    trunks = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    arguments.out.write_text(json.dumps(trunks | {name: parameters}, separators=(",", ":")) + "\n")
    print(f"weights {parameters['weights']}, bias {parameters['bias']}: {arguments.out}")
    exporter.write_repository()


def fit(topics: Rows, user: Rows, exam: Rows, labels: Sequence[str], encode: Encode) -> dict[str, object]:
    """Logistic weights of the three features; the bias lets a topic take ``STOLEN`` of other prompts on average.

    The bias is set on margins from leave-topics-out folds, so that it holds for topics never seen.
    """
    from sklearn.linear_model import LogisticRegression

    names = sorted(set(topics.labels))
    described = [prototype(name, encode) for name in names]
    background = np.vstack([user.embeddings, exam.embeddings])
    mean = background.mean(0)
    axis = np.linalg.eigh(np.cov(background.T))[1][:, -1]
    label_embeddings = np.stack([prototype(label, encode).embedding for label in labels])

    def features(rows: Rows) -> Array:
        """[rows, topics, 3]"""
        likeness = (
            _centred(rows.embeddings, mean, axis)
            @ _centred(np.stack([item.embedding for item in described]), mean, axis).T
        )
        rival = np.repeat((rows.embeddings @ label_embeddings.T).max(1)[:, None], len(names), 1)
        affinity = np.log(rows.posteriors @ np.stack([item.affinity for item in described]).T + AFFINITY_FLOOR)
        stacked: Array = np.stack([likeness, rival, affinity], -1)
        return stacked

    own = np.array([names.index(label) for label in topics.labels])
    positive, negatives = features(topics), [features(user), features(exam)]
    others = np.random.default_rng(0).random(positive.shape[:2]) < 0.1
    others[np.arange(len(own)), own] = False

    def fitted(columns: NDArray[np.int64]) -> LogisticRegression:
        mine = np.isin(own, columns)
        right = positive[mine][np.arange(mine.sum()), own[mine]]
        keep = others[mine][:, columns]
        wrong = np.vstack([part[::3][:, columns].reshape(-1, 3) for part in negatives]
                          + [positive[mine][:, columns][keep]])  # fmt: skip
        x = np.vstack([right, wrong])
        y = np.r_[np.ones(len(right)), np.zeros(len(wrong))]
        weight = np.r_[np.ones(len(right)), np.full(len(wrong), 4 * len(right) / len(wrong))]
        return LogisticRegression(C=10.0, max_iter=1000).fit(x, y, sample_weight=weight)

    margins = [np.empty(part.shape[:2]) for part in negatives]
    for fold in range(FOLDS):
        left_out = np.arange(fold, len(names), FOLDS)
        model = fitted(np.setdiff1d(np.arange(len(names)), left_out))
        for part, rows, margin in zip(negatives, (user, exam), margins, strict=True):
            best = np.log(rows.posteriors.max(1))[:, None]
            margin[:, left_out] = part[:, left_out] @ model.coef_[0] + model.intercept_[0] - best
    model = fitted(np.arange(len(names)))
    margin_of_others = np.mean([np.quantile(margin, 1 - STOLEN) for margin in margins])
    return {
        "mean": _rounded(mean),
        "axis": _rounded(axis),
        "label_embeddings": [_rounded(row) for row in label_embeddings],
        "weights": _rounded(model.coef_[0]),
        "bias": round(float(model.intercept_[0] - margin_of_others), DECIMALS),
    }


def prototype(name: str, encode: Encode) -> Prototype:
    """A topic by name alone."""
    embeddings, posteriors = encode(label_texts(name))
    return Prototype.of(list(embeddings), list(posteriors))


def local_encoder(repository: Path, name: str | None = None) -> tuple[Encode, tuple[str, ...]]:
    """The served graph run in this process, one text at a time; and the head's labels."""
    encoder = OnnxEncoder.served(repository, name)
    trunk = encoder.trunk
    head = trunk.head(HEAD)
    assert head is not None and trunk.embedding is not None
    embedding, posterior = trunk.embedding.output, head.output

    def encode(texts: Sequence[str]) -> tuple[Array, Array]:
        outputs = encoder.encode(texts)
        return outputs[embedding] / np.linalg.norm(outputs[embedding], axis=1, keepdims=True), outputs[posterior]

    return encode, head.labels


def encode_rows(path: Path, encode: Encode, most: int | None = None) -> Rows:
    rows = read_rows(path)
    if most is not None and len(rows) > most:
        rows = random.Random(0).sample(rows, most)
    print(f"encoding {len(rows)} rows of {path.name}", flush=True)
    return Rows([row.label for row in rows], *encode([row.text for row in rows]))


def _centred(embeddings: Array, mean: Array, axis: Array) -> Array:
    rest = embeddings - mean
    rest = rest - np.outer(rest @ axis, axis)
    scaled: Array = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    return scaled


def _rounded(values: Array) -> list[float]:
    return [round(float(value), DECIMALS) for value in values]
