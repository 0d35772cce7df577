"""Random input at every edge: no crash, no traceback, no 5xx. `make fuzz` runs these with many more examples."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import eventually, serving
from test_discovery import backend, configuration

from triton_router.config import ConfigError, loads
from triton_router.discovery import Discovery
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.extproc import wire
from triton_router.extproc.server import SERVICE
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.selection import LoadedAdapters
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

SAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))

# Each kind of signal and plugin that reads bodies and needs no server.
CONFIG = """
providers:
  defaults: {default_model: m, embedding_model: m}
  models:
    - {name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: n, hidden: true, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards:
    - {name: m, loras: [{name: a}]}
  signals:
    keywords:
      - {name: word, keywords: [hello, "step by step"]}
      - {name: close, keywords: [mathematics], fuzzy_match: true, fuzzy_threshold: 2}
    structure:
      - {name: long, feature: {type: count, source: {type: regex, pattern: '[?]'}}, predicate: {gt: 3}}
    language:
      - {name: en}
  decisions:
    - name: first
      priority: 3
      rules: {operator: OR, conditions: [{type: keyword, name: word}, {type: keyword, name: close}]}
      modelRefs: [{model: m, lora_name: a}]
      plugins:
        - {type: system_prompt, configuration: {system_prompt: S}}
        - {type: semantic-cache, configuration: {mode: exact}}
    - name: second
      priority: 2
      rules: {operator: OR, conditions: [{type: structure, name: long}, {type: language, name: en}]}
      modelRefs: [{model: m}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
    - {name: rest, modelRefs: [{model: m}]}
"""
TEXT = [{"role": "user", "content": "hello there"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "MoM", "messages": TEXT, "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto",
    },
    "/v1/completions": {"model": "MoM", "prompt": ["hello", "there"], "n": 2},
    "/v1/responses": {
        "model": "MoM", "instructions": "Be kind.", "previous_response_id": None,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    },
    "/v1/messages": {
        "model": "MoM", "max_tokens": 5, "system": [{"type": "text", "text": "Be kind."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    },
    "/v1/embeddings": {"model": "m", "input": ["hello", [1, 2, 3]]},
}  # fmt: skip
WORDS = [
    "",
    "\ud800",
    "\x00",
    "MoM",
    "m",
    "n",
    "a",
    "user",
    "system",
    "text",
    "hello",
    "é" * 300,
    "?" * 50,
    "{",
    "data:",
]
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "role", "content", "type",
                                                                                 "model", "messages", "usage",
                                                                                 "choices", "delta"]),
                                                                inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
headers = st.dictionaries(
    st.sampled_from(["content-type", "authorization", "traceparent", "x-request-id", "x-vsr-debug", "cookie",
                     "x-vsr-cache-control", "x-session-id", "accept-language"]),
    st.sampled_from(WORDS) | st.text(max_size=20), max_size=3,
)  # fmt: skip


def place_of(document: Any, draw: Any) -> tuple[Any, Any]:
    """A container in ``document`` and a key of it."""
    container, key = document, draw(st.sampled_from(sorted(document)))
    while isinstance(container[key], dict | list) and container[key] and draw(st.booleans()):
        container = container[key]
        key = draw(st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container))))
    return container, key


@st.composite
def bodies(draw: Any) -> tuple[str, bytes]:
    """A request whose body is nearly one of its API."""
    path = draw(st.sampled_from(sorted(BODIES)))
    document = json.loads(json.dumps(BODIES[path]))
    for _ in range(draw(st.integers(0, 3))):
        container, key = place_of(document, draw)
        container[key] = draw(odd)
    text = json.dumps(document).encode()
    match draw(st.integers(0, 9)):
        case 0:
            text = text[: draw(st.integers(0, len(text)))]
        case 1:
            at = draw(st.integers(0, len(text)))
            text = text[:at] + draw(st.binary(max_size=6)) + text[at:]
        case 2:
            text = text[:-1] + b',"model":' + json.dumps(draw(odd)).encode() + b"}"
        case 3:
            text = draw(st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe", b"", b"null", b'{"model":1e999}']))
    return path, text


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(compile_runtime(loads(CONFIG)), None, TopicParameters(), Metrics())


answers = st.lists(
    st.binary(max_size=30)
    | odd.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
    | st.sampled_from([b"data: [DONE]\n\n", b"event: message_delta\n", b'data: {"usage":{"prompt_tokens":"x"}}\n\n',
                       b'{"choices":[{"message":{"content":"hi"}}],"usage":{"total_tokens":-1}}', b"[" * 3000]),
    max_size=5,
)  # fmt: skip


@given(bodies(), headers, answers, st.sampled_from([200, 200, 204, 400, 500, 0]), st.sampled_from(
    ["application/json", "text/event-stream", "application/json; charset=\ud800", ""]))  # fmt: skip
def test_no_body_and_no_response_is_a_failure_of_the_router(
    pipeline: Pipeline,
    request_: tuple[str, bytes],
    request_headers: dict[str, str],
    pieces: list[bytes],
    status: int,
    kind: str,
) -> None:
    path, body = request_
    outcome = asyncio.run(pipeline.route(Request("POST", path, request_headers, body)))
    if isinstance(outcome, Reply):
        assert outcome.status < 500
        assert json.loads(outcome.body)
        return
    for name, value in {**outcome.headers, **outcome.response_headers}.items():
        assert name == name.lower() and isinstance(value, str)
    assert outcome.headers["x-gateway-base-model-name"] == "m"  # never the hidden one
    if (observer := outcome.observer) is not None:
        if observer.on_headers(status, {"content-type": kind}):
            for piece in pieces:
                observer.on_body(piece)
            observer.on_body(b"", last=True)
            observer.on_complete()
        observer.on_end()


# --- ext_proc ------------------------------------------------------------------------------------------------------


def message(drawn: random.Random) -> bytes:
    """One of Envoy's messages, with content that may be odd; now and then bytes that are none."""
    if drawn.random() < 0.05:
        return drawn.randbytes(drawn.randrange(40))
    made, kind = wire.ProcessingRequest(), drawn.choice(["headers", "headers", "body", "body", "trailers"])
    side = drawn.choice(["request", "request", "response"])
    part = getattr(made, f"{side}_{kind}")
    part.SetInParent()
    if kind == "headers":
        part.end_of_stream = drawn.random() < 0.3
        pairs = [(":method", b"POST"), (":path", b"/v1/chat/completions"), (":status", b"200"), ("x-\xe9", b"\xff\x00")]
        for name, value in drawn.sample(pairs, drawn.randrange(len(pairs) + 1)):
            part.headers.headers.add(key=name, raw_value=value)
    elif kind == "body":
        part.body = drawn.choice([b"", b"{", json.dumps(BODIES["/v1/chat/completions"]).encode(), drawn.randbytes(50)])
        part.end_of_stream = drawn.random() < 0.5
    made.protocol_config.request_body_mode = drawn.randrange(6)
    made.protocol_config.response_body_mode = drawn.randrange(6)
    return bytes(made.SerializeToString())


async def test_no_sequence_of_messages_harms_the_server(caplog: pytest.LogCaptureFixture) -> None:
    drawn = random.Random(19)
    count = settings.default.max_examples
    caplog.set_level(logging.ERROR)

    async def route(request: Request) -> Outcome:
        return Forward({"x-selected-model": "m"}, None, {"x-vsr-selected-model": "m"})

    async with serving(route) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        before = len(asyncio.all_tasks())
        process = channel.stream_stream(f"/{SERVICE}/Process")
        codes = set()
        for _ in range(count):
            call = process(iter([message(drawn) for _ in range(drawn.randrange(8))]))
            async with asyncio.timeout(60):
                if drawn.random() < 0.1:
                    call.cancel()
                    continue
                try:
                    async for _ in call:
                        pass
                except grpc.aio.AioRpcError:
                    pass
                codes.add(await call.code())
        await eventually(lambda: server.open_streams == 0)
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.INTERNAL}
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]


