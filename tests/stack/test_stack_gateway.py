"""A real Envoy with what we write for it: alone, and with the ext_proc server before demo backends."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from local_stack import Gateway, chat, free_port, is_openai_error, make_config, running, wait_for
from router_by_name import REFUSAL

from triton_router.config import Config

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    """The port of an ext_proc server that routes by the model's name."""
    with running("router_by_name.py") as port:
        yield port


def ask(gateway: Gateway, method: str, path: str, **request: Any) -> httpx.Response:
    """Send ``path`` as it is written; httpx would resolve its dots and slashes."""
    built = gateway.client.build_request(method, "/", **request)
    built.url = built.url.copy_with(raw_path=path.encode())
    return gateway.client.send(built)


# --- nobody answers as router --------------------------------------------------------------------------------------


def test_without_a_router_everything_fails_in_openai_shape(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str]
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]})
    spoofed = {"x-gateway-base-model-name": "m", "x-selected-model": "m"}
    for answer in (
        ask(gateway, "POST", "/v1/chat/completions", json=chat()),
        ask(gateway, "POST", "/v1/chat/completions", json=chat("m"), headers=spoofed),
        ask(gateway, "POST", "//v1/chat/completions", json=chat()),
        ask(gateway, "POST", "/v1/chat//completions", json=chat()),
        ask(gateway, "GET", "/v1/models"),
        ask(gateway, "GET", "/v1/models/m"),
        ask(gateway, "GET", "/health"),
    ):
        assert answer.status_code == 503, answer.request.url
        assert is_openai_error(answer), answer.request.url


def test_a_router_that_leaves_lets_nothing_through(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str]
) -> None:
    with running("router_that_leaves.py") as port:
        gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=port)
        for headers in ({}, {"x-gateway-base-model-name": "m", "X-Gateway-Base-Model-Name": "m"}):
            answer = gateway.client.post("/v1/chat/completions", json=chat("m"), headers=headers)
            assert answer.status_code == 503 and is_openai_error(answer)
            assert answer.json()["error"]["message"] == "The router did not handle the request."


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("POST", "/tokenize"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/chat/completions/../../load_lora_adapter"),
        ("POST", "/v1/chat/completions/%2e%2e/load_lora_adapter"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("DELETE", "/v1/models/m"),
        ("GET", "/v1/modelsx"),
        ("OPTIONS", "/v1/chat/completions"),
    ],
)
def test_other_paths_are_not_found_and_cost_no_ext_proc_call(
    start_gateway: Callable[..., Gateway], method: str, path: str
) -> None:
    gateway = start_gateway({"m": ["127.0.0.1:1"]})
    answer = ask(gateway, method, path)
    assert answer.status_code == 404 and is_openai_error(answer)
    assert gateway.stat("http.gateway.ext_proc.streams_started") == 0


def test_failing_open_reaches_the_default_model_without_internal_headers(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str]
) -> None:
    gateway = start_gateway({"m": [start_backend()], "n": ["127.0.0.1:1"]}, failure_mode_allow=True)
    forged = {
        "x-gateway-base-model-name": "n",
        "x-selected-model": "n",
        "X-VSR-Selected-Model": "spoofed",
        "x-vsr-debugger": "spoofed",
        "x-vsr-debug": "1",
        "x-vsr-cache-control": "no-store",
        "x_vsr_selected_model": "spoofed",
        "x-request-id": "mine",
    }
    answer = gateway.client.post("/v1/chat/completions", json=chat("any"), headers=forged)
    assert answer.status_code == 200
    received = answer.json()["demo"]["headers"]
    received.pop("accept-encoding")
    assert received == {"x-vsr-debug": "1", "x-vsr-cache-control": "no-store", "x-request-id": "mine"}
    assert is_openai_error(gateway.client.get("/v1/models"))


def test_failing_open_serves_no_hidden_name(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str]
) -> None:
    gateway = start_gateway({"m": [start_backend()]}, failure_mode_allow=True)
    document = gateway.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["providers"]["models"].append({"name": "secret", "hidden": True})
    document["routing"] = {"modelCards": [
        {"name": "m", "loras": [{"name": "shown"}, {"name": "tenant \u00e9", "hidden": True}]},
        {"name": "secret", "loras": [{"name": "below"}]},
    ]}  # fmt: skip
    config = Config.model_validate(document)
    gateway.replace(config)

    def status(content: bytes, kind: str = "application/json") -> int:
        answer = gateway.client.post("/v1/chat/completions", content=content, headers={"content-type": kind})
        assert answer.status_code == 200 or is_openai_error(answer)
        return answer.status_code

    wait_for(lambda: status(json.dumps(chat("secret")).encode()) == 403, "the hidden name is refused")
    for name in ("tenant \u00e9", "below"):
        assert status(json.dumps(chat(name)).encode()) == 403
        assert status(json.dumps(chat(name), ensure_ascii=False).encode()) == 403
        assert status(json.dumps(chat(name)).encode(), "text/plain") == 403
    assert status(b'{"model":"shown","messages":[],"mod\\u0065l":"below"}') == 403
    for name in ("m", "shown", "other"):
        assert status(json.dumps(chat(name)).encode()) == 200
    large = chat("below") | {"user": "x" * 60_000}
    assert status(json.dumps(large).encode()) == 403


