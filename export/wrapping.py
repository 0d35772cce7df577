"""Wrappers made by chance: a prompt with texts of programs around it, to train how `router/parts` tells them apart."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from triton_router.parts.asking import asks

BLOCKS = Path(__file__).parent / "prompts" / "wrapping.yaml"
_PLACE = re.compile(r"\{([wWNndts])\}")
_PEOPLE = ("Anna", "Luis", "Tom Baker", "Mei Lin", "Omar", "Sofia Rossi", "j.smith", "kaito", "Priya", "Marta Nowak")
_SENTENCE = re.compile(r"(?<=[.])\s+")


class Wrapping:
    """Puts blocks of `prompts/wrapping.yaml` around prompts; their words and sentences come from ``texts``."""

    def __init__(self, texts: Sequence[str], seed: int = 3) -> None:
        self._chance = random.Random(seed)
        document = yaml.safe_load(BLOCKS.read_text())
        self._blocks, self._labels = document["blocks"], document["before_labels"]
        self._words = [word for text in texts for word in re.findall(r"\b[a-z]{4,10}\b", text)]
        self._sentences = [
            sentence
            for text in texts
            for sentence in map(str.strip, _SENTENCE.split(text))
            if 40 < len(sentence) < 220 and sentence[0].isupper() and sentence.endswith(".") and not asks(sentence)
        ]

    def around(self, prompt: str) -> str:
        """``prompt`` with one to three blocks before it, or one behind it, or both."""
        before, drawn = "", self._chance.random()
        if drawn < 0.75:
            for _ in range(self._chance.choice([1, 1, 1, 2, 2, 3])):
                before += self._block("before") + self._gap()
        behind = self._gap() + self._block("behind") if drawn > 0.6 else ""
        if before and self._chance.random() < 0.2:
            before += self._filled(self._chance.choice(self._labels))
        return f"{before}{prompt}{behind}"

    def _gap(self) -> str:
        return self._chance.choice(["\n\n", "\n\n", "\n\n", "\n"])

    def _block(self, place: str) -> str:
        """A block that stands at ``place``, `before` or `behind`."""
        [block] = self._chance.choices(self._blocks, [each.get(place, 0) for each in self._blocks])
        count = self._chance.randint(block.get("least", 1), block.get("most", 1))
        lines = [self._chance.choice(block["lines"]) for _ in range(count)]
        join = self._chance.choice(block.get("joins", [block.get("join", "\n")]))
        head = [self._chance.choice(block["heads"])] if "heads" in block else []
        text = join.join(map(self._filled, lines))
        return (
            ("\n" if join == "\n\n" else join if join == " " else "\n")
            .join([*map(self._filled, head), text])
            .strip("\n")
        )

    def _filled(self, template: str) -> str:
        return _PLACE.sub(self._value, template)

    def _value(self, place: re.Match[str]) -> str:
        chance = self._chance
        values: dict[str, Any] = {
            "w": lambda: chance.choice(self._words),
            "W": lambda: chance.choice(self._words).capitalize(),
            "N": lambda: chance.choice(_PEOPLE),
            "n": lambda: str(chance.randint(1, 10 ** chance.randint(1, 4))),
            "d": lambda: chance.choice(["2025-{:02d}-{:02d}", "{1} May 2025", "Tue, Jun {1}, 2025"]).format(
                chance.randint(1, 12), chance.randint(1, 28)
            ),
            "t": lambda: f"{chance.randint(0, 23)}:{chance.randint(0, 59):02d}",
            "s": lambda: chance.choice(self._sentences),
        }
        value: str = values[place[1]]()
        return value
