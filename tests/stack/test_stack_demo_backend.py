"""The demo backend, asked in process and, for broken answers, over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from backends import CHAT, MESSAGES, RESPONSES, asking
from local_stack import chat
from openai import NotFoundError, OpenAI

from triton_router.stack.demo_backend import application
from triton_router.stack.demo_turn import DemoModel, Script


def client(*served: DemoModel) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application({8000: served}))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


async def test_the_answer_shows_what_arrived() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
        {"role": "user", "content": "hello"},
    ]
    body = {"model": "m", "messages": messages, "chat_template_kwargs": {"enable_thinking": False}}
    headers = {"x-selected-model": "m", "x-vsr-debug": "1", "authorization": "Bearer secret"}
    async with client(DemoModel("m")) as backend:
        answer = (await backend.post("/v1/chat/completions", json=body, headers=headers)).json()
    assert answer["model"] == "m"
    assert answer["demo"]["received"] == {
        "model": "m",
        "system": ["be brief", "be kind"],
        "fields": {"chat_template_kwargs": {"enable_thinking": False}},
    }
    assert answer["demo"]["headers"].items() >= {"x-selected-model": "m", "x-vsr-debug": "1"}.items()
    assert "secret" not in json.dumps(answer)


async def test_models_list_adapters_with_their_base_and_others_are_unknown() -> None:
    async with client(DemoModel("m", ("law",)), DemoModel("n")) as backend:
        listed = (await backend.get("/v1/models")).json()["data"]
        adapter = await backend.post("/v1/chat/completions", json=chat("law"))
        unknown = await backend.post("/v1/chat/completions", json=chat("x"))
    assert [(entry["id"], entry["parent"]) for entry in listed] == [("m", None), ("law", "m"), ("n", None)]
    assert adapter.json()["model"] == "law"
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "The model `x` does not exist."


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
async def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    async with client() as backend:
        answer = await backend.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400


def test_scripts() -> None:
    script = Script.parse("slow-stream;chunks=500; seconds=20;tools=1;status=500;reset=3;delay=0.5")
    assert script == Script(chunks=500, seconds=20, delay=0.5, tools=True, status=500, reset=3)
    with pytest.raises(ValueError, match="many"):
        Script.parse("chunks=many")


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [
        ("/v1/completions", "text_completion", "[DONE]"),
        ("/v1/responses", "response.created", "response.completed"),
        ("/v1/messages", "message_start", "message_stop"),
    ],
)
async def test_the_other_streams(path: str, first: str, last: str) -> None:
    body: dict[str, Any] = {"model": "m", "prompt": "hi", "input": "hi", "messages": [], "stream": True}
    async with client() as backend:
        answer = await backend.post(path, json=body)
    frames = answer.text.strip().split("\n\n")
    assert first in frames[0] and last in frames[-1]


def test_openais_client_reads_it(start_backend: Callable[..., str]) -> None:
    url = f"http://{start_backend('m', loras=('law',))}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0) as openai:
        messages: Any = [{"role": "user", "content": "hello"}]
        whole = openai.chat.completions.create(model="law", messages=messages)
        assert whole.choices[0].message.content == "This is a demo answer of law. "
        assert whole.usage is not None and whole.usage.total_tokens > 0
        stream = openai.chat.completions.create(
            model="m", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "This is a demo answer of m. " and chunks[-1].usage is not None
        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
        called = openai.chat.completions.create(
            model="m", messages=messages, tools=tools, extra_headers={"x-demo-script": "tools=1"}
        )
        calls = called.choices[0].message.tool_calls
        assert calls is not None and calls[0].function.name == "look"  # type: ignore[union-attr]
        assert len(openai.embeddings.create(model="m", input=["a", "b"]).data) == 2
        assert openai.responses.create(model="m", input="hi").output_text == "This is a demo answer of m. "
        with pytest.raises(NotFoundError):
            openai.chat.completions.create(model="x", messages=messages)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_a_scripted_tool_is_called_until_it_has_so_many_results(path: str, stream: bool) -> None:
    async def answer(name: str, arguments: dict[str, Any] | None = None) -> str:
        tools = [{"type": "function", "name": "other"}, {"type": "function", "name": "read"}]
        if path == CHAT:
            tools = [{"type": "function", "function": tool} for tool in tools]
        body = asking(path, "be brief", "hello", arguments=arguments, model="m", stream=stream, tools=tools)
        script = {"x-demo-script": f'tools=1;tool={name};arguments={{"path": "a.txt"}};results=1'}
        async with client() as backend:
            return (await backend.post(path, json=body, headers=script)).text

    called = await answer("read")
    assert "a.txt" in called and "answer " not in called
    for text in (await answer("read", {"path": "a.txt"}), await answer("unknown")):
        assert "a.txt" not in text and "answer " in text
