"""More requests than a worker can serve: signals are shed first, then requests are refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from triton_router.config import loads
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.generations import Generations
from triton_router.inference import Encoder, Encoding, load_bundle
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[1]
CONFIG = (
    (ROOT / "config" / "aibrix.yaml").read_text()
    + """
global: {services: {extproc: {overload: {shed_after_ms: 100, refuse_after_ms: 500}}}}
"""
)
PROMPT = "Walk me through the proof, please."


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def generations(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Generations:
    async def encode(*_: object) -> Encoding:
        pytest.fail("the encoder was asked")

    monkeypatch.setattr(Encoder, "encode", encode)
    return Generations(loads(CONFIG), *load_bundle(ROOT / "model_repository" / "bundle.json"), metrics)


async def routed(
    generations: Generations, waited: float, path: str = "/v1/chat/completions", prompt: str = PROMPT
) -> Outcome:
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": prompt}]}).encode()
    return await generations.current.route(Request("POST", path, {}, body, waited=waited))


async def test_a_worker_that_is_behind_routes_by_keywords_alone(generations: Generations, metrics: Metrics) -> None:
    outcome = await routed(generations, 0.3)
    assert isinstance(outcome, Forward)
    assert outcome.response_headers["x-vsr-selected-decision"] == "thinking_decision"
    # Nothing else could have won, so nothing is missing.
    assert "x-vsr-degraded" not in outcome.response_headers
    outcome = await routed(generations, 0.3, prompt="What is the derivative of a sum?")
    assert isinstance(outcome, Forward)
    assert outcome.response_headers["x-vsr-degraded"] == "triton"
    shed = {"signal": "encoder", "reason": "behind"}
    assert metrics.registry.get_sample_value("router_signal_errors_total", shed) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages"])
async def test_one_that_is_far_behind_refuses(generations: Generations, metrics: Metrics, path: str) -> None:
    outcome = await routed(generations, 0.6, path)
    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.headers["retry-after"]) == (429, "1")
    assert json.loads(outcome.body)["error"]["type"] == "rate_limit_error"
    assert metrics.registry.get_sample_value("router_refused_requests_total") == 1


async def test_it_still_says_which_models_there_are(generations: Generations) -> None:
    outcome = await generations.current.route(Request("GET", "/v1/models", waited=9.0))
    assert isinstance(outcome, Reply) and outcome.status == 200


async def test_the_log_says_so_once(generations: Generations, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            await routed(generations, 0.6)
    assert [record.message for record in caplog.records] == ["requests wait too long for this worker"]
