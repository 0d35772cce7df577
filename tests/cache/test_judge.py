"""Which earlier question asks the same: equal texts, then vetoes, then one call to the reader of pairs."""

from __future__ import annotations

import pytest
from readers import Reader

from triton_router.cache.judge import PairJudge
from triton_router.errors import Unavailable

NOW = "How can I cook the best rice?"
SAME = "What is the best way to cook rice?"
OTHER = "How can I cook the best pasta?"


async def test_the_reader_hears_once_of_those_that_no_veto_keeps_apart() -> None:
    reader = Reader({(SAME, NOW)})
    earlier = ["How can I not cook the best rice?", OTHER, SAME]
    assert await PairJudge([reader]).first_same(NOW, earlier) == 2
    assert reader.calls == [[(OTHER, NOW), (SAME, NOW)]]


async def test_where_vetoes_keep_all_apart_it_hears_nothing() -> None:
    reader = Reader()
    assert await PairJudge([reader]).first_same(NOW, ["How can I cook the best rice for 5?"]) is None
    assert reader.calls == []


async def test_an_equal_question_needs_no_reader() -> None:
    reader = Reader({(SAME, NOW)})
    for form in (NOW, "  how can I cook the  best rice"):
        assert await PairJudge([reader]).first_same(form, [SAME, NOW]) == 1
        assert await PairJudge().first_same(form, [SAME, NOW]) == 1
    assert reader.calls == []
    assert await PairJudge().first_same(NOW, [SAME]) is None


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ("Is Mercury visible tonight?", "is mercury visible tonight"),
        ("Which bank is older, Chase or Citi?", "which bank is older, chase or citi??"),
        ("Can 2 magnets repel a third?", "Can two magnets repel a third?"),
        ("How warm is 40 °C?", "How warm is 40 degrees Celsius?"),
        ("How long are ten feet?", "How long are 10 ft, please?"),
        ("How do cranes lift?", "Hi there, how do cranes lift? Many thanks!"),
    ],
)
async def test_equal_words_and_numbers_need_no_reader(earlier: str, now: str) -> None:
    reader = Reader()
    assert await PairJudge([reader]).first_same(now, [earlier]) == 0
    assert reader.calls == []


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ("Do US policies help?", "do us policies help?"),
        ("What is .NET?", "what is net"),
        ("Is 5! over 100?", "is 5 over 100?"),
        ("Hello world in C", "world in C"),
        ("How do I say thanks?", "How do I say?"),
        ("Is 100 Mbps fast?", "Is 100 MBps fast?"),
    ],
)
async def test_signs_and_capitals_that_say_something_count(earlier: str, now: str) -> None:
    assert await PairJudge([Reader()]).first_same(now, [earlier]) is None


async def test_the_reader_reads_numbers_and_units_of_one_form() -> None:
    reader = Reader()
    await PairJudge([reader]).first_same("Please tell me what two kilograms of rice cost", ["How much is 2kg of rice?"])
    assert reader.calls == [[("How much is 2 kg of rice?", "tell me what 2 kg of rice cost")]]


async def test_a_reader_that_does_not_answer_is_told_of() -> None:
    reader = Reader()
    reader.down = True
    with pytest.raises(Unavailable, match="deadline"):
        await PairJudge([reader]).first_same(NOW, [SAME])


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ("Wie koche ich am besten Reis?", "Wie kocht man am besten Reis?"),
        ("今天会下雨吗", "今天不会下雨吗"),
        ("明日は雨ですか", "明日は雪ですか"),
        ("क्या यह किताब है?", "क्या यह काताब है?"),
        ("Essen in Maßen", "Essen in Massen"),
        ("Was ist das für ein\nGedicht?", "Was ist das für ein Gedicht?"),
    ],
)
async def test_in_a_language_that_it_does_not_read_only_equal_texts_are_the_same(earlier: str, now: str) -> None:
    reader = Reader({(earlier, now)})
    assert await PairJudge([reader]).first_same(now, [earlier]) is None
    assert await PairJudge([reader]).first_same(f" {now}  ", [earlier, now]) == 1
    assert reader.calls == []


async def test_a_reader_of_all_languages_reads_each() -> None:
    earlier, now = "Wie koche ich am besten Reis?", "Wie kocht man am besten Reis?"
    assert await PairJudge([Reader({(earlier, now)}, languages=())]).first_same(now, [earlier]) == 0


async def test_a_question_in_another_language_is_another_question() -> None:
    """The stored response would be in the wrong language."""
    german, english = "Wie koche ich am besten Reis?", "How do I best cook rice?"
    reader = Reader({(german, english), (english, german)}, languages=("de", "en"))
    assert await PairJudge([reader]).first_same(english, [german]) is None
    assert await PairJudge([reader]).first_same(german, [english]) is None
    assert reader.calls == []


async def test_each_language_has_the_first_reader_that_lists_it() -> None:
    chinese = ("怎么煮米饭", "米饭要怎么煮")
    english, other, all_others = Reader({(SAME, NOW)}), Reader({chinese}, languages=("zh",)), Reader(languages=())
    judge = PairJudge([english, other, all_others])
    assert await judge.first_same(NOW, [SAME]) == 0
    assert await judge.first_same(chinese[1], [chinese[0]]) == 0
    assert await judge.first_same("Wie kocht man am besten Reis?", ["Wie koche ich am besten Reis?"]) is None
    assert [len(each.calls) for each in (english, other, all_others)] == [1, 1, 1]
