"""Responses, Messages and completions through real Envoy, with the official clients, in every body mode."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic
from local_stack import wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  defaults:
    default_model: talker
    reasoning_families:
      qwen3: {type: chat_template_kwargs, parameter: enable_thinking}
      gpt-oss: {type: reasoning_effort, parameter: reasoning_effort}
  models:
    - {name: thinker, reasoning_family: qwen3, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: talker, reasoning_family: gpt-oss, backend_refs: [{endpoint: "127.0.0.1:2"}]}
    - {name: gone, backend_refs: [{endpoint: "127.0.0.1:3"}]}
routing:
  signals:
    keywords:
      - {name: proof, keywords: [prove]}
      - {name: quick, keywords: [quickly]}
      - {name: banned, keywords: [forbidden]}
      - {name: faq, keywords: [capital]}
    conversation:
      - {name: sees, feature: {type: exists, source: {type: image_content}}}
      - {name: looping, feature: {type: exists, source: {type: active_tool_loop}}}
  decisions:
    - name: banned
      priority: 9
      rules: {type: keyword, name: banned}
      modelRefs: [{model: talker}]
      plugins: [{type: fast_response, configuration: {message: "No.\\n\\nNever: 世界"}}]
    - name: sees
      priority: 8
      rules: {type: conversation, name: sees}
      modelRefs: [{model: thinker}]
    - name: looping
      priority: 8
      rules: {type: conversation, name: looping}
      modelRefs: [{model: thinker}]
    - name: proof
      priority: 7
      rules: {type: keyword, name: proof}
      modelRefs: [{model: thinker, use_reasoning: true}]
      plugins: [{type: system_prompt, configuration: {system_prompt: Prove it., mode: replace}}]
    - name: quick
      priority: 6
      rules: {type: keyword, name: quick}
      modelRefs: [{model: thinker, use_reasoning: false}]
    - name: faq
      priority: 5
      rules: {type: keyword, name: faq}
      modelRefs: [{model: thinker}]
      plugins: [{type: semantic-cache, configuration: {similarity_threshold: 0.8}}]
    - name: all
      modelRefs: [{model: talker, use_reasoning: true, reasoning_effort: high}]
      plugins: [{type: system_prompt, configuration: {system_prompt: Be brief., mode: prepend}}]
"""
MODES = [("BUFFERED", "NONE"), ("STREAMED", "STREAMED"), ("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED")]
FAST = "No.\n\nNever: 世界"
TEXT = "This is a demo answer of {}. "
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


class Polyglot(Site):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.anthropic = Anthropic(base_url=self.url, api_key="ada", max_retries=0)
        self.openai = self.openai.with_options(api_key="ada")

    def wait_until_normal(self) -> None:
        def normal() -> bool:
            answer = self.ask("The capital of Spain?", headers={"cache-control": "no-store"})
            return answer.status_code == 200 and "x-vsr-degraded" not in answer.headers

        wait_for(normal, "routing")

    def stop(self) -> None:
        self.anthropic.close()
        super().stop()

    def respond(self, prompt: Any, **more: Any) -> tuple[Any, dict[str, str]]:
        raw = self.openai.responses.with_raw_response.create(model="MoM", input=prompt, **more)
        return raw.parse(), dict(raw.headers)

    def message(self, content: Any, **more: Any) -> tuple[Any, dict[str, str]]:
        fields = {"model": "MoM", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}
        raw = self.anthropic.messages.with_raw_response.create(**fields)
        return raw.parse(), dict(raw.headers)


@pytest.fixture(scope="module", params=MODES, ids=lambda modes: f"{modes[0]}-{modes[1]}")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("dialects")
    (directory / "dialects.yaml").write_text(CONFIG)
    before, after = request.param
    services = {
        "envoy": {"request_body_mode": before, "response_body_mode": after},
        "observability": {"usage": {"answers": True, "streams": True}},
    }
    changes = {"global": {"services": services}}
    yield from running(Polyglot(directory, directory / "dialects.yaml", changes, grpc=triton_port))


def received(answer: Any) -> dict[str, Any]:
    """What the demo backend says that it got."""
    demo: dict[str, Any] = answer.model_extra["demo"]
    return demo["received"] | {"headers": demo["headers"], "credentials": demo["credentials"], "path": demo["path"]}


# --- the way to the backend ----------------------------------------------------------------------------------------