# --- configuration -------------------------------------------------------------------------------------------------

HOSTILE = ["[", "{", "&a", "*a", "!!python/object:os.system x", "1e999", ".nan", "~", "''", "\t", "- - -", "0x", "9999",
           "-1", "? :", "<<: *a", "|", "\u2028", "\x85", "!", "%YAML 9.9", "---", "..."]  # fmt: skip


@st.composite
def configurations(draw: Any) -> str:
    lines = draw(st.sampled_from(SAMPLES)).read_text().splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
            case 2:
                lines[at] = " " * draw(st.integers(0, 8)) + lines[at].lstrip()
            case 3:
                lines[at] = lines[at].split(":")[0] + ": " + draw(st.sampled_from(HOSTILE))
            case 4:
                lines[at] = lines[at] + draw(st.sampled_from(HOSTILE) | st.text(max_size=8))
            case _:
                lines[at] = lines[at].split(":")[0] + ": " + yaml.safe_dump(draw(odd), default_flow_style=True).strip()
    return "\n".join(lines)


@given(configurations())
def test_a_configuration_is_taken_or_refused_with_its_lines(text: str) -> None:
    try:
        loads(text)
    except ConfigError as error:
        assert error.problems and all(problem.line > 0 and problem.message for problem in error.problems)


# --- backends ------------------------------------------------------------------------------------------------------


async def test_no_list_of_models_ends_discovery() -> None:
    drawn, results = random.Random(19), list[LoadedAdapters]()
    listed = {"object": "list", "data": [{"id": "base", "parent": None}, {"id": "base-adapter", "parent": "base"}]}

    async def answer(writer: asyncio.StreamWriter) -> None:
        text = bytearray(json.dumps(listed).encode())
        for _ in range(drawn.randrange(4)):
            at = drawn.randrange(len(text))
            text[at : at + drawn.randrange(12)] = drawn.choice([b"{}", b"[", b"null", b'"', b"\\ud800", b"1e999", b""])
        head = drawn.choice([b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text),
                             b"HTTP/1.1 500 No\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n", b"",
                             b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"])  # fmt: skip
        writer.write(head + text)

    async with backend(answer) as endpoint:
        config = configuration(base=endpoint)
        discovery = Discovery(lambda: config, results.append, Metrics())
        for _ in range(settings.default.max_examples):
            async with asyncio.timeout(60):
                await discovery.ask()
    assert len(results) == settings.default.max_examples
