"""Files of probes: what they ask, whether it came so, and why not."""

from __future__ import annotations

import asyncio
import json
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from triton_router.config import ConfigError, loads
from triton_router.dialects import ChatRequest
from triton_router.pipeline import Pipeline
from triton_router.probes import form, report, verdicts
from triton_router.runtime import compile_runtime
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    keywords: [{name: code, keywords: [python]}, {name: legal, keywords: [contract]}, {name: brief, keywords: [brief]}]
    context: [{name: long, min_tokens: 2000}]
    embeddings: [{name: near, threshold: 0.5, candidates: [hello]}]
  decisions:
    - name: law
      priority: 20
      rules:
        operator: AND
        conditions:
          - {type: keyword, name: legal}
          - {operator: NOT, conditions: [{type: keyword, name: brief}]}
      modelRefs: [{model: large}]
    - name: code
      priority: 10
      rules: {operator: OR, conditions: [{type: keyword, name: code}, {type: context, name: long}]}
      modelRefs: [{model: small}, {model: large}]
    - {name: greeting, priority: 5, rules: {type: embedding, name: near}}
    - {name: rest}
entrypoints: [{model_names: [desk], recipe: support}]
recipes: [{name: support, routing: {decisions: [{name: all}]}}]
"""


def file(tmp_path: Path, text: str) -> form.ProbeFile:
    path = tmp_path / "probes.yaml"
    path.write_text(textwrap.dedent(text))
    return form.read(path)


def results(probed: form.ProbeFile) -> list[verdicts.Result]:
    pipeline = Pipeline(compile_runtime(loads(CONFIG)), None, {}, Metrics())

    async def all_of_them() -> list[verdicts.Result]:
        outcomes = []
        for probe in form.probes(probed):
            request = ChatRequest.parse(probe.body)
            query = SignalInput(request, probe.headers)
            outcomes.append(verdicts.of_record(probe, await pipeline.decide(query, everything=True)))
        return outcomes

    return asyncio.run(all_of_them())


def one(tmp_path: Path, expected: dict[str, Any], **variant: Any) -> verdicts.Result:
    decision = {"id": "group", **expected, "variants": [{"id": "one", **variant}]}
    (result,) = results(file(tmp_path, json.dumps({"decisions": [decision]})))
    return result


def causes(result: verdicts.Result) -> list[str]:
    return [cause.text for cause in result.causes]


def test_a_probe_that_passes(tmp_path: Path) -> None:
    expected = {"expected_decision": "law", "expected_alias": "large"}
    result = one(tmp_path, expected, query="Read this contract.", expected_signals={"keywords": ["legal"]})
    assert result.passed and not result.ruleless and not result.missing and not result.causes


def test_the_signal_that_does_not_match_is_the_cause(tmp_path: Path) -> None:
    result = one(tmp_path, {"expected_decision": "law"}, query="Hello", expected_signals={"keyword": ["legal", "code"]})
    assert not result.passed and result.ruleless and result.decision == "rest"
    assert causes(result) == ["keyword:legal does not match: 0"]
    assert [cause.signal for cause in result.missing] == ["keyword:legal", "keyword:code"]


def test_a_signal_under_not_is_the_cause_where_it_matches(tmp_path: Path) -> None:
    result = one(tmp_path, {"expected_decision": "law"}, query="A brief contract.")
    assert causes(result) == ["keyword:brief matches and must not: 1"]


def test_the_nearest_part_of_an_or_is_the_cause_and_counts_are_shown(tmp_path: Path) -> None:
    result = one(tmp_path, {"expected_decision": "code"}, query="Hello")
    assert len(result.causes) == 1 and result.causes[0].signal in ("keyword:code", "context:long")


def test_what_cannot_be_evaluated_says_so(tmp_path: Path) -> None:
    assert causes(one(tmp_path, {"expected_decision": "greeting"}, query="Hi"))[0] == (
        "embedding:near could not be evaluated"
    )


def test_a_decision_that_lost_names_the_one_that_won(tmp_path: Path) -> None:
    result = one(tmp_path, {"expected_decision": "code"}, query="A contract about python.")
    assert causes(result) == [
        "`law` matched too and wins (tier 0, priority 20 against tier 0, priority 10)",
        "keyword:legal matches and must not: 1",
    ]
    assert result.causes[0].signal == "keyword:legal"


@pytest.mark.parametrize(
    ("expected", "cause"),
    [
        ({"expected_decision": "code", "expected_alias": "large"}, None),
        ({"expected_decision": "code", "expected_alias": "huge"}, "serves instead of `huge`"),
        ({"expected_decision": "code", "expected_recipe": "support"}, "the recipe `default` was used instead of"),
        ({"expected_decision": "all", "expected_recipe": "support", "model": "desk"}, None),
        ({"expected_decision": "nothing"}, "there is no decision `nothing`"),
    ],
)
def test_recipes_and_models(tmp_path: Path, expected: dict[str, Any], cause: str | None) -> None:
    result = one(tmp_path, expected, query="In python, please.")
    assert result.passed is (cause is None)
    assert cause is None or cause in result.causes[0].text


def requested(tmp_path: Path, **variant: Any) -> dict[str, Any]:
    fixtures = {"images": {"dot": {"media_type": "image/png", "data_base64": "aGVsbG8="}}}
    decision = {"id": "d", "expected_decision": "rest", "model": "m", "variants": [{"id": "v", **variant}]}
    (probe,) = form.probes(file(tmp_path, json.dumps({"fixtures": fixtures, "decisions": [decision]})))
    body: dict[str, Any] = json.loads(probe.body)
    return body


def test_queries_are_repeated_and_padded(tmp_path: Path) -> None:
    content = requested(tmp_path, query="Hi", repeat=3)["messages"][0]["content"]
    assert content == "Hi Hi Hi"
    for placement, expected in (("before", "abab Hi"), ("after", "Hi abab"), ("around", "ab Hi ab")):
        padding = {"text": "ab", "repeat": 2, "placement": placement}
        assert requested(tmp_path, query="Hi", padding=padding)["messages"][0]["content"] == expected


def test_conversations_get_their_images_and_their_length(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Größe"}, {"type": "image_fixture", "fixture": "dot"}]}
    ]
    body = requested(
        tmp_path, messages=messages, tools=[{"type": "function", "function": {"name": "look"}}],
        generated_text={"message_index": 0, "content_index": 1, "target_text_bytes": 1000},
    )  # fmt: skip
    text, filler, image = body["messages"][0]["content"]
    assert len((text["text"] + filler["text"]).encode()) == 1000
    assert image == {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    assert body["model"] == "m" and body["tools"][0]["function"]["name"] == "look"


def test_mistakes_in_a_file_are_reported_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        file(
            tmp_path,
            """\
            decisions:
              - id: a
                expected_decison: law
                variants:
                  - {id: both, query: Hi, messages: []}
                  - {id: none}
            """,
        )
    report = [(problem.line, problem.path, problem.suggestion) for problem in caught.value.problems]
    assert report == [
        (2, "decisions[0].expected_decision", None),
        (3, "decisions[0].expected_decison", "expected_decision"),
        (5, "decisions[0].variants[0]", None),
        (6, "decisions[0].variants[1]", None),
    ]


SUITE = """\
name: desk
acceptance: {min_probe_pass_rate: 50, min_decision_pass_rate: 0}
coverage: {min_tag_pass_rate: {language: 100}}
decisions:
  - id: law
    expected_decision: law
    variants:
      - {id: hit, query: A contract, tags: ["language:en", hard]}
      - {id: miss, query: Ein Vertrag, tags: ["language:de"]}
  - id: rest
    expected_decision: rest
    variants: [{id: chat, query: Hello there}]
