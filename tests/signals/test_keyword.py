"""Keyword signals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import KeywordSignal
from router.signals.keyword import KeywordMatcher

WORDS = ["step by step", "Straße", "解释", "C++", "a.c", "İ"]


def match(text: str, **settings: Any) -> bool | None:
    signal = KeywordSignal(name="s", **settings)
    return KeywordMatcher([signal]).evaluate(text)["keyword", "s"].matched


@pytest.mark.parametrize(
    ("operator", "text", "expected"),
    [
        ("OR", "red", True), ("OR", "green", False), ("AND", "red and blue", True), ("AND", "red", False),
        ("NOR", "green", True), ("NOR", "blue", False),
    ],
)  # fmt: skip
def test_operators(operator: str, text: str, expected: bool) -> None:
    assert match(text, operator=operator, keywords=("red", "blue")) is expected


def test_letter_case_counts_only_on_request() -> None:
    assert match("Think STEP BY STEP", keywords=("step by step",))
    assert not match("Think STEP BY STEP", keywords=("step by step",), case_sensitive=True)
    assert match("STRASSE", keywords=("straße",))


def test_keywords_are_text_not_patterns() -> None:
    assert not match("abc", keywords=("a.c",))
    assert match("learn c++ fast", keywords=("C++",))


@given(st.text(), st.lists(st.sampled_from(WORDS) | st.text(min_size=1, max_size=4), min_size=1), st.booleans())
def test_it_finds_what_a_naive_search_finds(text: str, words: list[str], case_sensitive: bool) -> None:
    fold = (lambda word: word) if case_sensitive else str.casefold
    expected = any(fold(word) in fold(text) for word in words)
    assert match(text, keywords=tuple(words), case_sensitive=case_sensitive) is expected
