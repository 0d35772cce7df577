"""Attempts behind the real Envoy: what each candidate gets, what ends an attempt, and what is told of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yaml
from chain import Chain
from local_stack import PATIENCE, chat, is_openai_error, wait_for

from triton_router.config import load, loads

pytestmark = pytest.mark.e2e

PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
}


def echo(body: dict[str, Any]) -> tuple[bytes, str]:
    """The last message, as the answer of a model; in a stream, by each of `n` choices in turn, a word a piece."""
    text = body["messages"][-1]["content"]
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"model": body["model"], "choices": [choice]}).encode(), "application/json"
    choices = [
        {"index": index, "delta": {"content": word + " "}, "finish_reason": None}
        for word in text.split()
        for index in range(body.get("n", 1))
    ]
    choices += [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(body.get("n", 1))]
    events = [f"data: {json.dumps({'model': body['model'], 'choices': [each]})}\n\n" for each in choices]
    return "".join([*events, "data: [DONE]\n\n"]).encode(), "text/event-stream"


def refs(*models: str | tuple[str, str], fallback: list[str] | None = None) -> Callable[[dict[str, Any]], None]:
    """The decision's candidates in this order, a pair being a base and its adapter; and the policy's models."""

    def change(text: dict[str, Any]) -> None:
        candidates = [each if isinstance(each, tuple) else (each, None) for each in models]
        text["routing"]["decisions"][0]["modelRefs"] = [
            {"model": model, "score": 9 - index} | ({"lora_name": lora} if lora else {})
            for index, (model, lora) in enumerate(candidates)
        ]
        text["routing"]["fallback"] |= {"models": fallback or [], "max_attempts": 5}

    return change


# --- what each candidate gets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "fallback", "chain"),
    [
        ((("first", "law"), ("first", "tax"), "second"), [], "law->tax->second"),
        ((("first", "law"), "first"), ["second"], "law->first->second"),
        ((("first", "law"),), ["first", "second"], "law->first->second"),
        ((("first", "law"),), ["tax", "second"], "law->tax->second"),
        ((("first", "law"), "second"), [], "law->second"),
    ],
)
def test_an_adapter_falls_back_on_another_its_base_or_another_model_as_the_file_says(
    start_chain: Callable[..., Chain], candidates: tuple[Any, ...], fallback: list[str], chain: str
) -> None:
    running = start_chain("500", replicas=1, change=refs(*candidates, fallback=fallback))
    models: list[str] = []
    running.first[0].answer = lambda body: (b"", "text/plain")
    response = running.ask()
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, chain)
    assert response.headers["x-vsr-selected-model"] == "second"
    assert running.first[0].requests == chain.count("->")
    last = running.first[0].last
    assert last is not None and running.second[0].last is not None
    models = [last[2]["model"], running.second[0].last[2]["model"]]
    assert models == chain.split("->")[-2:]


@pytest.mark.parametrize("path", PATHS)
def test_the_decisions_persona_goes_to_each_candidate(start_chain: Callable[..., Chain], path: str) -> None:
    persona = {"system_prompt": "You are a judge.", "mode": "replace"}

    def change(text: dict[str, Any]) -> None:
        text["routing"]["decisions"][0]["plugins"] = [{"type": "system_prompt", "configuration": persona}]

    chain = start_chain("500", replicas=1, change=change)
    response = chain.gateway.client.post(path, json={"model": "auto", **PATHS[path]})
    assert response.headers["x-vsr-fallback"] == "first->second"
    assert chain.first[0].last is not None and chain.second[0].last is not None
    first, second = chain.first[0].last[2], chain.second[0].last[2]
    if path != "/v1/completions":  # which has no place for it
        assert "You are a judge." in json.dumps(first)
    own = ("model", "chat_template_kwargs")
    assert {name: value for name, value in first.items() if name not in own} == {
        name: value for name, value in second.items() if name not in own
    }


@pytest.mark.parametrize("path", PATHS)
def test_each_candidate_gets_its_own_persona(start_chain: Callable[..., Chain], path: str) -> None:
    def change(text: dict[str, Any]) -> None:
        text["routing"]["decisions"][0]["modelRefs"][0]["persona"] = {"system_prompt": "You are quick."}
        text["routing"]["modelCards"][1]["persona"] = {"system_prompt": "You are thorough.", "mode": "insert"}

    chain = start_chain("500", replicas=1, change=change)
    response = chain.gateway.client.post(path, json={"model": "auto", **PATHS[path]})
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    assert chain.first[0].last is not None and chain.second[0].last is not None
    first, second = (json.dumps(chain.first[0].last[2]), json.dumps(chain.second[0].last[2]))
    place = path != "/v1/completions"
    assert ("quick" in first, "thorough" in first, "quick" in second, "thorough" in second) == (
        place,
        False,
        False,
        place,
    )


@pytest.mark.parametrize("illness", ["500", "429", "close"])
def test_a_stored_conversation_stays_at_its_model_whose_replicas_are_tried(
    start_chain: Callable[..., Chain], illness: str
) -> None:
    chain = start_chain(illness, change=lambda text: text["routing"]["fallback"].update(models=["second"]))
    body = {"model": "auto", "input": "hi", "previous_response_id": "resp_1"}
    response = chain.gateway.client.post("/v1/responses", json=body)
    assert response.status_code == (int(illness) if illness.isdigit() else 503)
    assert (response.headers["x-vsr-no-fallback"], response.headers.get("x-vsr-fallback")) == ("stored", None)
    assert all(each.requests for each in chain.first)
    chain.first[1].illness = ""
    if illness != "429":  # then the model is left alone
        for _ in range(6):
            response = chain.gateway.client.post("/v1/responses", json=body)
            assert (response.status_code, response.headers["x-vsr-selected-model"]) == (200, "first")
    assert sum(each.requests for each in chain.second) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_masked_requests_stay_masked_and_their_answers_get_the_values(
    start_chain: Callable[..., Chain], stream: bool
) -> None:
    def change(text: dict[str, Any]) -> None:
        text["routing"]["signals"] = {"pii": [{"name": "personal"}]}
        rules = {"type": "pii", "name": "personal"}
        text["routing"]["decisions"].insert(0, {"name": "mask", "rules": rules, "plugins": [{"type": "mask"}]})

    chain = start_chain("500", replicas=1, change=change)
    chain.second[0].answer = echo
    text = "Charge 4111 1111 1111 1111 and mail jane@mail.example now."
    messages = [{"role": "user", "content": text}]
    response = chain.ask(messages=messages, stream=stream)
    assert (response.headers["x-vsr-fallback"], response.headers["x-vsr-masked"]) == ("first->second", "mask")
    assert chain.second[0].last is not None
    _, headers, body = chain.second[0].last
    assert body["messages"][0]["content"] == "Charge [CREDIT_CARD_1] and mail [EMAIL_ADDRESS_1] now."
    assert "4111" not in json.dumps(headers)
    if stream:
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        content = "".join(each["choices"][0]["delta"].get("content", "") for each in events if each["choices"])
    else:
        content = response.json()["choices"][0]["message"]["content"]
    assert content.strip() == text


def test_ten_mebibytes(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("500", replicas=1)
    filler = "x" * (10 * 1024 * 1024 - 1000)
    response = chain.ask(user=filler)
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == (200, "first->second")
    assert chain.second[0].last is not None and chain.second[0].last[2]["user"] == filler


def test_streams_with_several_choices(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("500", replicas=1)
    chain.second[0].answer = echo
    body = chat(stream=True, n=3, messages=[{"role": "user", "content": "one two three"}])
    response = chain.gateway.client.post("/v1/chat/completions", json=body)
    assert response.headers["x-vsr-fallback"] == "first->second"
    assert response.content == echo(body | {"model": "second"})[0]


# --- what ends an attempt ------------------------------------------------------------------------------------------


def test_a_client_that_goes_ends_the_attempt_and_is_no_failure_of_the_model(start_chain: Callable[..., Chain]) -> None:
    fallback = {"circuit_breaker": {"consecutive_failures": 1, "cooldown_period": 600}}
    chain = start_chain("500", replicas=1, fallback=fallback)
    second = chain.second[0]
    second.illness = "hang"
    host, port = chain.gateway.client.base_url.host, chain.gateway.client.base_url.port
    body = json.dumps(chat()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, port or 80)) as client:
        client.sendall(head.encode() + body)
        wait_for(lambda: second.requests == 1, "the second attempt")
    assert second.gone.wait(PATIENCE)
    second.illness = ""
    response = chain.ask()
    # The first one rests; the second one has done nothing wrong.
    assert (response.status_code, response.headers["x-vsr-selected-model"]) == (200, "second")


@pytest.mark.parametrize(
    "after",
    [b"Fri, 01 Jan 2100 00:00:00 GMT", b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"9" * 400, b"-5", b"1e9",
     b"soon", b"\xff\xfe", b"Thu, 01 Jan 1970 00:00:00 +9999999999", b"", b"3, 4"],
)  # fmt: skip
def test_whatever_a_model_says_of_when_to_come_again(start_chain: Callable[..., Chain], after: bytes) -> None:
    chain = start_chain("429", replicas=1)
    chain.first[0].retry_after = after
    response = chain.ask()
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    waits = after in (b"Fri, 01 Jan 2100 00:00:00 GMT", b"9" * 400)
    assert chain.ask().headers.get("x-vsr-fallback") == (None if waits else "first->second")


def test_an_error_in_a_response_that_says_200_is_passed_on(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("error", replicas=1)
    response = chain.ask()
    assert (response.status_code, response.json()["error"]["message"]) == (200, "out of memory")
    assert chain.second[0].requests == 0


def test_hints_are_the_beginning_of_a_response(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("early", replicas=1)
    response = chain.ask()
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == (500, None)
    assert (chain.first[0].requests, chain.second[0].requests) == (1, 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_where_all_are_down_the_client_gets_an_error_of_its_api(start_chain: Callable[..., Chain], path: str) -> None:
    chain = start_chain("", replicas=1)
    for each in (*chain.first, *chain.second):
        each.illness = "close"
        each.close()
    response = chain.gateway.client.post(path, json={"model": "auto", **PATHS[path]})
    assert response.status_code in (502, 503)
    assert response.headers["x-vsr-fallback"] == "first->second"
    if path == "/v1/messages":
        assert response.json()["type"] == "error"
    else:
        assert is_openai_error(response)


def test_a_new_configuration_of_envoys_during_an_attempt(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("hang", replicas=1, fallback={"per_attempt_timeout": 3})
    responses: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: responses.append(chain.ask()))
    asking.start()
    wait_for(lambda: chain.first[0].requests == 1, "the first attempt")
    text = yaml.safe_load(chain.file.read_text())
    text["providers"]["models"].append({"name": "third", "backend_refs": [{"endpoint": chain.second[0].endpoint}]})
    chain.gateway.replace(loads(yaml.safe_dump(text)).config)
    asking.join(PATIENCE)
    assert [(each.status_code, each.headers.get("x-vsr-fallback")) for each in responses] == [(200, "first->second")]


def test_under_load_a_model_that_fails_is_soon_asked_no_more(start_chain: Callable[..., Chain]) -> None:
    """Each request asks the second model once; the first one gets few before its breaker opens, and no storm."""
    chain = start_chain("500", fallback={"circuit_breaker": {"consecutive_failures": 5, "cooldown_period": 600}})
    statuses = chain.many(200)
    assert sum(statuses.values()) == statuses[200, None] + statuses[200, "first->second"] == 200
    assert sum(each.requests for each in chain.second) == 200
    # Eight at a time, each of which tries both replicas.
    assert sum(each.requests for each in chain.first) <= 2 * (5 + 8)
    for each in chain.second:
        each.illness = "500"
    before = sum(each.requests for each in (*chain.first, *chain.second))
    failed = chain.many(50)
    assert {status for status, _ in failed} <= {500, 502}
    requests = sum(each.requests for each in (*chain.first, *chain.second)) - before
    # Only one model is asked now, as often as it would be without the other.
    tries = load(chain.file).config.providers.models[0].reliability.retry_count + 1
    assert requests <= tries * (50 + 8)
