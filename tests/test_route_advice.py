"""`POST /api/v1/route`: what it advises, applied to the request, is what Envoy would have forwarded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triton_router.api.app import create_app
from triton_router.config import loads
from triton_router.exchange import Forward, Request
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.pipeline import Pipeline
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[1]

CONFIG = """
version: v0.3
providers:
  defaults:
    default_model: base
    reasoning_families:
      qwen3: {type: chat_template_kwargs, parameter: enable_thinking}
  models:
    - name: base
      reasoning_family: qwen3
      backend_refs: [{endpoint: "127.0.0.1:9"}]
routing:
  modelCards:
    - {name: base, loras: [{name: law-lora}]}
  signals:
    keywords:
      - {name: prepended, keywords: [prepended]}
      - {name: inserted, keywords: [inserted]}
      - {name: replaced, keywords: [replaced]}
      - {name: capped, keywords: [capped]}
      - {name: closed, keywords: [closed]}
      - {name: either, keywords: [either]}
      - {name: kept, keywords: [kept]}
  decisions:
    - name: prepended
      rules: {type: keyword, name: prepended}
      modelRefs: [{model: base, lora_name: law-lora, use_reasoning: true}]
      plugins: [{type: system_prompt, configuration: {mode: prepend, system_prompt: NEW}}]
    - name: inserted
      rules: {type: keyword, name: inserted}
      modelRefs: [{model: base, use_reasoning: false}]
      plugins: [{type: system_prompt, configuration: {mode: insert, system_prompt: NEW}}]
    - name: replaced
      rules: {type: keyword, name: replaced}
      modelRefs: [{model: base}]
      plugins: [{type: system_prompt, configuration: {mode: replace, system_prompt: NEW}}]
    - name: capped
      rules: {type: keyword, name: capped}
      modelRefs: [{model: base}]
      plugins: [{type: request_params, configuration: {max_tokens_limit: 64, blocked_params: [logprobs]}}]
    - name: closed
      rules:
        operator: OR
        conditions: [{type: keyword, name: closed}, {type: keyword, name: either}]
      modelRefs: [{model: base}]
      plugins: [{type: fast_response, configuration: {message: We are closed.}}]
    - name: kept
      rules: {type: keyword, name: kept}
      modelRefs: [{model: base}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
global:
  router: {max_body_bytes: 4096}
  inference: {endpoint: "127.0.0.1:9"}
  stores: {semantic_cache: {enabled: true}}
"""
MOST = 4096
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def pipeline_of(config: str) -> Pipeline:
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    return Generations(loads(config), bundle, tokenizers, Metrics()).current


@pytest.fixture(scope="module")
async def pipeline() -> Pipeline:
    return pipeline_of(CONFIG)


@pytest.fixture(scope="module")
async def rest(pipeline: Pipeline) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(lambda: pipeline))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
        yield rest


def chat(text: str, **members: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **members}


def applied(advice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What a gateway does with the advice."""
    changed = {**body, **advice["set"], "model": advice["model"]}
    if advice["messages"] is not None:
        changed["messages"] = [body["messages"][m] if isinstance(m, int) else m for m in advice["messages"]]
    return {name: value for name, value in changed.items() if name not in advice["remove"]}


texts = st.sampled_from(["prepended", "inserted", "replaced", "capped", "hello"])
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant"])},
        optional={"content": st.none() | st.text(max_size=5) | st.just([{"type": "text", "text": "part"}, PICTURE])},
    ),
    max_size=5,
)
members = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 100),
        "logprobs": st.booleans(),
        "chat_template_kwargs": st.just({"other": 1}),
        "seed": st.just(2**70),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts, messages, members)
async def test_it_says_what_envoy_would_forward(
    rest: httpx.AsyncClient, pipeline: Pipeline, text: str, before: list[dict[str, Any]], others: dict[str, Any]
) -> None:
    body = {"model": "MoM", "messages": [*before, {"role": "user", "content": text}], **others}
    content = json.dumps(body).encode()
    outcome = await pipeline.route(Request("POST", "/v1/chat/completions", {}, content))
    assert isinstance(outcome, Forward) and outcome.body is not None
    advice = (await rest.post("/api/v1/route", content=content)).json()
    assert applied(advice, body) == json.loads(outcome.body)
    assert advice["base_model"] == outcome.headers["x-gateway-base-model-name"] == "base"


