"""Structure signals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import evaluate, made

from triton_router.config.signals import StructureSignal
from triton_router.signals import Evaluation
from triton_router.signals.structure import Structures


def measured(text: str, feature: str, predicate: dict[str, float] | None = None, **source: Any) -> Evaluation:
    signal = StructureSignal.model_validate(
        {"name": "s", "feature": {"type": feature, "source": source}, "predicate": predicate}
    )
    return evaluate(made(Structures, [signal]), text)["structure", "s"]


def number(text: str, feature: str, **source: Any) -> float | None:
    return measured(text, feature, **source).measure


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\?", "what? why?", 2), (r"\?", "because", 0), ("(?m)^- ", "- one\n- two\nno - item", 2),
        # A dot ends with the line, as everywhere in RE2, unless the expression says otherwise.
        ("(?m)^- .*", "- one\n- two", 2), ("(?s)```.*```", "```\ncode\n```", 1), ("```.*```", "```\ncode\n```", 0),
        ("解.", "解释和解放", 2), ("aa", "aaaa", 2),
    ],
)  # fmt: skip
def test_expressions_are_counted(pattern: str, text: str, expected: int) -> None:
    assert number(text, "count", type="regex", pattern=pattern) == expected


def test_letter_case_counts_only_on_request() -> None:
    assert number("TODO todo", "count", type="regex", pattern="todo") == 2
    assert number("TODO todo", "count", type="regex", pattern="todo", case_sensitive=True) == 1
    assert number("TODO todo", "count", type="keyword_set", keywords=["Todo"]) == 2
    assert number("TODO todo", "count", type="keyword_set", keywords=["TODO"], case_sensitive=True) == 1
    assert number("First, THEN", "count", type="sequence", sequences=[["first", "then"]]) == 1
    assert number("First, THEN", "count", type="sequence", sequences=[["first", "then"]], case_sensitive=True) == 0


@pytest.mark.parametrize(
    ("keywords", "text", "expected"),
    [
        (["must"], "you must, must not, mustn't, mustard", 2), (["must", "must not"], "must not", 1),
        (["été"], "l'été, les étés", 1), (["caf"], "café", 0), (["解释"], "请解释，再解释", 2),
        (["c++"], "c++ c++ abc++", 2), (["a", "b"], "a b a", 3), (["a", "A"], "a", 1),
    ],
)  # fmt: skip
def test_occurrences_of_whole_words(keywords: list[str], text: str, expected: int) -> None:
    assert number(text, "count", type="keyword_set", keywords=keywords) == expected


@pytest.mark.parametrize(
    ("sequences", "text", "expected"),
    [
        ([["first", "then", "finally"]], "first this,\nthen that, finally rest", 1),
        ([["first", "then", "finally"]], "then first, finally", 0), ([["then"], ["first", "then"]], "first then", 2),
        ([["go", "go"]], "go", 0), ([["go", "go"]], "go on, go", 1), ([["first", "then"]], "firstly then", 0),
        ([["因为", "所以"]], "因为下雨，所以不去", 1), ([["new york", "york"]], "new york", 0),
    ],
)  # fmt: skip
def test_words_in_order(sequences: list[list[str]], text: str, expected: int) -> None:
    assert number(text, "count", type="sequence", sequences=sequences) == expected
    assert number(text, "sequence", type="sequence", sequences=sequences) == float(expected > 0)


def test_bytes() -> None:
    assert number("aé解", "count", type="text_bytes") == 6
    assert number("", "exists", type="text_bytes") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("what? why?", 1.0), ("is that so?", 1 / 3), ("为什么?", 1 / 3), ("GPU是什么?", 1 / 4), ("?", 1.0)],
)  # fmt: skip
def test_density_is_by_word(text: str, expected: float) -> None:
    assert number(text, "density", type="regex", pattern=r"\?") == pytest.approx(expected)


def test_existence_is_one_or_none() -> None:
    assert number("a a a", "exists", type="keyword_set", keywords=["a"]) == 1
    assert number("b", "exists", type="keyword_set", keywords=["a"]) == 0


@pytest.mark.parametrize(
    ("predicate", "matched"), [(None, True), ({"gte": 3}, True), ({"gt": 3}, False), ({"gt": 1, "lt": 3}, False)]
)
def test_predicates_judge_the_number(predicate: dict[str, float] | None, matched: bool) -> None:
    evaluation = measured("? ? ?", "count", predicate, type="regex", pattern=r"\?")
    assert (evaluation.matched, evaluation.value, evaluation.measure) == (matched, float(matched), 3)


def test_a_predicate_may_ask_for_nothing() -> None:
    assert measured("", "count", {"lte": 0}, type="regex", pattern="x").matched
    assert not measured("", "count", type="regex", pattern="x").matched


def test_an_expression_that_re2_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match=r"`s`: `\(open`"):
        measured("", "count", type="regex", pattern="(open")


@given(st.text("ab ?解\ud800\x01\n", max_size=30))
def test_every_source_can_read_every_text(text: str) -> None:
    readable = text.replace("\ud800", "\ufffd")
    assert number(text, "count", type="regex", pattern="a") == text.count("a")
    assert number(text, "count", type="text_bytes") == len(readable.encode())
    words = "".join(character if character in "ab" else " " for character in text).split()
    assert number(text, "count", type="keyword_set", keywords=["a", "ab"]) == sum(word in ("a", "ab") for word in words)
    assert number(text, "count", type="keyword_set", keywords=["解"]) == text.count("解")
    in_order = "b" in words and "a" in words[words.index("b") + 1 :]
    assert number(text, "count", type="sequence", sequences=[["b", "a"]]) == in_order
    expected = text.count("?") / max(len(words) + text.count("解"), 1)
    assert number(text, "density", type="regex", pattern=r"\?") == pytest.approx(expected)
