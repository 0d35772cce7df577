"""One HTTP exchange as data: what the gateway saw, and what becomes of it. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote


@dataclass(slots=True)
class Request:
    """One HTTP request as the gateway saw it.

    ``headers`` has lower-case names; the values of a repeated header are joined with a comma. ``body`` is whole and
    already decoded from any transfer coding. ``waited`` is how many seconds requests wait at the moment before they
    get here. ``falls_back``: the gateway brings it back if its backend cannot answer it and another one may.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    waited: float = 0.0
    falls_back: bool = False

    @property
    def plain_path(self) -> str:
        """The path without a query, as servers read it that know one path in several spellings."""
        return unquote(self.path.partition("?")[0]).rstrip("/") or "/"


class Observer(Protocol):
    """Watches the response to one forwarded request as it passes."""

    @property
    def watches(self) -> bool:
        """Whether the response is to be watched at all; asked before it comes, where that spares its messages."""

    @property
    def shortens(self) -> bool:
        """Whether the client may get more or less than the backend sends."""

    def on_sent(self) -> None:
        """The request goes to the backend. Without this call nothing was sent, and no other follows."""

    def on_headers(self, status: int, headers: Mapping[str, str]) -> bool:
        """The backend's headers are here. Returns whether the body is wanted."""

    @property
    def checks(self) -> bool:
        """Whether :meth:`check` comes before :meth:`on_body`."""

    async def check(self, piece: bytes, *, last: bool) -> None:
        """Ask somebody about a piece of the body, and wait as long as it has to."""

    def on_body(self, piece: bytes, *, last: bool = False) -> bytes | None:
        """A piece of the body. Returns what the client gets in its place, ``None`` for the piece as it is."""

    def on_complete(self) -> None:
        """The whole body has been received."""

    def on_end(self) -> None:
        """The exchange is over, complete or not."""


@dataclass(slots=True)
class Forward:
    """Send the request on.

    ``body`` of ``None`` means unchanged. ``headers`` are set on the way to the backend and those of ``remove`` taken
    out; ``response_headers`` are set on the response. ``observer`` watches that response. The gateway keeps ``attempt``
    and brings it back with the request if the backend cannot answer; empty: the request does not come back.
    """

    headers: Mapping[str, str]
    body: bytes | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    observer: Observer | None = None
    attempt: str = ""


@dataclass(slots=True)
class Reply:
    """Respond in the backend's place."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Outcome = Forward | Reply
