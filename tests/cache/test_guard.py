"""Questions that an embedding takes for one, and that are two."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triton_router.cache.guard import difference
from triton_router.wording import read

APART = [
    ("Is aspirin safe for children?", "Is aspirin not safe for children?", "negation"),
    ("Which foods have gluten?", "Which foods have no gluten?", "negation"),
    ("Can I fly with a drone?", "Can't I fly with a drone?", "negation"),
    ("How do I boil 2 eggs?", "How do I boil twelve eggs?", "number"),
    ("What changed in Python 2?", "What changed in Python 3?", "number"),
    ("How much is 5 kg of rice?", "How much is 5 lb of rice?", "unit"),
    ("Convert miles to km", "Convert km to miles", "direction"),
    ("Flights from Oslo to Rome", "Flights from Rome to Oslo", "direction"),
    ("Should I eat before training?", "Should I eat after training?", "direction"),
    ("What is the largest lake?", "What is the smallest lake?", "comparison"),
    ("Which is more expensive?", "Which is less expensive?", "comparison"),
    ("Do all birds fly?", "Do some birds fly?", "quantifier"),
    ("Are you open on Monday?", "Are you open on Tuesday?", "date"),
    ("Who founded the company Siemens?", "Who founded the company Bosch?", "name"),
    ("How do I make bread?", "Why do I make bread?", "content"),
    ("What is printed?\nfor i in x:\n    a()\n    b()", "What is printed?\nfor i in x:\n    a()\nb()", "text"),
    ("How many are 10² million?", "How many are 10³ million?", "content"),
    ("What is printed? print('a  b' == 'a b')", "What is printed? print('a b' == 'a b')", "text"),
]
ALIKE = [
    ("What is the capital of France?", "what's the capital of france"),
    ("How do I reset my password?", "Hi, could you please tell me how to reset my password? Thanks!"),
    ("Which dogs are good with children", "Which dog is good with children?"),
    ("Can two people share it?", "can 2 people share it"),
    ("Why doesn’t it start?", "Why does it not start?"),
    ("Who was the director of the film?", "Who directed the film?"),
]


@pytest.mark.parametrize(("earlier", "now", "kind"), APART)
def test_what_matters_sets_two_questions_apart(earlier: str, now: str, kind: str) -> None:
    assert difference(earlier, now) == kind
    assert difference(now, earlier) == kind


@pytest.mark.parametrize(("earlier", "now"), ALIKE)
def test_politeness_and_spelling_do_not(earlier: str, now: str) -> None:
    assert difference(earlier, now) is None and difference(now, earlier) is None


@given(st.text(), st.text())
def test_it_is_symmetric_and_never_fails(one: str, other: str) -> None:
    assert (difference(one, other) is None) is (difference(other, one) is None)
    assert difference(one, one) is None


# Superscripts and circled digits are none to `int` and `Decimal`.
NUMBERS = st.text("12²①½٣.,-", min_size=1, max_size=3)
COUNTED = st.sampled_from("million hundred March may Sep th s kg ms ° degree dollar % twenty second".split())  # noqa: SIM905
AMOUNTS = st.tuples(NUMBERS, st.sampled_from((" ", "")), COUNTED).map("".join)
WORDS = st.sampled_from("the of per hour $ / one twice first half over at most not more than ? .".split())  # noqa: SIM905


@given(
    st.one_of(
        st.text(),
        AMOUNTS.map("What is {}?".format),
        st.lists(st.one_of(AMOUNTS, NUMBERS, WORDS), max_size=6).map(lambda words: " ".join(("What is", *words))),
    )
)
@example("Does Anna Mears pay 10² million to us?")
@example("Is it open on ² March?")
@example("Is it the ②th of March?")
def test_any_text_can_be_read(text: str) -> None:
    wording = read(text)
    assert wording is None or all(isinstance(word, str) for word in wording.flat())


@given(st.text("abcde 123"))
def test_letter_case_says_nothing(text: str) -> None:
    assert difference(text, text.upper()) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("us policy", "US policy"), ("it support", "IT support"), ("who rules", "WHO rules"),
        ("best polish for wood", "best Polish for wood"), ("how to cook turkey", "how to cook Turkey"),
        ("how do I restart windows", "how do I restart Windows"), ("is it safe", "is IT safe"),
        ("was sind die sie regeln", "was sind die Sie regeln"), ("politique us en europe", "politique US en europe"),
    ],
)  # fmt: skip
def test_letter_case_counts_where_it_is_meaning(one: str, other: str) -> None:
    assert difference(one, other) is not None
    assert difference(other, one) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("who wrote hamlet", "Who wrote Hamlet?"), ("what is the capital of france", "What is the capital of France?"),
        ("Was kostet das?", "was kostet das"), ("HOW TO BOIL EGGS", "how to boil eggs"),
        ("Turkey prices", "turkey prices"), ("how do I open windows", "How do I open windows?"),
    ],
)  # fmt: skip
def test_letter_case_says_nothing_where_sentences_begin_and_of_names_alone(one: str, other: str) -> None:
    assert difference(one, other) is None
