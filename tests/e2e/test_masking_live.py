"""Masked requests and screened answers through real Envoy, with the official clients, in every body mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from local_stack import free_port, wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  defaults: {default_model: cloud}
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    pii: [{name: personal}, {name: keys, pii_types_denied: [API_KEY]}]
  decisions:
    - {name: masked, rules: {type: pii, name: personal},
       plugins: [{type: mask, configuration: {trusted_models: [own]}}]}
    - {name: no leaks, plugins: [{type: response_pii}]}
    - {name: keys stay here, rules: {type: pii, name: keys}, modelRefs: [{model: own}], plugins: [{type: confine}]}
    - {name: all, modelRefs: [{model: cloud}], plugins: [{type: semantic-cache, configuration: {mode: exact}}]}
"""
MODES = [
    ("STREAMED", "STREAMED"),
    pytest.param(("BUFFERED", "NONE"), marks=pytest.mark.slow),
    pytest.param(("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED"), marks=pytest.mark.slow),
]
CARD, MAIL = "4111 1111 1111 1111", "jane.doe@mail.example"
PROMPT = f"Write to {MAIL} (or {MAIL}), pay with {CARD}, see [1]."
ECHO = {"x-demo-script": "echo=3"}
TOOL = {"name": "note", "description": "n", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "note", "parameters": {"type": "object", "properties": {}}}}


class Masked(Site):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.anthropic = Anthropic(base_url=self.url, api_key="ada", max_retries=0)

    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")

    def stop(self) -> None:
        self.anthropic.close()
        super().stop()


@pytest.fixture(scope="module", params=MODES, ids=lambda modes: modes[0])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("masked")
    (directory / "masked.yaml").write_text(CONFIG)
    before, after = request.param
    services = {
        "envoy": {"request_body_mode": before, "response_body_mode": after},
        "router_replay": {"enabled": True, "include_prompt": True, "include_request": True},
        "observability": {"audit": {"enabled": True, "include_prompt": True}},
    }
    # Nothing here needs a model, so Triton is not there.
    yield from running(
        Masked(directory, directory / "masked.yaml", {"global": {"services": services}}, grpc=free_port())
    )


