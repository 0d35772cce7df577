"""What a gateway that sends requests itself should do with one: the pipeline's outcome as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from triton_router.body import Body, Member
from triton_router.dialects import ChatRequest, chat
from triton_router.exchange import Forward, Outcome, Request
from triton_router.names import CACHE_CONTROL
from triton_router.record import Record

# The answer comes back to somebody else, so there is nothing to store.
_WITHOUT_CACHE = {CACHE_CONTROL: "no-store"}
# What belongs to this call, not to the client's request. A credential opened the REST service.
_THIS_CALLS = frozenset({"authorization", "connection", "content-encoding", "content-length", "content-type", "host"})


def request_of(body: bytes, headers: Mapping[str, str]) -> Request:
    """The request to route, out of a call of the REST service. Raises ``MalformedRequest``."""
    chat_request = ChatRequest.parse(body)
    # An answer of the router's own is wanted in one piece.
    chat_request.remove("stream")
    forwarded = {name: value for name, value in headers.items() if name not in _THIS_CALLS}
    return Request("POST", chat.PATH, forwarded | _WITHOUT_CACHE, chat_request.encode())


def advice(request: Request, outcome: Outcome, record: Record) -> dict[str, Any]:
    """``outcome``, a status of 200 if it is a reply, as changes to the chat ``request`` and the reason for them.

    Where ``messages`` are given, a number among them stands for the message at that place of the request.
    """
    selection, choice = record.selection, record.choice
    assert selection is not None, "only a selection answers a chat request"
    body, answer = request.body, None
    if isinstance(outcome, Forward):
        body = outcome.body if outcome.body is not None else request.body
    else:
        answer = orjson.loads(outcome.body)["choices"][0]["message"]["content"]
    return {
        "model": selection.model,
        "base_model": selection.base,
        "recipe": record.recipe.name or None if record.recipe else None,
        "decision": record.decision.name if record.decision else None,
        "confidence": round(choice.confidence, 4) if choice and choice.decision else None,
        "reasoning": selection.use_reasoning if choice else None,
        "scores": record.scores() if choice else {},
        "degraded": dict(record.signals.degraded) if record.signals else {},
        **_changes(request.body, body),
        "answer": answer,
    }


def _changes(before: bytes, after: bytes) -> dict[str, Any]:
    """The top-level members that differ, but for the model's name."""
    old, new = ChatRequest.parse(before), ChatRequest.parse(after)
    different = {
        name: member.value
        for name, member in new.members.items()
        if name != "model" and _written(new, member) != _written(old, old.members.get(name))
    }
    messages = different.pop("messages", None)
    return {
        "messages": None if messages is None else _by_place(old.get("messages") or [], messages),
        "set": different,
        "remove": [name for name in old.members if name not in new.members],
    }


def _written(body: Body, member: Member | None) -> str | None:
    return None if member is None else body.text[member.start : member.end]


def _by_place(old: list[Any], new: list[Any]) -> list[Any]:
    """``new`` with the place of each message that is also in ``old``; both have those in the same order."""
    result: list[Any] = []
    start = 0
    for message in new:
        place = next((index for index in range(start, len(old)) if old[index] == message), None)
        result.append(message if place is None else place)
        start = start if place is None else place + 1
    return result
