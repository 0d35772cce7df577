"""What is said of a request derives from its record."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from triton_router.cache.cache import Hit, Question
from triton_router.config import loads
from triton_router.errors import Refusal
from triton_router.exchange import Request
from triton_router.pipeline import Pipeline
from triton_router.record import Record
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}]
routing:
  signals: {keywords: [{name: hello, keywords: [hello]}]}
  decisions:
    - {name: greet, rules: {type: keyword, name: hello}, modelRefs: [{model: base}]}
"""
PROMPT = "hello, secret"
QUESTION = Question("e" * 64, "p" * 64, PROMPT, np.ones(2, np.float32), "greet", 0.9, 60.0, True, True)
HIT = Hit("semantic", "k" * 64, 0.98765, 12.3, "An answer.", None)


async def routed() -> Record:
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    pipeline = Pipeline(compile_runtime(loads(CONFIG)), None, TopicParameters(), Metrics())
    _, record = await pipeline.handle(Request("POST", "/v1/chat/completions", {"x-request-id": "r-1"}, body))
    return record


async def test_headers_and_lines_say_the_same() -> None:
    record = await routed()
    headers, fields = record.headers(), record.log_fields()
    assert headers["x-vsr-selected-decision"] == fields["decision"] == "greet"
    assert headers["x-vsr-selected-model"] == fields["model"] == "base"
    assert headers["x-vsr-response-path"] == "upstream" and fields["request_id"] == "r-1"
    assert {part.partition(";")[0] for part in headers["server-timing"].split(", ")} == set(fields["ms"])
    audit = record.audit_fields()
    assert audit["path"] == "routed" and audit["matched_decisions"] == ["greet"]
    assert [signal["name"] for signal in audit["matched_signals"]] == ["hello"]


async def test_a_miss_names_the_key_and_a_hit_its_entry() -> None:
    record = await routed()
    assert "x-vsr-cache-hit" not in record.headers()
    record.question = QUESTION
    assert record.headers()["x-vsr-cache-hit"] == "miss" and record.headers()["x-vsr-cache-key"] == QUESTION.exact
    record.question = dataclasses.replace(QUESTION, may_store=False)
    assert "x-vsr-cache-key" not in record.headers()
    record.hit = HIT
    headers = record.headers()
    assert (headers["x-vsr-cache-hit"], headers["x-vsr-cache-key"]) == ("semantic", HIT.key)
    assert (headers["x-vsr-cache-similarity"], headers["age"]) == ("0.9877", "12")


async def test_a_refused_request_shows_no_decision() -> None:
    record = await routed()
    record.error, record.path = Refusal(403, "no"), "error"
    assert record.headers() == {"x-vsr-config-generation": record.generation, "x-vsr-response-path": "error"}


async def test_a_repeat_knows_where_to_and_nothing_of_the_prompt() -> None:
    record = await routed()
    record.question = QUESTION
    essence = record.essence()
    assert "secret" not in repr(essence)
    again = Record(record.generation, "r-2", path="cache")
    again.repeat(essence, HIT)
    assert again.log_fields() == {
        "request_id": "r-2", "decision": "greet", "category": None, "model": "base", "repeat": True,
    }  # fmt: skip
    assert "server-timing" not in again.headers()
