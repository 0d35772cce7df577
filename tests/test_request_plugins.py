"""header_mutation, fast_response, request_params and tools; and the order of plugins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from triton_router import plugins
from triton_router.config.plugins import Plugin
from triton_router.dialects import DIALECTS, ChatRequest

PLUGIN: TypeAdapter[Any] = TypeAdapter(Plugin)


def applied(
    *settings: dict[str, Any], headers: dict[str, str] | None = None, **members: Any
) -> tuple[plugins.HeaderChanges | plugins.Completion, dict[str, Any]]:
    """What the plugins give, and the body that is left."""
    chain = [PLUGIN.validate_python({"type": each.pop("type"), "configuration": each}) for each in settings]
    request = ChatRequest.parse(json.dumps({"messages": [], **members}).encode())
    outcome = plugins.apply(chain, request, headers or {}, "a-model")
    return outcome, json.loads(request.encode())


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}}}


# --- header_mutation -----------------------------------------------------------------------------------------------


def test_headers_are_added_updated_and_deleted() -> None:
    mutation = {
        "type": "header_mutation",
        "add": [{"name": "X-New", "value": "1"}, {"name": "x-there", "value": "2"}],
        "update": [{"name": "X-Changed", "value": "3"}],
        "delete": ["Authorization"],
    }
    changes, _ = applied(mutation, headers={"x-there": "0", "x-changed": "0", "authorization": "secret"})
    assert isinstance(changes, plugins.HeaderChanges)
    assert changes.set == {"x-new": "1", "x-changed": "3"}
    assert changes.remove == ["authorization"]


def test_a_headers_value_is_not_shown() -> None:
    plugin = PLUGIN.validate_python(
        {"type": "header_mutation", "configuration": {"add": [{"name": "x-key", "value": "s3cret"}]}}
    )
    assert "s3cret" not in repr(plugin) + plugin.model_dump_json()


# --- request_params ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"max_tokens": 500}, {"max_tokens": 100}),
        ({"max_completion_tokens": 500}, {"max_completion_tokens": 100}),
        ({"max_tokens": 500, "max_completion_tokens": 50}, {"max_tokens": 100, "max_completion_tokens": 50}),
        ({"max_tokens": "lots"}, {"max_tokens": 100}),
        ({"max_tokens": None}, {"max_tokens": 100}),
        ({}, {"max_tokens": 100}),
        ({"max_tokens": 100}, {"max_tokens": 100}),
    ],
)
def test_a_cap_on_tokens_has_no_way_around(members: dict[str, Any], expected: dict[str, Any]) -> None:
    _, body = applied({"type": "request_params", "max_tokens_limit": 100}, **members)
    assert {key: value for key, value in body.items() if "tokens" in key} == expected


@pytest.mark.parametrize("members", [{"max_tokens": -1}, {"max_completion_tokens": 0}, {"n": -5}, {"best_of": -1}])
def test_a_number_below_one_is_no_way_around_a_cap(members: dict[str, int]) -> None:
    _, body = applied({"type": "request_params", "max_tokens_limit": 100, "max_n": 2}, **members)
    assert {body[name] for name in members} <= {100, 2}


def test_blocked_and_unknown_members_go_and_the_needed_stay() -> None:
    settings = {
        "type": "request_params",
        "blocked_params": ["logit_bias", "model", "messages"],
        "max_n": 2,
        "strip_unknown": True,
    }
    sample = {"model": "MoM", "logit_bias": {}, "n": 5, "made_up": 1, "stream_options": {}, "parallel_tool_calls": True}
    _, body = applied(settings, **sample, chat_template_kwargs={"enable_thinking": True}, max_completion_tokens=9)
    assert body.keys() == {
        "messages", "model", "n", "stream_options", "parallel_tool_calls", "chat_template_kwargs",
        "max_completion_tokens",
    }  # fmt: skip
    assert body["n"] == 2


def test_a_blocked_wish_for_usage_hides_no_stream_from_the_count() -> None:
    blocked = PLUGIN.validate_python(
        {"type": "request_params", "configuration": {"blocked_params": ["stream_options"]}}
    )
    body = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
    request = ChatRequest.parse(json.dumps(body).encode())
    plugins.apply([blocked], request, {}, "a-model")
    assert request.request_usage(), "the client is not to see what it may not ask for"
    assert json.loads(request.encode())["stream_options"] == {"include_usage": True}


# --- tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mode": "none"}, []),
        ({"mode": "passthrough", "block_tools": ["*"]}, ["search_web", "search_mail", "delete_all"]),
        ({"allow_tools": ["search_*"]}, ["search_web", "search_mail"]),
        ({"block_tools": ["delete_*"]}, ["search_web", "search_mail"]),
        ({"allow_tools": ["search_*"], "block_tools": ["*_mail"]}, ["search_web"]),
        ({"allow_tools": []}, []),
    ],
)
def test_the_model_sees_the_tools_that_it_may_use(settings: dict[str, Any], expected: list[str]) -> None:
    tools = [tool("search_web"), tool("search_mail"), tool("delete_all")]
    _, body = applied({"type": "tools", **settings}, tools=tools, tool_choice="auto")
    assert [each["function"]["name"] for each in body.get("tools", [])] == expected
    assert ("tool_choice" in body) == bool(expected)


def test_a_choice_of_a_tool_that_is_gone_goes_too() -> None:
    choice = {"type": "function", "function": {"name": "b"}}
    _, body = applied({"type": "tools", "block_tools": ["b"]}, tools=[tool("a"), tool("b")], tool_choice=choice)
    assert "tool_choice" not in body
    _, body = applied({"type": "tools", "block_tools": ["a"]}, tools=[tool("a"), tool("b")], tool_choice=choice)
    assert body["tool_choice"] == choice


WEATHER = {"name": "weather", "parameters": {}}
TOOLS = [
    ("chat", {"functions": [WEATHER], "function_call": {"name": "weather"}}),
    ("chat", {"web_search_options": {}}),
    ("chat", {"tools": [{"type": "custom", "custom": {"name": "weather"}}], "tool_choice": "required"}),
    ("completions", {"tools": [tool("weather")]}),
    ("responses", {"tools": [{"type": "mcp", "server_label": "weather", "server_url": "http://w"}]}),
    ("responses", {"tools": [{"type": "web_search"}, {"type": "custom", "name": "weather"}], "max_tool_calls": 3}),
    ("messages", {"mcp_servers": [{"type": "url", "name": "weather", "url": "http://w"}]}),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "any"}}),
]


def through_tools(api: str, settings: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    dialect = next(each for each in DIALECTS.values() if api == each.NAME)
    request = dialect.parse(json.dumps({"model": "MoM", **members}).encode())
    plugins.apply([PLUGIN.validate_python({"type": "tools", "configuration": settings})], request, {}, "a-model")
    result: dict[str, Any] = json.loads(request.encode())
    return result


@pytest.mark.parametrize(("api", "members"), TOOLS)
def test_no_tools_means_none_in_any_api(api: str, members: dict[str, Any]) -> None:
    assert through_tools(api, {"mode": "none"}, members) == {"model": "MoM"}
    assert through_tools(api, {"allow_tools": ["other"]}, members) == {"model": "MoM"}
    assert through_tools(api, {"mode": "passthrough"}, members) == {"model": "MoM", **members}


def test_lists_of_names_hold_for_all_kinds_of_tools() -> None:
    custom = {"type": "custom", "custom": {"name": "weather"}}
    members = {"tools": [custom, tool("mail")], "functions": [WEATHER, {"name": "mail"}], "web_search_options": {}}
    rest = through_tools("chat", {"allow_tools": ["weather"]}, members)
    assert rest == {"model": "MoM", "tools": [custom], "functions": [WEATHER]}
    rest = through_tools("chat", {"block_tools": ["weather"]}, members)
    assert rest == {"model": "MoM", "tools": [tool("mail")], "functions": [{"name": "mail"}], "web_search_options": {}}


# --- fast_response -------------------------------------------------------------------------------------------------


def test_a_fast_answer_is_one_that_clients_can_read() -> None:
    answer, _ = applied({"type": "fast_response", "message": "No."})
    assert isinstance(answer, plugins.Completion) and answer.content_type == "application/json"
    completion = ChatCompletion.model_validate_json(answer.body)
    assert completion.model == "a-model"
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == ("No.", "stop")


def test_a_fast_answer_without_a_text_still_answers() -> None:
    answer, _ = applied({"type": "fast_response"})
    assert isinstance(answer, plugins.Completion)
    assert ChatCompletion.model_validate_json(answer.body).choices[0].message.content


@pytest.mark.parametrize("usage", [False, True])
def test_a_fast_stream_is_one_that_clients_can_read(usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    answer, _ = applied({"type": "fast_response", "message": "No.\n\nNever."}, stream=True, **options)
    assert isinstance(answer, plugins.Completion) and answer.content_type == "text/event-stream"
    frames = answer.body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [ChatCompletionChunk.model_validate_json(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "No.\n\nNever."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None, "stop"]
    assert (chunks[-1].usage is not None) is usage


# --- order ---------------------------------------------------------------------------------------------------------


def test_plugins_run_as_declared_and_an_answer_ends_the_row() -> None:
    first = {"type": "header_mutation", "update": [{"name": "x-a", "value": "1"}], "enabled": False}
    changes, body = applied(first, {"type": "system_prompt", "system_prompt": "S"}, n=9)
    assert isinstance(changes, plugins.HeaderChanges) and changes.set == {}
    assert body["messages"] == [{"role": "system", "content": "S"}]
    answer, body = applied({"type": "fast_response", "message": "x"}, {"type": "request_params", "max_n": 1}, n=9)
    assert isinstance(answer, plugins.Completion) and body["n"] == 9
