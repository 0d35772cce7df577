"""The system prompt plugin, and the reasoning switch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router import plugins
from triton_router.config.plugins import SystemPromptPlugin, SystemPromptSettings
from triton_router.config.schema import ReasoningFamily
from triton_router.dialects import ChatRequest
from triton_router.selection import Selection, apply_reasoning

USER = {"role": "user", "content": "hi"}
OWN = {"role": "system", "content": "own"}
DEVELOPER = {"role": "developer", "content": "dev"}
NEW = {"role": "system", "content": "NEW"}


def rewritten(mode: str, messages: Any, **settings: Any) -> Any:
    configuration = SystemPromptSettings(mode=mode, system_prompt="NEW", **settings)
    request = ChatRequest.parse(json.dumps({"messages": messages}).encode())
    plugins.apply([SystemPromptPlugin(type="system_prompt", configuration=configuration)], request, {}, "m")
    return json.loads(request.encode())["messages"]


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("replace", [OWN, USER, DEVELOPER], [NEW, USER]),
        ("replace", [], [NEW]),
        ("replace", None, [NEW]),
        ("prepend", [OWN, USER], [NEW, OWN, USER]),
        ("append", [OWN, DEVELOPER, USER], [OWN, DEVELOPER, NEW, USER]),
        ("append", [USER], [NEW, USER]),
        ("insert", [OWN, USER], [{"role": "system", "content": "NEW\n\nown"}, USER]),
        ("insert", [DEVELOPER, USER], [{"role": "developer", "content": "NEW\n\ndev"}, USER]),
        ("insert", [{"role": "system", "content": [{"type": "text", "text": "own"}]}],
         [{"role": "system", "content": [{"type": "text", "text": "NEW"}, {"type": "text", "text": "own"}]}]),
        ("insert", [{"role": "system", "content": None}], [NEW]),
        ("insert", [USER], [NEW, USER]),
        ("auto", [USER], [NEW, USER]),
        ("auto", [OWN, USER], [NEW, USER]),
        ("auto", [{"role": "system", "content": "own\nrules"}, USER],
         [{"role": "system", "content": "NEW\n\nown\nrules"}, USER]),
        ("auto", [{"role": "system", "content": "x" * 201}, USER],
         [{"role": "system", "content": "NEW\n\n" + "x" * 201}, USER]),
    ],
)  # fmt: skip
def test_modes(mode: str, before: Any, after: Any) -> None:
    assert rewritten(mode, before) == after


def test_a_switched_off_plugin_changes_nothing() -> None:
    assert rewritten("replace", [OWN, USER], enabled=False) == [OWN, USER]


messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
        optional={"content": st.none() | st.text() | st.just([{"type": "text", "text": "part"}]), "name": st.text()},
    )
)


@given(messages, st.sampled_from(["replace", "prepend", "append", "insert"]))
def test_what_is_not_system_text_keeps_order_and_content(before: list[Any], mode: str) -> None:
    after = rewritten(mode, before)
    speech = [message for message in before if message["role"] not in ("system", "developer")]
    assert [message for message in after if message["role"] not in ("system", "developer")] == speech
    assert sum("NEW" in json.dumps(message) for message in after if message["role"] in ("system", "developer")) >= 1


QWEN = ReasoningFamily(type="chat_template_kwargs", parameter="enable_thinking")
GPT = ReasoningFamily(type="reasoning_effort", parameter="reasoning_effort")


@pytest.mark.parametrize(
    ("family", "use", "body", "expected"),
    [
        (QWEN, True, {}, {"chat_template_kwargs": {"enable_thinking": True}}),
        (QWEN, False, {}, {"chat_template_kwargs": {"enable_thinking": False}}),
        (QWEN, True, {"chat_template_kwargs": {"x": 1, "enable_thinking": False}},
         {"chat_template_kwargs": {"x": 1, "enable_thinking": True}}),
        (QWEN, True, {"chat_template_kwargs": None}, {"chat_template_kwargs": {"enable_thinking": True}}),
        (GPT, True, {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        (GPT, False, {}, {"reasoning_effort": "low"}),
        (QWEN, None, {}, {}),
        (None, True, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)  # fmt: skip
def test_reasoning_is_switched_in_the_familys_own_way(family: Any, use: Any, body: Any, expected: Any) -> None:
    request = ChatRequest.parse(json.dumps(body).encode())
    apply_reasoning(request, Selection("m", "m", None, family, use, "high"))
    assert json.loads(request.encode()) == expected