# --- with the ext_proc server --------------------------------------------------------------------------------------


def test_each_model_reaches_its_own_backend(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    names = ["org/model:tag", "模型", "100% m", "extproc"]
    gateway = start_gateway({name: [start_backend(name)] for name in names}, extproc_port=extproc_port)
    for name in names:
        answer = gateway.client.post("/v1/chat/completions", json=chat(name))
        assert answer.status_code == 200, (name, answer.text)
        assert answer.json()["model"] == name
    assert is_openai_error(gateway.client.post("/v1/chat/completions", json=chat("nobody")))


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_the_other_paths_are_forwarded(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int, path: str
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    answer = gateway.client.post(path, json=chat("m"), params={"api-version": "1"})
    assert answer.status_code == 200 and answer.json()["demo"]["path"] == path


def test_the_routers_replies_pass_unchanged(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    answer = gateway.client.post("/v1/chat/completions", json=chat("refuse"))
    assert (answer.status_code, answer.content, answer.headers["x-ours"]) == (503, REFUSAL, "yes")
    assert gateway.client.get("/health").json() == {"status": "ok"}
    backends_own = gateway.client.post("/v1/chat/completions", json=chat("m"), headers={"x-demo-script": "status=429"})
    assert backends_own.status_code == 429 and backends_own.json()["error"]["code"] == 429


def test_a_body_over_the_limit_is_413_in_openai_shape(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    assert gateway.client.post("/v1/chat/completions", json=chat("m", user="x" * 90_000)).status_code == 200
    answer = gateway.client.post("/v1/chat/completions", json=chat("m", user="x" * 110_000))
    assert answer.status_code == 413 and is_openai_error(answer)


@pytest.mark.parametrize("path", ["/v1/chat%2fcompletions", "/v1/models%2F..", "/v1%5cmodels", "/v1/models/%00"])
def test_paths_that_hide_something_are_400_in_openai_shape(
    start_gateway: Callable[..., Gateway], extproc_port: int, path: str
) -> None:
    answer = ask(start_gateway({"m": ["127.0.0.1:1"]}, extproc_port=extproc_port), "GET", path)
    assert answer.status_code == 400 and is_openai_error(answer)


def test_a_backend_that_is_gone_is_a_503_in_openai_shape(
    start_gateway: Callable[..., Gateway], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [f"127.0.0.1:{free_port()}"]}, extproc_port=extproc_port)
    answer = gateway.client.post("/v1/chat/completions", json=chat("m"))
    assert answer.status_code == 503 and is_openai_error(answer)


def test_weights_and_a_dead_endpoint(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    heavy, light = start_backend("m"), start_backend("m")
    models = {"m": [(heavy, 3), (light, 1), (f"127.0.0.1:{free_port()}", 4)]}
    gateway = start_gateway(models, extproc_port=extproc_port)
    ports = Counter()
    for _ in range(40):
        answer = gateway.client.post("/v1/chat/completions", json=chat("m"))
        assert answer.status_code == 200
        ports[answer.json()["demo"]["port"]] += 1
    assert ports[int(heavy.split(":")[1])] > 1.5 * ports[int(light.split(":")[1])] > 0


def test_a_stream_arrives_piece_by_piece_and_a_broken_one_breaks(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    request = {"json": chat("m", stream=True), "headers": {"x-demo-script": "chunks=20;seconds=3"}}
    with gateway.client.stream("POST", "/v1/chat/completions", **request) as answer:
        times = [time.monotonic() for _ in answer.iter_lines()]
    assert times[-1] - times[0] > 1
    request["headers"] = {"x-demo-script": "chunks=20;seconds=1;reset=5"}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        gateway.client.stream("POST", "/v1/chat/completions", **request) as answer,
    ):
        answer.read()


@pytest.mark.slow
def test_a_stream_of_twenty_seconds_is_not_cut(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    headers = {"x-demo-script": "chunks=100;seconds=20"}
    body = chat("m", stream=True)
    with gateway.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = list(answer.iter_lines())
    assert "data: [DONE]" in lines and sum('"content":' in line for line in lines) == 101


def test_new_models_need_no_restart(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)
    assert gateway.client.post("/v1/chat/completions", json=chat("n")).status_code == 503
    gateway.replace(make_config({"n": [start_backend("n")]}))
    deadline = time.monotonic() + 5
    while gateway.client.post("/v1/chat/completions", json=chat("n")).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert gateway.client.post("/v1/chat/completions", json=chat("m")).status_code == 503
    assert gateway.stat("cluster_manager.cds.update_rejected") == 0