def test_a_response_is_routed_and_rewritten(site: Polyglot) -> None:
    answer, headers = site.respond("Prove that 2 is prime.", instructions="You are a pirate.", temperature=0.5)
    assert (answer.output_text, answer.model) == (TEXT.format("thinker"), "thinker")
    assert headers["x-vsr-selected-decision"] == "proof" and headers["x-vsr-selected-reasoning"] == "on"
    got = received(answer)
    assert (got["path"], got["model"], got["system"]) == ("/v1/responses", "thinker", ["Prove it."])
    assert got["fields"] == {"temperature": 0.5, "chat_template_kwargs": {"enable_thinking": True}}
    assert got["credentials"] == ["authorization"]


def test_a_message_is_routed_and_rewritten(site: Polyglot) -> None:
    answer, headers = site.message("Prove that 2 is prime.", system="You are a pirate.", stop_sequences=["END"])
    assert (answer.content[0].text, answer.model, answer.stop_reason) == (TEXT.format("thinker"), "thinker", "end_turn")
    assert headers["x-vsr-selected-decision"] == "proof" and headers["x-vsr-selected-reasoning"] == "on"
    got = received(answer)
    assert (got["path"], got["model"], got["system"]) == ("/v1/messages", "thinker", ["Prove it."])
    kwargs = {"enable_thinking": True}
    assert got["fields"] == {"max_tokens": 100, "stop_sequences": ["END"], "chat_template_kwargs": kwargs}
    assert got["headers"]["anthropic-version"] and got["credentials"] == ["authorization"]
    keyed, _ = site.message("Hello", extra_headers={"x-api-key": "ada", "anthropic-beta": "b"})
    assert received(keyed)["credentials"] == ["authorization", "x-api-key"]
    assert received(keyed)["headers"]["anthropic-beta"] == "b"


def test_reasoning_goes_off_and_effort_is_named(site: Polyglot) -> None:
    quick = "Tell me quickly."
    assert received(site.respond(quick)[0])["fields"] == {"chat_template_kwargs": {"enable_thinking": False}}
    budget = {"type": "enabled", "budget_tokens": 1024}
    off = received(site.message(quick, thinking=budget, max_tokens=2000)[0])["fields"]
    assert off == {"max_tokens": 2000, "chat_template_kwargs": {"enable_thinking": False}}
    assert received(site.respond("Hello")[0])["fields"] == {"reasoning": {"effort": "high"}}
    assert received(site.message("Hello")[0])["fields"]["output_config"] == {"effort": "high"}
    chat = site.ask("Hello").json()["demo"]["received"]
    assert (chat["fields"], chat["system"]) == ({"reasoning_effort": "high"}, ["Be brief."])


def test_system_text_joins_the_clients(site: Polyglot) -> None:
    answer, _ = site.respond([{"role": "developer", "content": "dev"}, {"role": "user", "content": "Hi"}])
    assert received(answer)["system"] == ["Be brief.", "dev"]
    blocks = [{"type": "text", "text": "Own.", "cache_control": {"type": "ephemeral"}}]
    assert received(site.message("Hi", system=blocks)[0])["system"] == ["Be brief.\n\nOwn."]


def test_images_and_tools_are_seen_in_both(site: Polyglot) -> None:
    picture = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": "data:,", "detail": "auto"},
    ]
    assert site.respond([{"role": "user", "content": picture}])[1]["x-vsr-selected-decision"] == "sees"
    assert site.message([{"type": "text", "text": "What?"}, IMAGE])[1]["x-vsr-selected-decision"] == "sees"
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "42"}
    loop: Any = [{"role": "user", "content": "Look"}, call, output]
    assert site.respond(loop)[1]["x-vsr-selected-decision"] == "looping"
    turns = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "42"}]},
    ]
    assert site.message("", messages=turns)[1]["x-vsr-selected-decision"] == "looping"


