"""What decisions hang on: nothing is asked that cannot change the outcome, and everything that can."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_router.config import Config, loads
from triton_router.decisions import Settling, choose
from triton_router.generations import Generations
from triton_router.inference import Encoder, Encoding, load_bundle
from triton_router.pipeline import Forward, Request
from triton_router.signals import Evaluation
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"
NAMES = ("a", "b", "c")

unknowns = st.sampled_from([None, None, None, "match", "no_match", "fail_request"])
leaves = st.builds(
    lambda name, unknown: {"type": "keyword", "name": name, "on_unknown": unknown}, st.sampled_from(NAMES), unknowns
)
rules = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.builds(lambda parts: {"operator": "AND", "conditions": parts}, st.lists(below, min_size=1, max_size=3)),
        st.builds(
            lambda parts, unknown: {"operator": "OR", "conditions": parts, "on_unknown": unknown},
            st.lists(below, min_size=1, max_size=3),
            unknowns,
        ),
        st.builds(lambda part: {"operator": "NOT", "conditions": [part]}, below),
    ),
    max_leaves=5,
)
decisions = st.lists(
    st.fixed_dictionaries({"rules": st.none() | rules, "priority": st.integers(0, 2), "tier": st.integers(0, 1)}),
    min_size=1,
    max_size=4,
)
values = st.sampled_from([None, True, False])


def configured(tables: Sequence[dict[str, Any]], strategy: str) -> Config:
    named = [{"name": f"d{index}", **table} for index, table in enumerate(tables)]
    return Config.model_validate({"routing": {"decisions": named, "strategy": strategy}})


def certainly(matched: bool | None) -> Evaluation:
    return Evaluation(matched, float(bool(matched)))


@settings(deadline=None)
@given(
    decisions, st.sampled_from(["priority", "confidence"]), st.dictionaries(st.sampled_from(NAMES), values), st.data()
)
def test_what_is_not_asked_cannot_change_the_decision(
    tables: list[dict[str, Any]], strategy: str, certain: dict[str, bool | None], data: st.DataObject
) -> None:
    """However the signals that nothing hangs on would have come out, the same decision wins, or the request fails."""
    routing = configured(tables, strategy).routing
    evaluations = {("keyword", name): certainly(value) for name, value in certain.items()}
    pending = {("keyword", name) for name in NAMES if name not in certain}
    still = Settling(routing.decisions, strategy)(evaluations, pending)
    assert set(still.signals) <= pending
    answers = {key: certainly(data.draw(values)) for key in sorted(still.signals)}
    others = sorted(pending - set(still.signals))
    chosen = choose(routing.decisions, evaluations | answers, strategy)
    for rest in itertools.product([None, True, False], repeat=len(others)):
        full = evaluations | answers | {key: certainly(value) for key, value in zip(others, rest, strict=True)}
        choice = choose(routing.decisions, full, strategy)
        assert (choice.unsettled is None) == (chosen.unsettled is None)
        assert chosen.unsettled is not None or choice.decision == chosen.decision


def test_of_equal_decisions_the_first_declared_fails_the_request() -> None:
    rules = [{"type": "keyword", "name": "b", "on_unknown": "fail_request"}, {"type": "keyword", "name": "a"}]
    evaluations = {("keyword", "b"): certainly(None), ("keyword", "a"): certainly(True)}
    first, second = configured([{"rules": each} for each in rules], "priority").routing.decisions
    assert choose([first, second], evaluations, "priority").unsettled is first
    assert choose([second, first], evaluations, "priority").decision is second
    assert choose([second, first], evaluations, "priority").unsettled is None


def test_a_signal_that_may_save_a_request_is_asked() -> None:
    """As things stand the request fails; `b` may still make the decision match."""
    conditions = [{"type": "keyword", "name": "a"}, {"type": "keyword", "name": "b", "on_unknown": "fail_request"}]
    routing = configured([{"rules": {"operator": "OR", "conditions": conditions}}], "priority").routing
    a, b = ("keyword", "a"), ("keyword", "b")
    assert Settling(routing.decisions, "priority")({a: certainly(None)}, {b}).signals == {b}


def test_a_signal_on_which_it_hangs_whether_a_request_fails_is_asked() -> None:
    """The rule is unknown either way; if `b` matches, no part that must be known is to blame."""
    must = {"operator": "OR", "conditions": [{"type": "keyword", "name": "a", "on_unknown": "fail_request"},
                                             {"type": "keyword", "name": "b"}]}  # fmt: skip
    rule = {"operator": "AND", "conditions": [{"type": "keyword", "name": "a"}, must]}
    routing = configured([{"rules": rule}], "priority").routing
    a, b = ("keyword", "a"), ("keyword", "b")
    assert Settling(routing.decisions, "priority")({a: certainly(None)}, {b}).signals == {b}


CONFIG = """
providers:
  models:
    - {name: big, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:2"}]}
  defaults: {default_model: small}
routing:
  signals:
    domains: [{name: math}, {name: other}]
    keywords: [{name: thorough, keywords: [step by step]}, {name: brief, keywords: [briefly]}]
  decisions:
    - {name: think, priority: 3, rules: {type: keyword, name: thorough}, modelRefs: [{model: big}]PLUGINS}
    - {name: sums, priority: 2, rules: {type: domain, name: math}, modelRefs: [{model: big}]}
    - {name: short, priority: 1, rules: {type: keyword, name: brief}, modelRefs: [{model: small}]}
"""
CACHE = ", plugins: [{type: semantic-cache}]"


@pytest.mark.parametrize(
    ("prompt", "plugins", "calls", "decision"),
    [
        ("Explain it step by step.", "", 0, "think"),
        ("Explain it step by step.", CACHE, 1, "think"),
        ("Explain it briefly.", "", 1, "short"),
        ("Explain it.", "", 1, None),
    ],
)
async def test_a_keyword_rule_at_the_top_costs_no_call(
    monkeypatch: pytest.MonkeyPatch, prompt: str, plugins: str, calls: int, decision: str | None
) -> None:
    bundle, tokenizers = load_bundle(BUNDLE)
    calls_made: list[str] = []

    async def encode(
        encoder: Encoder, text: str, beside: Sequence[str] = (), cut: object = None, **_: object
    ) -> Encoding:
        calls_made.append(text)
        heads = {head.name: np.eye(len(head.labels), dtype=np.float32)[-1] for head in encoder.trunk.heads}
        assert encoder.trunk.embedding is not None
        return Encoding(np.eye(encoder.trunk.embedding.dimension, dtype=np.float32)[0], heads, 1, 1.0)

    monkeypatch.setattr(Encoder, "encode", encode)
    generations = Generations(loads(CONFIG.replace("PLUGINS", plugins)), bundle, tokenizers, Metrics())
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": prompt}]}).encode()
    outcome = await generations.current.route(Request("POST", "/v1/chat/completions", {}, body))
    assert isinstance(outcome, Forward)
    assert outcome.response_headers.get("x-vsr-selected-decision") == decision
    assert len(calls_made) == calls
