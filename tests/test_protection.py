"""Protection: what must not reach a model does not, however that is asked for and in which API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from triton_router.config import ConfigError, loads
from triton_router.dialects import ChatRequest
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.explain import explain
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

CARD = "4111 1111 1111 1111"

CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards: [{name: cloud, loras: [{name: legal-lora}]}]
  signals:
    pii: [{name: personal}]
    keywords: [{name: hello, keywords: [hello]}]
    metadata: [{name: asked, key: k, predicate: {exists: true}}]
  decisions:
    - {name: first, priority: 100, rules: {type: keyword, name: hello}, modelRefs: [{model: cloud}]}
    - name: no personal data
      rules: {type: pii, name: personal}
      modelRefs: [{model: own}]
      plugins: [PLUGIN]
entrypoints: [{model_names: [quick], recipe: speed}]
recipes: [{name: speed, routing: {decisions: [{name: all, modelRefs: [{model: cloud}]}]}}]
"""
BLOCK = "{type: block, configuration: {message: Not here., status: 451}}"

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": f"hello {CARD}"}]},
    "/v1/completions": {"prompt": f"hello {CARD}"},
    "/v1/responses": {"input": f"hello {CARD}"},
    "/v1/messages": {"messages": [{"role": "user", "content": f"hello {CARD}"}], "max_tokens": 9},
}


def ask(plugin: str, body: dict[str, Any], path: str = "/v1/chat/completions", extra: str = "") -> tuple[Outcome, str]:
    """The outcome, and what metrics say of protection."""

    async def run() -> tuple[Outcome, str]:
        metrics = Metrics()
        config = CONFIG.replace("PLUGIN", plugin) + extra
        pipeline = Pipeline(compile_runtime(loads(config)), None, {}, metrics)
        outcome = await pipeline.route(Request("POST", path, {}, json.dumps(body).encode()))
        await asyncio.sleep(0)
        samples = [each for metric in metrics.blocked.collect() for each in metric.samples]
        return outcome, ",".join(each.labels["outcome"] for each in samples if each.name.endswith("_total"))

    return asyncio.run(run())


@pytest.mark.parametrize("model", ["MoM", "quick", "cloud", "own", "legal-lora"])
@pytest.mark.parametrize("path", BODIES)
def test_it_is_refused_however_the_model_is_asked_for(path: str, model: str) -> None:
    reply, counted = ask(BLOCK, BODIES[path] | {"model": model}, path)
    assert isinstance(reply, Reply)
    error = json.loads(reply.body)
    assert (reply.status, error["error"]["message"], counted) == (451, "Not here.", "blocked")
    assert (error.get("type") == "error") is (path == "/v1/messages")
    assert reply.headers["x-vsr-blocked"] == "no personal data"
    assert CARD.encode() not in reply.body


@pytest.mark.parametrize("model", ["MoM", "quick", "cloud", "legal-lora"])
def test_what_has_none_goes_where_it_went(model: str) -> None:
    outcome, counted = ask(BLOCK, {"model": model, "messages": [{"role": "user", "content": "hello"}]})
    assert isinstance(outcome, Forward)
    assert outcome.headers["x-gateway-base-model-name"] == "cloud"
    assert counted == ""
    assert "x-vsr-blocked" not in outcome.response_headers


def test_a_result_of_a_tool_counts_too() -> None:
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "tool", "tool_call_id": "1", "content": CARD},
        {"role": "user", "content": "hello again"},
    ]
    reply, _ = ask(BLOCK, {"model": "cloud", "messages": messages})
    assert isinstance(reply, Reply) and reply.status == 451


