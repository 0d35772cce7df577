"""The REST service while Triton is away: honest about what it does not know, and errors in OpenAI's shape."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from triton_router.api.app import create_app
from triton_router.config import loads
from triton_router.config.section import Section
from triton_router.errors import BundleError
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[1]
TEXT = {"text": "Walk me through a merger, step by step"}


@pytest.fixture
async def pipeline() -> AsyncIterator[Pipeline]:
    """The fifteen rules; nothing listens where Triton should be."""
    config = (ROOT / "config" / "aibrix.yaml").read_text() + '\nglobal: {inference: {endpoint: "127.0.0.1:9"}}\n'
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    pipeline = Generations(loads(config), bundle, tokenizers, Metrics()).current
    assert pipeline.encoders is not None
    for encoder in pipeline.encoders.watched:
        await encoder.probe(pipeline.prepare)
    yield pipeline
    for encoder in pipeline.encoders.watched:
        await encoder.close()


def client(pipeline: Pipeline, token: str | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(lambda: pipeline, token))
    return httpx.AsyncClient(transport=transport, base_url="http://router")


@pytest.fixture
async def rest(pipeline: Pipeline) -> AsyncIterator[httpx.AsyncClient]:
    async with client(pipeline) as rest:
        yield rest


async def test_it_is_alive_and_ready_and_says_what_is_missing(rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/health")).json() == {"status": "ok"}
    ready = (await rest.get("/ready")).json()
    assert ready["ready"] is True
    assert ready["degraded"] == {"triton": "unreachable"}
    models = (await rest.get("/info/models")).json()["models"]
    assert [(each["name"], each["ready"], each["failure"]) for each in models] == [
        ("minilm", False, "unreachable"),
        ("use-m3", False, "unreachable"),
        ("pairs", False, "unreachable"),
    ]


async def test_keywords_decide_and_domains_are_unknown(rest: httpx.AsyncClient) -> None:
    explained = (await rest.post("/api/v1/explain", json=TEXT)).json()
    assert explained["outcome"]["decision"] == "thinking_decision"
    assert explained["degraded"] == {"triton": "unreachable"}
    assert {s["matched"] for s in explained["signals"] if s["type"] == "domain"} == {None}


@pytest.mark.parametrize("path", ["/classify", "/api/v1/classify/intent"])
async def test_classification_claims_nothing(rest: httpx.AsyncClient, path: str) -> None:
    answer = (await rest.post(path, json={"text": "What is 2 + 2?"})).json()
    assert answer["classification"]["category"] == "other"
    assert answer["classification"]["confidence"] == 0.0
    assert answer["probabilities"] == {}
    assert answer["routing_decision"] is None
    assert answer["recommended_model"] == "llama3-8b-instruct"
    assert answer["degraded"] == ["triton"]


BATCH = {"texts": ["a", "b"]}
PAIR = {"text1": "a", "text2": "b"}


def is_error(answer: httpx.Response, status: int) -> bool:
    assert answer.status_code == status, answer.text
    return set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/v1/classify/batch", BATCH), ("/api/v1/embeddings", BATCH), ("/api/v1/similarity", PAIR)],
)
async def test_what_needs_the_encoder_is_503(rest: httpx.AsyncClient, path: str, body: Any) -> None:
    answer = await rest.post(path, json=body)
    assert is_error(answer, 503)
    assert answer.json()["error"]["code"] == "encoder_unavailable"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/classify", b"{"),
        ("/classify", b"{}"),
        ("/classify", b'{"text": ""}'),
        ("/classify", b'{"text": 7}'),
        ("/api/v1/classify/batch", b'{"texts": []}'),
        ("/api/v1/classify/batch", b'{"texts": [' + b'"x",' * 100 + b'"x"]}'),
    ],
)
async def test_malformed_bodies_are_400(rest: httpx.AsyncClient, path: str, content: bytes) -> None:
    assert is_error(await rest.post(path, content=content), 400)


async def test_unknown_paths_and_methods(rest: httpx.AsyncClient) -> None:
    assert is_error(await rest.get("/nowhere"), 404)
    assert is_error(await rest.get("/classify"), 405)


SECRETS = """
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  decisions:
    - name: all
      plugins:
        - type: header_mutation
          configuration: {add: [{name: x-key, value: hunter2}], update: [{name: x-other, value: hunter2}]}
global:
  model_catalog:
    modules:
      classifier:
        mcp:
          transport_type: http
          url: "https://mcp.example/hunter2/mcp?key=hunter2#hunter2"
          command: serve
          args: [--token, hunter2, --key=hunter2]
          env: {KEY: hunter2}
          http_headers: {authorization: hunter2}
  stores:
    semantic_cache:
      secret: hunter2
      redis: {url: "redis://ada:hunter2/@h:unter2@redis.example:6379/0?password=hunter2", password: hunter2}
      milvus: {uri: "https://root:hunter2@milvus.example:19530", token: "root:hunter2"}
  services:
    observability: {tracing: {exporter: {headers: {authorization: hunter2}}}}
