"""What a gateway that sends requests itself should do with one: the pipeline's outcome as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from triton_router.body import Body, Member
from triton_router.config import Config
from triton_router.dialects import ChatRequest, chat
from triton_router.pipeline import Forward, Outcome, Request

# The answer comes back to somebody else, so there is nothing to store.
_WITHOUT_CACHE = {"x-vsr-cache-control": "no-store"}
# What belongs to this call, not to the client's request. A credential opened the REST service.
_THIS_CALLS = frozenset({"authorization", "connection", "content-encoding", "content-length", "content-type", "host"})


def asked_about(body: bytes, headers: Mapping[str, str]) -> Request:
    """The request to ask the pipeline about. Raises ``MalformedRequest``."""
    sent = ChatRequest.parse(body)
    # An answer of the router's own is wanted in one piece.
    sent.remove("stream")
    passed = {name: value for name, value in headers.items() if name not in _THIS_CALLS}
    return Request("POST", chat.PATH, passed | _WITHOUT_CACHE, sent.encode())


def advice(asked: Request, outcome: Outcome, config: Config) -> dict[str, Any]:
    """``outcome``, a status of 200 if it is a reply, as changes to the chat request ``asked`` and the reason for them.

    Where ``messages`` are given, a number among them stands for the message at that place of the request.
    """
    if isinstance(outcome, Forward):
        model, base = outcome.headers["x-selected-model"], outcome.headers["x-gateway-base-model-name"]
        changes = _changes(asked.body, outcome.body if outcome.body is not None else asked.body)
        answer = None
    else:
        assert outcome.route is not None, "only a decision answers a chat request"
        model, base = outcome.route.selection.model, outcome.route.selection.base
        changes = _changes(asked.body, asked.body)
        answer = orjson.loads(outcome.body)["choices"][0]["message"]["content"]
    route = outcome.route
    reason: dict[str, Any] = {"decision": None, "confidence": None, "reasoning": None, "scores": {}, "degraded": {}}
    if route is not None:
        gathered, decision = route.gathered, route.choice.decision
        reason = {
            "decision": decision.name if decision else None,
            "confidence": round(route.choice.confidence, 4) if decision else None,
            "reasoning": route.selection.use_reasoning,
            "scores": route.scores(config.routing.decisions),
            "degraded": dict(zip(gathered.degraded, gathered.reasons, strict=True)),
        }
    return {"model": model, "base_model": base, **reason, **changes, "answer": answer}


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
    placed: list[Any] = []
    place = 0
    for message in new:
        found = next((index for index in range(place, len(old)) if old[index] == message), None)
        placed.append(message if found is None else found)
        place = place if found is None else found + 1
    return placed
