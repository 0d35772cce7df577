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
from triton_router.parts.choice import written
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


@pytest.mark.parametrize(
    "line",
    [
        *(
            f"{mark} {{}}"
            for mark in (">>>", "=>", "@bot", "!ask", "/ask@pier_bot", "[Ines]", "12:03", "[12:03] <ines>")
        ),
        *(
            f"{mark} {{}}"
            for mark in ("- @bot", "ines@pier:~$", "ines(desk)>", "Ines:", "[12:03] Ines: @bot", "**Ines:**")
        ),
        *(
            "Ines Roth — {}",
            "#pier | Ines: {}",
            "Ines → !ask {}",
            "03/02/2026, 08:11 - Ines: {}",
            "Berth: A1 / Text: {}",
        ),
        *("**{}**", "(({}))", "__{}__", "«{}»", "« {} »", "‹{}›", "`{}`", "⟦{}⟧", "<< {} >>", 'says "{}" to us'),
        *(
            "{} [sent=web kept=30d]",
            "{} (sent from the app)",
            "{} #pier #ships",
            "{} ###",
            "{} -- Ines",
            "{} | lang=en",
        ),
    ],
)
@pytest.mark.parametrize("prompt", [QUESTION, "'Ships' wait. Name the pier at `A1`"])
def test_marks_of_a_program_are_no_part_of_a_unit(line: str, prompt: str) -> None:
    text = f"The desk is shut.\n\n{line.format(prompt)}\n\nBe brief."
    units = cut(text)
    start = text.index(prompt)
    first = next(unit for unit in units if unit.end > start)
    last = next(unit for unit in reversed(units) if unit.start < start + len(prompt))
    assert written(text, first, last).words == prompt


def test_backslashes_in_quotation_marks() -> None:
    """They are JSON's in a field of JSON, and the person's own elsewhere."""
    formula = r"Where does \theta = \rho hold?"
    assert words(f'The desk is shut.\n\n{{"id": 7, "question": {json.dumps(formula)}}}\n\nBe brief.') == formula
    assert words(f"The desk is shut.\n\nThe visitor asks: «{formula}»\n\nBe brief.") == formula


def test_the_network_is_small() -> None:
    assert FILE.stat().st_size < 300_000


NOTES = "The ferry leaves every two hours from pier 4.\nAsk whether it runs in a storm.\n\nDogs travel free."
AGAIN = "Why did the Roman Republic fall?\nName three causes."


@pytest.mark.parametrize(
    "text",
    [
        f"{AGAIN}\n\n{NOTES}\n\n{AGAIN}",
        f"Question: {AGAIN}\n\nContext:\n{NOTES}\n\nQuestion: {AGAIN}\nAnswer:",
        f"Use the notes to answer: {AGAIN}\n\nNotes:\n{NOTES}\n\nOnce more, the question is: {AGAIN}",
    ],
)
def test_a_question_that_a_program_repeats_below_its_notes(text: str) -> None:
    assert words(text) == AGAIN


def test_a_sentence_that_a_person_repeats_stays_whole() -> None:
    text = "Solve the integral of x squared and prove the theorem. " * 60
    assert words(text) == text.strip()


def test_a_line_that_comes_again_in_a_log_is_no_question() -> None:
    failed = "Connection to the database was refused, is it up?"
    log = "\n".join(
        f"2026-03-0{day} 10:00:00 ERROR {failed if day in (4, 9) else 'Query was slow'}" for day in range(1, 10)
    )
    assert words(f"Why does my service stop every night?\n\n{log}") == "Why does my service stop every night?"
