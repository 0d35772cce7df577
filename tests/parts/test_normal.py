"""One spelling for keywords and texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import evaluate, made

from triton_router.config.signals import KeywordSignal
from triton_router.parts import normalised
from triton_router.signals.keyword import Keywords


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("step by step", "Give me a step-by-step guide"),
        ("step-by-step", "explain it step by step"),
        ("step by step", "explain it step\nby step"),
        ("step by step", "explain it step\r\n  by\tstep"),
        ("step by step", "explain it step\u00a0by\u202fstep"),
        ("step by step", "a step\u2011by\u2011step guide"),
        ("don't", "I don\u2019t know"),
        ("don\u2019t", "I don't know"),
        ("caf\u00e9", unicodedata.normalize("NFD", "the caf\u00e9 is closed")),
        (unicodedata.normalize("NFD", "caf\u00e9"), "the caf\u00e9 is closed"),
        ("api", "\uff21\uff30\uff29 keys"),
        ("file", "the \ufb01le"),
        ("e-mail", "send an e\u2010mail"),
        ('say "yes"', "say \u201cyes\u201d"),
    ],
)
@pytest.mark.parametrize("match", ["substring", "word"])
def test_both_sides_are_spelt_alike(keyword: str, text: str, match: str) -> None:
    signal = KeywordSignal(name="s", keywords=[keyword], match=match)
    assert evaluate(made(Keywords, [signal]), text)["keyword", "s"].matched


def test_a_hyphen_behind_one_letter_stays() -> None:
    signal = KeywordSignal(name="s", keywords=["e-mail"])
    assert not evaluate(made(Keywords, [signal]), "the mail is late")["keyword", "s"].matched


def test_case_counts_where_it_is_declared() -> None:
    signal = KeywordSignal(name="s", keywords=["Step-by-Step"], case_sensitive=True)
    matcher = made(Keywords, [signal])
    assert evaluate(matcher, "a Step by Step guide")["keyword", "s"].matched
    assert not evaluate(matcher, "a step by step guide")["keyword", "s"].matched


def test_an_expression_reads_the_text_as_it_is() -> None:
    signal = KeywordSignal(name="s", keywords=[r"a\nb"], match="regex")
    assert evaluate(made(Keywords, [signal]), "a\nb")["keyword", "s"].matched


def test_spaces_around_a_keyword_count() -> None:
    signal = KeywordSignal(name="s", keywords=[" ai "])
    matcher = made(Keywords, [signal])
    assert evaluate(matcher, "what can\nai do")["keyword", "s"].matched
    assert not evaluate(matcher, "the train is late")["keyword", "s"].matched


@given(st.text())
def test_twice_is_once(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
