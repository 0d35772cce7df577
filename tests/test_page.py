"""The page at `/`: its files, its policy, the token, and what its views ask."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from page_state import service_state
from starlette.routing import Route

from triton_router.api.app import create_app
from triton_router.config import loads
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.pipeline import Pipeline
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "router" / "api" / "assets"
CONFIG = """
providers:
  models:
    - {name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: careful, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    keywords: [{name: proof, operator: OR, keywords: [step by step]}]
  decisions:
    - name: prove
      priority: 5
      rules: {operator: OR, conditions: [{type: keyword, name: proof}]}
      modelRefs: [{model: careful}]
      plugins: [{type: system_prompt, configuration: {system_prompt: Be exact.}}]
    - name: rest
      modelRefs: [{model: plain}]
global:
  inference: {endpoint: "127.0.0.1:9"}
  services: {api: {page: PAGE}, envoy: {port: 9}}
"""


def pipeline(page: str = "{}") -> Pipeline:
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    return Generations(loads(CONFIG.replace("PAGE", page)), bundle, tokenizers, Metrics()).current


def client(pipeline: Pipeline, token: str | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(lambda: pipeline, token))
    return httpx.AsyncClient(transport=transport, base_url="http://router")


@pytest.fixture
async def rest() -> AsyncIterator[httpx.AsyncClient]:
    async with client(pipeline()) as rest:
        yield rest


async def test_the_first_view_is_small_and_of_this_host(rest: httpx.AsyncClient) -> None:
    first = await rest.get("/")
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', first.text)
    # The playground is what comes first; its modules import each other.
    modules = {"/page/main.js", "/page/playground.js"}
    while more := {f"/page/{name}" for each in modules for name in imports(each)} - modules:
        modules |= more
    files = [await rest.get(path) for path in {*loaded, *modules}]
    assert {answer.status_code for answer in files} == {200}
    assert len(first.content) + sum(len(answer.content) for answer in files) < 100_000
    for path in ASSETS.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'`]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def imports(path: str) -> list[str]:
    return re.findall(r'from "\./([a-z]+\.js)"', (ASSETS / path.removeprefix("/page/")).read_text())


async def test_scripts_and_styles_come_from_files_alone(rest: httpx.AsyncClient) -> None:
    for path in ("/", "/page/main.js", "/page/page.css"):
        policy = (await rest.get(path)).headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert "unsafe" not in policy
    page = (ASSETS / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page) == []
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert [path.name for path in ASSETS.glob("*.js") if re.search(sinks, path.read_text())] == []


async def test_files_are_not_sent_twice(rest: httpx.AsyncClient) -> None:
    first = await rest.get("/page/main.js")
    again = await rest.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_key_takes_it_away() -> None:
    async with client(pipeline("{enabled: false}")) as rest:
        for path in ("/", "/page/main.js", "/api/v1/examples"):
            assert (await rest.get(path)).status_code == 404
        assert (await rest.get("/health")).status_code == 200


async def test_without_the_token_there_is_a_page_and_no_data() -> None:
    async with client(pipeline(), "secret") as rest:
        assert (await rest.get("/")).status_code == 200
        assert (await rest.get("/page/client.js")).status_code == 200
        for path in ("/page/../config", "/page/%2e%2e/config", "/page//config"):
            answer = await rest.get(path)
            assert answer.status_code in (401, 404) and "plain" not in answer.text
        allowed = await rest.get("/api/v1/examples", headers={"authorization": "Bearer secret"})
        assert allowed.json() == {"examples": [{"prompt": "step by step", "signal": "proof"}], "problem": None}


async def test_every_path_but_probes_and_files_needs_the_token() -> None:
    loaded, metrics = loads(CONFIG.replace("PAGE", "{}")), Metrics()
    generations = Generations(loaded, *load_bundle(ROOT / "model_repository" / "bundle.json"), metrics)
    state = service_state(loaded, generations, metrics)
    app = create_app(lambda: generations.current, "secret", state=state, troubles=lambda: {"worker 1": "a reason"},
                     rejected=lambda: ["router.yaml:3: error: `a name`"])  # fmt: skip
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert {"/api/v1/live", "/api/v1/status", "/api/v1/recorded", "/api/v1/compare", "/config"} <= paths
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as rest:
        for path in paths - {"/", "/page/{file}", "/health", "/ready"}:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
                assert (await rest.request(method, path)).status_code == 401, (method, path)
        ready = await rest.get("/ready")
        assert (ready.status_code, ready.json()["degraded"]) == (200, ["triton", "worker 1"])
        assert "reason" not in ready.text and "a name" not in ready.text
        allowed = await rest.get("/ready", headers={"authorization": "Bearer secret"})
        assert allowed.json()["degraded"]["worker 1"] == "a reason"
        assert allowed.json()["rejected"] == ["router.yaml:3: error: `a name`"]


REQUEST = {"model": "MoM", "messages": [{"role": "user", "content": "Prove it step by step"}]}


async def test_a_whole_request_is_explained_with_its_outgoing_body(rest: httpx.AsyncClient) -> None:
    explained = (await rest.post("/api/v1/explain", json={"request": REQUEST})).json()
    assert explained["outcome"]["decision"] == "prove"
    assert [decision["nearness"] for decision in explained["decisions"]] == [1.0, None]
    assert {stage["stage"] for stage in explained["stages"]} >= {"parse", "signals", "decision", "rewrite", "total"}
    outgoing = explained["outgoing"]
    assert outgoing["before"] != outgoing["after"]
    assert '"Be exact."' in outgoing["after"] and '"careful"' in outgoing["after"]
    assert outgoing["set_headers"]["x-selected-model"] == "careful"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/completions"])
async def test_every_dialect_is_explained(rest: httpx.AsyncClient, path: str) -> None:
    text = "Prove it step by step"
    bodies = {
        "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": text}]},
        "/v1/responses": {"input": text},
        "/v1/completions": {"prompt": text},
    }
    body = {"request": {"model": "MoM", **bodies[path]}, "path": path}
    explained = (await rest.post("/api/v1/explain", json=body)).json()
    assert explained["outcome"]["decision"] == "prove"


async def test_a_request_that_names_its_model_passes_through(rest: httpx.AsyncClient) -> None:
    explained = (await rest.post("/api/v1/explain", json={"request": REQUEST | {"model": "plain"}})).json()
    assert "outcome" not in explained
    assert (explained["outgoing"]["path"], explained["outgoing"]["model"]) == ("passthrough", "plain")


async def test_what_cannot_be_explained_is_an_error_as_everywhere(rest: httpx.AsyncClient) -> None:
    for body, status in (
        ({}, 400),
        ({"text": "a", "request": REQUEST}, 400),
        ({"request": {"model": "MoM", "messages": [1]}}, 400),
        ({"request": REQUEST | {"model": "nobody"}}, 404),
        ({"request": REQUEST, "path": "/config"}, 400),
    ):
        answer = await rest.post("/api/v1/explain", json=body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_explaining_a_request_counts_nothing() -> None:
    metrics = Metrics()
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    generations = Generations(loads(CONFIG.replace("PAGE", "{}")), bundle, tokenizers, metrics)
    async with client(generations.current) as rest:
        await rest.post("/api/v1/explain", json={"request": REQUEST})
    counted = [sample for family in metrics.registry.collect() for sample in family.samples
               if sample.name == "router_requests_total"]  # fmt: skip
    assert counted == []
    assert (await generations.live(0))["requests"] == []


async def test_sending_says_that_envoy_is_away(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/api/v1/send", json={"request": REQUEST})
    assert answer.status_code == 502
    assert "Envoy at 127.0.0.1:9" in answer.json()["error"]["message"]
    assert (await rest.post("/api/v1/send", json={"request": REQUEST, "path": "/config"})).status_code == 404


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_scripts_of_other_sites_send_nothing(rest: httpx.AsyncClient, site: str) -> None:
    answer = await rest.post("/api/v1/send", json={"request": REQUEST}, headers={"sec-fetch-site": site})
    assert answer.status_code == 403


async def test_parts_of_a_request_are_told_apart(rest: httpx.AsyncClient) -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Prove it step by step"}]
    explained = (await rest.post("/api/v1/explain", json={"request": {"model": "MoM", "messages": messages}})).json()
    assert [(part["kind"], part["text"]) for part in explained["parts"]] == [
        ("system", "Be short."),
        ("words", "Prove it step by step"),
    ]


async def test_the_configuration_in_force_can_be_read_again(rest: httpx.AsyncClient) -> None:
    text = (await rest.get("/config", params={"format": "yaml"})).text
    assert loads(text).config == pipeline().runtime.config
