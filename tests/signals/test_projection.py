"""Weighted sums and their bands, against values that were worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from triton_router.config import Config, ConfigError, loads
from triton_router.config.projections import PartitionSignal, ProjectionSignal
from triton_router.dialects import ChatRequest
from triton_router.inference import TopicParameters
from triton_router.signals import UNKNOWN, Evaluation, SignalInput, SignalResults
from triton_router.signals.contract import Setup, certain
from triton_router.signals.gather import Gatherer
from triton_router.signals.partition import Partitions
from triton_router.signals.projection import Projections
from triton_router.telemetry import Metrics

EVALUATIONS: dict[tuple[str, str], Evaluation] = {
    ("keyword", "hard_words"): certain(True, 3),
    ("keyword", "easy_words"): certain(False, 0),
    ("embedding", "research"): Evaluation(True, 0.8, 0.6),
    ("embedding", "chat"): Evaluation(False, 0.4, 0.6),
    ("complexity", "work:hard"): Evaluation(True, 1.0, 0.1, measure=0.25),
    ("complexity", "work:easy"): Evaluation(False, 0.0, 0.1, measure=0.25),
    ("structure", "questions"): certain(True, 4.0),
    ("domain", "law"): UNKNOWN,
}


def evaluated(*signals: dict[str, Any]) -> dict[tuple[str, str], Evaluation]:
    kind = Projections([ProjectionSignal.model_validate(each) for each in signals], setup())
    return dict(kind.evaluate(SignalInput(ChatRequest.saying("")), SignalResults(dict(EVALUATIONS))))


def setup() -> Setup:
    return Setup(Config(), frozenset(), None, TopicParameters())


def band(inputs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": "band",
        "inputs": inputs,
        "outputs": [{"name": "low", "lt": 0.3}, {"name": "high", "gte": 0.3}],
        **more,
    }


@pytest.mark.parametrize(
    ("inputs", "score"),
    [
        # 0.85 * 1
        ([{"type": "keyword", "name": "hard_words", "weight": 0.85}], 0.85),
        # no match is worth 0, unless `miss` says otherwise: 0.5 * 0 + 0.5 * -1
        ([{"type": "keyword", "name": "easy_words", "weight": 0.5}], 0.0),
        ([{"type": "keyword", "name": "easy_words", "weight": 0.5, "miss": -1}], -0.5),
        # 0.4 * 2.5
        ([{"type": "keyword", "name": "hard_words", "weight": 0.4, "match": 2.5}], 1.0),
        # confidence: 0.5 * 0.8 of the match, 0.5 * 0 of the other though it came to 0.4
        ([{"type": "embedding", "name": "research", "weight": 0.5, "value_source": "confidence"}], 0.4),
        ([{"type": "embedding", "name": "chat", "weight": 0.5, "value_source": "confidence"}], 0.0),
        # raw: the number that a signal counts, or else its value, matched or not
        ([{"type": "structure", "name": "questions", "weight": 0.1, "value_source": "raw"}], 0.4),
        ([{"type": "embedding", "name": "chat", "weight": 0.5, "value_source": "raw"}], 0.2),
        ([{"type": "complexity", "name": "work:easy", "weight": 2, "value_source": "score"}], 0.5),
        # 0.22 * 1 + 0.18 * 0.8 - 0.28 * 1 = 0.084
        (
            [
                {"type": "complexity", "name": "work:hard", "weight": 0.22},
                {"type": "embedding", "name": "research", "weight": 0.18, "value_source": "confidence"},
                {"type": "keyword", "name": "hard_words", "weight": -0.28},
            ],
            0.084,
        ),
        # what weighs nothing may be unknown
        (
            [
                {"type": "domain", "name": "law", "weight": 0},
                {"type": "keyword", "name": "hard_words", "weight": 0.5},
            ],
            0.5,
        ),
    ],
)
def test_a_score_is_the_sum_of_weights_times_values(inputs: list[dict[str, Any]], score: float) -> None:
    low, high = (evaluated(band(inputs))["projection", name] for name in ("low", "high"))
    assert low.measure == high.measure == pytest.approx(score)
    assert (low.matched, high.matched) == (score < 0.3, score >= 0.3)


def test_an_unknown_part_leaves_known_what_it_cannot_change() -> None:
    slight = [
        {"type": "keyword", "name": "hard_words", "weight": 10},
        {"type": "domain", "name": "law", "weight": 0.001},
    ]
    outputs = evaluated(band(slight)).values()
    assert None not in {each.matched for each in outputs} and {each.measure for each in outputs} == {None}
    # One that could make the difference does make every output unknown, as does one that nobody has declared.
    for name in ("law", "nobody"):
        decisive = [{"type": "domain" if name == "law" else "keyword", "name": name, "weight": 1}]
        assert {each.matched for each in evaluated(band(decisive)).values()} == {None}


@pytest.mark.parametrize(
    ("weight", "calibration", "output", "confidence"),
    [
        # 1 / (1 + e^(-slope * distance)), by hand
        (0.5, {"slope": 10}, "high", 0.880797),  # 10 * 0.2 = 2
        (0.35, {}, "high", 0.645656),  # 12 * 0.05 = 0.6
        (0.3, {"slope": 10}, "high", 0.5),  # on the bound
        (0.2, {"slope": 10}, "low", 0.731059),  # 10 * 0.1 = 1
        (-0.7, {"slope": 4}, "low", 0.982014),  # 4 * 1 = 4
    ],
)
def test_confidence_grows_with_the_distance_to_the_nearest_bound(
    weight: float, calibration: dict[str, float], output: str, confidence: float
) -> None:
    inputs = [{"type": "keyword", "name": "hard_words", "weight": weight}]
    outputs = evaluated(band(inputs, calibration=calibration))
    assert outputs["projection", output].matched
    assert outputs["projection", output].value == pytest.approx(confidence, abs=1e-6)
    assert outputs["projection", output].threshold == 0.3
    (other,) = (each for (_, name), each in outputs.items() if name != output)
    assert other.value <= 0.5


BANDS = [
    {"name": "simple", "lt": 0.18},
    {"name": "medium", "gte": 0.18, "lt": 0.48},
    {"name": "complex", "gte": 0.48, "lte": 0.82},
    {"name": "reasoning", "gt": 0.82},
]


@pytest.mark.parametrize(
    ("score", "name", "distance"),
    [
        (0.1799, "simple", 0.0001),
        (0.18, "medium", 0.0),
        (0.4, "medium", 0.08),
        (0.48, "complex", 0.0),
        (0.82, "complex", 0.0),
        (0.83, "reasoning", 0.01),
    ],
)
def test_bands_meet_without_a_gap(score: float, name: str, distance: float) -> None:
    inputs = [{"type": "keyword", "name": "hard_words", "weight": score}]
    outputs = evaluated({"name": "band", "inputs": inputs, "outputs": BANDS})
    assert [output for (_, output), each in outputs.items() if each.matched] == [name]
    expected = 1 / (1 + 2.718281828459045 ** (-12 * distance))
    assert outputs["projection", name].value == pytest.approx(expected, abs=1e-9)


def test_overlapping_bands_the_first_or_all() -> None:
    inputs = [{"type": "keyword", "name": "hard_words", "weight": 0.9}]
    outputs = [{"name": "some", "gte": 0.2}, {"name": "much", "gte": 0.8}, {"name": "any"}]
    first = evaluated({"name": "p", "inputs": inputs, "outputs": outputs})
    assert [each.matched for each in first.values()] == [True, False, False]
    every = evaluated({"name": "p", "method": "multi_emit", "inputs": inputs, "outputs": outputs})
    assert [each.matched for each in every.values()] == [True, True, True]
    # Without bounds the distance is 1: 1 / (1 + e^-12)
    assert every["projection", "any"].value == pytest.approx(0.999994, abs=1e-6)


def test_a_projection_may_read_another_whatever_comes_first() -> None:
    second = {
        "name": "second",
        "inputs": [{"type": "projection", "name": "high", "weight": 1, "value_source": "confidence"}],
        "outputs": [{"name": "sure", "gte": 0.85}],
    }
    first = band([{"type": "keyword", "name": "hard_words", "weight": 0.5}], calibration={"slope": 10})
    outputs = evaluated(second, first)
    assert outputs["projection", "sure"].measure == pytest.approx(0.880797, abs=1e-6)
    assert outputs["projection", "sure"].matched
    first["inputs"] = [{"type": "projection", "name": "sure", "weight": 1}]
    with pytest.raises(ValueError, match="refer to each other"):
        evaluated(second, first)


def contest(members: dict[str, Evaluation], **more: Any) -> dict[str, Evaluation]:
    signal = PartitionSignal.model_validate({"name": "p", "of": "domain", "members": list(members), **more})
    results = SignalResults({("domain", name): each for name, each in members.items()})
    kind = Partitions([signal], setup())
    return {name: each for (_, name), each in kind.evaluate(SignalInput(ChatRequest.saying("")), results).items()}


def test_one_member_of_a_partition_wins() -> None:
    members = {"law": Evaluation(True, 0.6), "health": Evaluation(True, 0.8), "other": Evaluation(False, 0.9)}
    outcome = contest(members, default="other")
    assert {name: (each.matched, each.value) for name, each in outcome.items()} == {
        "p:law": (False, 0.6),
        "p:health": (True, 0.8),
        "p:other": (False, 0.9),
    }
    # e^0 / (e^0 + e^(-0.2 / 0.1)) = 1 / 1.135335
    softmax = contest(members, default="other", semantics="softmax_exclusive", temperature=0.1)
    assert softmax["p:health"].value == pytest.approx(0.880797, abs=1e-6)
    # Without a rival its confidence stays.
    alone = contest(members | {"law": Evaluation(False, 0.1)}, semantics="softmax_exclusive", temperature=0.1)
    assert alone["p:health"].value == 0.8


def test_the_default_of_a_partition_matches_where_no_member_does() -> None:
    members = {"law": Evaluation(False, 0.2), "other": Evaluation(False, 0.1)}
    assert contest(members, default="other")["p:other"] == certain(True)
    assert not any(each.matched for each in contest(members).values())
    assert contest(members | {"law": UNKNOWN}, default="other") == {}


THREE_LAYERS = """
providers:
  models: [{name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}]
