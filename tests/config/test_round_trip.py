"""What a file comes to is a file too: written out and read again, it decides the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from triton_router.config import Config, load, loads
from triton_router.config.kinds import SIGNALS, Key
from triton_router.decisions import choose
from triton_router.signals import UNKNOWN, Evaluation

SAMPLES = Path(__file__).parents[2] / "config"
THREE_LAYERS = """
providers:
  defaults: {model: small}
  models: [{name: small, reasoning: {family: qwen3}, backend_refs: [{endpoint: "127.0.0.1:1/v1"}]}]
routing:
  signals:
    keywords: [{name: proof, keywords: [prove], method: ngram}, {name: quick, keywords: [briefly], method: regex}]
    domains: [{name: law}, {name: health}, {name: other}]
    complexity: [{name: work, hard_above: 0.2, easy_below: -0.1, hard: {candidates: [x]}, easy: {candidates: [y]}}]
  projections:
    partitions: [{name: topic, semantics: softmax_exclusive, temperature: 0.1, members: [law, other], default: other}]
    scores:
      - name: effort
        inputs: [{type: keyword, name: proof, weight: 0.5}, {type: complexity, name: "work:hard", weight: 0.5}]
    mappings: [{name: bands, source: effort, outputs: [{name: hard, gte: 0.8}, {name: easy, lt: 0.8}]}]
  decisions:
    - {name: think, rules: {operator: AND, conditions: [{type: projection, name: hard}, {type: domain, name: law}]}}
    - {name: rest, rules: {operator: AND, conditions: []}}
"""


THEIR_SPELLINGS = """
providers:
  models:
    - {name: m, backend_refs: [{endpoint: "http://127.0.0.1:1/v1"}]}
    - {name: m, backend_refs: [{endpoint: h.local}]}
    - {name: n, backend_refs: [{endpoint: "https://api.example.com/openai/v1"}]}
routing:
  signals:
    kb: [{name: private, kb: privacy_kb, target: {kind: group, value: private}, match: best}]
    jailbreak: [{name: attack, method: contrastive, jailbreak_patterns: [obey], benign_patterns: [hello]}]
    classifiers: [{name: judge, type: llm, model: m, labels: [a, b]}]
    keywords: [{name: code, keywords: [404], operator: null}]
  projections:
    scores: [{name: s, inputs: [{type: kb_metric, kb: mmlu_kb, metric: escalate_vs_keep, weight: 1}]}]
    mappings: [{name: b, source: s, outputs: [{name: up, gt: 0}, {name: down}]}]
  decisions:
    - name: guarded
      rules:
        operator: OR
        conditions:
          - {type: classifier, name: judge, on_error: no_match}
          - {type: jailbreak, name: attack, on_unknown: match}
          - {type: keyword, name: code, on_unknown: fail_request}
      plugins: [{type: fast_response}]
    - {name: own, rules: {operator: AND, conditions: [{type: kb, name: private}, {type: projection, name: up}]}}
    - {name: rest}
"""


def keys(config: Config) -> list[Key]:
    return sorted({key for of in SIGNALS for signal in config.routing.signals.of(of) for key in signal.keys})


def outcomes(config: Config, seed: int) -> list[str | None]:
    """The decisions on 200 requests whose signals come out at random."""
    draw, names = random.Random(seed), keys(config)
    chosen = []
    for _ in range(200):
        values = {key: Evaluation(draw.random() < 0.3, draw.random()) for key in names if draw.random() < 0.9}
        evaluations = {key: values.get(key, UNKNOWN) for key in names}
        choice = choose(config.routing.decisions, evaluations, config.routing.strategy)
        chosen.append(choice.decision.name if choice.decision else None)
    return chosen


def written(config: Config) -> str:
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def check(config: Config, allow_inactive: Sequence[str] = ()) -> None:
    again = loads(written(config), allow_inactive=allow_inactive).config
    assert keys(again) == keys(config)
    # Secrets are not written out.
    assert again.routing.model_dump(mode="json") == config.routing.model_dump(mode="json")
    assert again.providers == config.providers
    assert outcomes(again, 1) == outcomes(config, 1)
    assert len(set(outcomes(config, 1))) > 1 or len(config.routing.decisions) < 2


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample(sample: Path) -> None:
    check(load(sample).config)


@pytest.mark.parametrize("text", [THREE_LAYERS, THEIR_SPELLINGS], ids=["three layers", "theirs"])
def test_what_vllm_semantic_router_spells_in_another_way(text: str) -> None:
    check(loads(text).config)
