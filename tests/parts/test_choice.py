"""Messages whose marks no list knows: the words are the person's, as they wrote them."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from triton_router.dialects import Turn
from triton_router.parts import PartReader
from triton_router.parts.network import FILE, best_run
from triton_router.parts.units import cut

QUESTION = "Why did the Roman Republic fall?"
ORDER = "Find the kinetic energy of a car of 900 kg that moves at 20 m/s."
PARAGRAPHS = "My landlord keeps the deposit.\n\nHe says the walls are dirty. What can I do against it?"
WRAPPERS: list[dict[str, Any]] = yaml.safe_load(Path("export/prompts/wrappers.yaml").read_text("utf-8"))
NOISE = "The cranes stand still on Sundays. Ships wait outside of the bay until the pilots come back on Monday. "


def words(text: str) -> str:
    return PartReader().read_turns([Turn("user", text)]).words


@pytest.mark.parametrize("prompt", [QUESTION, ORDER])
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: str(wrapper["name"]))
def test_the_persons_words_in_a_wrapper(wrapper: dict[str, Any], prompt: str) -> None:
    assert words(wrapper["text"].replace("@@prompt@@", prompt)) == prompt


@pytest.mark.parametrize(
    "text",
    [
        f"Summarize the following text.\n\n{NOISE * 3}",
        "Write a poem about the sea.\n\nMake it rhyme.",
        "Consider the function\n$$\nf(x) = x^2 + 1\n$$\nWhere does it have its minimum?",
        "We run three shops in Lisbon.\n\nOur landlord raised the rent by 20 %.\n\nWhat can we do against it?",
        "Write a function that parses dates.\n\nIt should accept ISO dates only.",
    ],
)
def test_text_that_the_question_is_about_is_read_with_it(text: str) -> None:
    assert words(text).strip() == text.strip()


@pytest.mark.parametrize("text", [f"{QUESTION}\n\n{NOISE * 6}", f"{NOISE * 6}\n\n{QUESTION}"])
def test_text_of_another_subject_is_not(text: str) -> None:
    assert words(text) == QUESTION


SPOKEN = 'Is "to be" a verb,\nand is R&D < Q a formula?'


@pytest.mark.parametrize(
    "text",
    [
        f'Event from the widget:\n{{"id": 7, "page": "/berths", "visitor_message": {json.dumps(SPOKEN)}, "seen": 3}}',
        f"<event page='/berths'>\n<visitor_message>{escape(SPOKEN, quote=False)}</visitor_message>\n</event>",
        "Visitor's mail:\n\n> " + SPOKEN.replace("\n", "\n> ") + "\n\nWrite the reply of the desk.",
    ],
    ids=["JSON", "XML", "quotation"],
)
def test_words_are_read_as_they_were_written(text: str) -> None:
    assert words(text) == SPOKEN


def test_the_run_with_the_greatest_sum() -> None:
    inside = np.array([-1, 2, -1, 3, -4, 2], np.float32)
    scores = np.stack([inside, np.zeros(6, np.float32), np.zeros(6, np.float32)], axis=1)
    assert best_run(scores) == (1, 3)
    scores[5, 1] = 9  # the last is a clear beginning
    assert best_run(scores) == (5, 5)


def test_units() -> None:
    text = (
        'Desk [north]\n\n## Note\nName: Ines. Berth: "A1, second row"\n---\n<ask>Why? How?</ask>\n| Note | late ships |'
    )
    assert [(unit.form, text[unit.start : unit.end]) for unit in cut(text)] == [
        ("text", "Desk [north]"),
        ("label", "Note"),
        ("label", "Name:"),
        ("text", "Ines."),
        ("label", "Berth:"),
        ("text", "A1, second row"),
        ("rule", "---"),
        ("tag", "<ask>"),
        ("text", "Why?"),
        ("text", "How?"),
        ("tag", "</ask>"),
        ("label", "Note"),
        ("text", "late ships"),
    ]


def test_the_network_is_small() -> None:
    assert FILE.stat().st_size < 300_000
