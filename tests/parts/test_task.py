"""Background tasks of chat front ends, and people who ask for the same things."""

from __future__ import annotations

import pytest

from triton_router.dialects import Turn
from triton_router.parts import PartReader, Parts

LAST = "How do I prove that the root of two is irrational?"
CHAT = f"<chat_history>\nUSER: {LAST}\nASSISTANT: By contradiction.\n</chat_history>"


def read(text: str, system: str = "") -> Parts:
    return PartReader().read_turns([*([Turn("system", system)] if system else []), Turn("user", text)])


@pytest.mark.parametrize(
    ("task", "directions"),
    [
        ("title", "### Task:\nWrite a title of three words for the chat.\n### Output:\nJSON"),
        ("tags", "### Task:\nGive broad tags for the main themes of the chat.\n### Output:\nJSON"),
        ("follow_ups", "### Task:\nSuggest follow-up questions that the user might ask next.\n### Output:\nJSON"),
        ("summary", "Summarize the chat in one paragraph."),
        ("autocomplete", "### Task:\nYou are an autocompletion system. Continue the text.\n### Output:\nJSON"),
        ("other", "### Task:\nDecide whether a search of the web is needed.\n### Output:\nJSON"),
    ],
)
def test_tasks_about_a_transcript(task: str, directions: str) -> None:
    for text in (f"{directions}\n\n{CHAT}", f"{CHAT}\n\n{directions}"):
        parts = read(text)
        assert parts.task == task
        assert parts.words == LAST


def test_directions_in_the_system_text() -> None:
    text = "<session>\nUser: How do whales sleep?\nAssistant: Half awake.\n</session>"
    assert read(text, "Write a short title for a coding session.").task == "title"


def test_a_session_without_speakers_is_the_persons() -> None:
    text = (
        "<session>\nHow do whales sleep?\n</session>\n\nWrite it in the user's language, not in that of the examples."
    )
    parts = read(text, "Generate a short title for this session of an assistant. Return JSON.")
    assert (parts.task, parts.words) == ("title", "How do whales sleep?")


def test_a_question_behind_notes_of_a_conversation_stays() -> None:
    text = f"<conversation>\nWe spoke of boats.\n</conversation>\n\n{LAST}"
    assert read(text).words == LAST


def test_a_transcript_follows_its_own_turns() -> None:
    chat = "USER: How do whales sleep?\nASSISTANT: Half awake.\nUSER: why?"
    assert read(f"Write a title.\n<chat_history>\n{chat}\n</chat_history>").words == "How do whales sleep?\nwhy?"


@pytest.mark.parametrize("text", ["<|fim_prefix|>def f(<|fim_suffix|>)<|fim_middle|>", "<PRE> def f( <SUF>) <MID>"])
def test_code_to_be_filled_in(text: str) -> None:
    assert read(text).task == "autocomplete"


@pytest.mark.parametrize(
    "text",
    [
        "Suggest a title for my essay about whales.",
        "Summarise this: whales sleep half awake.",
        "What tags does HTML5 have?",
        "Write a follow-up mail to a customer.",
        "How does autocomplete work in an editor?",
        "Tell me about the history of chat programs.",
    ],
)
def test_people_have_no_task(text: str) -> None:
    parts = read(text)
    assert parts.task is None
    assert parts.words == text


def test_a_message_that_is_named_as_the_persons_is_no_task() -> None:
    text = f"Use the chat for words such as it.\n\n{CHAT}\n\nNewest input:\nWhich animals sleep half awake?"
    assert (read(text).task, read(text).words) == (None, "Which animals sleep half awake?")


def test_what_is_named_as_the_persons_follows_the_transcript() -> None:
    text = f"{CHAT}\n\nNewest message:\nwhy?"
    assert read(text).words == f"{LAST}\nwhy?"
