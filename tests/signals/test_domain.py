"""Scoring declared domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from triton_router.signals.domain import (
    DomainScorer,
    Prototype,
    TopicParameters,
    label_texts,
    normalised,
    unlabelled,
)

LABELS = ("computer science", "math", "other")
DIMENSION = 4
CODE, SUMS, CHAT, HACKING = np.eye(4, dtype=np.float32)
PARAMETERS = TopicParameters(
    mean=(0.0,) * 4,
    axis=(0.0,) * 4,
    label_embeddings=tuple(tuple(map(float, row)) for row in (CODE, SUMS, CHAT)),
    weights=(8.0, -2.0, 0.5),
    bias=-3.0,
)
SECURITY = Prototype(HACKING, np.array([0.9, 0.0, 0.1], np.float32))


def scorer(*declared: str, prototypes: dict[str, Prototype] | None = None) -> DomainScorer:
    return DomainScorer(declared, LABELS, PARAMETERS, prototypes or {})


def head(*probabilities: float) -> np.ndarray:
    return np.array(probabilities, np.float32)


def test_the_most_probable_declared_domain_wins() -> None:
    scores = scorer("math", "computer science", "other").score(SUMS, head(0.2, 0.7, 0.1))
    assert scores.winner == "math"
    assert scores.confidence == pytest.approx(0.7)
    assert list(scores.probabilities) == ["math", "computer science", "other"]


@pytest.mark.parametrize("name", ["Computer Science", "computer_science", "COMPUTER-science"])
def test_a_label_is_found_however_it_is_written(name: str) -> None:
    assert scorer(name, "other").score(CODE, head(0.9, 0.05, 0.05)).winner == name


def test_labels_that_nobody_declared_count_against_the_declared_ones() -> None:
    scores = scorer("math").score(CODE, head(0.8, 0.15, 0.05))
    assert scores.winner is None
    assert scores.probabilities == {"math": pytest.approx(0.15)}


def test_other_takes_what_no_domain_claims() -> None:
    scores = scorer("math", "other").score(CODE, head(0.8, 0.19, 0.01))
    assert scores.winner == "other"
    assert scores.confidence == pytest.approx(0.81)


def test_a_declared_domain_loses_to_a_likelier_one_that_nobody_declared() -> None:
    assert scorer("math").score(CODE, head(0.6, 0.35, 0.05)).winner is None
    assert scorer("math", "other").score(CODE, head(0.6, 0.35, 0.05)).winner == "other"
    assert scorer("math", "computer science").score(CODE, head(0.6, 0.35, 0.05)).winner == "computer science"


@pytest.mark.parametrize("name", ["general", "Misc", "miscellaneous"])
def test_other_may_go_by_another_name(name: str) -> None:
    table = scorer("math", name)
    assert table.score(CHAT, head(0.1, 0.1, 0.8)).winner == name
    assert table.score(CHAT, head(0.1, 0.1, 0.8)).confidence == pytest.approx(0.8)
    assert table.score(CODE, head(0.8, 0.1, 0.1)).winner == name
    assert scorer("general", "other").score(CHAT, head(0.1, 0.1, 0.8)).winner == "other"


def test_a_topic_inherits_an_undeclared_label_that_means_the_same() -> None:
    coding = {"coding": Prototype(CODE, np.array([0.9, 0.0, 0.1], np.float32))}
    prompt = head(0.9, 0.05, 0.05)
    assert scorer("coding", "general", prototypes=coding).score(SUMS, prompt).winner == "coding"
    assert scorer("coding", "computer science", prototypes=coding).score(SUMS, prompt).winner == "computer science"
    chatter = {"chatter": Prototype(CHAT, head(0.0, 0.0, 1.0))}
    assert scorer("chatter", prototypes=chatter).score(SUMS, head(0.05, 0.05, 0.9)).winner is None
    narrow = {"hacking": SECURITY}
    assert scorer("hacking", "general", prototypes=narrow).score(SUMS, prompt).winner == "general"


def test_topics_that_mean_the_same_share_what_they_inherit() -> None:
    same = Prototype(CODE, np.array([1.0, 0.0, 0.0], np.float32))
    scores = scorer("coding", "programming", prototypes={"coding": same, "programming": same}).score(
        SUMS, head(0.9, 0.1, 0.0)
    )
    assert scores.probabilities["coding"] == pytest.approx(scores.probabilities["programming"])
    assert sum(scores.probabilities.values()) <= 1


def test_a_prompt_without_words_goes_to_other_if_there_is_one() -> None:
    assert scorer("math", "other").nothing_said().winner == "other"
    assert scorer("math").nothing_said().winner is None


def test_a_topic_that_the_head_does_not_know_wins_by_its_name() -> None:
    table = scorer("computer science", "other", "cybersecurity", prototypes={"cybersecurity": SECURITY})
    assert table.score(HACKING, head(0.9, 0.05, 0.05)).winner == "cybersecurity"
    assert table.score(CODE, head(0.9, 0.05, 0.05)).winner == "computer science"
    assert table.score(CHAT, head(0.05, 0.05, 0.9)).winner == "other"


def test_a_topic_that_is_not_prepared_is_left_out_and_the_rest_goes_on() -> None:
    scores = scorer("math", "cybersecurity").score(SUMS, head(0.1, 0.8, 0.1))
    assert scores.winner == "math"
    assert "cybersecurity" not in scores.probabilities


def test_a_bundle_without_parameters_says_so() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        DomainScorer(["cybersecurity"], LABELS, TopicParameters(), {"cybersecurity": SECURITY})


@given(
    arrays(np.float32, DIMENSION, elements=st.floats(-1, 1, width=32)),
    arrays(np.float32, len(LABELS), elements=st.floats(0, 1, width=32)),
    st.lists(st.sampled_from([*LABELS, "cybersecurity", "unprepared"]), unique=True),
)
def test_probabilities_are_probabilities(embedding: np.ndarray, weights: np.ndarray, declared: list[str]) -> None:
    probabilities = (weights + 1e-3) / (weights + 1e-3).sum()
    scores = scorer(*declared, prototypes={"cybersecurity": SECURITY}).score(embedding, probabilities)
    assert all(0 <= value <= 1 for value in scores.probabilities.values())
    assert sum(scores.probabilities.values()) <= 1 + 1e-5
    assert 0 <= scores.confidence <= 1
    assert scores.winner is None or scores.winner in scores.probabilities


def test_a_description_adds_to_what_is_embedded() -> None:
    assert len(label_texts("tax law", "filing, audits")) > len(label_texts("tax law"))
    assert normalised("Tax_Law") == "tax law"


def test_a_domain_may_be_made_of_labels_of_the_head() -> None:
    members = {"sciences": ("math", "Computer-Science")}
    scores = DomainScorer(["sciences", "other"], LABELS, PARAMETERS, {}, members=members).score(
        SUMS, head(0.3, 0.4, 0.3)
    )
    assert (scores.winner, scores.confidence) == ("sciences", pytest.approx(0.7))
    assert unlabelled(["sciences", "law", "other"], LABELS, members) == ["law"]


def test_several_domains_hold_only_when_that_is_allowed() -> None:
    two = head(0.45, 0.45, 0.1)
    one = DomainScorer(["math", "computer science"], LABELS, PARAMETERS, {}).score(SUMS, two)
    assert len(one.matched) == 1
    both = DomainScorer(["math", "computer science"], LABELS, PARAMETERS, {}, 0.4, multi_label=True).score(SUMS, two)
    assert both.matched == {"math", "computer science"}
    neither = DomainScorer(["math", "other"], LABELS, PARAMETERS, {}, 0.6, multi_label=True).score(SUMS, two)
    assert neither.matched == {"other"}


def test_the_fallback_may_have_any_name() -> None:
    scorer = DomainScorer(["math", "front desk"], LABELS, PARAMETERS, {}, fallback="front desk")
    assert scorer.score(CHAT, head(0.4, 0.1, 0.5)).winner == "front desk"
    assert unlabelled(["math", "front desk"], LABELS, {}, "front desk") == []


def test_examples_and_description_join_the_name() -> None:
    texts = label_texts("law", "courts and contracts", ["Can I sue?"])
    assert texts[-3:] == ["law: courts and contracts", "courts and contracts", "Can I sue?"]
    assert len(label_texts("law")) + 3 == len(texts)