"""


async def test_no_secret_of_the_configuration_is_shown() -> None:
    loaded = loads(SECRETS)
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), Metrics())
    async with client(pipeline) as rest:
        shown = (await rest.get("/config")).text
    assert "hunter2" not in shown and "unter2" not in shown
    assert "redis://**********@redis.example:6379/**********" in shown, "where it is, is no secret"
    assert "https://**********@milvus.example:19530" in shown
    mcp = loaded.config.global_.model_catalog.modules.classifier.mcp
    assert mcp is not None and mcp.url is not None and "hunter2" in mcp.url


def test_every_key_that_holds_a_secret_is_of_a_type_that_masks_it() -> None:
    """A key whose name speaks of secrets, or that takes an address with room for one."""
    speaks = re.compile(r"secret|password|token$|api_key$|^headers$|^http_headers$|^env$|^args$|^ur[il]$|^value$")
    # The flat form is converted, and never shown.
    others = ("triton_router.config.flat", "triton_router.config.flat_form")
    own = [each for each in every(Section) if each.__module__.startswith("triton_router.")]
    sections = [each for each in own if each.__module__ not in others]
    named = {
        f"{each.__name__}.{name}"
        for each in sections
        for name, field in each.model_fields.items()
        if speaks.search(name) and field.annotation is not bool
    }
    masked = {
        f"{each.__name__}.{name}"
        for each in sections
        for name, field in each.model_fields.items()
        if "SecretStr" in str(field.annotation) or "_masked" in f"{field.annotation} {field.metadata}"
    }
    # Compared with what everybody may see.
    plain = {"Entrypoint.headers", "KnowledgeTarget.value", "Variant.headers"}
    assert named - plain <= masked, named - masked
    assert {"McpSettings.args", "McpSettings.url", "RedisSettings.url", "MilvusSettings.uri"} <= masked


def every(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for inner in section.__subclasses__():
        yield from every(inner)


async def test_models_configuration_and_documentation(rest: httpx.AsyncClient, pipeline: Pipeline) -> None:
    listed = (await rest.get("/v1/models")).json()
    assert [entry["id"] for entry in listed["data"]] == ["MoM", "auto", "qwen3-8b", "llama3-8b-instruct"]
    shown = (await rest.get("/config")).json()
    assert shown["generation"] == pipeline.runtime.generation
    assert shown["config"]["global"]["inference"]["endpoint"] == "127.0.0.1:9"
    described = (await rest.get("/openapi.json")).json()
    page = (await rest.get("/docs")).text
    assert all(path in page for path in described["paths"])


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/config", None, 401), ("/config", "Bearer wrong", 401), ("/config", "Bearer s3cret", 200),
     ("/health", None, 200), ("/ready", None, 200)],
)  # fmt: skip
async def test_with_a_token_only_probes_are_open(pipeline: Pipeline, path: str, token: str | None, status: int) -> None:
    async with client(pipeline, "s3cret") as rest:
        answer = await rest.get(path, headers={"authorization": token} if token else {})
        assert answer.status_code == status
        assert status == 200 or is_error(answer, 401)


async def test_every_route_is_documented(rest: httpx.AsyncClient, pipeline: Pipeline) -> None:
    described = (await rest.get("/openapi.json")).json()["paths"]
    app: Any = create_app(lambda: pipeline)
    served: set[str] = {route.path for route in app.routes}
    assert served - set(described) == {"/openapi.json", "/docs"}


async def test_a_bundle_that_cannot_score_a_named_topic_is_refused() -> None:
    config = """
providers: {models: [{name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing: {signals: {domains: [{name: cybersecurity}]}}
"""
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    with pytest.raises(BundleError, match="cybersecurity"):
        Generations(loads(config), bundle.model_copy(update={"topics": {}}), tokenizers, Metrics())


def test_a_bundle_whose_topics_do_not_parse_is_refused(tmp_path: Path) -> None:
    document = json.loads((ROOT / "model_repository" / "bundle.json").read_bytes())
    document["topics"]["minilm"]["weights"] = "many"
    (tmp_path / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"topics\.minilm\.weights"):
        load_bundle(tmp_path / "bundle.json")


async def test_a_text_that_nothing_read_is_told_from_other(pipeline: Pipeline) -> None:
    """Nobody answers here, so nothing is read; the language is known without Triton."""
    async with client(pipeline) as rest:
        unread = (await rest.post("/classify", json={"text": "Mikä aiheuttaa korkean verenpaineen ja miksi?"})).json()
        assert unread["classification"]["read"] is False and unread["classification"]["reason"] == "not_read"
        assert unread["degraded"] == ["language"]
        down = (await rest.post("/classify", json={"text": "What causes high blood pressure?"})).json()
        assert down["classification"]["read"] is False and down["classification"]["reason"] == "unreachable"
        texts = {"texts": ["Mikä aiheuttaa korkean verenpaineen ja miksi?", "What causes high blood pressure?"]}
        rows = (await rest.post("/api/v1/classify/batch", json=texts)).json()["results"]
        assert [(row["read"], row["reason"]) for row in rows] == [(False, "not_read"), (False, "unreachable")]