@pytest.mark.parametrize(
    "body", [{"model": "cloud", "input": CARD}, {"model": "own", "input": ["x", CARD]}, {"model": "own", "x": CARD}]
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank"])
def test_paths_that_are_passed_on_are_protected_too(path: str, body: dict[str, Any]) -> None:
    reply, counted = ask(BLOCK, body, path)
    assert isinstance(reply, Reply)
    assert (reply.status, counted, json.loads(reply.body)["error"]["code"]) == (451, "blocked", "blocked")
    reply, _ = ask("{type: fast_response, configuration: {message: No.}}", body, path)
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (403, "No.")
    outcome, _ = ask(BLOCK, {"model": "cloud", "input": "hello"}, path)
    assert isinstance(outcome, Forward)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": [[1, 2]]}), ("/v1/embeddings", {"input": [1, 2]})]
)
@pytest.mark.parametrize(("choice", "status"), [("deny", 503), ("ignore", None)])
def test_tokens_cannot_be_read_so_they_are_unknown(
    choice: str, status: int | None, path: str, body: dict[str, Any]
) -> None:
    outcome, _ = ask(f"{{type: block, configuration: {{on_unknown: {choice}}}}}", body | {"model": "cloud"}, path)
    assert getattr(outcome, "status", None) == status


def chat_of(*content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "cloud", "messages": [{"role": "user", "content": each} for each in content], **more}


def blocks(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


FUNCTION = {"name": "pay", "description": "Pays."}


@pytest.mark.parametrize(
    "body",
    [
        chat_of("hello", tools=[{"type": "function", "function": FUNCTION | {"name": f"pay with {CARD}"}}]),
        chat_of(
            "hello", tools=[{"type": "function", "function": FUNCTION | {"parameters": {"enum": [4111111111111111]}}}]
        ),
        chat_of(
            "hello", tools=[{"type": "function", "function": FUNCTION | {"parameters": {"properties": {CARD: {}}}}}]
        ),
        chat_of("hello", documents=[{"title": "x", "data": CARD}]),
        chat_of("hello", documents=[{"url": f"data:{CARD}"}]),
        chat_of("hello") | {"messages": [{"role": f"user: {CARD}", "content": "hello"}]},
        chat_of("hello") | {"messages": [{"role": "tool", "tool_call_id": "4111111111111111", "content": "hello"}]},
        chat_of(blocks("It is 4111 1111", " 1111 1111.")),
        chat_of(CARD.replace(" ", "\x00 ")),
        chat_of("".join(f"\u3164{each}" for each in CARD)),
        chat_of("hello", prediction={"type": "content", "content": CARD}),
        chat_of("hello", response_format={"type": "json_schema", "json_schema": {"name": CARD}}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/", "/v1/chat%2Fcompletions"])
def test_it_is_refused_wherever_a_model_may_read_it(path: str, body: dict[str, Any]) -> None:
    reply, counted = ask(BLOCK, body, path)
    assert isinstance(reply, Reply) and (reply.status, counted) == (451, "blocked")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "CARD", "content": "hello"}]}', {}, 400),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "CARD", "c\\u006fntent": "hello"}]}', {}, 400),
        (b'\xef\xbb\xbf{"model": "cloud", "messages": [{"role": "user", "content": "CARD"}]}', {}, 451),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "\\u0034111 1111 1111 1111"}]}', {}, 451),
        ('{"model": "cloud", "messages": [{"role": "user", "content": "CARD"}]}'.encode("utf-16"), {}, 400),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "CARD"}]} {}', {}, 400),
        (b'--x\r\nContent-Disposition: form-data; name="messages"\r\n\r\nCARD\r\n--x--', {}, 400),
        (b"{}", {"content-encoding": "gzip"}, 415),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "CARD"}], "chat_template": "{{ x }}"}', {}, 451),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "drac"}], "chat_template": "{{ x }}"}', {}, 503),
        (b'{"model": "cloud", "messages": [{"role": "user", "content": "x"}], "prompt_token_ids": [1, 2]}', {}, 503),
    ],
)
def test_bodies_that_two_readers_may_understand_in_two_ways(body: bytes, headers: dict[str, str], status: int) -> None:
    body = body.replace("CARD".encode("utf-16")[2:], CARD.encode("utf-16")[2:]).replace(b"CARD", CARD.encode())
    pipeline = Pipeline(compile_runtime(loads(CONFIG.replace("PLUGIN", BLOCK))), None, {}, Metrics())
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        reply = asyncio.run(pipeline.route(Request("POST", path, headers, body)))
        assert isinstance(reply, Reply) and reply.status == status