@pytest.mark.parametrize("model", ["MoM", "cloud"])
def test_chat(site: Masked, model: str) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    create = site.openai.chat.completions.with_raw_response.create
    raw = create(model=model, messages=messages, extra_headers=ECHO)  # type: ignore[call-overload]
    assert raw.parse().choices[0].message.content == PROMPT
    assert raw.headers["x-vsr-masked"] == "masked"
    stream = site.openai.chat.completions.create(  # type: ignore[call-overload]
        model=model, messages=messages, stream=True, extra_headers=ECHO
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == PROMPT


def test_calls_of_tools_in_a_chat(site: Masked) -> None:
    with site.openai.chat.completions.stream(
        model="MoM", messages=[{"role": "user", "content": PROMPT}], tools=[FUNCTION],  # type: ignore[list-item]
        extra_headers={"x-demo-script": "echo=3;tools=1"},
    ) as stream:  # fmt: skip
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert call.function.name == "note"
    assert json.loads(call.function.arguments) == {"note": PROMPT}


def test_completions(site: Masked) -> None:
    answer = site.openai.completions.create(model="cloud", prompt=PROMPT, extra_headers=ECHO)
    assert answer.choices[0].text == PROMPT
    stream = site.openai.completions.create(model="cloud", prompt=PROMPT, stream=True, extra_headers=ECHO)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == PROMPT


def test_responses(site: Masked) -> None:
    answer = site.openai.responses.create(model="MoM", input=PROMPT, extra_headers=ECHO)
    assert answer.output_text == PROMPT
    with site.openai.responses.stream(model="MoM", input=PROMPT, extra_headers=ECHO) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert deltas == stream.get_final_response().output_text == PROMPT


def test_messages(site: Masked) -> None:
    fields: dict[str, Any] = {"model": "MoM", "max_tokens": 9, "messages": [{"role": "user", "content": PROMPT}]}
    answer = site.anthropic.messages.create(**fields, extra_headers=ECHO)
    assert answer.content[0].text == PROMPT
    with site.anthropic.messages.stream(**fields, extra_headers=ECHO) as stream:
        assert "".join(stream.text_stream) == PROMPT
        assert stream.get_final_message().content[0].text == PROMPT
    with site.anthropic.messages.stream(
        **fields, tools=[TOOL], extra_headers={"x-demo-script": "echo=3;tools=1"}
    ) as stream:
        assert stream.get_final_message().content[0].name == "note"


# The backend puts the texts together: what it says then was in no text of the request.
PICTURE = "https://pictures.example/1"
PARTS = {
    "chat": {"type": "image_url", "image_url": {"url": PICTURE}},
    "messages": {"type": "image", "source": {"type": "url", "url": PICTURE}},
    "responses": {"type": "input_image", "detail": "auto", "image_url": PICTURE},
}


def leak(api: str) -> Any:
    kind = "input_text" if api == "responses" else "text"
    texts = [{"type": kind, "text": text} for text in ("it is 4111 1111 ", "1111 1111 of")]
    return [{"role": "user", "content": [texts[0], PARTS[api], texts[1]]}]


def test_clients_take_an_answer_that_is_stopped(site: Masked) -> None:
    messages = leak("chat")
    answer = site.openai.chat.completions.create(model="cloud", messages=messages, extra_headers=ECHO)
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.choices[0].message.content == "The answer was withheld by policy."
    stream = site.openai.chat.completions.create(model="MoM", messages=messages, stream=True, extra_headers=ECHO)
    chunks = [chunk for chunk in stream if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "it is "
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    fields: dict[str, Any] = {"model": "MoM", "max_tokens": 9, "messages": leak("messages")}
    message = site.anthropic.messages.create(**fields, extra_headers=ECHO)
    assert (message.content[0].text, message.stop_reason) == ("The answer was withheld by policy.", "refusal")
    with site.anthropic.messages.stream(**fields, extra_headers=ECHO) as events:
        assert "".join(events.text_stream) == "it is "
        assert events.get_final_message().stop_reason == "refusal"
    turns = leak("responses")
    response = site.openai.responses.create(model="MoM", input=turns, extra_headers=ECHO)
    assert (response.status, response.output_text) == ("incomplete", "The answer was withheld by policy.")
    kinds = [event for event in site.openai.responses.create(model="MoM", input=turns, stream=True, extra_headers=ECHO)]
    assert kinds[-1].type == "response.incomplete"
    assert kinds[-1].response.output_text == "it is "


def test_a_model_that_may_see_it_answers_for_named_ones(site: Masked) -> None:
    prompt = "the key is AKIAIOSFODNN7EXAMPLE"
    answer = site.ask(prompt, headers=ECHO, model="cloud")
    assert answer.headers["x-vsr-selected-model"] == "own"
    assert answer.json()["choices"][0]["message"]["content"] == prompt
    assert "x-vsr-masked" not in answer.headers


def test_nothing_that_is_kept_has_a_value(site: Masked) -> None:
    raw = site.openai.chat.completions.with_raw_response.create(
        model="MoM", messages=[{"role": "user", "content": f"and again {CARD}"}], extra_headers=ECHO
    )
    replay = raw.headers["x-vsr-replay-id"]
    rest = f"http://127.0.0.1:{site.rest}"
    record = site.client.get(f"{rest}/api/v1/replay/{replay}").text
    assert "and again [CREDIT_CARD_1]" in record
    metrics = site.client.get(f"http://127.0.0.1:{site.metrics_port}/metrics").text
    assert 'router_blocked_requests_total{decision="masked",outcome="masked"}' in metrics
    for path in site.directory.rglob("*"):
        if path.is_file() and path.suffix in (".log", ".jsonl"):
            text = path.read_text(errors="replace")
            assert CARD not in text and MAIL not in text, path
    assert CARD not in record and CARD not in metrics
