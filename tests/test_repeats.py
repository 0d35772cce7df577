"""Exact repeats: answered from the memo before any signal is asked, unless something was amiss the first time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from triton_router.cache.cache import SemanticCache
from triton_router.cache.memory import MemoryStore
from triton_router.config import loads
from triton_router.config.services import ReplaySettings
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.replay import ReplayLog
from triton_router.runtime import compile_runtime
from triton_router.selection import LoadedAdapters
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  models:
    - {name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}
routing:
  modelCards:
    - {name: base, loras: [{name: law}]}
  signals:
    keywords: [{name: hello, keywords: [hello]}]
    embeddings: [{name: greeting, candidates: [good morning], threshold: 0.5}]
  decisions:
    - name: cached
      rules: RULES
      modelRefs: [{model: base, lora_name: law}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
global: {services: {observability: {audit: {enabled: AUDITED, path: "PATH"}}}}
"""
KEYWORD = "{type: keyword, name: hello}"
OR_GREETING = "{operator: OR, conditions: [{type: keyword, name: hello}, {type: embedding, name: greeting}]}"
ANSWER = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
BODY = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}).encode()


def pipeline(rules: str = KEYWORD, audit: Path | None = None, text: str = CONFIG) -> Pipeline:
    text = text.replace("RULES", rules).replace("AUDITED", str(audit is not None).lower())
    loaded, metrics = loads(text.replace("PATH", str(audit))), Metrics()
    settings = loaded.config.global_
    identity = settings.services.authz.identity
    cache = SemanticCache(MemoryStore(10), settings.stores.semantic_cache, identity, "sum", metrics)
    return Pipeline(compile_runtime(loaded), None, TopicParameters(), metrics, cache=cache)


async def route(pipeline: Pipeline, headers: dict[str, str] | None = None) -> Outcome:
    """Ask; a backend answers what is forwarded."""
    headers = {"authorization": "Bearer ada", **(headers or {})}
    outcome = await pipeline.route(Request("POST", "/v1/chat/completions", headers, BODY))
    if isinstance(outcome, Forward) and outcome.observer is not None:
        outcome.observer.on_headers(200, {"content-type": "application/json"})
        outcome.observer.on_body(json.dumps(ANSWER).encode(), last=True)
        outcome.observer.on_complete()
        outcome.observer.on_end()
        await asyncio.sleep(0.01)
    return outcome


def repeats(pipeline: Pipeline) -> float:
    labels = {"decision": "cached", "result": "repeat"}
    return pipeline._metrics.registry.get_sample_value("router_cache_lookups_total", labels) or 0.0


async def test_a_repeat_asks_no_signal() -> None:
    ours = pipeline()
    assert isinstance(await route(ours), Forward)
    again = await route(ours)
    assert isinstance(again, Reply) and again.headers["x-vsr-cache-hit"] == "exact"
    assert repeats(ours) == 1
    _, record = await ours.handle(Request("POST", "/v1/chat/completions", {"authorization": "Bearer ada"}, BODY))
    assert record.hit is not None and record.signals is None


async def test_headers_name_the_key_that_a_purge_takes() -> None:
    ours = pipeline()
    first = await route(ours)
    assert isinstance(first, Forward) and ours.cache is not None
    key = first.response_headers["x-vsr-cache-key"]
    again = await route(ours)
    assert isinstance(again, Reply) and again.headers["x-vsr-cache-key"] == key
    assert await ours.cache.purge(key, None) == 1
    assert isinstance(await route(ours), Forward)
    unkept = await route(pipeline(), {"cache-control": "no-store"})
    assert isinstance(unkept, Forward) and "x-vsr-cache-key" not in unkept.response_headers


async def test_what_the_base_answered_for_an_adapter_does_not_outlive_its_absence() -> None:
    ours = pipeline()
    ours.adapters = LoadedAdapters({"base": frozenset()})
    for _ in range(2):
        outcome = await route(ours)
        headers = outcome.response_headers if isinstance(outcome, Forward) else outcome.headers
        assert headers["x-vsr-adapter-fallback"] == "law"
    ours.adapters = LoadedAdapters({"base": frozenset({"law"})})
    back = await route(ours)
    assert isinstance(back, Forward) and back.headers["x-selected-model"] == "law"


GREETED = """  decisions:
    - {name: greeted, priority: 1, rules: {type: embedding, name: greeting}, modelRefs: [{model: base}]}
"""


async def test_what_was_decided_without_knowing_a_signal_is_decided_again() -> None:
    ours = pipeline(text=CONFIG.replace("  decisions:\n", GREETED))
    for _ in range(3):
        await route(ours)
    assert repeats(ours) == 0


async def test_a_signal_that_could_not_change_the_decision_is_not_missed() -> None:
    ours = pipeline(OR_GREETING)
    for _ in range(3):
        await route(ours)
    assert repeats(ours) == 2


async def test_a_repeat_is_accounted_for_as_any_request(tmp_path: Path) -> None:
    ours = pipeline(audit=tmp_path / "audit.jsonl")
    ours.journal.replay = ReplayLog(ReplaySettings())
    await route(ours)
    again = await route(ours)
    first, second = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert first["path"] == "routed" and second["path"] == "cache" and second["repeat"]
    assert all(first[name] == second[name] for name in ("generation", "decision", "model", "category", "request_id"))
    assert isinstance(again, Reply)
    assert ours.journal.replay.find(again.headers["x-vsr-replay-id"])["decision"] == "cached"  # type: ignore[index]


TWO_BASES = """
providers:
  models:
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards:
    - {name: large, loras: [{name: law}]}
    - {name: small, loras: [{name: law}]}
  decisions:
    - name: cached
      modelRefs: [{model: large, lora_name: law}, {model: small, lora_name: law}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
global: {router: {session_header: x-session}}
"""


async def test_an_adapter_of_one_name_on_another_base_answers_for_itself() -> None:
    ours = pipeline(text=TWO_BASES)
    made: dict[str, str] = {}
    for number in range(20):
        outcome = await route(ours, {"x-session": str(number)})
        if isinstance(outcome, Forward):
            base = outcome.headers["x-gateway-base-model-name"]
            assert base not in made, "asked again"
            made[base] = outcome.headers["x-selected-model"]
    assert made == {"large": "law", "small": "law"}


async def test_a_key_in_the_query_is_a_callers_own() -> None:
    made = pipeline()

    async def ask(path: str) -> Outcome:
        outcome = await made.route(Request("POST", path, {}, BODY))
        if isinstance(outcome, Forward) and outcome.observer is not None:
            outcome.observer.on_headers(200, {"content-type": "application/json"})
            outcome.observer.on_body(json.dumps(ANSWER).encode(), last=True)
            outcome.observer.on_complete()
            outcome.observer.on_end()
            await asyncio.sleep(0.01)
        return outcome

    for path in ("?api_key=ada", "?api_key=bob", "", "?beta=true"):
        assert isinstance(await ask(f"/v1/chat/completions{path}"), Forward)
        assert isinstance(await ask(f"/v1/chat/completions{path}"), Reply)
