"""Signals that are a label of one head, on a Triton that chooses the second label where it sees the word `wrong`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from sites import bundle_with, site_of

from triton_router.config import loads
from triton_router.errors import BundleError
from triton_router.exchange import Request
from triton_router.generations import Generations
from triton_router.telemetry import Metrics

FACTS = {
    "name": "fact_check",
    "output": "fact_check",
    "labels": ["NO_FACT_CHECK_NEEDED", "FACT_CHECK_NEEDED"],
}
FEEDBACK = {
    "name": "user_feedback",
    "output": "user_feedback",
    "labels": ["none", "wrong_answer", "satisfied", "need_clarification", "want_different"],
}
MODALITY = {"name": "modality", "output": "modality", "labels": ["text", "image"]}

CONFIG = """
providers:
  defaults: {default_model: small}
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: facts, backend_refs: [{endpoint: "127.0.0.1:2"}]}
    - {name: better, backend_refs: [{endpoint: "127.0.0.1:3"}]}
    - {name: painter, backend_refs: [{endpoint: "127.0.0.1:4"}]}
routing:
  signals: SIGNALS
  decisions:
    - {name: d, rules: RULE, modelRefs: [{model: better}]}
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000}}
"""
PLAIN = "Which river flows through Paris?"
MARKED = "Which river flows through the wrong city?"


def configured(signals: str, rule: str) -> str:
    return CONFIG.replace("SIGNALS", signals).replace("RULE", rule)


def chat(*contents: str) -> Request:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]
    return Request("POST", "/v1/chat/completions", {}, json.dumps({"model": "MoM", "messages": messages}).encode())


async def models(text: str, heads: list[dict[str, Any]], *requests: Request) -> list[str]:
    async with site_of(text, heads, "wrong") as site:
        outcomes = [await site.generations.current.route(request) for request in requests]
    return [outcome.headers["x-selected-model"] for outcome in outcomes]


@pytest.mark.parametrize(
    ("signal", "of"),
    [
        ("fact_check: [{name: needs_fact_check}]", "fact_check, name: needs_fact_check"),
        ("fact_check: [{name: balance_needs_fact_check}]", "fact_check, name: balance_needs_fact_check"),
        ("fact_check: [{name: a, label: FACT_CHECK_NEEDED, threshold: 0.85}]", "fact_check, name: a"),
        ("modality: [{name: DIFFUSION}]", "modality, name: DIFFUSION"),
        ("modality: [{name: image}]", "modality, name: image"),
    ],
)
async def test_what_the_head_says_of_the_prompt(signal: str, of: str) -> None:
    text = configured(f"{{{signal}}}", f"{{type: {of}}}")
    assert await models(text, [FACTS, MODALITY], chat(PLAIN), chat(MARKED)) == ["small", "better"]


async def test_the_other_label_and_a_threshold_that_is_not_reached() -> None:
    text = configured("{fact_check: [{name: no_fact_check_needed}]}", "{type: fact_check, name: no_fact_check_needed}")
    assert await models(text, [FACTS], chat(PLAIN), chat(MARKED)) == ["better", "small"]
    text = configured("{modality: [{name: AR, threshold: 0.95}]}", "{type: modality, name: AR}")
    assert await models(text, [MODALITY], chat(PLAIN)) == ["small"]


async def test_feedback_is_the_last_turn_alone_and_follows_an_answer() -> None:
    text = configured("{user_feedbacks: [{name: wrong_answer}]}", "{type: user_feedback, name: wrong_answer}")
    requests = [
        chat(PLAIN, "The Rhine.", "No, that is wrong."),
        chat(MARKED, "Which city?", "and why?"),
        chat("No, that is wrong."),
    ]
    assert await models(text, [FEEDBACK], *requests) == ["better", "small", "small"]


async def test_one_call_serves_the_domain_and_all_of_them() -> None:
    signals = "{domains: [{name: law}], fact_check: [{name: needs_fact_check}], modality: [{name: image}]}"
    rule = "{operator: OR, conditions: [{type: domain, name: law}, {type: fact_check, name: needs_fact_check}, "
    async with site_of(
        configured(signals, rule + "{type: modality, name: image}]}"), [FACTS, MODALITY], "wrong"
    ) as site:
        site.triton.rows = 0
        await site.generations.current.route(chat(PLAIN))
        assert site.triton.rows == 1


async def test_a_sum_counts_them() -> None:
    signals = """
    fact_check: [{name: needs_fact_check}]
    user_feedbacks: [{name: wrong_answer}]
  projections:
    scores:
      - name: care
        method: weighted_sum
        inputs:
          - {type: fact_check, name: needs_fact_check, weight: 1}
          - {type: user_feedback, name: wrong_answer, weight: 1}
    mappings: [{name: careful, source: care, method: threshold_bands, outputs: [{name: high, gte: 0.5}]}]"""
    text = configured(signals, "{type: projection, name: high}")
    assert await models(text, [FACTS, FEEDBACK], chat(PLAIN), chat(MARKED)) == ["small", "better"]


@pytest.mark.parametrize("rule", ["{{type: {0}}}", "{{operator: NOT, conditions: [{{type: {0}}}]}}"])
async def test_without_the_head_they_are_unknown(rule: str, caplog: pytest.LogCaptureFixture) -> None:
    text = configured("{modality: [{name: AR}]}", rule.format("modality, name: AR"))
    with caplog.at_level(logging.WARNING):
        assert await models(text, [FACTS], chat(PLAIN), chat(MARKED)) == ["small", "small"]
    assert "no head `modality`" in caplog.text


async def test_a_name_whose_label_the_head_lacks_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    text = configured("{modality: [{name: BOTH}]}", "{operator: NOT, conditions: [{type: modality, name: BOTH}]}")
    with caplog.at_level(logging.WARNING):
        assert await models(text, [MODALITY], chat(PLAIN)) == ["small"]
    assert "no label that its name means" in caplog.text


def test_a_label_that_is_not_the_heads_does_not_load() -> None:
    text = configured("{modality: [{name: a, label: imag}]}", "{type: modality, name: a}").replace("ADDRESS", "h:1")

    async def made() -> None:
        Generations(loads(text), *bundle_with([MODALITY]), Metrics())

    with pytest.raises(BundleError, match="did you mean `image`"):
        asyncio.run(made())


def test_a_name_that_means_nothing_is_a_warning_with_its_line() -> None:
    text = configured("{user_feedbacks: [{name: rong_answer}]}", "{type: user_feedback, name: rong_answer}")
    (problem,) = [each for each in loads(text.replace("ADDRESS", "h:1")).warnings if "label" in each.message]
    assert (problem.line, problem.path) == (10, "routing.signals.user_feedbacks[0].name")
    assert "`wrong_answer`?" in problem.message


@pytest.mark.parametrize(
    ("kind", "name", "description", "label"),
    [
        ("user_feedbacks", "user_reports_incorrect_answer", "", "wrong_answer"),
        ("user_feedbacks", "correction-needed", "", "wrong_answer"),
        ("user_feedbacks", "retry", "The user asks for an alternative.", "want_different"),
        ("user_feedbacks", "user_dissatisfied", "", "wrong_answer"),
        ("user_feedbacks", "thankful", "", "satisfied"),
        ("modality", "image_generation", "", "image"),
        ("fact_check", "verification-needed", "", "fact_check_needed"),
        ("fact_check", "no_facts", "", "no_fact_check_needed"),
    ],
)
def test_a_name_of_ones_own_is_read_by_its_words(kind: str, name: str, description: str, label: str) -> None:
    signal = f'{{{kind}: [{{name: {name}, description: "{description}"}}]}}'
    of = {"user_feedbacks": "user_feedback"}.get(kind, kind)
    text = configured(signal, f"{{type: {of}, name: {name}}}").replace("ADDRESS", "h:1")
    assert [each for each in loads(text).warnings if f"is taken as the label `{label}`" in each.message]


async def test_feedback_by_a_name_of_ones_own() -> None:
    text = configured("{user_feedbacks: [{name: incorrect}]}", "{type: user_feedback, name: incorrect}")
    requests = [chat(PLAIN, "The Rhine.", "No, that is wrong."), chat(PLAIN, "The Seine.", "and why?")]
    assert await models(text, [FEEDBACK], *requests) == ["better", "small"]


async def test_a_rule_on_one_label_of_a_classifier() -> None:
    signals = "{classifiers: [{name: c, head: modality, labels: [text, image]}]}"
    rule = "{type: classifier, name: c, label: image, predicate: {gte: 0.5}}"
    assert await models(configured(signals, rule), [MODALITY], chat(PLAIN), chat(MARKED)) == ["small", "better"]
    both = configured(signals, "{type: classifier, name: c}")
    assert await models(both, [MODALITY], chat(PLAIN), chat(MARKED)) == ["better", "better"]


async def test_other_parts_are_read_where_a_signal_names_them() -> None:
    signals = "{classifiers: [{name: c, head: modality, labels: [image], parts: [assistant]}]}"
    text = configured(signals, "{type: classifier, name: c}")
    requests = [chat(PLAIN, "You are wrong.", PLAIN), chat(MARKED, "The Rhine.", MARKED), chat(MARKED)]
    assert await models(text, [MODALITY], *requests) == ["better", "small", "small"]