async def test_why(rest: httpx.AsyncClient) -> None:
    body = chat("prepended")
    advice = (await rest.post("/api/v1/route", json=body)).json()
    assert (advice["model"], advice["base_model"], advice["decision"]) == ("law-lora", "base", "prepended")
    assert (advice["confidence"], advice["reasoning"], advice["degraded"]) == (1.0, True, {})
    assert advice["scores"] == {name: float(name == "prepended") for name in advice["scores"]}
    assert list(advice["scores"]) == ["prepended", "inserted", "replaced", "capped", "closed", "kept"]


async def test_messages_that_stay_are_named_by_their_place(rest: httpx.AsyncClient) -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "prepended"}, PICTURE]},
    ]
    advice = (await rest.post("/api/v1/route", json={"messages": messages})).json()
    assert advice["messages"] == [{"role": "system", "content": "NEW"}, 0, 1]
    assert (await rest.post("/api/v1/route", json=chat("capped"))).json()["messages"] is None


async def test_nothing_matches(rest: httpx.AsyncClient) -> None:
    advice = (await rest.post("/api/v1/route", json=chat("hello"))).json()
    assert (advice["model"], advice["decision"], advice["confidence"]) == ("base", None, None)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_of_the_routers_own_is_a_text(rest: httpx.AsyncClient, streamed: bool) -> None:
    advice = (await rest.post("/api/v1/route", json=chat("closed", stream=streamed))).json()
    assert (advice["answer"], advice["decision"], advice["model"]) == ("We are closed.", "closed", "base")
    assert (advice["set"], advice["remove"], advice["messages"]) == ({}, [], None)


async def test_a_named_model_is_left_alone(rest: httpx.AsyncClient) -> None:
    body = chat("closed", model="law-lora")
    advice = (await rest.post("/api/v1/route", json=body)).json()
    assert (advice["model"], advice["base_model"], advice["decision"]) == ("law-lora", "base", None)
    assert applied(advice, body) == body


async def test_the_cache_is_neither_read_nor_filled(rest: httpx.AsyncClient, pipeline: Pipeline) -> None:
    assert pipeline.cache is not None
    for _ in range(3):
        advice = (await rest.post("/api/v1/route", json=chat("kept"))).json()
        assert (advice["decision"], advice["answer"]) == ("kept", None)
    assert await pipeline.cache.store.purge() == 0


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"messages": 7}', 400, None),
        (b'{"model": 7, "messages": []}', 400, None),
        (json.dumps(chat("x", model="nobody")).encode(), 404, "model_not_found"),
        (b" " * (MOST + 1), 413, None),
    ],
)
async def test_what_envoy_would_refuse_is_refused(
    rest: httpx.AsyncClient, content: bytes, status: int, code: str | None
) -> None:
    answer = await rest.post("/api/v1/route", content=content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == code


async def test_what_protection_forbids_is_refused() -> None:
    pipeline = pipeline_of("""
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]}
routing:
  signals:
    pii: [{name: card, pii_types_denied: [CREDIT_CARD]}, {name: mail, pii_types_denied: [EMAIL_ADDRESS]}]
  decisions:
    - {name: no cards, rules: {type: pii, name: card}, plugins: [{type: block}]}
    - {name: nobody's mail, rules: {type: pii, name: mail}, plugins: [{type: mask}]}
""")
    transport = httpx.ASGITransport(create_app(lambda: pipeline))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
        for text, code in (("4111 1111 1111 1111", "blocked"), ("jane@mail.example", "masking_unavailable")):
            refused = await rest.post("/api/v1/route", json=chat(text))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, code)
            assert text not in refused.text


async def test_decisions_that_ask_who_is_calling() -> None:
    pipeline = pipeline_of("""
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]}
routing:
  signals:
    role_bindings: [{name: staff, role: staff, subjects: [{kind: Group, name: staff}]}]
  decisions:
    - {name: staff, rules: {type: authz, name: staff}, modelRefs: [{model: base}]}
global:
  services: {authz: {identity: {set_by: gateway}}}
""")
    transport = httpx.ASGITransport(create_app(lambda: pipeline))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
        refused = await rest.post("/api/v1/route", json=chat("hi"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "identity_required")
        caller = {"x-authz-user-id": "ada", "x-authz-user-groups": "staff"}
        advice = (await rest.post("/api/v1/route", json=chat("hi"), headers=caller)).json()
        assert advice["decision"] == "staff"
