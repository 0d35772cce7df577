"""Differences between two questions that no judge may overlook, and those that are its business."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.cache.vetoes import Marks, veto

APART = [
    ("Is aspirin safe for children?", "Is aspirin not safe for children?", "negation"),
    ("Which foods have gluten?", "Which foods have no gluten?", "negation"),
    ("Can I fly with a drone?", "Can't I fly with a drone?", "negation"),
    ("Can I fly with a drone?", "Cant I fly with a drone?", "negation"),
    ("How do I bake with sugar?", "How do I bake without sugar?", "negation"),
    ("How do I boil 2 eggs?", "How do I boil twelve eggs?", "number"),
    ("What changed in Python 2?", "What changed in Python 3?", "number"),
    ("What is new in 3.1?", "What is new in 3.10?", "number"),
    ("How cold is -5 degrees?", "How cold is 5 degrees?", "number"),
    ("What is 12 + 7?", "What is 12 - 7?", "number"),
    ("How many are 10² million?", "How many are 10³ million?", "number"),
    ("Who was the second king?", "Who was the third king?", "number"),
    ("Is it 5 to 7 or not?", "Is it 7 to 5 or not?", "number"),
    ("Can I learn C++?", "Can I learn C?", "number"),
    ("How much is 5 kg of rice?", "How much is 5 lb of rice?", "unit"),
    ("How many hours is the flight?", "How many minutes is the flight?", "unit"),
    ("Does a laser of 5 mW hurt?", "Does a laser of 5 MW hurt?", "unit"),
    ("Is a line of 100 Mb/s quick?", "Is a line of 100 MB/s quick?", "unit"),
    ("Is Vitamin A good?", "Is vitamin good?", "name"),
    ("Is 2*(x+3) the same?", "Is (2*x)+3 the same?", "number"),
    ("What do I get for $20?", "What do I get for €20?", "unit"),
    ("Are you open on Monday?", "Are you open on Tuesday?", "date"),
    ("Is it open today?", "Is it open?", "date"),
    ("Who founded the company Siemens?", "Who founded the company Bosch?", "name"),
    ("what is in Anna's bag", "what is in the bag", "name"),
    ("What does NASA do?", "What does ESA do?", "name"),
    ("Who is in charge of the WHO?", "Who is in charge of the who?", "name"),
    ("What does 'deft' mean?", "What does “daft” mean?", "name"),
    ("Convert miles to km", "Convert km to miles", "direction"),
    ("Flights from Oslo to Rome", "Flights from Rome to Oslo", "direction"),
    ("trains from Oslo", "are there trains to Oslo", "direction"),
    ("Should I eat before training?", "Should I eat after training?", "direction"),
    ("Which is more expensive?", "Which is less expensive?", "direction"),
    ("Are the eggs cooked?", "Are the eggs uncooked?", "direction"),
    ("Does a cat chase a dog?", "Does a dog chase a cat?", "direction"),
    ("What is printed?\nfor i in x:\n    a()", "What is printed?\nfor i in x:\na()", "text"),
    ("Why does print(A) fail?", "Why does print(a) fail?", "text"),
    ("Is it " + "very " * 200 + "good?", "Is it really " + "very " * 200 + "good?", "text"),
]
PASSED = [
    ("What is the capital of France?", "what's the capital of france"),
    ("HOW DO I RESET MY PASSWORD", "How do I reset my password?"),
    ("How Do I Reset My Router?", "how do i reset my router"),
    ("How do I boil three eggs?", "how do i boil 3 eggs"),
    ("Explain the second law.", "Explain the 2nd law"),
    ("How do I roast one chicken?", "How do I roast 1 chicken?"),
    ("What can I buy for 1,000 yen?", "What can I buy for ¥1000?"),
    ("How much salt is 2 tablespoons?", "How much salt is two tbsp?"),
    ("Why doesn’t it start?", "Why does it not start?"),
    ("Will it rain tomorrow?", "What is tomorrow's weather?"),
    ("Flights from Oslo to Rome", "Flights to Rome from Oslo"),
    ("For a trip to Rome, do I need a visa?", "Do I need a visa for a trip to Rome?"),
    # A judge's business.
    ("What is tea good for?", "Who grows coffee?"),
]


def kind(earlier: str, now: str, language: str = "en") -> str | None:
    return veto(Marks.of(earlier, language), Marks.of(now, language))


@pytest.mark.parametrize(("earlier", "now", "expected"), APART)
def test_what_keeps_two_questions_apart(earlier: str, now: str, expected: str) -> None:
    assert kind(earlier, now) == kind(now, earlier) == expected


@pytest.mark.parametrize(("earlier", "now"), PASSED)
def test_what_is_left_to_a_judge(earlier: str, now: str) -> None:
    assert kind(earlier, now) is None and kind(now, earlier) is None


@pytest.mark.parametrize(
    ("language", "earlier", "now"),
    [
        ("de", "Darf ich das essen?", "Darf ich das nicht essen?"),
        ("es", "¿Es seguro nadar aquí?", "¿No es seguro nadar aquí?"),
        ("fr", "Est-ce que le magasin est ouvert ?", "Est-ce que le magasin ne est pas ouvert ?"),
        ("zh", "今天会下雨吗？", "今天不会下雨吗？"),
    ],
)
def test_each_language_has_its_negations(language: str, earlier: str, now: str) -> None:
    assert kind(earlier, now, language) == "negation"


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ("三个鸡蛋煮多久？", "四个鸡蛋煮多久？", "number"),
        ("租房要交2个月押金吗？", "租房要交两个月押金吗？", None),
        ("猫会追狗吗？", "狗会追猫吗？", "direction"),
        ("怎么用Python排序？", "怎么用Java排序？", "name"),
    ],
)
def test_without_spaces_each_character_is_a_word(earlier: str, now: str, expected: str | None) -> None:
    assert kind(earlier, now, "zh") == kind(now, earlier, "zh") == expected


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared_in_either_order(one: str, other: str) -> None:
    assert (kind(one, other) is None) is (kind(other, one) is None)
    assert kind(one, one) in (None, "text")