"""


def test_rates_by_tag_and_what_is_asked_for(tmp_path: Path) -> None:
    probed = file(tmp_path, SUITE)
    outcome = results(probed)
    summary = report.summarize(probed, outcome)
    assert (summary.probes, summary.decisions, summary.ruleless) == (report.Rate(2, 3), report.Rate(1, 2), 1)
    assert summary.tags["language:en"] == report.Rate(1, 1) and summary.tags["language:de"] == report.Rate(0, 1)
    assert summary.causes == {"keyword:legal": 1}
    assert summary.unmet == ("tag language: 50.0 % pass, 100 % are required",)
    table = report.as_table(summary, outcome)
    assert "MISS law/miss: expected law, got rest" in table and "not met: tag language" in table


def test_json_and_junit_say_the_same_and_no_prompt(tmp_path: Path) -> None:
    probed = file(tmp_path, SUITE)
    outcome = results(probed)
    summary = report.summarize(probed, outcome)
    data = orjson.loads(orjson.dumps(report.as_data(probed, summary, outcome)))
    assert data["accepted"] is False and [each["passed"] for each in data["results"]] == [True, False, True]
    suite = ElementTree.fromstring(report.as_junit(probed, summary, outcome))
    assert suite.get("tests") == "3" and suite.get("failures") == "1"
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["miss"]
    assert "Vertrag" not in json.dumps(data) + report.as_junit(probed, summary, outcome)
