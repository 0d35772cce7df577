"""Words that may be exchanged, and words that only look as if they might be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from kept_apart import KEPT_APART

from triton_router.cache.guard import difference
from triton_router.wording import english, synonyms

TEXTS = (synonyms.VERBS, synonyms.NOUNS, synonyms.ADJECTIVES, synonyms.OTHERS)
GROUPS = [group for text in TEXTS for group in synonyms.groups(text)]
EXCHANGED = [json.loads(line) for line in (Path(__file__).parent / "exchanged.jsonl").read_text().splitlines()]
GRAMMAR = (
    english.SILENT | english.FILLERS | english.AUXILIARIES | english.MIND | english.REQUESTS | english.JUDGEMENTS
    | english.VESSELS | english.CATEGORIES | english.JOINTS | english.SCOPES | english.BINDING | english.WORDING
)  # fmt: skip
ALIKE = [
    ("How much did they pay when they bought it?", "How much did they pay when they purchased it?"),
    ("Is buying a house hard?", "Is purchasing a house difficult?"),
    ("Why did the war begin?", "Why did the war start?"),
    ("The war began in spring, why?", "The war started in spring, why?"),
    ("Which firefighters died?", "Which firemen passed away?"),
    ("Tips on getting rid of moles", "Tips on removing moles"),
    ("Is my meeting cancelled?", "Is my meeting called off?"),
    ("Who looks after the twins?", "Who takes care of the twins?"),
    ("Which attorneys speak Dutch?", "Which lawyers speak Dutch?"),
    ("What are the biggest grocery stores?", "What are the largest supermarkets?"),
    ("Which singer is the wealthiest?", "Which vocalist is the richest?"),
    ("Where do I get a driver's license?", "Where can I obtain a driving licence?"),
    ("How do I lower hypertension?", "How can I lower high blood pressure?"),
    ("Can I work out with the flu?", "Is it ok to exercise with influenza?"),
    ("How does AI see a picture?", "How does artificial intelligence see a photo?"),
    ("Why is this car so costly?", "why is this automobile so expensive"),
]
APART = [
    ("How do I pick a lock?", "How do I choose a lock?"),
    ("Where was Google located?", "Where was Google founded?"),
    ("How many people does it employ?", "How many people does it hire?"),
    ("How do I change a tire?", "How do I modify a tire?"),
    ("How does garbage collection work?", "How does trash collection work?"),
    ("What is a flat rate?", "What is an apartment rate?"),
    ("What is an odd number?", "What is a strange number?"),
    ("How do I turn the heating on?", "How do I switch the heating off?"),
    ("How do I lose weight?", "How do I gain weight?"),
    ("How do I lose weight fast?", "How do I lose weight by fasting?"),
    ("What is the average salary?", "What is the average bonus?"),
    ("Is this doctor good?", "Is this nurse good?"),
    ("What are the advantages of tea?", "What are the disadvantages of tea?"),
    ("Where can I store clothes?", "Where can I shop clothes?"),
    ("What is a primary school?", "What is a main school?"),
    ("Can I use oil instead of butter?", "Can I use butter in place of oil?"),
    ("What does NASA stand for?", "What does NASA represent?"),
    ("How do I sign in?", "How do I sign out?"),
    ('What does "purchase" mean?', 'What does "buy" mean?'),
    ("Rewrite the sentence: I purchase it", "Rewrite the sentence: I buy it"),
]


def test_no_word_is_in_two_groups() -> None:
    assert [
        member for member, count in Counter(member for group in GROUPS for member in group).items() if count > 1
    ] == []
    # Nor is one form of it: what a form becomes does not become another one.
    assert {becomes for becomes in english.EXCHANGES.values() if becomes in english.EXCHANGES} == set()
    forms = Counter(form for form, _ in set(synonyms.exchanges(english.LEMMAS)))
    assert [form for form, count in forms.items() if count > 1] == []


def test_the_list_is_a_broad_one_of_groups() -> None:
    assert len(GROUPS) >= 300
    assert all(len(group) > 1 for group in GROUPS)


@pytest.mark.parametrize("kind", KEPT_APART)
def test_no_group_touches_words_that_set_questions_apart(kind: str) -> None:
    assert [member for group in GROUPS for member in group if member in KEPT_APART[kind]] == []


def test_no_word_of_the_grammar_is_hidden_by_its_common_form() -> None:
    hidden = [(member, group[0]) for group in GROUPS for member in group if member in GRAMMAR]
    assert [(member, common) for member, common in hidden if common not in GRAMMAR] == []


def test_other_tables_do_not_name_them() -> None:
    listed = {member for group in GROUPS for member in group}
    assert listed & (english.COMMON.keys() | english.LEMMAS.keys() | english.CONTRACTIONS.keys()) == set()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_each_member_may_stand_for_the_first(group: list[str]) -> None:
    common, *members = group
    question = "Why did the {} surprise Anna so much?"
    for member in members:
        assert difference(question.format(member), question.format(common)) is None, member


@pytest.mark.parametrize(("earlier", "now"), ALIKE)
def test_exchanged_words_keep_a_question_the_same(earlier: str, now: str) -> None:
    assert difference(earlier, now) is None and difference(now, earlier) is None


@pytest.mark.parametrize(("earlier", "now"), APART)
def test_words_with_a_second_sense_do_not(earlier: str, now: str) -> None:
    assert difference(earlier, now) is not None and difference(now, earlier) is not None


def test_paraphrases_written_before_the_list_are_found() -> None:
    assert len(EXCHANGED) == 60
    assert sum(difference(earlier, now) is None for earlier, now in EXCHANGED) >= 48
