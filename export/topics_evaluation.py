"""The command `evaluate-topics`: how many prompts reach a topic that the head does not know, and what it takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export import bundle
from export.topics import Encode, Rows, encode_rows, local_encoder, prototype
from triton_router.inference import load_bundle
from triton_router.signals.domain import DomainScorer, TopicParameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--topics", type=Path, required=True, help="prompts of topics outside the fit")
    parser.add_argument("--own", type=Path, action="append", required=True, help="prompts of the head's labels")
    parser.add_argument("--trunk", help="whose embeddings are compared; default: the bundle's first")
    parser.add_argument("--only", action="append", default=[], metavar="TOPIC=LABEL", help="also measure a table that "
                        "declares these topics and no label; prompts of LABEL should reach TOPIC; repeat")  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Print how many prompts reach a topic declared by name alone, and how many of others it takes."""
    served, _ = load_bundle(arguments.repository / "bundle.json")
    trunk = arguments.trunk or served.trunks[0].name
    encode, labels = local_encoder(arguments.repository, trunk)
    parameters = served.topics.get(trunk, TopicParameters())
    topics = encode_rows(arguments.topics, encode)
    own = {path.name: encode_rows(path, encode) for path in arguments.own}
    names = sorted(set(topics.labels))
    prototypes = {name: prototype(name, encode) for name in names}
    print("| topic added | reached | " + " | ".join(f"taken from {name}" for name in own) + " |")
    print("| --- | ---: |" + " ---: |" * len(own))
    total = np.zeros(1 + len(own))
    for name in names:
        scorer = DomainScorer([*labels, name], labels, parameters, {name: prototypes[name]})
        figures = [_share(scorer, topics, {name}, of=name)] + [_share(scorer, rows, {name}) for rows in own.values()]
        total += figures
        print(f"| {name} | " + " | ".join(f"{figure:.1%}" for figure in figures) + " |")
    print("| **mean** | " + " | ".join(f"{figure:.1%}" for figure in total / len(names)) + " |")
    scorer = DomainScorer([*labels, *names], labels, parameters, prototypes)
    reached = np.mean([_share(scorer, topics, {name}, of=name) for name in names])
    shares = " | ".join(f"{_share(scorer, rows, set(names)):.1%}" for rows in own.values())
    print(f"| all {len(names)} at once | {reached:.1%} | {shares} |")
    if arguments.only:
        _print_only(dict(item.split("=", 1) for item in arguments.only), own, parameters, labels, encode)


def _print_only(
    label_of: dict[str, str], own: dict[str, Rows], parameters: TopicParameters, labels: Sequence[str], encode: Encode
) -> None:
    """How many prompts of a label reach the topic that stands for it in a table without labels."""
    prototypes = {topic: prototype(topic, encode) for topic in label_of}
    scorer = DomainScorer(list(label_of), labels, parameters, prototypes)
    print("\n| nothing else declared | " + " | ".join(f"reached, {name}" for name in own) + " |")
    print("| --- |" + " ---: |" * len(own))
    total = np.zeros(len(own))
    for topic, label in label_of.items():
        figures = [_share(scorer, rows, {topic}, of=label) for rows in own.values()]
        total += figures
        print(f"| {topic}: {label} | " + " | ".join(f"{figure:.1%}" for figure in figures) + " |")
    print("| **mean** | " + " | ".join(f"{figure:.1%}" for figure in total / len(label_of)) + " |")


def _share(scorer: DomainScorer, rows: Rows, topics: set[str], of: str | None = None) -> float:
    """Share of the rows (of those labelled ``of``) that a wanted topic wins."""
    wins = [
        scorer.score(embedding, posterior).winner in topics
        for label, embedding, posterior in zip(rows.labels, rows.embeddings, rows.posteriors, strict=True)
        if of is None or label == of
    ]
    return float(np.mean(wins))
