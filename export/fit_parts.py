"""The command `fit-parts`: the network by which `router/parts` tells a person's words from a program's text."""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from export.encoder import read_rows
from export.exporter import needs_torch
from export.unit_keys import Example, is_shape
from export.wrapping import Wrapped, Wrapping, wrapped
from triton_router.parts import SHAPES, network
from triton_router.parts.asking import asks
from triton_router.parts.features import observe
from triton_router.parts.shapes import ShapeTable
from triton_router.parts.units import cut

# Longer prompts are cut.
LONGEST = 3_000
# So many prompts give a text to work on, have their sentences on lines of their own, or tags: few do in the files.
ON_TEXT, BROKEN, MARKED = 0.05, 0.28, 0.02
# So many prompts in wrappers neither ask nor begin with an instruction: the questions of others stand out beside them.
UNASKING = 0.2
# So many prompts alone begin with words or a list of the person's own, or give code to work on.
OPENED, ON_CODE = 0.12, 0.05
# Prompts for each wrapper, every other time with the wrapper varied; prompts in composed wrappers, and alone.
EACH, COMPOSED, ALONE = 16, 9_500, 10_000
# Of prompts of one line without marks so many stay: there is nothing to tell apart in them.
ONE_LINE, MARKS = 0.2, frozenset('\n<[{|"`=:')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="FILE", help="prompts; repeat")
    parser.add_argument(
        "--without", action="append", default=[], metavar="SOURCE", help="no rows whose source starts so"
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--networks", type=int, default=3, help="trained one after the other; their mean counts")
    parser.add_argument("--out", type=Path, default=network.FILE)


def run(arguments: argparse.Namespace) -> None:
    """Train on prompts, alone and in wrappers, and write the network that the router reads."""
    needs_torch("the network is trained", ("torch",))
    from export import fitting

    without = tuple(arguments.without)
    files = [
        [row.text.strip()[:LONGEST] for row in read_rows(path) if not (without and row.source.startswith(without))]
        for path in arguments.data
    ]
    rows = list(examples(files))
    print(f"{len(rows)} messages, {sum(len(row.seen) for row in rows)} units")
    vocabulary = keys(rows)
    fitting.train(rows, vocabulary, arguments.epochs, arguments.out, arguments.networks)
    print(f"{arguments.out}: {len(vocabulary)} keys, {arguments.out.stat().st_size} bytes")


def examples(files: Sequence[Sequence[str]], seed: int = 5) -> Iterator[Example]:
    """Prompts of each file as often as of any other, in all wrappers and alone."""
    chance = random.Random(seed)
    wrapping = Wrapping([text for texts in files for text in texts], seed)
    shapes = ShapeTable(SHAPES)
    unasking = [text for text in dict.fromkeys(text for texts in files for text in texts) if not asks(text)]

    def example(message: Wrapped, source: str) -> Iterator[Example]:
        units = cut(message.text)
        own = [number for number, unit in enumerate(units) if unit.start < message.end and unit.end > message.start]
        if own:
            yield Example(observe(message.text, units, shapes), own[0], own[-1], source)

    def prompt(share: float = 0) -> str:
        if chance.random() < share:
            return chance.choice(unasking)
        drawn = chance.random()
        if drawn < ON_TEXT:
            return wrapping.on_text()
        text = chance.choice(chance.choice(files))
        if drawn < ON_TEXT + BROKEN:
            return wrapping.broken(text)
        return wrapping.marked(text) if drawn < ON_TEXT + BROKEN + MARKED else text

    for number, template in enumerate(wrapping.templates):
        for turn in range(EACH):
            varied = wrapping.varied(template) if turn % 2 else template
            varied = wrapping.framed(varied) if turn % 4 == 3 else varied
            yield from example(wrapped(varied, prompt(UNASKING)), str(number))
    for number in range(COMPOSED):
        text = prompt(UNASKING)
        if chance.random() < OPENED / 2:
            text = wrapping.opened(text)
        yield from example(wrapping.around(text), f"composed {number % 40}")
    for _ in range(ALONE):
        text = wrapping.on_code() if chance.random() < ON_CODE else prompt()
        if chance.random() < OPENED:
            text = wrapping.opened(text)
        if not MARKS.isdisjoint(text) or chance.random() < ONE_LINE:
            yield from example(Wrapped(text, 0, len(text)), "")


def keys(rows: Sequence[Example]) -> list[str]:
    """What is seen often enough: around prompts in several wrappers, or in many prompts."""
    around: Counter[str] = Counter()
    within: Counter[str] = Counter()
    met: set[tuple[str, str]] = set()
    for row in rows:
        own: set[str] = set()
        for number, seen in enumerate(row.seen):
            if row.first <= number <= row.last:
                own.update(seen)
                continue
            for key in seen:
                if (row.source, key) not in met:
                    met.add((row.source, key))
                    around[key] += 1
        within.update(own)
    return sorted(key for key in around | within if _is_frequent(key, around[key], within[key]))


def _is_frequent(key: str, around: int, within: int) -> bool:
    if is_shape(key):
        return key.startswith("k=") or around >= 20 or within >= 120
    return around >= 60 or within >= 700
