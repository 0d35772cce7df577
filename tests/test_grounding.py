"""Answers compared with the documents and tool results of their request: a baseline that is said to be one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from backends import CHAT, PATHS, answering, asking, content_of, streaming

from triton_router.config import loads
from triton_router.dialects import DIALECTS
from triton_router.exchange import Forward, Request
from triton_router.grounding import NOTE, Sources
from triton_router.parts import PartReader
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics

CONFIG = """
providers: {models: [{name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}]}
routing:
  signals: {keywords: [{name: k, keywords: [tell]}]}
  decisions: [{name: all, modelRefs: [{model: own}], plugins: [{type: hallucination, configuration: SETTINGS}]}]
"""
REPORT = {"report": "The bridge of Avignon was finished in 1185 and had 22 arches over the Rhone."}
TRUE = "The bridge of Avignon was finished in 1185."
WRONG_YEAR = "The bridge of Avignon was finished in 1345."
OTHER = "Elephants usually sleep standing under large trees."


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        (TRUE, True),
        ("It had 22 arches over the river Rhone.", True),
        (WRONG_YEAR, False),
        (OTHER, False),
        ("Yes.", True),
    ],
)
def test_a_sentence_is_as_supported_as_its_words_are_in_one_source(sentence: str, supported: bool) -> None:
    request = DIALECTS[CHAT].parse(json.dumps(asking(CHAT, "x", "tell me", arguments=REPORT)).encode())
    sources = Sources(PartReader().read(request))
    assert sources
    assert (sources.unsupported(sentence, 0.5) == []) is supported
    assert not Sources(PartReader().read(DIALECTS[CHAT].parse(json.dumps(asking(CHAT, "x", "tell me")).encode())))


def test_scripts_without_spaces() -> None:
    request = asking(CHAT, "x", "讲讲", arguments={"report": "阿维尼翁桥建于十二世纪。"})
    sources = Sources(PartReader().read(DIALECTS[CHAT].parse(json.dumps(request).encode())))
    assert sources.unsupported("阿维尼翁桥建于十二世纪。大象站着睡觉。", 0.5) == ["大象站着睡觉。"]


def forwarded(settings: str, path: str = CHAT, **body: Any) -> tuple[Forward, Metrics]:
    async def route() -> tuple[Forward, Metrics]:
        metrics = Metrics()
        pipeline = Pipeline(compile_runtime(loads(CONFIG.replace("SETTINGS", settings))), None, {}, metrics)
        request = {**asking(path, "x", "tell me", **body), "model": "MoM"}
        outcome = await pipeline.route(Request("POST", path, {}, json.dumps(request).encode()))
        assert isinstance(outcome, Forward)
        return outcome, metrics

    return asyncio.run(route())


def received(outcome: Forward, answer: bytes, kind: str = "application/json") -> bytes:
    observer = outcome.observer
    assert observer is not None
    if not observer.on_headers(200, {"content-type": kind}):
        return answer
    got = observer.on_body(answer, last=True)
    observer.on_complete()
    observer.on_end()
    return answer if got is None else got


def counted(metrics: Metrics) -> float:
    return sum(
        sample.value
        for metric in metrics.screened.collect()
        for sample in metric.samples
        if sample.labels.get("outcome") == "unsupported" and sample.name.endswith("_total")
    )


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/v1/completions"])
def test_a_note_behind_an_answer_that_is_not_supported(path: str) -> None:
    settings = "{hallucination_action: body, include_hallucination_details: true}"
    outcome, metrics = forwarded(settings, path, arguments=REPORT)
    got = received(outcome, answering(path, f"{TRUE} {OTHER}"))
    assert content_of(path, got, streamed=False)[0] == f"{TRUE} {OTHER}{NOTE}\n- {OTHER}"
    assert counted(metrics) == 1
    outcome, metrics = forwarded(settings, path, arguments=REPORT)
    assert received(outcome, answering(path, TRUE)) == answering(path, TRUE)
    assert counted(metrics) == 0


def test_a_member_where_headers_are_gone() -> None:
    outcome, _ = forwarded("{enabled: true}", arguments=REPORT)
    got = json.loads(received(outcome, answering(CHAT, OTHER)))
    assert got.pop("x-vsr-response-warnings") == ["hallucination"]
    assert got == json.loads(answering(CHAT, OTHER))


@pytest.mark.parametrize("action", ["header", "body"])
def test_a_stream_is_counted_and_stays_as_it_is(action: str) -> None:
    outcome, metrics = forwarded(f"{{hallucination_action: {action}}}", arguments=REPORT, stream=True)
    stream = streaming(CHAT, [OTHER[:9], OTHER[9:]])
    assert received(outcome, stream, "text/event-stream") == stream
    assert counted(metrics) == 1


def test_without_documents_or_switched_off_nothing_is_looked_at() -> None:
    for settings, body in (("{enabled: true}", {}), ("{enabled: false}", {"arguments": REPORT})):
        outcome, metrics = forwarded(settings, **body)  # type: ignore[arg-type]
        assert received(outcome, answering(CHAT, OTHER)) == answering(CHAT, OTHER)
        assert counted(metrics) == 0
