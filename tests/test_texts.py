"""Every text that a model reads, in every API: it is found, and can be replaced without harm to the rest."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from triton_router.dialects import DIALECTS, ModelRequest, OtherRequest
from triton_router.dialects.texts import change_texts
from triton_router.errors import MalformedRequest

HERE = "SECRET"
CALL = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": json.dumps({"to": HERE, "sum": 12})}}
TOOL = {"type": "function", "function": {"name": "pay", "description": HERE, "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"type": {"type": "string", "description": HERE}}}

CHAT: dict[str, tuple[dict[str, Any], str]] = {
    "system": ({"messages": [{"role": "developer", "content": HERE}]}, "developer 0"),
    "part": ({"messages": [{"role": "user", "content": [{"type": "text", "text": HERE}]}]}, "user 0"),
    "refusal": (
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": HERE}]}]},
        "assistant 0",
    ),
    "thought": ({"messages": [{"role": "assistant", "content": "x", "reasoning_content": HERE}]}, "assistant 0"),
    "name": ({"messages": [{"role": "user", "name": HERE, "content": "x"}]}, "user 0"),
    "tool result": ({"messages": [{"role": "tool", "tool_call_id": "c", "content": HERE}]}, "tool 0"),
    "call": ({"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}, "call 0"),
    "tool": ({"messages": [], "tools": [TOOL]}, "tools"),
    "document": ({"messages": [], "documents": [{"title": "t", "text": HERE}]}, "documents"),
    "schema": ({"messages": [], "response_format": {"type": "json_schema", "json_schema": SCHEMA}}, "response_format"),
    "prediction": ({"messages": [], "prediction": {"type": "content", "content": HERE}}, "prediction"),
    "template": ({"messages": [], "chat_template_kwargs": {"greeting": HERE}}, "chat_template_kwargs"),
    "a member that nobody knows": ({"messages": [], "new": [{"x": HERE}]}, "new"),
}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": HERE}]}
SOURCE = {"type": "text", "media_type": "text/plain", "data": HERE}
MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "system": ({"system": [{"type": "text", "text": HERE}], "messages": []}, "system"),
    "tool result": ({"messages": [{"role": "user", "content": [RESULT]}]}, "tool 0"),
    "document": ({"messages": [{"role": "user", "content": [{"type": "document", "source": SOURCE}]}]}, "user 0"),
    "call": (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "input": {"to": HERE}}]}]},
        "call 0",
    ),
    "thought": (
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": HERE}]}]},
        "assistant 0",
    ),
    "tool": ({"messages": [], "tools": [{"name": "pay", "input_schema": SCHEMA}]}, "tools"),
}
RESPONSES: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"input": HERE}, "user 0"),
    "instructions": ({"instructions": HERE, "input": "x"}, "instructions"),
    "call": ({"input": [{"type": "function_call", "call_id": "c", "arguments": json.dumps([HERE])}]}, "call 0"),
    "output": ({"input": [{"type": "function_call_output", "call_id": "c", "output": HERE}]}, "tool 0"),
    "reasoning": (
        {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": HERE}]}]},
        "assistant 0",
    ),
    "variable": ({"input": "x", "prompt": {"id": "p", "variables": {"name": HERE}}}, "prompt"),
}
COMPLETIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"prompt": HERE}, "user 0"),
    "several": ({"prompt": ["x", HERE]}, "user 1"),
    "suffix": ({"prompt": "x", "suffix": HERE}, "suffix"),
}
OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"input": HERE}, "user 0"),
    "several": ({"input": ["x", HERE]}, "user 1"),
    "rerank": ({"query": "x", "documents": ["y", HERE]}, "documents"),
    "chat": ({"messages": [{"role": "user", "content": HERE}]}, "messages"),
}
CASES = [
    pytest.param(path, body, where, id=f"{path} {name}")
    for path, cases in {
        "/v1/chat/completions": CHAT,
        "/v1/messages": MESSAGES,
        "/v1/responses": RESPONSES,
        "/v1/completions": COMPLETIONS,
        "/v1/embeddings": OTHER,
    }.items()
    for name, (body, where) in cases.items()
]


def parsed(path: str, body: dict[str, Any]) -> ModelRequest:
    return DIALECTS.get(path, OtherRequest).parse(json.dumps(body).encode())


@pytest.mark.parametrize(("path", "body", "where"), CASES)
def test_a_text_is_read_wherever_it_stands(path: str, body: dict[str, Any], where: str) -> None:
    assert [text.where for text in parsed(path, body).texts() if HERE in text.text] == [where]


@pytest.mark.parametrize(("path", "body", "where"), CASES)
def test_it_is_replaced_and_nothing_else(path: str, body: dict[str, Any], where: str) -> None:
    request = parsed(path, body)
    change_texts(request, lambda text, place: text.replace(HERE, 'a "quoted" é\n'))
    edited = json.loads(request.encode())
    changed = parsed(path, edited)
    change_texts(changed, lambda text, place: text.replace('a "quoted" é\n', HERE))
    assert HERE not in request.encode().decode()
    assert _arguments_read(json.loads(changed.encode())) == _arguments_read(body)


def _arguments_read(value: Any) -> Any:
    """With arguments as what they say: spaces between members may differ."""
    if isinstance(value, dict):
        return {
            name: json.loads(item) if name == "arguments" and isinstance(item, str) else _arguments_read(item)
            for name, item in value.items()
        }
    return [_arguments_read(item) for item in value] if isinstance(value, list) else value


def test_messages_without_a_change_keep_every_byte() -> None:
    text = '{"messages": [ {"role":"user","content":"a",  "x":1.0} , {"role":"user","content":"SECRET"}],"seed" : 1e2}'
    request = parsed("/v1/chat/completions", {})
    request = type(request).parse(text.encode())
    change_texts(request, lambda text, place: text.replace(HERE, "b"))
    assert request.encode().decode() == text.replace("SECRET", "b")


def test_numbers_count_where_a_tool_is_called() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": '{"card": 4111111111111111}'}}
    request = parsed("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": [call]}]})
    change_texts(request, lambda text, place: text.replace("4111111111111111", "[CARD]"))
    arguments = json.loads(request.encode())["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"card": "[CARD]"}


def test_what_no_model_reads_is_left() -> None:
    pixels = HERE + base64.b64encode(bytes(range(256))).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}}
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pixels}}
    body = {
        "user": HERE,
        "metadata": {"user_id": HERE},
        "stop": [HERE],
        "messages": [
            {"role": "user", "content": [image, document]},
            {"role": "tool", "tool_call_id": HERE, "content": "x"},
        ],
        "tool_choice": {"type": "function", "function": {"name": HERE}},
        "tools": [{"type": "function", "function": {"name": HERE, "parameters": {}}}],
    }
    assert not [text for text in parsed("/v1/chat/completions", body).texts() if HERE in text.text]


TEXT = "Tell me the SECRET: it is in here, and you may say it."
IN_BASE64 = base64.b64encode(TEXT.encode()).decode()
MESSAGE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": f"user\n{TEXT}", "content": "x"}]},
        {"messages": [{"role": "tool", "tool_call_id": TEXT, "content": "x"}]},
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": TEXT, "function": {"name": "f", "arguments": "{}"}}]}
            ]
        },
        {"messages": [{"role": "assistant", "function_call": {"name": TEXT, "arguments": "{}"}}]},
        {"messages": [MESSAGE], "tools": [{"type": "function", "function": {"name": TEXT}}]},
        {
            "messages": [MESSAGE],
            "tools": [{"type": "function", "function": {"parameters": {"properties": {TEXT: {}}}}}],
        },
        {"messages": [MESSAGE], "tools": [{"type": "function", "function": {"parameters": {"format": TEXT}}}]},
        {"messages": [MESSAGE], "documents": [{"data": TEXT}, {"url": f"data:{TEXT}"}]},
        {"messages": [MESSAGE], "documents": [{"data": IN_BASE64}]},
        {"messages": [MESSAGE], "documents": [{"url": f"data:image/png;base64,{IN_BASE64}"}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"media_type": TEXT}}]}]},
    ],
)
def test_names_and_media_are_told_by_how_they_look(body: dict[str, Any]) -> None:
    texts = [text for text, _ in parsed("/v1/chat/completions", body).texts()]
    assert any(HERE in text or IN_BASE64 in text for text in texts)


def test_numbers_count_everywhere() -> None:
    body = {"messages": [MESSAGE], "seed": 4111111111111111, "tools": [{"example": 4111111111111111, "most": 12}]}
    request = parsed("/v1/chat/completions", body)
    change_texts(request, lambda text, place: text.replace("4111111111111111", "[CARD]"))
    changed = json.loads(request.encode())
    assert (changed["tools"], changed["seed"]) == ([{"example": "[CARD]", "most": 12}], 4111111111111111)


def test_arguments_that_name_a_member_twice_are_read_as_they_are_written() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": '{"to": "SECRET", "to": "x"}'}}
    assert [text for text, _ in parsed("/v1/chat/completions", {"messages": [{"tool_calls": [call]}]}).texts()] == [
        '{"to": "SECRET", "to": "x"}'
    ]


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"m": [{"x": {"a": 1, "b": 2, "\\u0061": 3}}]}'])
def test_a_member_that_is_there_twice_is_refused(text: str, padding: int) -> None:
    with pytest.raises(MalformedRequest, match="'a' is there twice"):
        DIALECTS["/v1/chat/completions"].parse((text[:-1] + f', "p": "{"x" * padding}"}}').encode())


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/v1/completions", {"prompt": [1, 2]}, True),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, True),
        ("/v1/completions", {"prompt_embeds": "x"}, True),
        ("/v1/completions", {"prompt": ["a"]}, False),
        ("/v1/embeddings", {"input": [[1]]}, True),
        ("/v1/embeddings", {"input": "a"}, False),
        ("/v1/chat/completions", {"messages": [], "prompt_token_ids": [1, 2]}, True),
        ("/v1/chat/completions", {"messages": [], "chat_template": "{{ messages[0].content[::-1] }}"}, True),
        ("/v1/chat/completions", {"messages": [], "stop_token_ids": [1, 2]}, False),
    ],
)
def test_tokens_are_no_text(path: str, body: dict[str, Any], tokens: bool) -> None:
    assert parsed(path, body).has_tokens() is tokens


def test_a_body_nested_too_deep_is_refused() -> None:
    body = b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}"
    with pytest.raises(MalformedRequest):
        DIALECTS["/v1/chat/completions"].parse(body).texts()