def test_a_text_is_continued(site: Polyglot) -> None:
    raw = site.openai.completions.with_raw_response.create(model="MoM", prompt="Prove that 2 is")
    answer: Any = raw.parse()
    assert (answer.choices[0].text, answer.model) == (TEXT.format("thinker"), "thinker")
    assert raw.headers["x-vsr-selected-decision"] == "proof"
    assert raw.headers["x-vsr-ignored"] == "system_prompt,reasoning"
    assert received(answer)["fields"] == {} and received(answer)["system"] == []
    stream = site.openai.completions.create(model="MoM", prompt="This is forbidden", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == FAST


def test_a_named_model_passes_untouched(site: Polyglot) -> None:
    body = b'{"model":"thinker",  "max_tokens":5,"messages":[{"role":"user","content":"Prove it, forbidden"}]}'
    answer = site.client.post("/v1/messages?beta=true", content=body, headers={"anthropic-version": "2023-06-01"})
    assert answer.json()["model"] == "thinker" and "x-vsr-selected-decision" not in answer.headers
    assert answer.json()["demo"]["received"]["system"] == []
    assert site.openai.responses.create(model="thinker", input="forbidden").output_text == TEXT.format("thinker")


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_response_streams(site: Polyglot) -> None:
    headers = {"x-demo-script": "chunks=40;seconds=0.5;thoughts=1"}
    with site.openai.responses.stream(model="MoM", input="Hello", extra_headers=headers) as stream:
        assert sum(event.type == "response.output_text.delta" for event in stream) == 40
        final = stream.get_final_response()
    assert final.output_text == "".join(f"{number} " for number in range(40))
    assert [item.type for item in final.output] == ["reasoning", "message"]


def test_a_message_streams(site: Polyglot) -> None:
    before = site.metric("router_tokens_total", model="talker", kind="completion")
    fields: Any = {"model": "MoM", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"x-demo-script": "chunks=40;seconds=0.5;thoughts=1"}
    with site.anthropic.messages.stream(**fields, extra_headers=headers) as stream:
        assert sum(event.type == "text" for event in stream) == 40
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 40)
    wait_for(lambda: site.metric("router_tokens_total", model="talker", kind="completion") >= before + 40, "tokens")


# --- answers of the router's own -----------------------------------------------------------------------------------


def test_a_fast_answer_reaches_both_clients(site: Polyglot) -> None:
    answer, headers = site.respond("This is forbidden")
    assert (answer.output_text, answer.status, headers["x-vsr-response-path"]) == (FAST, "completed", "fast_response")
    with site.openai.responses.stream(model="MoM", input="This is forbidden") as responded:
        assert "".join(event.delta for event in responded if event.type == "response.output_text.delta") == FAST
        assert responded.get_final_response().output_text == FAST
    message, headers = site.message("This is forbidden")
    assert (message.content[0].text, headers["x-vsr-response-path"]) == (FAST, "fast_response")
    fields: Any = {"model": "MoM", "max_tokens": 9, "messages": [{"role": "user", "content": "forbidden"}]}
    with site.anthropic.messages.stream(**fields) as streamed:
        assert "".join(streamed.text_stream) == FAST
        assert streamed.get_final_message().stop_reason == "end_turn"


def test_a_response_is_answered_from_the_cache(site: Polyglot) -> None:
    prompt = "What is the capital of Peru?"
    first, headers = site.respond(prompt)
    assert (headers["x-vsr-response-path"], headers["x-vsr-cache-hit"]) == ("upstream", "miss")
    wait_for(lambda: site.respond(prompt)[1]["x-vsr-response-path"] == "cache", "the answer is kept")
    again, _ = site.respond(prompt, metadata={"k": "v"})
    assert (again.output_text, again.usage, again.metadata) == (first.output_text, first.usage, {"k": "v"})
    assert again.id != first.id and "demo" not in (again.model_extra or {})
    with site.openai.responses.stream(model="MoM", input=prompt) as stream:
        final = stream.get_final_response()
    assert (final.output_text, final.usage) == (first.output_text, first.usage)
    assert "demo" not in (final.model_extra or {})
    # What only the backend knows, or somebody may ask it for.
    for state in ({"previous_response_id": "resp_1"}, {"store": True}):
        assert site.respond(prompt, **state)[1]["x-vsr-response-path"] == "upstream"


