"""Reading and rewriting a chat request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.dialects import ChatRequest
from triton_router.errors import MalformedRequest

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
spaces = st.sampled_from(["", " ", "\n  ", "\t"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """JSON text of an object with odd spacing, and what it means."""
    members = draw(st.dictionaries(st.text(max_size=8), values, max_size=6))
    pieces = [
        f"{draw(spaces)}{json.dumps(name, ensure_ascii=draw(st.booleans()))}{draw(spaces)}:{draw(spaces)}"
        f"{json.dumps(value, ensure_ascii=draw(st.booleans()))}{draw(spaces)}"
        for name, value in members.items()
    ]
    text = draw(spaces) + "{" + (",".join(pieces) or draw(spaces)) + "}" + draw(spaces)
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "ignore"), members


@given(bodies())
def test_a_body_that_nobody_edits_is_unchanged_byte_for_byte(body: tuple[str, dict[str, Any]]) -> None:
    text, _ = body
    assert ChatRequest.parse(text.encode()).encode() == text.encode()


@given(bodies(), st.data())
def test_edits_change_what_they_name_and_nothing_else(body: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    text, members = body
    names = st.sampled_from(list(members)) if members else st.nothing()
    removed = data.draw(st.lists(names, unique=True))
    replaced = data.draw(st.dictionaries(names | st.text(max_size=8), values, max_size=3))
    request = ChatRequest.parse(text.encode())
    for name in removed:
        request.remove(name)
    for name, value in replaced.items():
        request.set(name, value)
    expected = {name: value for name, value in members.items() if name not in removed} | replaced
    assert json.loads(request.encode()) == expected


@given(st.dictionaries(st.text(), values), st.dictionaries(st.text(), scalars))
def test_merging_keeps_the_other_keys(existing: dict[str, Any], added: dict[str, Any]) -> None:
    request = ChatRequest.parse(json.dumps({"a": 1, "kwargs": existing, "z": 2}).encode())
    request.merge("kwargs", added)
    assert json.loads(request.encode()) == {"a": 1, "kwargs": existing | added, "z": 2}


def test_numbers_and_surrogates_survive_an_edit_beside_them() -> None:
    digits = "9" * 5000
    text = f'{{"model": "MoM", "seed": 123456789012345678901234567890, "x": 1.10e+2, "big": {digits}, "s": "\\ud83d"}}'
    request = ChatRequest.parse(text.encode())
    request.set("model", "m")
    assert request.encode().decode() == text.replace('"MoM"', '"m"')


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "object"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b'{"model": "a"', "expected"),
        (b'{"model": }', "not valid JSON"),
        (b'{"model": "a",}', "member name"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1} trailing', "follows"),
        (b'{"model": "a", "model": "b"}', "twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested"),
    ],
)
def test_a_malformed_body_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        ChatRequest.parse(body)


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([], ""),
        (None, ""),
        ([{"role": "system", "content": "be kind"}], "be kind"),
        ([{"role": "user", "content": "first"}, {"role": "assistant", "content": "x"}], "first"),
        ([{"role": "user", "content": "first"}, {"role": "user", "content": "second"}], "second"),
        ([{"role": "user", "content": "ask"}, {"role": "tool", "content": "42", "tool_call_id": "1"}], "ask"),
        ([{"role": "user", "content": None}], ""),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}]}], "a\nb"),
        ([{"role": "user", "content": [None, {"type": "text", "text": None}]}], ""),
        ([{"role": "user", "content": "解释 JavaScript"}], "解释 JavaScript"),
    ],
)  # fmt: skip
def test_the_prompt_is_what_the_user_last_said(messages: Any, prompt: str) -> None:
    assert ChatRequest.parse(json.dumps({"messages": messages}).encode()).prompt() == prompt


@pytest.mark.parametrize("messages", ["text", {"role": "user"}, [1], [None], [[]]])
def test_messages_of_another_shape_are_refused(messages: Any) -> None:
    with pytest.raises(MalformedRequest, match="messages"):
        ChatRequest.parse(json.dumps({"messages": messages}).encode()).prompt()


def test_edited_messages_keep_the_text_of_the_others() -> None:
    text = '{"messages": [ {"role":"user",  "content":"caf\\u00e9"} , {"role": "x"} ]}'
    request = ChatRequest.parse(text.encode())
    request.edit_elements("messages", lambda texts, parsed: ['{"role":"system"}', *texts[:1]])
    assert request.encode().decode() == '{"messages": [ {"role":"system"} , {"role":"user",  "content":"caf\\u00e9"} ]}'
