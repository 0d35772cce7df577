"""Windows of long texts without structure."""

from __future__ import annotations

from triton_router.parts import windows

PROSE = "The ships came late. The cranes stood still. Nobody in the harbour was in a hurry that day. " * 40


def test_a_question_at_the_end_is_marked() -> None:
    cut = windows(f"{PROSE}How many calories does an adult need?", 500)
    assert [window.asks for window in cut] == [False] * (len(cut) - 1) + [True]
    assert "calories" in cut[-1].text


def test_an_instruction_at_the_start_is_marked() -> None:
    cut = windows(f"Translate the following into German. {PROSE}", 500)
    assert [window.asks for window in cut] == [True] + [False] * (len(cut) - 1)


def test_where_nothing_asks_the_last_counts() -> None:
    assert [window.asks for window in windows(PROSE, 500)][-1]


def test_a_short_text_is_one_window() -> None:
    assert windows("Why?", 500) == [("Why?", True)]


def test_order_and_ends_are_kept() -> None:
    cut = windows(f"First words. {PROSE * 5}Last words.", 500, 4)
    assert len(cut) == 4
    assert cut[0].text.startswith("First words.")
    assert cut[-1].text.endswith("Last words.")
