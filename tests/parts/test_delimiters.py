"""Texts whose directions name marks, and what stands between these: the person's words, or a program's text."""

from __future__ import annotations

import pytest

from triton_router.dialects import Turn
from triton_router.parts import PartReader, Parts

QUESTION = "Why did the Roman Republic fall?"
NOTICE = "The north quay is closed until Friday. Ships berth at the south quay."


def read(text: str) -> Parts:
    return PartReader().read_turns([Turn("user", text)])


def of_kind(parts: Parts, kind: str) -> list[str]:
    return [part.text.strip() for part in parts.judged if part.kind == kind]


@pytest.mark.parametrize(
    ("directions", "opening", "closing"),
    [
        ("The text between <<< and >>> is the question of a visitor.", "<<<", ">>>"),
        ("Reply to the message of the customer that is delimited by ####.", "####", "####"),
        ("The user input is enclosed in [[[ and ]]].", "[[[", "]]]"),
        ("What the visitor typed stands inside of <typed_text> tags.", "<typed_text>", "</typed_text>"),
        ("The prompt of the caller is wrapped in -=BEGIN=- and -=END=-.", "-=BEGIN=-", "-=END=-"),
        ("Die Frage des Nutzers steht zwischen %%% und %%%.", "%%%", "%%%"),
        ("La pregunta del usuario está entre @@@ y @@@.", "@@@", "@@@"),
        ("用户的问题在 $$$ 之间。", "$$$", "$$$"),
    ],
)
def test_a_persons_words_between_marks(directions: str, opening: str, closing: str) -> None:
    rules = "Be brief. Never speak of prices."
    block = f"{opening}\n{QUESTION}\n{closing}"
    for text in (f"{directions} {rules}\n{block}", f"{block}\n\n{rules} {directions}"):
        parts = read(text)
        assert parts.words == QUESTION
        assert "".join(of_kind(parts, "template")).count(rules) == 1


@pytest.mark.parametrize(
    "directions",
    [
        "The document is delimited by ####.",
        "Between #### and #### is the article that the site shows.",
        "Das Dokument steht zwischen #### und ####.",
        "上下文在 #### 之间。",
    ],
)
def test_a_programs_text_between_marks(directions: str) -> None:
    for text in (
        f"{directions}\n####\n{NOTICE}\n####\n{QUESTION}",
        f"{QUESTION}\n\n####\n{NOTICE}\n####\n\n{directions}",
    ):
        parts = read(text)
        assert QUESTION in parts.words
        assert NOTICE not in parts.words
        assert any(NOTICE in text for text in of_kind(parts, "context"))


def test_who_is_not_named_asks_where_nothing_else_does() -> None:
    directions = "Process all that is enclosed in ####."
    assert read(f"{directions}\n####\n{QUESTION}\n####").words == QUESTION
    assert NOTICE not in read(f"{directions}\n####\n{NOTICE}\n####\n{QUESTION}").words


@pytest.mark.parametrize(
    "text",
    [
        f"The question of the visitor is between <<< and >>>.\n<<<\n{QUESTION}",
        f"The question of the visitor is between <<< and >>>.\n<<<\n\n>>>\n{QUESTION}",
        f"I choose between\nRome\nand\nAthens\nfor my essay.\n{QUESTION}",
    ],
    ids=["never closed", "empty", "no marks"],
)
def test_the_question_is_read_where_nothing_stands_between_marks(text: str) -> None:
    assert QUESTION in read(text).words
