"""An answer of the router's own making, as it goes to the client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: JSON, or all events of a stream."""

    content_type: str
    body: bytes


def whole(answer: dict[str, Any]) -> Completion:
    """``answer`` as JSON."""
    return Completion("application/json", _json(answer))


def streamed(events: Iterable[bytes]) -> Completion:
    """``events`` (see :func:`event`) as one stream."""
    return Completion("text/event-stream", b"".join(events))


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + _json(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _json(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:  # lone surrogates or huge integers, in what an answer repeats of its request
        return json.dumps(data, separators=(",", ":")).encode()
