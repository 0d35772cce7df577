"""What can happen in one request's conversation with Envoy, as data.

Nobody changes these objects. They are not frozen, which would double the time to make one; a request makes twenty.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from triton_router.exchange import Outcome
from triton_router.extproc.headers import HeaderList


class BodyMode(IntEnum):
    """How the filter is configured to hand over request bodies; values as in Envoy's API."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4
    GRPC = 5


@dataclass(slots=True)
class RequestHeaders:
    """``headers`` as sent: pseudo-headers and repeats included, names in lower case."""

    headers: HeaderList
    end_of_stream: bool
    body_mode: BodyMode = BodyMode.BUFFERED
    response_body_mode: BodyMode = BodyMode.NONE


@dataclass(slots=True)
class RequestBody:
    """``headers`` are the request's, where the filter sends no message of its own for them."""

    body: bytes
    end_of_stream: bool
    headers: HeaderList | None = None


@dataclass(slots=True)
class NoRoom:
    """A message comes that is more than may be held; it was not read."""


@dataclass(slots=True)
class RequestTrailers:
    pass


@dataclass(slots=True)
class Routed:
    """The answer to a ``Route`` command."""

    outcome: Outcome


@dataclass(slots=True)
class ResponseHeaders:
    """The answer's headers; ``status`` of 0 means that there was none.

    ``watched``: somebody wants its body. ``shortened``: pieces of it may be replaced by less. ``body_mode`` is how the
    filter hands bodies of answers over, where this is the stream's first message.
    """

    status: int = 0
    headers: HeaderList = ()
    end_of_stream: bool = False
    watched: bool = False
    shortened: bool = False
    body_mode: BodyMode = BodyMode.NONE


@dataclass(slots=True)
class ResponseBody:
    """``replaced`` is what the client gets in the piece's place, ``None`` for the piece as it is."""

    body: bytes = b""
    end_of_stream: bool = False
    replaced: bytes | None = None


@dataclass(slots=True)
class ResponseTrailers:
    pass


@dataclass(slots=True)
class InputEnded:
    """Envoy sends nothing more."""


Event = (
    RequestHeaders
    | RequestBody
    | NoRoom
    | RequestTrailers
    | Routed
    | ResponseHeaders
    | ResponseBody
    | ResponseTrailers
    | InputEnded
)
