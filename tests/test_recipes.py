"""Several routing tables in one configuration: the virtual model's name, and headers, choose one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from triton_router import replies
from triton_router.config import loads
from triton_router.exchange import Forward, Reply, Request
from triton_router.explain import explain
from triton_router.pipeline import Pipeline
from triton_router.record import Record
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals: {keywords: [{name: hard, keywords: [prove]}]}
  decisions:
    - {name: hard, rules: {type: keyword, name: hard}, modelRefs: [{model: large}]}
    - {name: rest, modelRefs: [{model: small}]}
entrypoints:
  - {model_names: [acme/fast], recipe: speed, headers: {X-Team: law}}
  - {model_names: [acme/best, auto], recipe: accuracy, headers: {x-tier: gold}}
  - {model_names: [acme/fast], recipe: accuracy}
recipes:
  - name: speed
    description: Answers soon.
    routing:
      signals: {keywords: [{name: hard, keywords: [poem]}]}
      decisions:
        - name: hard
          rules: {type: keyword, name: hard}
          modelRefs: [{model: small}]
          plugins: [{type: fast_response, configuration: {message: No poems here.}}]
  - name: accuracy
    description: Answers well.
    routing:
      decisions: [{name: all, modelRefs: [{model: large}]}]
"""


def routers() -> tuple[Pipeline, Metrics]:
    metrics = Metrics()
    return Pipeline(compile_runtime(loads(CONFIG)), None, {}, metrics), metrics


async def route(
    pipeline: Pipeline, model: str | None, text: str, headers: dict[str, str] | None = None
) -> tuple[Any, Record]:
    named = {} if model is None else {"model": model}
    body = json.dumps({**named, "messages": [{"role": "user", "content": text}]}).encode()
    return await pipeline.handle(Request("POST", "/v1/chat/completions", headers or {}, body))


@pytest.mark.parametrize(
    ("model", "headers", "recipe", "decision", "serves"),
    [
        ("MoM", {}, None, "hard", "large"),
        (None, {}, None, "hard", "large"),
        ("auto", {}, None, "hard", "large"),
        ("vllm-sr/auto", {}, None, "hard", "large"),
        ("auto", {"x-tier": "gold"}, "accuracy", "all", "large"),
        ("acme/best", {"x-tier": "gold"}, "accuracy", "all", "large"),
        ("acme/fast", {}, "accuracy", "all", "large"),
        ("acme/fast", {"x-team": "tax"}, "accuracy", "all", "large"),
    ],
)
async def test_name_and_headers_choose_the_recipe(
    model: str | None, headers: dict[str, str], recipe: str | None, decision: str, serves: str
) -> None:
    outcome, record = await route(routers()[0], model, "Prove it.", headers)
    assert isinstance(outcome, Forward)
    response_headers = outcome.response_headers
    assert (response_headers.get("x-vsr-selected-recipe"), response_headers["x-vsr-selected-decision"]) == (
        recipe,
        decision,
    )
    assert outcome.headers["x-selected-model"] == serves
    assert (explain(record)["outcome"]["recipe"], record.log_fields().get("recipe")) == (recipe, recipe)


async def test_two_recipes_have_signals_and_decisions_of_one_name() -> None:
    pipeline, _ = routers()
    law = {"x-team": "law"}
    outcome, record = await route(pipeline, "acme/fast", "A poem, please.", law)
    assert isinstance(outcome, Reply) and b"No poems here." in outcome.body
    outcome, record = await route(pipeline, "acme/fast", "Prove it.", law)
    assert record.decision is None and record.recipe is not None and record.recipe.name == "speed"
    assert isinstance(outcome, Forward) and outcome.headers["x-selected-model"] == "small"
    assert [each["name"] for each in explain(record)["decisions"]] == ["hard"]
    assert set(record.scores()) == {"hard"}


async def test_a_name_without_its_headers_is_no_model() -> None:
    outcome, _ = await route(routers()[0], "acme/best", "Hello")
    assert isinstance(outcome, Reply) and outcome.status == 404
    error = json.loads(outcome.body)["error"]
    assert error["code"] == "model_not_found" and "headers" in error["message"]


def test_models_lists_the_entrypoints_with_their_recipes() -> None:
    pipeline = routers()[0]
    entries = replies.models(pipeline.catalog, pipeline.adapters, pipeline.runtime.access)
    listed = {entry["id"]: entry.get("description") for entry in entries}
    assert list(listed) == ["MoM", "auto", "acme/fast", "acme/best", "small", "large"]
    assert (listed["acme/best"], listed["acme/fast"]) == ("Answers well.", "Answers soon.")


async def test_requests_are_counted_by_recipe() -> None:
    pipeline, metrics = routers()
    await route(pipeline, "acme/fast", "A poem, please.", {"x-team": "law"})
    await route(pipeline, "acme/fast", "Hello")
    await route(pipeline, "MoM", "Hello")
    await asyncio.sleep(0.01)
    counted = {
        (sample.labels["recipe"], sample.labels["decision"])
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "router_requests_total" and sample.value == 1
    }
    assert counted == {("speed", "hard"), ("accuracy", "all"), ("", "rest")}


async def test_other_paths_treat_an_entrypoints_name_as_one_that_asks_to_choose() -> None:
    for name in ("acme/fast", "auto"):
        body = json.dumps({"model": name, "input": "text"}).encode()
        outcome = await routers()[0].route(Request("POST", "/v1/embeddings", {}, body))
        assert isinstance(outcome, Reply) and outcome.status == 400


async def test_without_a_model_every_request_gets_an_error_in_its_apis_shape() -> None:
    text = "routing: {decisions: [{name: d, rules: {operator: AND, conditions: []}}]}\n"
    pipeline = Pipeline(compile_runtime(loads(text)), None, {}, Metrics())
    for name in ("MoM", "anything"):
        outcome, _ = await route(pipeline, name, "hello")
        assert isinstance(outcome, Reply) and outcome.status in (404, 503)
        assert json.loads(outcome.body)["error"]["code"] in ("no_model", "model_not_found")
