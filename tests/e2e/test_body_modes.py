"""Every way in which Envoy can hand over bodies: the same requests, the same answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from local_stack import wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  models:
    - name: talker
      backend_refs: [{endpoint: "127.0.0.1:1"}]
      pricing: {prompt_per_1m: 1000000, completion_per_1m: 2000000}
routing:
  signals: {}
  decisions:
    - name: all
      modelRefs: [{model: talker}]
      plugins: [{type: system_prompt, configuration: {system_prompt: Be brief.}}]
"""
MODES = [
    ("BUFFERED", "NONE"), ("STREAMED", "STREAMED"), ("FULL_DUPLEX_STREAMED", "STREAMED"),
    ("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED"),
]  # fmt: skip


class Talking(Site):
    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")


@pytest.fixture(scope="module", params=MODES, ids=lambda modes: f"{modes[0]}-{modes[1]}")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("modes")
    (directory / "modes.yaml").write_text(CONFIG)
    before, after = request.param
    services = {
        "envoy": {"request_body_mode": before, "response_body_mode": after},
        "observability": {"usage": {"streams": True, "request_on_streams": True}},
    }
    changes = {"global": {"services": services, "router": {"max_body_bytes": 4 * 1024 * 1024}}}
    yield from running(Talking(directory, directory / "modes.yaml", changes, grpc=triton_port))


def test_an_answer_in_one_piece(site: Site) -> None:
    answer = site.ask("hello", temperature=0.5)
    assert answer.json()["demo"]["received"]["system"] == ["Be brief."]
    assert answer.json()["demo"]["received"]["fields"] == {"temperature": 0.5}
    assert answer.headers["x-vsr-selected-decision"] == "all"


def test_a_large_request_and_one_that_is_too_large(site: Site) -> None:
    answer = site.ask("x" * 3_000_000)
    assert (answer.status_code, answer.json()["model"]) == (200, "talker")
    assert answer.json()["usage"]["prompt_tokens"] > 0
    refused = site.ask("x" * 5_000_000)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "request_too_large"


def test_a_stream_arrives_while_it_is_made(site: Site) -> None:
    chunks = list(
        site.openai.chat.completions.create(
            model="MoM",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-demo-script": "chunks=40;seconds=1"},
        )
    )
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == 40
    assert chunks[-1].usage is not None


def test_usage_is_counted_for_both(site: Site) -> None:
    def tokens() -> float:
        return site.metric("router_tokens_total", model="talker", kind="completion")

    before, ended = tokens(), site.metric("router_answers_total", model="talker", reason="stop")
    completion = site.ask("hello").json()["usage"]["completion_tokens"]
    wait_for(lambda: tokens() == before + completion, "tokens of an answer in one piece")
    test_a_stream_arrives_while_it_is_made(site)
    wait_for(lambda: tokens() > before + completion, "tokens of a stream")
    assert site.metric("router_answers_total", model="talker", reason="stop") == ended + 2
    assert site.metric("router_time_to_first_token_seconds_count", model="talker") >= 1


@pytest.mark.parametrize("model", ["MoM", "talker"])
def test_a_stream_is_counted_and_the_count_is_hidden_from_who_did_not_ask(site: Site, model: str) -> None:
    def counted(kind: str) -> float:
        return site.metric("router_tokens_total", model="talker", kind=kind)

    def spent() -> float:
        return site.metric("router_cost_total", model="talker", currency="USD")

    prompts, completions, before = counted("prompt"), counted("completion"), spent()
    chunks = list(
        site.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}], stream=True,
            extra_headers={"x-demo-script": "chunks=30;seconds=0.3"},
        )
    )  # fmt: skip
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    wait_for(lambda: counted("completion") == completions + 30, "tokens of the stream")
    assert spent() - before == (counted("prompt") - prompts) + 2 * 30


def test_embeddings_pass_unread(site: Site) -> None:
    def answers() -> float:
        return site.metric("router_answers_total", model="talker")

    before = answers()
    assert site.openai.embeddings.create(model="talker", input="hello").data
    site.ask("hello")
    wait_for(lambda: answers() == before + 1, "the chat answer, and nothing else")


def test_a_client_that_leaves_leaves_nothing_behind(site: Site) -> None:
    body = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    before = site.metric("router_answers_total", model="talker", reason="aborted")
    headers = {"x-demo-script": "chunks=100;seconds=20"}
    with site.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert next(answer.iter_lines()).startswith("data:")
    wait_for(lambda: site.metric("router_answers_total", model="talker", reason="aborted") == before + 1, "the abort")
    wait_for(lambda: site.metric("router_in_flight_requests") == 0, "nothing in flight")


def test_errors_of_router_and_backend_pass(site: Site) -> None:
    assert site.ask("x", model="nobody").status_code == 404
    failed = site.client.post(
        "/v1/chat/completions",
        json={"model": "MoM", "messages": [{"role": "user", "content": "x"}]},
        headers={"x-demo-script": "status=500"},
    )
    assert failed.status_code == 500 and "error" in failed.json()
    malformed = site.client.post("/v1/chat/completions", content=b"{")
    assert malformed.status_code == 400
    compressed = site.client.post("/v1/chat/completions", content=b"\x1f\x8b", headers={"content-encoding": "br"})
    assert (compressed.status_code, compressed.json()["error"]["code"]) == (415, "unsupported_encoding")


def test_requests_without_a_body(site: Site) -> None:
    assert {model.id for model in site.openai.models.list()} == {"MoM", "auto", "talker"}
    assert site.client.get("/health").json() == {"status": "ok"}


def test_a_body_in_pieces_without_a_length(site: Site) -> None:
    whole = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}).encode()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    answer: httpx.Response = site.client.post("/v1/chat/completions", content=pieces())
    assert (answer.status_code, answer.json()["model"]) == (200, "talker")


class _Counted(BaseHTTPRequestHandler):
    """A backend that says beforehand how long its stream is."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
        count = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
        body = chunk + count + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.do_POST()


def test_a_count_is_hidden_in_a_stream_of_a_stated_length(site: Site) -> None:
    site.kill("backend-talker")
    server = ThreadingHTTPServer(("127.0.0.1", site.backends["talker"]), _Counted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        wait_for(lambda: site.ask("hello", stream=True).status_code == 200, "the other backend")
        text = site.ask("hello", stream=True).text
        assert '"hi"' in text and text.endswith("data: [DONE]\n\n") and "usage" not in text
    finally:
        server.shutdown()
        server.server_close()
        site.start_backend("talker")
