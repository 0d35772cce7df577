"""Conversation signals: how many messages, tools, tool calls and images a request carries."""

from __future__ import annotations

from collections.abc import Callable

from triton_router.config.signals import ConversationSignal, ConversationSource
from triton_router.dialects import ModelRequest
from triton_router.signals.contract import Evaluation, Evaluations, SignalInput, SignalKind, SignalResults, certain


class Conversations(SignalKind[ConversationSignal]):
    """Never unknown; ``measure`` is the count."""

    SETTINGS = ConversationSignal

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        return {key: _evaluated(signal, query.request) for key, signal in zip(self.keys, self.signals, strict=True)}


def _evaluated(signal: ConversationSignal, request: ModelRequest) -> Evaluation:
    count = _COUNTS[signal.feature.source.type](request, signal.feature.source)
    number = float(count) if signal.feature.type == "count" else float(count > 0)
    return certain(signal.predicate.holds(number) if signal.predicate else number > 0, number)


def _of_role(request: ModelRequest, source: ConversationSource) -> int:
    if source.role == "non_user":
        return sum(turn.role != "user" for turn in request.turns())
    return sum(source.role is None or turn.role == source.role for turn in request.turns())


def _tool_definitions(request: ModelRequest, source: ConversationSource) -> int:
    tools = request.get("tools")
    return len(tools) if isinstance(tools, list) else 0


def _tool_calls(request: ModelRequest, source: ConversationSource) -> int:
    return sum(len(turn.calls) for turn in request.turns())


def _tool_cycles(request: ModelRequest, source: ConversationSource) -> int:
    """Calls of the assistant that a tool has answered."""
    answered = {turn.answers for turn in request.turns() if turn.answers}
    return sum(call in answered for turn in request.turns() for call in turn.calls)


def _active_tool_loop(request: ModelRequest, source: ConversationSource) -> int:
    """1 while the assistant has not answered since its last call of a tool, even if the user says more meanwhile."""
    last = next((turn for turn in reversed(request.turns()) if turn.role in ("assistant", "tool")), None)
    return int(last is not None and (last.role == "tool" or bool(last.calls)))


def _images(request: ModelRequest, source: ConversationSource) -> int:
    return sum(turn.images for turn in request.turns())


_COUNTS: dict[str, Callable[[ModelRequest, ConversationSource], int]] = {
    "message": _of_role,
    "tool_definition": _tool_definitions,
    "assistant_tool_call": _tool_calls,
    "assistant_tool_cycle": _tool_cycles,
    "active_tool_loop": _active_tool_loop,
    "image_content": _images,
}