def test_a_message_is_answered_from_the_cache(site: Polyglot) -> None:
    prompt = "What is the capital of Chile?"
    fields: Any = {"model": "MoM", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    with site.anthropic.messages.stream(**fields, extra_headers={"x-demo-script": "thoughts=1"}) as stream:
        first = stream.get_final_message()
    assert [block.type for block in first.content] == ["thinking", "text"]
    wait_for(lambda: site.message(prompt)[1]["x-vsr-response-path"] == "cache", "the answer is kept")
    again, headers = site.message(prompt)
    assert [block.type for block in again.content] == ["text"], "thoughts are not kept"
    assert (again.content[0].text, headers["x-vsr-cache-hit"]) == (first.content[1].text, "exact")  # type: ignore[union-attr]
    assert again.usage == first.usage
    with site.anthropic.messages.stream(**fields) as stream:
        final = stream.get_final_message()
    assert (final.content[0].text, final.usage) == (again.content[0].text, first.usage)  # type: ignore[union-attr]
    assert site.message("what's the capital of chile")[1]["x-vsr-cache-hit"] == "semantic"
    assert site.message(prompt, max_tokens=5)[1]["x-vsr-response-path"] == "upstream"


def test_dialects_and_callers_share_nothing(site: Polyglot) -> None:
    prompt = "What is the capital of Bolivia?"
    site.message(prompt)
    wait_for(lambda: site.message(prompt)[1]["x-vsr-response-path"] == "cache", "the answer is kept")
    # The same bytes mean another thing at another path.
    same: Any = {"model": "MoM", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    chat = site.client.post("/v1/chat/completions", json=same, headers={"x-api-key": "ada"})
    assert chat.headers["x-vsr-response-path"] == "upstream" and chat.json()["object"] == "chat.completion"
    assert site.respond(prompt)[1]["x-vsr-response-path"] == "upstream"
    bob = site.anthropic.with_options(api_key="bob").messages.with_raw_response.create(**same)
    assert bob.headers["x-vsr-response-path"] == "upstream"


def test_a_key_in_a_header_of_its_own_tells_callers_apart(site: Polyglot) -> None:
    messages = [{"role": "user", "content": "What is the capital of Ghana?"}]

    def path_for(key: str) -> str:
        body = {"model": "MoM", "max_tokens": 100, "messages": messages}
        answer = site.client.post("/v1/messages", json=body, headers={"x-api-key": key})
        return answer.headers["x-vsr-response-path"]

    assert path_for("ada") == "upstream"
    wait_for(lambda: path_for("ada") == "cache", "the answer is kept")
    assert path_for("bob") == "upstream"


def test_calls_of_tools_are_never_kept(site: Polyglot) -> None:
    prompt, script = "Look the capital up", {"x-demo-script": "tools=1"}
    tool: Any = {"type": "function", "name": "look", "parameters": {}, "strict": False}
    skill: Any = {"name": "look", "input_schema": {"type": "object"}}
    for _ in range(2):
        answer, headers = site.respond(prompt, tools=[tool], extra_headers=script)
        assert (answer.output[0].type, headers["x-vsr-response-path"]) == ("function_call", "upstream")
        fields: Any = {"model": "MoM", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
        with site.anthropic.messages.stream(**fields, tools=[skill], extra_headers=script) as stream:
            final = stream.get_final_message()
        assert (final.content[0].type, final.stop_reason) == ("tool_use", "tool_use")
        assert final.model_extra is not None and "demo" in final.model_extra
        time.sleep(0.2)


# --- errors --------------------------------------------------------------------------------------------------------


def test_errors_are_what_the_clients_expect(site: Polyglot) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        site.message("Hello", model="gpt-9")
    assert missing.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "The model `gpt-9` does not exist."},
    }
    with pytest.raises(anthropic.BadRequestError) as malformed:
        site.message("Hello", system=7)
    assert malformed.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    with pytest.raises(openai.NotFoundError) as unknown:
        site.respond("Hello", extra_body={"model": "gpt-9"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        site.respond([1])
    assert wrong.value.param == "input[0]"
    with pytest.raises(anthropic.InternalServerError):
        site.message("Hello", extra_headers={"x-demo-script": "status=500"})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"MoM","model":"x"}', b'{"messages":7}', b"\xff"])
def test_a_malformed_body_is_400_in_anthropics_shape(site: Polyglot, body: bytes) -> None:
    answer = site.client.post("/v1/messages", content=body)
    error = answer.json()
    assert (answer.status_code, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
    assert answer.headers["content-type"] == "application/json"
    answer = site.client.post("/v1/responses", content=body.replace(b"messages", b"input"))
    assert answer.status_code == 400 and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_what_envoy_says_has_the_apis_shape_too(site: Polyglot) -> None:
    site.kill("backend-gone")
    body = {"model": "gone", "max_tokens": 1, "messages": []}
    answer = site.client.post("/v1/messages", json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "api_error")
    large = site.client.post("/v1/messages", content=b" " * (11 * 1024 * 1024))
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    chat = site.client.post("/v1/chat/completions", json=body)
    assert (chat.status_code, chat.json()["error"]["code"]) == (503, "service_unavailable")


def test_nothing_of_it_reaches_the_log(site: Polyglot) -> None:
    site.message("Xylophone-4712", extra_headers={"x-api-key": "s3cr3t-4713"})
    log = (site.directory / "router.log").read_text()
    assert "Xylophone" not in log and "s3cr3t" not in log
    assert json.loads(log.splitlines()[-1])
