"""The path of one request: read, gather signals, decide, select, rewrite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the gateway saw it.

    ``headers`` has lower-case names; of a repeated header the values are joined with a comma. ``body`` is whole and
    already decoded from any transfer coding.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on.

    ``body`` of ``None`` means unchanged. ``headers`` are set on the way to the backend, ``answer_headers`` on the
    answer that comes back.
    """

    headers: Mapping[str, str]
    body: bytes | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer in the backend's place."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Outcome = Forward | Reply
