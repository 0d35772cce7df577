"""Each API in its own shape: what is read, what is rewritten, what the router answers itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion as TextCompletion
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from triton_router import plugins
from triton_router.config.plugins import Plugin
from triton_router.config.schema import ReasoningFamily
from triton_router.dialects import (
    ChatRequest,
    CompletionsRequest,
    MessagesRequest,
    ModelRequest,
    ResponsesRequest,
    Turn,
)
from triton_router.errors import MalformedRequest, refusal_body
from triton_router.selection import Selection, apply_reasoning

PLUGIN: TypeAdapter[Any] = TypeAdapter(Plugin)
ALL = (CompletionsRequest, ResponsesRequest, MessagesRequest)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


def parsed(dialect: type[ModelRequest], /, **members: Any) -> Any:
    return dialect.parse(json.dumps(members).encode())


def text(kind: str, content: str) -> dict[str, Any]:
    return {"type": kind, "text": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "prompt", "turns"),
    [
        ({"input": "hi"}, "hi", [Turn("user", "hi")]),
        ({"input": "hi", "instructions": "Be kind."}, "hi", [Turn("system", "Be kind."), Turn("user", "hi")]),
        ({"input": [user("a"), {"role": "assistant", "content": [text("output_text", "b")]}, user("c")]}, "c",
         [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")]),
        ({"input": [{"type": "message", **user([text("input_text", "see"), {"type": "input_image"}])}]}, "see",
         [Turn("user", "see", 1)]),
        ({"input": [
            user("ask"),
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "42"},
          ]}, "ask",
         [Turn("user", "ask"), Turn("assistant", "", 0, ("1", "2")), Turn("tool", "42", answers="1")]),
        ({"previous_response_id": "resp_1"}, "", []),
        ({"input": []}, "", []),
    ],
)  # fmt: skip
def test_responses_are_read(members: dict[str, Any], prompt: str, turns: list[Turn]) -> None:
    request = parsed(ResponsesRequest, **members)
    assert (request.prompt(), request.turns()) == (prompt, turns)


@pytest.mark.parametrize(
    ("members", "prompt", "turns"),
    [
        ({"messages": [user("hi")]}, "hi", [Turn("user", "hi")]),
        ({"messages": [user("hi")], "system": "S"}, "hi", [Turn("system", "S"), Turn("user", "hi")]),
        ({"messages": [user([text("text", "a"), IMAGE, text("text", "b")])], "system": [text("text", "S")]}, "a\nb",
         [Turn("system", "S"), Turn("user", "a\nb", 1, blocks=("a", "b"))]),
        ({"messages": [
            user("ask"),
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                text("text", "I look."),
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            ]},
            user([{"type": "tool_result", "tool_use_id": "1", "content": [text("text", "42")]}]),
          ]}, "ask",
         [Turn("user", "ask"), Turn("assistant", "I look.", 0, ("1",)), Turn("tool", "42", answers="1")]),
        ({"messages": [user([{"type": "tool_result", "tool_use_id": "1", "content": "42"}, text("text", "and?")])]},
         "and?", [Turn("tool", "42", answers="1"), Turn("user", "and?")]),
        ({"messages": [user("hi"), {"role": "assistant", "content": "Hello,"}]}, "hi",
         [Turn("user", "hi"), Turn("assistant", "Hello,")]),
        ({"messages": []}, "", []),
    ],
)  # fmt: skip
def test_messages_are_read(members: dict[str, Any], prompt: str, turns: list[Turn]) -> None:
    request = parsed(MessagesRequest, **members)
    assert (request.prompt(), request.turns()) == (prompt, turns)


@pytest.mark.parametrize(
    ("given_prompt", "prompt"),
    [("Once upon", "Once upon"), (["a", "b"], "a\nb"), ([1, 2, 3], ""), ([[1], [2]], ""), (None, "")],
)
def test_completions_are_read(given_prompt: Any, prompt: str) -> None:
    assert parsed(CompletionsRequest, prompt=given_prompt).prompt() == prompt


@pytest.mark.parametrize(
    ("dialect", "members", "param"),
    [
        (ResponsesRequest, {"input": 7}, "input"),
        (ResponsesRequest, {"input": ["text"]}, "input[0]"),
        (ResponsesRequest, {"input": "x", "instructions": ["S"]}, "instructions"),
        (MessagesRequest, {"messages": "text"}, "messages"),
        (MessagesRequest, {"messages": [None]}, "messages[0]"),
        (MessagesRequest, {"messages": [], "system": 7}, "system"),
        (CompletionsRequest, {"prompt": {"text": "x"}}, "prompt"),
    ],
)
def test_another_shape_is_refused(dialect: type[ModelRequest], members: dict[str, Any], param: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parsed(dialect, **members).prompt()
    assert (refused.value.status, refused.value.param) == (400, param)


@given(st.dictionaries(st.sampled_from(["input", "instructions", "messages", "system", "prompt", "x"]), values))
def test_whatever_is_sent_is_read_or_refused(members: dict[str, Any]) -> None:
    for dialect in ALL:
        request = parsed(dialect, **members)
        try:
            assert isinstance(request.prompt(), str)
        except MalformedRequest:
            continue
        assert isinstance(request.text_suffices(), bool)
        assert isinstance(request.said_plainly(), bool)


def test_errors_have_the_shape_of_the_api() -> None:
    for status, kind in ((400, "invalid_request_error"), (403, "permission_error"), (404, "not_found_error"),
                         (413, "request_too_large"), (500, "api_error")):  # fmt: skip
        body = json.loads(refusal_body("/v1/messages?beta=true", status, "No.", code="c", param="p"))
        assert body == {"type": "error", "error": {"type": kind, "message": "No."}}
    body = json.loads(refusal_body("/v1/responses", 404, "\ud83d", code="c", param="p"))
    assert body == {"error": {"message": "?", "type": "invalid_request_error", "param": "p", "code": "c"}}


# --- system text ---------------------------------------------------------------------------------------------------

SYSTEM, DEVELOPER = {"role": "system", "content": "own"}, {"role": "developer", "content": "dev"}
NEW = {"type": "message", "role": "system", "content": "NEW"}
HI = user("hi")


def instruct(dialect: type[ModelRequest], mode: str, /, **members: Any) -> Any:
    request = parsed(dialect, **members)
    request.tell("NEW", mode)
    return json.loads(request.encode())


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("replace", {"input": "hi"}, {"input": "hi", "instructions": "NEW"}),
        ("replace", {"instructions": "own", "input": [SYSTEM, HI, DEVELOPER]}, {"instructions": "NEW", "input": [HI]}),
        ("prepend", {"input": "hi", "instructions": "own"}, {"input": "hi", "instructions": "NEW\n\nown"}),
        ("prepend", {"input": [SYSTEM, HI]}, {"input": [SYSTEM, HI], "instructions": "NEW"}),
        ("append", {"input": "hi", "instructions": "own"}, {"input": "hi", "instructions": "own\n\nNEW"}),
        ("append", {"input": [SYSTEM, DEVELOPER, HI]}, {"input": [SYSTEM, DEVELOPER, NEW, HI]}),
        ("append", {"input": [HI]}, {"input": [HI], "instructions": "NEW"}),
        ("insert", {"input": [SYSTEM, HI]}, {"input": [{**SYSTEM, "content": "NEW\n\nown"}, HI]}),
        ("insert", {"input": [SYSTEM, HI], "instructions": "own"},
         {"input": [SYSTEM, HI], "instructions": "NEW\n\nown"}),
        ("insert", {"input": [{"role": "developer", "content": [text("input_text", "own")]}]},
         {"input": [{"role": "developer", "content": [text("input_text", "NEW"), text("input_text", "own")]}]}),
    ],
)  # fmt: skip
def test_system_text_of_responses(mode: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    assert instruct(ResponsesRequest, mode, **before) == after


CACHED = {"type": "text", "text": "own", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("replace", None, "NEW"),
        ("replace", "own", "NEW"),
        ("replace", [CACHED], "NEW"),
        ("prepend", "own", "NEW\n\nown"),
        ("prepend", [CACHED], [text("text", "NEW\n\n"), CACHED]),
        ("insert", [CACHED], [text("text", "NEW\n\n"), CACHED]),
        ("append", "own", "own\n\nNEW"),
        ("append", [CACHED], [CACHED, text("text", "\n\nNEW")]),
        ("append", [], "NEW"),
        ("append", None, "NEW"),
    ],
)
def test_system_text_of_messages(mode: str, before: Any, after: Any) -> None:
    assert instruct(MessagesRequest, mode, system=before, messages=[HI]) == {"system": after, "messages": [HI]}


def test_system_messages_among_messages_are_replaced_too() -> None:
    assert instruct(MessagesRequest, "replace", messages=[SYSTEM, HI]) == {"system": "NEW", "messages": [HI]}
    assert instruct(MessagesRequest, "prepend", messages=[SYSTEM, HI]) == {"system": "NEW", "messages": [SYSTEM, HI]}


def test_two_plugins_add_up() -> None:
    chain = [PLUGIN.validate_python({"type": "system_prompt", "configuration": {"mode": mode, "system_prompt": prompt}})
             for mode, prompt in (("replace", "A"), ("append", "B"))]  # fmt: skip
    for dialect, member in ((ResponsesRequest, "instructions"), (MessagesRequest, "system")):
        request = parsed(dialect, **{member: "own"})
        plugins.apply(chain, request, {}, "m")
        assert json.loads(request.encode())[member] == "A\n\nB"


def test_completions_have_no_place_for_system_text_or_thinking() -> None:
    request = parsed(CompletionsRequest, prompt="Once upon")
    request.tell("NEW", "replace")
    apply_reasoning(request, Selection("m", "m", None, QWEN, True, "high"))
    assert json.loads(request.encode()) == {"prompt": "Once upon"}
    assert request.ignored == ["system_prompt", "reasoning"]


@given(st.dictionaries(st.text().filter(lambda name: name not in ("input", "messages", "system", "instructions")),
                       values, max_size=4), st.sampled_from(["replace", "prepend", "append", "insert"]))  # fmt: skip
def test_whatever_else_is_sent_stays(others: dict[str, Any], mode: str) -> None:
    odd = [{"role": "user", "content": "hi", "x": 2**70}]
    for dialect, member, system in (
        (ResponsesRequest, "input", "instructions"),
        (MessagesRequest, "messages", "system"),
    ):
        assert instruct(dialect, mode, **others, **{member: odd}) == {**others, member: odd, system: "NEW"}


def test_bytes_that_nobody_edits_stay() -> None:
    body = '{"model": "MoM",  "max_tokens":1.0e2, "messages": [ {"role":"user",  "content":"caf\\u00e9"} ]\n}'
    request = MessagesRequest.parse(body.encode())
    request.set("model", "m")
    request.tell("S", "replace")
    assert request.encode().decode() == body.replace("MoM", "m").replace("\n}", ',"system":"S"\n}')


# --- reasoning -----------------------------------------------------------------------------------------------------

QWEN = ReasoningFamily(type="chat_template_kwargs", parameter="enable_thinking")
GPT = ReasoningFamily(type="reasoning_effort", parameter="reasoning_effort")
ON, OFF = {"chat_template_kwargs": {"enable_thinking": True}}, {"chat_template_kwargs": {"enable_thinking": False}}
BUDGET = {"type": "enabled", "budget_tokens": 2048}


@pytest.mark.parametrize(
    ("dialect", "family", "use", "effort", "members", "expected"),
    [
        (ResponsesRequest, QWEN, True, "high", {}, ON),
        (ResponsesRequest, QWEN, False, "high", {"reasoning": {"effort": "high"}},
         {"reasoning": {"effort": "high"}, **OFF}),
        (ResponsesRequest, GPT, True, "high", {"reasoning": {"effort": "low", "summary": "auto"}},
         {"reasoning": {"effort": "high", "summary": "auto"}}),
        (ResponsesRequest, GPT, False, "high", {}, {"reasoning": {"effort": "low"}}),
        (ResponsesRequest, QWEN, None, "high", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low"}}),
        (MessagesRequest, QWEN, True, "high", {"thinking": BUDGET}, {"thinking": BUDGET, **ON}),
        (MessagesRequest, QWEN, True, "high", {"thinking": {"type": "disabled"}}, ON),
        (MessagesRequest, QWEN, False, "high", {"thinking": BUDGET}, OFF),
        (MessagesRequest, QWEN, False, "high", {"thinking": {"type": "adaptive"}}, OFF),
        (MessagesRequest, GPT, True, "minimal", {"output_config": {"format": None}},
         {"output_config": {"format": None, "effort": "low"}}),
        (MessagesRequest, None, True, "high", {"thinking": BUDGET}, {"thinking": BUDGET}),
    ],
)  # fmt: skip
def test_reasoning_is_switched_where_vllm_reads_it(
    dialect: type[ModelRequest], family: Any, use: Any, effort: str, members: dict[str, Any], expected: dict[str, Any]
) -> None:
    request = parsed(dialect, **members)
    apply_reasoning(request, Selection("m", "m", None, family, use, effort))
    assert json.loads(request.encode()) == expected


# --- usage of streams ----------------------------------------------------------------------------------------------


def test_usage_of_a_stream_is_asked_for_where_it_does_not_come_by_itself() -> None:
    for dialect in ALL:
        request, silent = parsed(dialect, stream=True), parsed(dialect)
        expected = dialect is CompletionsRequest
        assert (request.request_usage(), request.changed, silent.request_usage()) == (expected, expected, False)


# --- limits and tools ----------------------------------------------------------------------------------------------


def applied(dialect: type[ModelRequest], settings: dict[str, Any], **members: Any) -> dict[str, Any]:
    request = parsed(dialect, **members)
    chain = [PLUGIN.validate_python({"type": settings.pop("type"), "configuration": settings})]
    plugins.apply(chain, request, {}, "m")
    rewritten: dict[str, Any] = json.loads(request.encode())
    return rewritten


@pytest.mark.parametrize(
    ("dialect", "limit", "others"),
    [
        (ResponsesRequest, "max_output_tokens", {"input": "x", "reasoning": {}, "previous_response_id": "r"}),
        (MessagesRequest, "max_tokens", {"messages": [], "thinking": {}, "output_config": {}, "stop_sequences": ["x"]}),
        (CompletionsRequest, "max_tokens", {"prompt": "x", "suffix": "y", "echo": True}),
    ],
)
def test_limits_are_kept_in_each_apis_words(dialect: type[ModelRequest], limit: str, others: dict[str, Any]) -> None:
    settings = {"type": "request_params", "max_tokens_limit": 100, "strip_unknown": True}
    assert applied(dialect, {**settings}, **others, **{limit: 500}, made_up=1) == {**others, limit: 100}
    assert applied(dialect, {**settings}, **others) == {**others, limit: 100}


def test_a_limit_on_answers_holds_for_the_best_of_them_too() -> None:
    settings = {"type": "request_params", "max_n": 2}
    assert applied(CompletionsRequest, settings, prompt="x", n=5, best_of=9) == {"prompt": "x", "n": 2, "best_of": 2}


def test_what_is_blocked_does_not_come_back_with_the_routers_own() -> None:
    request = parsed(ResponsesRequest, chat_template_kwargs={"secret": 1})
    settings = {"blocked_params": ["chat_template_kwargs"]}
    plugins.apply([PLUGIN.validate_python({"type": "request_params", "configuration": settings})], request, {}, "m")
    apply_reasoning(request, Selection("m", "m", None, QWEN, True, "high"))
    assert json.loads(request.encode()) == ON


@pytest.mark.parametrize(
    ("dialect", "tools", "choice", "remaining"),
    [
        (ResponsesRequest, [{"type": "function", "name": "look"}, {"type": "web_search"}], {"type": "web_search"},
         {"tools": [{"type": "function", "name": "look"}], "tool_choice": {"type": "web_search"}}),
        (ResponsesRequest, [{"type": "function", "name": "look"}, {"type": "function", "name": "web_find"}],
         {"type": "function", "name": "web_find"}, {"tools": [{"type": "function", "name": "look"}]}),
        (ResponsesRequest, [{"type": "function", "name": "look"}, {"type": "function", "name": "web_find"}],
         {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "web_find"}]},
         {"tools": [{"type": "function", "name": "look"}]}),
        (MessagesRequest, [{"name": "look", "input_schema": {}}, {"name": "web_find", "input_schema": {}}],
         {"type": "tool", "name": "web_find"}, {"tools": [{"name": "look", "input_schema": {}}]}),
        (MessagesRequest, [{"name": "look", "input_schema": {}}, {"name": "web_find", "input_schema": {}}],
         {"type": "auto"}, {"tools": [{"name": "look", "input_schema": {}}], "tool_choice": {"type": "auto"}}),
        (MessagesRequest, [{"name": "web_find", "input_schema": {}}], {"type": "any"}, {}),
    ],
)  # fmt: skip
def test_tools_are_known_by_their_names(dialect: type[ModelRequest], tools: Any, choice: Any, remaining: Any) -> None:
    assert applied(dialect, {"type": "tools", "block_tools": ["web_*"]}, tools=tools, tool_choice=choice) == remaining


# --- own answers ---------------------------------------------------------------------------------------------------

TEXT = "No.\n\nNever: 世界 🌍"


def events_of(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    frames = [frame.split("\n") for frame in body.decode().split("\n\n")[:-1]]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in frames]


def test_an_own_response_is_one_that_clients_can_read() -> None:
    members = {"input": "hi", "metadata": {"k": "\ud83d"}, "temperature": 0.5, "instructions": "S"}
    answer = parsed(ResponsesRequest, **members).answer(TEXT, "m")
    assert answer.content_type == "application/json"
    response = Response.model_validate_json(answer.body.replace(b"\\ud83d", b"v"))
    assert (response.output_text, response.status, response.model) == (TEXT, "completed", "m")
    assert (response.metadata, response.temperature, response.instructions) == ({"k": "v"}, 0.5, "S")
    assert response.usage is not None and response.usage.total_tokens == 0


def test_an_own_stream_of_a_response_has_every_event() -> None:
    answer = parsed(ResponsesRequest, input="hi", stream=True).answer(TEXT, "m")
    assert answer.content_type == "text/event-stream"
    events = events_of(answer.body)
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    assert [adapter.validate_python(data).type for _, data in events] == [name for name, _ in events]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert events[0][0] == "response.created" and events[-1][0] == "response.completed"
    assert Response.model_validate(events[-1][1]["response"]).output_text == TEXT


def test_an_own_message_is_one_that_clients_can_read() -> None:
    answer = parsed(MessagesRequest, messages=[HI]).answer(TEXT, "m")
    message = Message.model_validate_json(answer.body)
    assert (message.content[0].text, message.stop_reason, message.model) == (TEXT, "end_turn", "m")  # type: ignore[union-attr]
    streamed = parsed(MessagesRequest, messages=[HI], stream=True).answer(
        TEXT, "m", {"input_tokens": 3, "output_tokens": 4}
    )
    events = events_of(streamed.body)
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    assert [adapter.validate_python(data).type for _, data in events] == [name for name, _ in events]
    assert events[-2][1]["usage"] == {"input_tokens": 3, "output_tokens": 4}


@pytest.mark.parametrize("usage", [False, True])
def test_an_own_completion_is_one_that_clients_can_read(usage: bool) -> None:
    answer = parsed(CompletionsRequest, prompt="hi").answer(TEXT, "m")
    assert TextCompletion.model_validate_json(answer.body).choices[0].text == TEXT
    options = {"stream_options": {"include_usage": True}} if usage else {}
    streamed = parsed(CompletionsRequest, prompt="hi", stream=True, **options).answer(TEXT, "m")
    *frames, last, end = streamed.body.decode().split("\n\n")
    chunks = [TextCompletion.model_validate_json(frame.removeprefix("data: ")) for frame in frames]
    assert (last, end) == ("data: [DONE]", "")
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == TEXT
    assert (chunks[-1].usage is not None) is usage


# --- what an answer's text does not say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "members", "suffices"),
    [
        (ResponsesRequest, {"input": "x"}, True),
        (ResponsesRequest, {"input": "x", "store": False, "include": []}, True),
        (ResponsesRequest, {"input": "x", "store": True}, False),
        (ResponsesRequest, {"input": "x", "previous_response_id": "resp_1"}, False),
        (ResponsesRequest, {"input": "x", "conversation": "conv_1"}, False),
        (ResponsesRequest, {"input": "x", "background": True}, False),
        (ResponsesRequest, {"input": "x", "include": ["message.output_text.logprobs"]}, False),
        (ResponsesRequest, {"input": [{"type": "item_reference", "id": "msg_1"}, HI]}, False),
        (ResponsesRequest, {"input": [{"id": "msg_1"}, HI]}, False),
        (MessagesRequest, {"messages": [HI]}, True),
        (MessagesRequest, {"messages": [HI], "container": "c"}, False),
        (ChatRequest, {"messages": [{"role": "assistant", "audio": {"id": "a"}}, HI]}, False),
        (CompletionsRequest, {"prompt": "x", "n": 1}, True),
        (CompletionsRequest, {"prompt": ["x"]}, False),
        (CompletionsRequest, {"prompt": "x", "logprobs": 0}, False),
        (CompletionsRequest, {"prompt": "x", "echo": True}, False),
        (CompletionsRequest, {"prompt": "x", "best_of": 2}, False),
    ],
)
def test_what_may_be_answered_from_a_cache(dialect: type[ModelRequest], members: Any, suffices: bool) -> None:
    assert parsed(dialect, **members).text_suffices() is suffices
