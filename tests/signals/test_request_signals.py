"""Signals on the request itself: its length, its messages, its metadata, its caller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kinds import evaluate, made

from triton_router.config import Config
from triton_router.config.signals import ContextSignal, ConversationSignal, MetadataSignal, RoleBinding
from triton_router.dialects import ChatRequest
from triton_router.signals.authz import Roles
from triton_router.signals.context import ContextLengths, estimated_tokens
from triton_router.signals.conversation import Conversations
from triton_router.signals.metadata import MetadataValues

CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def chat(*messages: Any, **members: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"messages": list(messages), **members}).encode())


def turn(role: str, content: Any = "x", **members: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **members}


# --- context -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "characters", "matched"),
    [
        ({"min_tokens": "1K"}, 4000, True),
        ({"min_tokens": "1K"}, 3000, False),
        ({"max_tokens": 500}, 1000, True),
        ({"max_tokens": 500}, 4000, False),
        ({"min_tokens": 100, "max_tokens": ""}, 10_000_000, True),
        ({"min_tokens": "0.5k", "max_tokens": "1M"}, 2400, True),
        ({}, 0, True),
    ],
)
def test_a_range_of_tokens_may_be_open(bounds: dict[str, Any], characters: int, matched: bool) -> None:
    """A range without an upper end has none, rather than one of zero."""
    ranges = made(ContextLengths, [ContextSignal(name="long", **bounds)])
    evaluation = evaluate(ranges, request=chat(turn("user", "x" * characters)))["context", "long"]
    assert evaluation.matched is matched
    assert evaluation.measure == pytest.approx(characters / 4, abs=5)


def test_all_messages_count_and_chinese_is_denser() -> None:
    assert estimated_tokens(chat(turn("system", "x" * 400), turn("user", "x" * 400)).turns()) == 208
    assert estimated_tokens(chat(turn("user", "高血压的原因是什么")).turns()) == 13
    assert estimated_tokens([]) == 0


@pytest.mark.parametrize("bound", ["many", "-1", -5, "1G"])
def test_what_is_no_number_of_tokens_is_refused(bound: Any) -> None:
    with pytest.raises(ValueError, match="tokens"):
        ContextSignal(name="x", max_tokens=bound)


# --- conversation --------------------------------------------------------------------------------------------------

IMAGE = turn("user", [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "this?"}])
TALK = chat(
    turn("system"), turn("user"), turn("assistant", None, tool_calls=[CALL, {**CALL, "id": "2"}]),
    turn("tool", tool_call_id="1"), IMAGE, turn("tool"),
    tools=[{"type": "function", "function": {"name": "look"}}],
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ({"type": "message"}, 6),
        ({"type": "message", "role": "user"}, 2),
        ({"type": "tool_definition"}, 1),
        ({"type": "assistant_tool_call"}, 2),
        ({"type": "assistant_tool_cycle"}, 1),
        ({"type": "active_tool_loop"}, 1),
        ({"type": "image_content"}, 1),
    ],
)
def test_parts_of_a_conversation_are_counted(source: dict[str, str], count: int) -> None:
    signal = ConversationSignal(name="n", feature={"type": "count", "source": source})
    evaluation = evaluate(made(Conversations, [signal]), request=TALK)["conversation", "n"]
    assert (evaluation.matched, evaluation.measure) == (True, count)
    none = evaluate(made(Conversations, [signal]), request=chat())["conversation", "n"]
    assert (none.matched, none.measure) == (False, 0)


CALLED = turn("assistant", "", tool_calls=[CALL])


@pytest.mark.parametrize(
    ("messages", "active"),
    [
        ([turn("user"), CALLED], True),
        ([turn("user"), CALLED, turn("tool", tool_call_id="1")], True),
        ([turn("user"), CALLED, turn("tool", tool_call_id="1"), turn("user")], True),
        ([turn("user"), CALLED, turn("tool", tool_call_id="1"), turn("assistant"), turn("user")], False),
        ([turn("user"), turn("assistant"), turn("user")], False),
    ],
)
def test_a_tool_loop_ends_when_the_assistant_answers(messages: list[Any], active: bool) -> None:
    signal = ConversationSignal(name="n", feature={"type": "exists", "source": {"type": "active_tool_loop"}})
    assert evaluate(made(Conversations, [signal]), request=chat(*messages))["conversation", "n"].matched is active


def test_a_predicate_decides_over_the_count() -> None:
    feature = {"type": "count", "source": {"type": "message", "role": "user"}}
    counter = made(
        Conversations,
        [ConversationSignal(name="many", feature=feature, predicate={"gte": 2, "lt": 5}),
         ConversationSignal(name="any", feature={**feature, "type": "exists"})]
    )  # fmt: skip
    evaluations = evaluate(counter, request=TALK)
    assert evaluations["conversation", "many"].matched is True
    assert (evaluations["conversation", "any"].measure, evaluations["conversation", "any"].matched) == (1.0, True)
    assert evaluate(counter, request=chat(turn("user")))["conversation", "many"].matched is False


@pytest.mark.parametrize("tools", [None, 7, "x", {}])
def test_a_member_of_another_shape_counts_nothing(tools: Any) -> None:
    signal = ConversationSignal(name="n", feature={"type": "count", "source": {"type": "tool_definition"}})
    request = chat(turn("assistant", tool_calls=tools), turn("user", 3), tools=tools)
    assert evaluate(made(Conversations, [signal]), request=request)["conversation", "n"].measure == 0


# --- metadata ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicate", "metadata", "matched"),
    [
        ({"equals": "gold"}, {"plan": "gold"}, True),
        ({"equals": "gold"}, {"plan": "Gold"}, False),
        ({"in": ["gold", "silver"]}, {"plan": "silver"}, True),
        ({"in": ["gold"]}, {}, False),
        ({"exists": True}, {"plan": ""}, True),
        ({"exists": False}, {"other": "x"}, True),
        ({"exists": True}, None, False),
        ({"equals": "1"}, {"plan": 1}, False),
        ({"equals": "x"}, [1], False),
    ],
)
def test_metadata(predicate: dict[str, Any], metadata: Any, matched: bool) -> None:
    reader = made(MetadataValues, [MetadataSignal(name="m", key="plan", predicate=predicate)])
    assert evaluate(reader, request=chat(metadata=metadata))["metadata", "m"].matched is matched


# --- authz ---------------------------------------------------------------------------------------------------------


def identified(set_by: str) -> Config:
    return Config.model_validate({"global": {"services": {"authz": {"identity": {"set_by": set_by}}}}})


BINDINGS = [
    RoleBinding(name="staff", role="premium", subjects=[{"kind": "Group", "name": "staff"}]),
    RoleBinding(name="friends", role="premium", subjects=[{"kind": "User", "name": "ada"}]),
]


@pytest.mark.parametrize(
    ("headers", "staff", "friends", "premium"),
    [
        ({"x-authz-user-id": "ada"}, False, True, True),
        ({"x-authz-user-id": "bob", "x-authz-user-groups": "guests, staff"}, True, False, True),
        ({"x-authz-user-id": "bob", "x-authz-user-groups": "staffers"}, False, False, False),
        ({"x-authz-user-groups": "staff"}, None, None, None),
        ({}, None, None, None),
    ],
)
def test_roles(headers: dict[str, str], staff: bool | None, friends: bool | None, premium: bool | None) -> None:
    evaluations = evaluate(made(Roles, BINDINGS, identified("gateway")), headers=headers)
    assert evaluations["authz", "staff"].matched is staff
    assert evaluations["authz", "friends"].matched is friends
    assert evaluations["authz", "premium"].matched is premium


def test_identity_that_nobody_vouches_for_is_none() -> None:
    evaluations = evaluate(made(Roles, BINDINGS, identified("nobody")), headers={"x-authz-user-id": "ada"})
    assert {evaluation.matched for evaluation in evaluations.values()} == {None}