def test_an_earlier_turn_counts() -> None:
    messages = [
        {"role": "user", "content": CARD},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "x"},
    ]
    reply, _ = ask(BLOCK, {"model": "cloud", "messages": messages})
    assert isinstance(reply, Reply) and reply.status == 451


@pytest.mark.parametrize("model", ["MoM", "cloud"])
def test_a_shadow_says_so_and_changes_nothing(model: str) -> None:
    plugin = "{type: block, configuration: {shadow: true}}"
    outcome, counted = ask(plugin, BODIES["/v1/chat/completions"] | {"model": model})
    assert isinstance(outcome, Forward)
    assert outcome.headers["x-gateway-base-model-name"] == "cloud"
    assert (outcome.response_headers["x-vsr-would-block"], counted) == ("no personal data", "shadow")


def test_their_way_of_blocking_answers_named_models_too() -> None:
    plugin = "{type: fast_response, configuration: {message: No.}}"
    body = {"model": "cloud", "messages": [{"role": "user", "content": CARD}]}
    reply, _ = ask(plugin, body)
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "No."
    assert reply.headers["x-vsr-selected-decision"] == "no personal data"


UNKNOWN = CONFIG.replace("type: pii, name: personal", "type: authz, name: staff").replace(
    "pii: [{name: personal}]",
    "role_bindings: [{name: staff, role: staff, subjects: [{kind: Group, name: staff}]}]",
)


@pytest.mark.parametrize("model", ["MoM", "cloud"])
@pytest.mark.parametrize(("choice", "result"), [("deny", 503), ("route", "own"), ("ignore", "cloud")])
def test_a_signal_that_nobody_knows_does_what_the_operator_chose(
    choice: str, result: int | str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "CONFIG", UNKNOWN)
    plugin = f"{{type: block, configuration: {{on_unknown: {choice}}}}}"
    extra = "global: {services: {authz: {fail_open: true}}}\n"
    outcome, _ = ask(plugin, {"model": model, "messages": [{"role": "user", "content": "hello"}]}, extra=extra)
    if isinstance(outcome, Forward):
        assert outcome.headers["x-gateway-base-model-name"] == result
    else:
        assert (outcome.status, outcome.headers["x-vsr-blocked"]) == (result, "no personal data")


CONFINE = "{type: confine}"


