"""Conversation signals: how many messages, tools, tool calls and images a request carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from router.chat import ChatRequest
from router.config.schema import ConversationSignal, ConversationSource
from router.signals import Evaluation, certain

TYPE = "conversation"

Messages = list[dict[str, Any]]


class ConversationCounter:
    """Evaluates conversation signals; never unknown. ``measure`` is the count."""

    def __init__(self, signals: Iterable[ConversationSignal]) -> None:
        self._signals = tuple(signals)

    def evaluate(self, chat: ChatRequest) -> dict[tuple[str, str], Evaluation]:
        return {(TYPE, signal.name): _evaluated(signal, chat) for signal in self._signals}


def _evaluated(signal: ConversationSignal, chat: ChatRequest) -> Evaluation:
    count = _COUNTS[signal.feature.source.type](chat, signal.feature.source)
    number = float(count) if signal.feature.type == "count" else float(count > 0)
    return certain(signal.predicate.holds(number) if signal.predicate else number > 0, number)


def _of_role(chat: ChatRequest, source: ConversationSource) -> int:
    return sum(source.role is None or message.get("role") == source.role for message in chat.messages)


def _tool_definitions(chat: ChatRequest, source: ConversationSource) -> int:
    tools = chat.get("tools")
    return len(tools) if isinstance(tools, list) else 0


def _tool_calls(chat: ChatRequest, source: ConversationSource) -> int:
    return sum(len(_calls(message)) for message in chat.messages)


def _tool_cycles(chat: ChatRequest, source: ConversationSource) -> int:
    """Calls of the assistant that a tool has answered."""
    answered = {message.get("tool_call_id") for message in chat.messages if message.get("role") == "tool"}
    return sum(call.get("id") in answered for message in chat.messages for call in _calls(message))


def _active_tool_loop(chat: ChatRequest, source: ConversationSource) -> int:
    """1 while the last word is a tool's: the assistant is in the middle of its work."""
    messages = chat.messages
    return int(bool(messages) and messages[-1].get("role") == "tool")


def _images(chat: ChatRequest, source: ConversationSource) -> int:
    parts = (part for message in chat.messages for part in _parts(message))
    return sum(isinstance(part, dict) and part.get("type") in ("image_url", "input_image", "image") for part in parts)


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _parts(message: dict[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


_COUNTS: dict[str, Callable[[ChatRequest, ConversationSource], int]] = {
    "message": _of_role,
    "tool_definition": _tool_definitions,
    "assistant_tool_call": _tool_calls,
    "assistant_tool_cycle": _tool_cycles,
    "active_tool_loop": _active_tool_loop,
    "image_content": _images,
}
