"""An answer of the router's own making, as it goes to the client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from triton_router.jsontext import json_bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: JSON, or all events of a stream."""

    content_type: str
    body: bytes


def whole(answer: dict[str, Any]) -> Completion:
    """``answer`` as JSON."""
    return Completion("application/json", json_bytes(answer))


def streamed(events: Iterable[bytes]) -> Completion:
    """``events`` (see :func:`event`) as one stream."""
    return Completion("text/event-stream", b"".join(events))


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + json_bytes(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"