routing:
  signals:
    keywords: [{name: proof, keywords: [prove]}, {name: quick, keywords: [briefly]}]
    domains: [{name: law}, {name: health}, {name: other}]
  projections:
    partitions: [{name: topic, semantics: exclusive, members: [law, other], default: other}]
    scores:
      - name: effort
        method: weighted_sum
        inputs: [{type: keyword, name: proof, weight: 0.5}, {type: keyword, name: quick, weight: -1}]
      - name: total
        inputs: [{type: projection, name: effort, weight: 2}, {type: domain, name: law, weight: 0.25}]
    mappings:
      - {name: bands, source: total, method: threshold_bands, outputs: [{name: hard, gte: 0.8}, {name: easy, lt: 0.8}]}
  decisions:
    - name: think
      rules: {operator: AND, conditions: [{type: projection, name: hard}, {type: domain, name: law}]}
"""


def test_three_layers_become_signals() -> None:
    routing = loads(THREE_LAYERS).config.routing
    (projection,) = routing.signals.of("projection")
    assert isinstance(projection, ProjectionSignal)
    # A sum of sums is a sum: 2 * 0.5, 2 * -1, 0.25 of what won the contest.
    assert [(each.type, each.name, each.weight) for each in projection.inputs] == [
        ("keyword", "proof", 1.0),
        ("keyword", "quick", -2.0),
        ("partition", "topic:law", 0.25),
    ]
    rules = routing.decisions[0].rules
    assert rules is not None
    assert [(each.type, each.name) for each in rules.conditions] == [("projection", "hard"), ("partition", "topic:law")]


@pytest.mark.parametrize(
    ("before", "after", "line", "path", "message"),
    [
        ("source: total", "source: totl", 17, "projections.mappings[0].source", "no score named `totl`"),
        ("name: effort, weight: 2", "name: total, weight: 2", 14, "projections.scores[1]", "made of itself"),
        ("keyword, name: quick", "keyword, name: quik", 13, "projections.scores[0].inputs[1]", "`quik`"),
        ("keyword, name: quick", "word, name: quick", 13, "projections.scores[0].inputs[1].type", "`word`"),
        ("weight: -1", "weight: much", 13, "projections.scores[0].inputs[1].weight", "number"),
        ("gte: 0.8", "at: 0.8", 17, "projections.mappings[0].outputs[0].at", "unknown key `at`"),
        ("default: other", "default: heath", 9, "projections.partitions[0]", "not one of the members"),
        ("[law, other]", "[lw, other]", 9, "projections.partitions[0].members[0]", "no domain signal named `lw`"),
        ("projection, name: hard", "projection, name: hrad", 20, "decisions[0].rules.conditions[0].name", "`hrad`"),
    ],
)
def test_mistakes_are_shown_where_they_were_written(
    before: str, after: str, line: int, path: str, message: str
) -> None:
    assert before in THREE_LAYERS
    with pytest.raises(ConfigError) as caught:
        loads(THREE_LAYERS.replace(before, after))
    assert any(
        (problem.line, problem.path) == (line, f"routing.{path}") and message in problem.message
        for problem in caught.value.problems
        if problem.severity == "error"
    ), str(caught.value)


async def test_sums_come_after_what_they_are_made_of() -> None:
    config = loads(THREE_LAYERS).config
    gatherer = Gatherer(config, None, TopicParameters(), Metrics())
    for text, score in (("prove it", None), ("briefly", None)):
        results = await gatherer.gather(SignalInput(ChatRequest.saying(text)))
        # Without an encoder the topic is unknown, and so is a sum with it.
        assert results.evaluations["projection", "hard"].measure is score
    alone = loads(THREE_LAYERS.replace(", {type: domain, name: law, weight: 0.25}", "")).config
    gatherer = Gatherer(alone, None, TopicParameters(), Metrics())
    for text, score in (("prove it", 1.0), ("prove it briefly", -1.0), ("hello", 0.0)):
        results = await gatherer.gather(SignalInput(ChatRequest.saying(text)))
        assert results.evaluations["projection", "hard"].measure == score
