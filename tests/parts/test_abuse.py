"""Texts that nobody would write: never a failure, and no text takes out of proportion to its length."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triton_router.dialects import Turn
from triton_router.parts import PartReader, windows
from triton_router.parts.message import LONGEST

PIECES = [
    "<a1>", "</a1>", "<task>", "</task>", "<system-reminder>", "</system-reminder>", "<user_query>", "</user_query>",
    "<", ">", "</", "```", "~~~", "\n", "\n\n", "> ", "Question:", "Context:", "### Task:", "[1]", "why?", "and", "x",
    '"', "\u201c", "{", "}", '{"a": 1}', "On Monday Ines wrote:", "-----Original Message-----", "From: x", "\r\n",
    "INFO started", "USER: ", "ASSISTANT: ", "<chat_history>", "</chat_history>", "2026-03-02 ", "\t", "\u00a0",
    "\ud800", "它", "问题：", "<div>", "<|fim_prefix|>", "summary of the conversation", " ", "| a | b |", "word " * 90,
]  # fmt: skip
messages = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text()
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", ""])


@settings(max_examples=300)
@given(st.lists(st.tuples(roles, messages), max_size=5), st.sampled_from(["follow", "last_turn"]))
@example([("user", "<task></task>")], "follow")
@example([("user", "> <a1>Context:")], "follow")
def test_any_conversation_is_read(said: list[tuple[str, str]], conversation: str) -> None:
    turns = [Turn(*each) for each in said]
    parts = PartReader(conversation=conversation).read_turns(turns)  # type: ignore[arg-type]
    list(parts.all())
    assert parts.words.strip() or not any(text.strip() for role, text in said if role == "user")


@given(st.text(min_size=1), st.integers(20, 400), st.integers(2, 8))
def test_any_text_has_windows(text: str, characters: int, most: int) -> None:
    cut = windows(text, characters, most)
    assert 1 <= len(cut) <= most
    assert any(window.asks for window in cut)
    assert all(len(window.text) <= characters for window in cut)


ABUSE = {
    "tags that open": "<a1>\n",
    "tags that close": "</a1>\n",
    "tags that do both": "<a1>x</a1>\n",
    "tags of the person": "<user_query>x</user_query>\n",
    "tags on one line": "<a1>",
    "halves of tags": "<a1 ",
    "fences": "```\n",
    "labels": "Context:\n",
    "paragraphs": "Context: x\n\n",
    "quotation marks": '"',
    "objects": '{"a":',
    "mail": "On Monday Ines wrote:\n",
    "speakers": "USER: x\nASSISTANT: y\n",
    "spaces": " ",
    "hyphens": "a-",
}


def calls(text: str) -> int:
    """Python's own calls and lines while ``text`` is read: a count of work that no busy machine changes."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    reader = PartReader()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        reader.read_turns([Turn("user", text), Turn("assistant", "x"), Turn("user", text)])
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("piece", ABUSE.values(), ids=ABUSE)
def test_work_is_linear(piece: str) -> None:
    short, long = (calls(piece * (size // len(piece))) for size in (LONGEST // 8, LONGEST // 2))
    assert long <= 4 * short + 1000


@pytest.mark.parametrize("piece", ABUSE.values(), ids=ABUSE)
def test_a_megabyte_costs_what_its_ends_cost(piece: str) -> None:
    PartReader().read_turns([Turn("user", piece * (1_000_000 // len(piece)))])


def test_a_hundred_thousand_tags() -> None:
    text = "<a1>" * 100_000 + "Why did it fall?" + "</a1>" * 100_000
    assert PartReader().read_turns([Turn("user", text)]).words


def test_deep_nesting() -> None:
    names = [f"n{number}" for number in range(3000)]
    text = "".join(f"<{name}>\n" for name in names) + "why?" + "".join(f"</{name}>\n" for name in reversed(names))
    assert PartReader().read_turns([Turn("user", text)]).words
