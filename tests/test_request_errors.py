"""Requests that no model can make sense of: what is wrong is said, in the shape of the API that was asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from triton_router.config import ConfigError, loads
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  defaults: {default_model: Qwen/Qwen3-8B DEFAULTS}
  models:
    - {name: Qwen/Qwen3-8B, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: embedder, provider_model_id: bge-m3, hidden: true, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards:
    - {name: Qwen/Qwen3-8B, context_window_size: 32K, loras: [{name: law}]}
  decisions:
    - name: all
      plugins: [{type: system_prompt, configuration: {mode: prepend, system_prompt: S}}]
"""


def routed(path: str, body: dict[str, Any] | None = None, *, defaults: str = "") -> Outcome:
    loaded = loads(CONFIG.replace(" DEFAULTS", defaults))
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), Metrics())
    method, content = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
    return asyncio.run(pipeline.route(Request(method, path, {}, content)))


def error(outcome: Outcome, status: int) -> dict[str, Any]:
    assert isinstance(outcome, Reply) and outcome.status == status
    details: dict[str, Any] = json.loads(outcome.body)["error"]
    return details


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": None}, "messages"),
        ("/v1/chat/completions", {"input": [{"role": "user", "content": "hi"}], "instructions": "x"}, "messages"),
        ("/v1/responses", {"input": []}, "input"),
        ("/v1/responses", {"messages": [{"role": "user", "content": "hi"}]}, "input"),
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": ""}, "prompt"),
    ],
)
def test_nobody_says_anything(path: str, body: dict[str, Any], param: str) -> None:
    details = error(routed(path, {"model": "MoM", **body}), 400)
    assert (details["type"], details["param"]) == ("invalid_request_error", param)
    assert ("/v1/responses" in details["message"]) == ("input" in body and param == "messages")


def test_nobody_says_anything_in_the_messages_api() -> None:
    outcome = routed("/v1/messages", {"model": "MoM", "max_tokens": 5, "system": "x", "messages": []})
    details = error(outcome, 400)
    assert isinstance(outcome, Reply) and json.loads(outcome.body)["type"] == "error"
    assert details["type"] == "invalid_request_error" and "messages" in details["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/responses", {"prompt": {"id": "p"}}),
        ("/v1/completions", {"prompt_embeds": "AAAA"}),
        ("/v1/completions", {"prompt": [1, 2, 3]}),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}),
    ],
)
def test_what_stands_for_a_conversation_is_one(path: str, body: dict[str, Any]) -> None:
    assert isinstance(routed(path, {"model": "MoM", **body}), Forward)


@pytest.mark.parametrize("model", [{"model": "MoM"}, {"model": "auto"}, {}])
def test_embeddings_need_a_model_of_their_own(model: dict[str, str]) -> None:
    details = error(routed("/v1/embeddings", {**model, "input": "x"}), 400)
    assert (details["param"], details["code"]) == ("model", "model_required")
    assert "embedding_model" in details["message"]
    outcome = routed("/v1/embeddings", {**model, "input": "x"}, defaults=", embedding_model: embedder")
    assert isinstance(outcome, Forward) and outcome.body is not None
    assert json.loads(outcome.body)["model"] == "bge-m3"
    assert outcome.headers["x-gateway-base-model-name"] == "embedder"


def test_an_embedding_model_that_nobody_declares_is_an_error_with_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        loads(CONFIG.replace(" DEFAULTS", ", embedding_model: embeder"))
    (problem,) = raised.value.problems
    assert (problem.line, problem.path, problem.suggestion) == (3, "providers.defaults.embedding_model", "embedder")


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("mom", "MoM"),
        ("openai/MoM", "MoM"),
        ("litellm_proxy/openai/auto", "auto"),
        ("qwen/qwen3-8b", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8", "Qwen/Qwen3-8B"),
        ("Law", "law"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_the_right_one(model: str, meant: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    for outcome in (routed("/v1/chat/completions", body), routed(f"/v1/models/{model}")):
        details = error(outcome, 404)
        assert details["code"] == "model_not_found" and f"Did you mean `{meant}`?" in details["message"]


def test_hidden_names_are_never_proposed() -> None:
    assert "mean" not in error(routed("/v1/models/embeddr"), 404)["message"]


def test_a_name_with_an_encoded_slash_is_found() -> None:
    outcome = routed("/v1/models/Qwen%2FQwen3-8B")
    assert isinstance(outcome, Reply) and json.loads(outcome.body)["id"] == "Qwen/Qwen3-8B"


def test_models_say_how_much_they_can_read() -> None:
    outcome = routed("/v1/models")
    assert isinstance(outcome, Reply)
    lengths = {entry["id"]: entry.get("max_model_len") for entry in json.loads(outcome.body)["data"]}
    assert lengths == {"MoM": None, "auto": None, "Qwen/Qwen3-8B": 32_000, "law": 32_000}