@pytest.mark.parametrize("model", ["MoM", "quick", "cloud", "legal-lora"])
def test_personal_data_stays_with_the_models_that_may_see_it(model: str) -> None:
    """Also once it was said: the conversation that follows has it too."""
    turns = [("user", f"hello {CARD}"), ("assistant", "ok"), ("user", "and now?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    outcome, counted = ask(CONFINE, {"model": model, "messages": messages})
    assert isinstance(outcome, Forward)
    assert (outcome.headers["x-gateway-base-model-name"], counted) == ("own", "confined")
    assert json.loads(outcome.body or b"{}")["model"] == "own"
    outcome, counted = ask(CONFINE, {"model": model, "messages": messages[1:]})
    assert isinstance(outcome, Forward)
    assert (outcome.headers["x-gateway-base-model-name"], counted) == ("cloud", "")


def test_a_model_that_may_see_it_is_left() -> None:
    outcome, counted = ask(CONFINE, BODIES["/v1/chat/completions"] | {"model": "own"})
    assert isinstance(outcome, Forward)
    assert (outcome.headers["x-selected-model"], counted, outcome.body) == ("own", "", None)


def test_embeddings_are_confined_too() -> None:
    outcome, counted = ask(CONFINE, {"model": "cloud", "input": CARD}, "/v1/embeddings")
    assert isinstance(outcome, Forward)
    assert (outcome.headers["x-selected-model"], counted) == ("own", "confined")


@pytest.mark.parametrize(("choice", "result"), [("deny", 503), ("route", "own"), ("ignore", "cloud")])
def test_what_cannot_be_checked_is_confined(choice: str, result: int | str) -> None:
    plugin = f"{{type: confine, configuration: {{on_unknown: {choice}}}}}"
    outcome, _ = ask(plugin, {"model": "cloud", "prompt": [1, 2]}, "/v1/completions")
    to = outcome.headers["x-selected-model"] if isinstance(outcome, Forward) else outcome.status
    assert to == result


def test_an_explanation_says_who_blocks() -> None:
    async def run() -> dict[str, Any]:
        pipeline = Pipeline(compile_runtime(loads(CONFIG.replace("PLUGIN", BLOCK))), None, {}, Metrics())
        text = f"hello {CARD}"
        record = await pipeline.decide(SignalInput(ChatRequest.saying(text)), everything=True)
        return explain(record)

    explained = asyncio.run(run())
    assert explained["outcome"]["blocked"] == "no personal data"
    assert [each["name"] for each in explained["decisions"]] == ["first"]


def test_the_audit_line_says_what_matched_where_and_never_the_text(tmp_path: Path) -> None:
    extra = f"global: {{services: {{observability: {{audit: {{enabled: true, path: {tmp_path}/audit.jsonl, "
    extra += "include_prompt: true}}}}\n"
    ask(BLOCK, BODIES["/v1/chat/completions"] | {"model": "cloud"}, extra=extra)
    text = (tmp_path / "audit.jsonl").read_text()
    line = json.loads(text)
    assert (line["path"], line["blocked"]) == ("blocked", "no personal data")
    assert {
        "type": "pii",
        "name": "personal",
        "value": 1.0,
        "threshold": None,
        "where": "CREDIT_CARD in user 0",
    } in line["matched_signals"]
    assert "4111" not in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rules: {type: pii, name: personal}", "description: all", "would block every request"),
        ("modelRefs: [{model: own}]", "description: none", "`route` needs modelRefs"),
    ],
)
def test_a_block_that_makes_no_sense_does_not_load(old: str, new: str, message: str) -> None:
    config = CONFIG.replace("PLUGIN", "{type: block, configuration: {on_unknown: route}}").replace(old, new)
    with pytest.raises(ConfigError, match=message):
        loads(config)


@pytest.mark.parametrize(("unknown", "status"), [("fail_request", 503), ("no_match", None), ("match", None)])
@pytest.mark.parametrize("path", sorted(BODIES))
def test_a_rule_may_fail_what_it_cannot_judge(unknown: str, status: int | None, path: str) -> None:
    rule = f"{{operator: NOT, conditions: [{{type: embedding, name: near, on_unknown: {unknown}}}]}}"
    config = CONFIG.replace("PLUGIN", BLOCK)
    config = config.replace("    pii:", "    embeddings: [{name: near, candidates: [x]}]\n    pii:")
    config = config.replace(
        "    - {name: first", f"    - {{name: far, priority: 200, rules: {rule}}}\n    - {{name: first"
    )

    async def run(model: str) -> Outcome:
        pipeline = Pipeline(compile_runtime(loads(config)), None, {}, Metrics())
        body = json.dumps(BODIES[path] | {"model": model}).replace(CARD, "there")
        return await pipeline.route(Request("POST", path, {}, body.encode()))

    outcome = asyncio.run(run("MoM"))
    if status is None:
        assert isinstance(outcome, Forward)
        assert outcome.response_headers["x-vsr-selected-decision"] == ("far" if unknown == "no_match" else "first")
    else:
        assert isinstance(outcome, Reply) and outcome.status == status
        assert b"signal_unavailable" in outcome.body or path == "/v1/messages"
    # A client that names a model is not routed.
    assert isinstance(asyncio.run(run("cloud")), Forward)
