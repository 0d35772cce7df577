"""Which words are judged, over turns. The conversations were written for this test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triton_router.dialects import Turn
from triton_router.parts import PartReader, Parts

CONVERSATIONS = [
    json.loads(line) for line in (Path(__file__).parent / "conversations.jsonl").read_text("utf-8").splitlines()
]


def read(*texts: str, conversation: Any = "follow") -> Parts:
    turns = [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    return PartReader(conversation=conversation).read_turns(turns)


def of(kind: str) -> list[list[str]]:
    return [each["turns"] for each in CONVERSATIONS if each["kind"] == kind]


def test_there_are_enough_conversations_of_all_domains() -> None:
    for kind in ("follow", "change"):
        rows = [each for each in CONVERSATIONS if each["kind"] == kind]
        assert len(rows) >= 100
        assert len({each["domain"] for each in rows}) == 14


@pytest.mark.parametrize("turns", of("follow"), ids=lambda turns: f"{turns[0][:24]} / {turns[-1]}")
def test_a_turn_that_says_nothing_by_itself_goes_on(turns: list[str]) -> None:
    parts = read(*turns)
    assert parts.words.startswith(turns[0])
    assert parts.words.endswith(turns[-1])
    assert parts.topic.startswith(turns[0])


@pytest.mark.parametrize("turns", of("change"), ids=lambda turns: turns[-1])
def test_a_turn_with_a_subject_of_its_own_stands_alone(turns: list[str]) -> None:
    parts = read(*turns)
    assert (parts.words, parts.topic) == (turns[-1], turns[-1])


@pytest.mark.parametrize("kind", ["follow", "change"])
def test_most_conversations_of_the_other_set(kind: str) -> None:
    lines = Path("export/prompts/conversations.jsonl").read_text("utf-8").splitlines()
    turns = [each["turns"] for each in map(json.loads, lines) if each["kind"] == kind]
    whole = sum(read(*each).words.startswith(each[0] if kind == "follow" else each[-1]) for each in turns)
    assert len(turns) == 130
    assert whole >= 0.86 * len(turns)


def test_each_turn_alone_by_choice() -> None:
    assert read("What is the derivative of x^3?", "3x^2", "yes", conversation="last_turn").words == "yes"


def test_a_confirmation_keeps_the_topic_to_the_letter() -> None:
    parts = read("What is the derivative of x^3?", "3x^2. The proof too?", "yes")
    assert parts.topic == "What is the derivative of x^3?"
    assert parts.words == "What is the derivative of x^3?\nyes"


def test_what_adds_little_is_left_out_of_the_topic() -> None:
    turns = (
        "What is heapsort?",
        "A sort.",
        "why?",
        "Because.",
        "in Python please",
        "Done.",
        "with a heap of strings too",
    )
    assert read(*turns).topic == "What is heapsort?"


def test_a_chain_is_followed_to_its_beginning() -> None:
    parts = read("What is heapsort?", "A sort.", "why?", "Because.", "now make it stable", "Done.", "shorter please")
    assert parts.words == "What is heapsort?\nwhy?\nnow make it stable\nshorter please"


def test_a_chain_ends_where_the_subject_does() -> None:
    parts = read("What is heapsort?", "A sort.", "Who was Napoleon?", "An emperor.", "and his wife?")
    assert parts.words == "Who was Napoleon?\nand his wife?"


def test_wrapped_turns_are_followed_by_their_words() -> None:
    note = "<hint>\nThe repository is a shop.\n</hint>\n"
    parts = read(f"{note}What is heapsort?", "A sort.", f"{note}and why?")
    assert parts.words == "What is heapsort?\nand why?"


def test_without_a_person_the_last_turn_counts() -> None:
    assert PartReader().read_turns([Turn("system", "be kind"), Turn("assistant", "So.")]).words == "So."
    assert PartReader().read_turns([]).words == ""


def test_only_context_is_better_than_nothing() -> None:
    text = "<system-reminder>\nThe list is empty.\n</system-reminder>"
    assert read(text).words == text
