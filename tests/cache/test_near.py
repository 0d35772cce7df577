"""Words that may stand for each other beside the same words, and constructions that ask the same."""

from __future__ import annotations

import pytest
from kept_apart import KEPT_APART

from triton_router.cache.guard import difference
from triton_router.wording import near

GROUPS = [group for text in (near.VERBS, near.NOUNS, near.ADJECTIVES, near.OTHERS) for group in near.groups(text)]
# Of words that set questions apart, those that say the same, or that have another sense which is meant here.
SAME_ANYHOW = {
    ("stop", "quit"), ("avoid", "prevent"), ("best", "top"),
    ("usually", "typically"), ("lower", "reduce"), ("lower", "decrease"), ("lower", "bring down"), ("fall", "drop"),
    ("newest", "latest"), ("newest", "most recent"),
    ("yard", "garden"), ("yard", "backyard"), ("right", "correct"), ("right", "proper"), ("right", "appropriate"),
    ("right", "suitable"), ("right", "correctly"), ("right", "properly"),
}  # fmt: skip
ALIKE = [
    ("How do I create an account?", "How can I set up an account?"),
    ("How can I locate my phone?", "How do I find my phone?"),
    ("What are the signs of a stroke?", "What are the symptoms of a stroke?"),
    ("How do I stop smoking?", "How do I quit smoking?"),
    ("How do I turn the light off?", "How do I turn off the light?"),
    ("How do I keep birds from eating seeds?", "How can I stop birds from eating seeds?"),
    ("Who is the inventor of the zipper?", "Who invented the zipper?"),
    ("How do frogs and toads differ?", "What is the difference between a frog and a toad?"),
    ("How is a frog different from a toad?", "What is the difference between a frog and a toad?"),
    ("How far is Oslo from Rome?", "What is the distance between Rome and Oslo?"),
    ("How far is it from Rome to Oslo?", "How far is Oslo from Rome?"),
    ("What is the height of the tower?", "How tall is the tower?"),
    ("How many legs does a crab have?", "How many legs are in a crab?"),
    ("Did Anna sell a car to Bob?", "Did Anna sell Bob a car?"),
    ("Is a passport required for Norway?", "Do I need a passport for Norway?"),
    ("Is it fine for cats to drink milk?", "Can cats drink milk?"),
    ("What is the rash caused by?", "What causes the rash?"),
    ("What makes bread rise?", "Why does bread rise?"),
    ("How long does the surgery take?", "How long is the surgery?"),
    ("How cold does it get in Oslo in May?", "How cold does Oslo get in May?"),
    ("What is the cost of repairing a roof?", "How much does it cost to repair a roof?"),
    ("What are some easy ways to peel garlic?", "How do I peel garlic?"),
    ("What are the steps for renewing a passport?", "How do I renew a passport?"),
    ("I want to sell my car. How do I do that?", "How do I sell my car?"),
    ("The last final, who won it?", "Who won the last final?"),
    ("Who is the current mayor of Rome?", "Who is the mayor of Rome?"),
    ("What is the longest river in the world?", "What's the longest river?"),
    ("How do I get a stain out of silk?", "How do I remove a stain from silk?"),
    ("Is a whale considered a fish?", "Do people consider a whale a fish?"),
    ("Who was the twenty-first king?", "Who was the 21st king?"),
]
APART = [
    # Beside these words it is another sense.
    ("How do I pick a lock?", "How do I choose a lock?"),
    ("How do I open a bottle?", "How do I create a bottle?"),
    ("Can cancer be taken care of?", "Can cancer be treated?"),
    # Names are no words.
    ("Who founded Target in Ohio?", "Who founded Goal in Ohio?"),
    ("Who leads the Work party?", "Who leads the Job party?"),
    # Three are too many.
    ("How do I locate a decent shop for cheap toys", "How do I find a good shop for affordable games"),
    ("How can firms create better gadgets and gear", "How can companies make better devices and equipment"),
]


def test_the_list_is_a_broad_one_of_groups() -> None:
    assert len(GROUPS) >= 400
    assert all(len(members) > 1 and all(members) for members, _ in GROUPS)


@pytest.mark.parametrize("kind", KEPT_APART)
def test_no_word_that_sets_questions_apart_stands_for_another(kind: str) -> None:
    apart = KEPT_APART[kind]
    joined = {
        (one, other)
        for members, _ in GROUPS
        for one in members
        for other in members
        if one in apart and other not in apart and (one, other) not in SAME_ANYHOW
    }
    assert joined == set()


@pytest.mark.parametrize(("earlier", "now"), ALIKE)
def test_other_words_and_constructions_keep_a_question_the_same(earlier: str, now: str) -> None:
    assert difference(earlier, now) is None and difference(now, earlier) is None


@pytest.mark.parametrize(("earlier", "now"), APART)
def test_beside_other_words_they_do_not(earlier: str, now: str) -> None:
    assert difference(earlier, now) is not None and difference(now, earlier) is not None
