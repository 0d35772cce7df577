"""Wrappers made by chance: a prompt with texts of programs around it, to train how `router/parts` tells them apart."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import yaml

from export.envelopes import Envelopes
from export.wrappers import WRAPPERS
from triton_router.parts.asking import asks
from triton_router.parts.shapes import SHAPES

PROMPTS = Path(__file__).parent / "prompts"
# Each stands for a prompt: as it is, as a string of JSON, with a sign in front of each line, and so on.
PLACE = re.compile(r"@@prompt(?::(\w+))?@@")
_FIELD = re.compile(r"\{([wWNndtsRTUQ])\}")
_PEOPLE = ("Anna", "Luis", "Tom Baker", "Mei Lin", "Omar", "Sofia Rossi", "j.smith", "kaito", "Priya", "Marta Nowak")
_SENTENCE = re.compile(r"(?<=[.])\s+")
_ENDS = re.compile(r"(?<=[.!?])\s+(?=\S)")
# So many composed wrappers are whole envelopes; so many prompts behind a mark stand behind a sentence; so many blocks
# are in brackets; so many prompts stand behind nothing but a program's directions.
ENVELOPES, ANNOUNCED, BRACKETED, DIRECTED = 0.45, 0.3, 0.08, 0.08
# A line that long is text, not a mark.
_LONG = 120


_LABELS = {
    reading: [shape.label for shape in SHAPES if shape.label and shape.reading == reading]
    for reading in ("words", "context", "template")
}
_TAGS = [shape.tag for shape in SHAPES if shape.tag and shape.reading == "context"]


class Wrapped(NamedTuple):
    """A message, and where the prompt stands in it."""

    text: str
    start: int
    end: int


def wrapped(template: str, prompt: str) -> Wrapped:
    """``prompt`` at the places that ``template`` has for it; the last counts."""
    text, at, start = "", 0, 0
    for match in PLACE.finditer(template):
        text += template[at : match.start()]
        start, at = len(text), match.end()
        text += _encoded(prompt, match[1])
    return Wrapped(text + template[at:], start, len(text))


def _encoded(prompt: str, encoding: str | None) -> str:
    match encoding:
        case None:
            return prompt
        case "json":
            return json.dumps(prompt, ensure_ascii=False)[1:-1]
        case "quote":
            return "> " + prompt.replace("\n", "\n> ")
        case "comment":
            return "# " + prompt.replace("\n", "\n# ")
        case "indent":
            return prompt.replace("\n", "\n    ")
        case "line":
            return " ".join(prompt.split())
        case "xml":
            return escape(prompt)
        case "csv":
            return '"' + prompt.replace('"', '""') + '"'
    raise ValueError(f"{encoding}: no such encoding")


class Wrapping:
    """Wrappers of `prompts/wrappers*.yaml`, as they are, varied, or composed of blocks of `prompts/wrapping.yaml`.

    Words and sentences in them come from ``texts``.
    """

    def __init__(self, texts: Sequence[str], seed: int = 3) -> None:
        self._chance = random.Random(seed)
        document = yaml.safe_load((PROMPTS / "wrapping.yaml").read_text("utf-8"))
        self._blocks, self._phrases = document["blocks"], document["phrases"]
        self._directing = [block for block in self._blocks if block["name"] in ("personas", "directions")]
        self.templates: list[str] = [
            shape["text"] if "escape" not in shape else shape["text"].replace("@@prompt@@", "@@prompt:json@@")
            for name in ("wrappers.yaml", "wrappers_train.yaml")
            for shape in yaml.safe_load((PROMPTS / name).read_text("utf-8"))
        ]
        # Those of known clients several times: they are met most.
        known = (wrapper.body["messages"] for wrapper in WRAPPERS if wrapper.listed and "messages" in wrapper.body)
        single = [messages[0]["content"] for messages in known if len(messages) == 1]
        self.templates += 5 * [text for text in single if isinstance(text, str)]
        self._code: list[str] = document["envelopes"]["code"]
        self._texts = texts
        self._words = [word for text in texts for word in re.findall(r"\b[a-z]{4,10}\b", text)]
        self._sentences = [
            sentence
            for text in texts
            for sentence in map(str.strip, _SENTENCE.split(text))
            if 40 < len(sentence) < 220 and sentence[0].isupper() and sentence.endswith(".") and not asks(sentence)
        ]
        self._questions = [text for text in texts if 12 < len(text) < 140 and "\n" not in text] or self._sentences
        self._envelopes = Envelopes(document["envelopes"], self._chance, self._filled, self._block)
        lines = (line for template in self.templates for line in template.split("\n"))
        self._long = [line for line in lines if len(line) > _LONG and not PLACE.search(line)]
        # What stands before and behind a prompt that ends its line.
        pieces = [PLACE.split(template) for template in self.templates]
        self._ends = [
            (before, behind)
            for before, encoding, behind in (each for each in pieces if len(each) == 3)
            if encoding in (None, "line") and not behind.partition("\n")[0].strip()
        ]

    def around(self, prompt: str) -> Wrapped:
        """``prompt`` with one to three blocks before it, or one behind it, or both."""
        if self._chance.random() < ENVELOPES:
            return wrapped(self._envelopes.template(), prompt)
        before, drawn = "", self._chance.random()
        if drawn < 0.06:
            lead, closing = self._frame()
            return Wrapped(f"{lead}{prompt}{closing}", len(lead), len(lead) + len(prompt))
        if drawn < 0.3:
            return self._listed(prompt)
        drawn = self._chance.random()
        if drawn < DIRECTED:
            lead = self._block("before", self._directing) + self._chance.choice([" ", " ", "\n", "\n\n"])
            return Wrapped(f"{lead}{prompt}", len(lead), len(lead) + len(prompt))
        if drawn < 0.75:
            for _ in range(self._chance.choice([1, 1, 1, 2, 2, 3])):
                block = self._block("before")
                before += block + self._gap(block)
        if drawn > 0.6:
            block = self._block("behind")
            behind = self._gap(block) + block
        else:
            behind = ""
        if before and self._chance.random() < 0.3:
            lead, closing = self._lead()
            before, behind = before + lead, closing + behind
        elif self._chance.random() < 0.25:
            lead, closing = self._frame()
            before, behind = before + lead, closing + behind
        return Wrapped(f"{before}{prompt}{behind}", len(before), len(before) + len(prompt))

    def _listed(self, prompt: str) -> Wrapped:
        """``prompt`` behind a label of a known client, or next to what stands behind one."""
        chance = self._chance
        sections = [self._section() for _ in range(chance.choice([1, 1, 1, 2, 3]))]
        if (drawn := chance.random()) < 0.2:
            sections = [self._block("before")]
        elif drawn < 0.4:
            sections.insert(0, self._block("before"))
        lead = f"{chance.choice(_LABELS['words'])}:{chance.choice([' ', ' ', chr(10)])}" if drawn < 0.6 else ""
        around, gap = "\n\n".join(sections), chance.choice(["\n\n", "\n\n", "\n"])
        if chance.random() < 0.35:
            return Wrapped(f"{lead}{prompt}\n\n{around}", len(lead), len(lead) + len(prompt))
        ending = f"\n{chance.choice(_LABELS['template'])}:" if lead and chance.random() < 0.3 else ""
        before = f"{around}{gap if lead else chr(10) * 2}{lead}"
        return Wrapped(f"{before}{prompt}{ending}", len(before), len(before) + len(prompt))

    def _section(self) -> str:
        label, chance = self._chance.choice(_LABELS["context"]), self._chance
        text = " ".join(chance.choice(self._sentences) for _ in range(chance.choice([1, 1, 2, 3, 5])))
        gap = chance.choice([" ", " ", "\n"])
        if chance.random() < 0.3:
            name = chance.choice([chance.choice(self._words), chance.choice(_TAGS)])
            end = "\n" if gap == "\n" else ""
            opening = self._filled("{W} {w}: ") if chance.random() < 0.3 else ""
            return f"<{name}>{end}{opening}{text}{end}</{name}>"
        return f"{label}:{gap}{text}"

    def broken(self, prompt: str) -> str:
        """``prompt`` with its sentences on lines or in paragraphs of their own."""
        sentences = _ENDS.split(prompt)
        if "\n" in prompt or not 1 < len(sentences) < 9:
            return prompt
        gap = self._chance.choice(["\n", "\n\n"])
        return "".join(sentence + (gap if self._chance.random() < 0.6 else " ") for sentence in sentences).strip()

    def marked(self, prompt: str) -> str:
        """``prompt`` with a mark of its own at one of its words: a tag, a name in code, brackets."""
        words = prompt.split(" ")
        place = self._chance.randrange(len(words))
        words[place] = self._filled(self._chance.choice(self._phrases["marks"]))
        return " ".join(words)

    def opened(self, prompt: str) -> str:
        """``prompt`` as a person begins it: with words of their own and a colon, or with a list."""
        if self._chance.random() < 0.6:
            return self._filled(self._chance.choice(self._phrases["openers"])) + prompt
        sign = self._chance.choice(self._phrases["bullets"])
        items = "\n".join(sign + self._filled("{w} {w}" if sign[-1] == " " else "{w}") for _ in range(4))
        return f"{items}\n{prompt}" if self._chance.random() < 0.5 else f"{prompt}\n{items}"

    def on_text(self) -> str:
        """A prompt that gives a text to work on."""
        if self._chance.random() < 0.4:
            text = " ".join(self._chance.choice(self._texts).split()[: self._chance.randint(2, 12)])
        else:
            text = " ".join(self._chance.choice(self._sentences) for _ in range(self._chance.randint(2, 7)))
        order = self._filled(self._chance.choice(self._phrases["orders"]))
        gap = self._chance.choice(["\n", "\n\n"])
        return f"{order}{gap}{text}" if self._chance.random() < 0.75 else f"{text}{gap}{order}"

    def on_code(self) -> str:
        """A prompt that gives code to work on."""
        chance = self._chance
        code, name = self._filled(chance.choice(self._code)), chance.choice(["", "", "python", "js", "sql", "text"])
        if name in ("python", "text") and chance.random() < 0.5:
            code = self._filled(chance.choice(["# {s}\n", "# {W} the {w}\n", "# {w}: {Q}\n"])) + code
        order = self._filled(chance.choice(self._phrases["on_code"]))
        parts = [order, f"```{name}\n{code}\n```" if chance.random() < 0.8 else code]
        if chance.random() < 0.2:
            parts.reverse()
        elif chance.random() < 0.2:
            parts.append(chance.choice(self._sentences))
        return chance.choice(["\n", "\n\n", "\n\n"]).join(parts)

    def varied(self, template: str) -> str:
        """``template`` with other marks, fewer paragraphs, other long lines, or other text before or behind."""
        chance = self._chance
        if chance.random() < 0.3:
            template = self._crossed()
        paragraphs = template.split("\n\n")
        if len(paragraphs) > 2 and chance.random() < 0.5:
            place = next(number for number, text in enumerate(paragraphs) if PLACE.search(text))
            near = chance.random() < 0.6
            template = "\n\n".join(
                text for number, text in enumerate(paragraphs) if abs(number - place) <= near or chance.random() > 0.3
            )
        if chance.random() < 0.5:
            template = "\n".join(map(self._replaced, template.split("\n")))
        return template

    def framed(self, template: str) -> str:
        """``template`` with marks of a program on the prompt's line."""
        match = list(PLACE.finditer(template))[-1]
        lead, closing = self._frame()
        if match[1] not in (None, "line"):
            return template
        return f"{template[: match.start()]}{lead}{match[0]}{closing}{template[match.end() :]}"

    def _frame(self) -> tuple[str, str]:
        """Marks in front of a prompt and behind it, on its line."""
        lead, _, closing = self._chance.choice(self._phrases["frames"]).partition("@@")
        return self._filled(lead), self._filled(closing)

    def _crossed(self) -> str:
        """What stands before the prompt in one wrapper, and behind it in another, with other marks between them."""
        chance = self._chance
        before = chance.choice(self._ends)[0] if chance.random() < 0.85 else ""
        behind = chance.choice(self._ends)[1] if not before or chance.random() < 0.85 else ""
        if not before:
            return f"@@prompt@@\n\n{behind.strip()}"
        drawn = chance.random()
        if drawn < 0.55:
            lines = before.rpartition("\n")[0]
            if drawn < 0.15:
                before = f"{lines}\n{chance.choice(self._ends)[0].rpartition(chr(10))[2]}"
            elif drawn < 0.42:
                lead, closing = self._lead()
                before, behind = f"{lines}\n{lead}", closing + behind
            else:
                before = f"{lines}\n{self._filled(chance.choice(self._phrases['announcements']))}{self._gap()}"
        if chance.random() < 0.3:
            ending = self._filled(chance.choice(self._phrases["endings"]))
            behind = f"{self._gap()}{ending}{behind if chance.random() < 0.4 else ''}"
        return f"{before}@@prompt@@{behind}"

    def _lead(self) -> tuple[str, str]:
        """A mark in front of a prompt, and what closes it."""
        if self._chance.random() < ANNOUNCED:
            announcement = self._filled(self._chance.choice(self._phrases["announcements"]))
            return announcement + self._gap(announcement), ""
        lead = self._filled(self._chance.choice(self._phrases["leads"]))
        if lead.startswith("<") and lead.endswith(">"):
            return lead, f"</{lead[1:]}"
        return lead, '"' if lead.endswith('"') else "}" if lead.endswith("={") else ""

    def _replaced(self, line: str) -> str:
        chance = self._chance
        if len(line) <= _LONG or PLACE.search(line) or '"' in line or "<" in line or chance.random() > 0.4:
            return line
        if chance.random() < 0.4:
            return chance.choice(self._long)
        return " ".join(chance.choice(self._sentences) for _ in range(chance.randint(2, 6)))

    def _gap(self, block: str = "\n") -> str:
        """What stands between a prompt and a block."""
        if "\n" not in block and block[-1] in ".!?:。" and self._chance.random() < 0.4:
            return " "
        return self._chance.choice(["\n\n", "\n\n", "\n\n", "\n"])

    def _block(self, place: str, blocks: Sequence[dict[str, Any]] = ()) -> str:
        """A block that stands at ``place``, `before` or `behind`."""
        blocks = blocks or self._blocks
        [block] = self._chance.choices(blocks, [each.get(place, 0) for each in blocks])
        count = self._chance.randint(block.get("least", 1), block.get("most", 1))
        lines = [self._chance.choice(block["lines"]) for _ in range(count)]
        join = self._chance.choice(block.get("joins", [block.get("join", "\n")]))
        head = [self._chance.choice(block["heads"])] if "heads" in block else []
        text = join.join(map(self._filled, lines))
        if not head and "\n\n" not in text and self._chance.random() < BRACKETED:
            return self._chance.choice(["({})", "({})", "[{}]", "[[{}]]", "{{{}}}"]).format(text)
        return (
            ("\n" if join == "\n\n" else join if join == " " else "\n")
            .join([*map(self._filled, head), text])
            .strip("\n")
        )

    def _filled(self, template: str) -> str:
        return _FIELD.sub(self._value, template)

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
            "R": lambda: chance.choice(self._phrases["roles"]),
            "T": lambda: chance.choice(self._phrases["things"]),
            "U": lambda: chance.choice([*self._phrases["roles"], *self._phrases["things"]]).upper(),
            "Q": lambda: chance.choice(self._questions),
        }
        value: str = values[place[1]]()
        return value
