"""Messages without marks: whose words each piece of text is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from triton_router.dialects import Turn
from triton_router.parts import PartReader
from triton_router.parts.scoring import best_run
from triton_router.parts.segments import cut

QUESTION = "Why did the Roman Republic fall?"
ORDER = "Find the kinetic energy of a car of 900 kg that moves at 20 m/s."
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
        f"Where do ships wait outside of the harbour on Sundays?\n\n{NOISE * 3}",
        f"{NOISE * 3}\n\nWhat does the author of the passage complain about?",
        "Write a poem about the sea.\n\nMake it rhyme.",
        "Consider the function\n$$\nf(x) = x^2 + 1\n$$\nWhere does it have its minimum?",
        "First line.\n\nSecond line.",
        "The server answers with 502 since this morning.\nNothing was deployed.\n\nHow do I find out why?",
        "We run three shops in Lisbon.\n\nOur landlord raised the rent by 20 %.\n\nWhat can we do against it?",
        "Write a function that parses dates.\n\nIt should accept ISO dates only.",
    ],
)
def test_text_that_the_question_is_about_is_read_with_it(text: str) -> None:
    assert words(text).strip() == text.strip()


@pytest.mark.parametrize("text", [f"{QUESTION}\n\n{NOISE * 6}", f"{NOISE * 6}\n\n{QUESTION}"])
def test_text_of_another_subject_is_not(text: str) -> None:
    assert words(text) == QUESTION


def test_the_run_with_the_greatest_sum() -> None:
    assert best_run([-1, 2, -1, 3, -4, 2]) == (1, 3)
    assert best_run([-3, -1, -2]) == (1, 1)
    assert best_run([1]) == (0, 0)


def test_segments() -> None:
    text = "mode: fast\nenv=dev\n\n# Title\nSome prose\nthat goes on.\n\n---\n  x = 1\n  y = 2"
    assert [(each.form, each.text) for each in cut(text)] == [
        ("pair", "mode: fast\nenv=dev"),
        ("heading", "# Title"),
        ("prose", "Some prose\nthat goes on."),
        ("code", "x = 1\n  y = 2"),
    ]
