"""The command `fit-parts`: the weights by which `router/parts/scoring.py` tells a person's words from a program's."""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from export.encoder import read_rows
from export.wrapping import Wrapping
from triton_router.parts import SHAPES, scoring
from triton_router.parts.message import unmarked
from triton_router.parts.segments import FEATURES, Segment, features
from triton_router.parts.shapes import ShapeTable

# Of prompts of one line so many are taken of each file; those of several lines are fewer and all count.
ONE_LINE = 2500
# Longer prompts are cut.
LONGEST = 3000
# Each prompt stands in so many wrappers, and counts less by itself.
WRAPPED, PLAIN = 2, 1.0
_TABLE = re.compile(r"WEIGHTS = \(\n.*?\)  # fmt: skip", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="FILE", help="prompts; repeat")


def run(arguments: argparse.Namespace) -> None:
    """Train on prompts, plain and in wrappers, and write the weights into the module."""
    from sklearn.linear_model import LogisticRegression

    chance = random.Random(3)
    texts = [text for path in arguments.data for text in _sample([row.text for row in read_rows(path)], chance)]
    wrapping = Wrapping(texts)
    features: list[tuple[float, ...]] = []
    own: list[bool] = []
    weights: list[float] = []
    for prompt in (text.strip()[:LONGEST] for text in texts):
        for text, weight in ((prompt, PLAIN), *((wrapping.around(prompt), 1.0) for _ in range(WRAPPED))):
            rows = list(_rows(text, prompt))
            for row, persons in rows:
                features.append(row)
                own.append(persons)
                weights.append(weight / len(rows) ** 0.5)
    columns = np.array(features, np.float64)[:, 1:]
    model = LogisticRegression(max_iter=5000).fit(columns, own, sample_weight=weights)
    print(f"{len(own)} segments, {model.score(columns, own):.1%} told apart")
    values = [float(model.intercept_[0]), *map(float, model.coef_[0])]
    for name, value in zip(FEATURES, values, strict=True):
        print(f"{value:6.2f}  {name}")
    path = Path(scoring.__file__)
    path.write_text(_TABLE.sub(lambda _: _table(values), path.read_text("utf-8"), count=1), "utf-8")


def _sample(texts: Sequence[str], chance: random.Random) -> list[str]:
    lines = [text for text in texts if "\n" not in text.strip()]
    return [*chance.sample(lines, min(ONE_LINE, len(lines))), *(text for text in texts if "\n" in text.strip())]


def _rows(text: str, prompt: str) -> Iterator[tuple[tuple[float, ...], bool]]:
    """What is seen of each segment of ``text``, and whether it is the prompt's; nothing where marks name the words."""
    segments: Sequence[Segment] = unmarked(text, ShapeTable(SHAPES))
    if len(segments) < 2:
        return
    segments = scoring.ends_of(segments)
    for row, segment in zip(features(segments), segments, strict=True):
        yield row, segment.text in prompt


def _table(values: Sequence[float]) -> str:
    lines, line = [], "   "
    for value in values:
        number = f" {value:.2f},"
        if len(line + number) > 115:
            lines.append(line)
            line = "   "
        line += number
    return "\n".join(["WEIGHTS = (", *lines, line, ")  # fmt: skip"])
