"""What the phase machine says to do next, as data.

Nobody changes these objects. They are not frozen, which would double the time to make one; a request makes twenty.
"""

from __future__ import annotations

from dataclasses import dataclass

from triton_router.exchange import Request
from triton_router.extproc.headers import HeaderList


@dataclass(slots=True)
class ContinueHeaders:
    """Let the headers wait in Envoy and ask for the whole body."""

    remove: tuple[str, ...] = ()


@dataclass(slots=True)
class Route:
    """Ask for a decision, and come back with ``Routed``."""

    request: Request


@dataclass(slots=True)
class ForwardHeaders:
    """Decision on a request that has no body; a ``body`` gives it one."""

    set: HeaderList
    remove: tuple[str, ...]
    body: bytes | None


@dataclass(slots=True)
class ForwardBody:
    """Decision on a request whose body has been read; ``body`` of ``None`` leaves it alone.

    ``attempt`` is as in :class:`triton_router.exchange.Forward`.
    """

    set: HeaderList
    body: bytes | None
    remove: tuple[str, ...] = ()
    attempt: str = ""


@dataclass(slots=True)
class ForwardAtOnce:
    """Decision on a request that came in one message: Envoy sets ``response`` on the response itself."""

    set: HeaderList
    remove: tuple[str, ...]
    body: bytes | None
    response: HeaderList
    attempt: str = ""


@dataclass(slots=True)
class Wait:
    """Say nothing: more of the body is to come."""


@dataclass(slots=True)
class ForwardStreamed:
    """Decision on a FULL_DUPLEX_STREAMED request: headers, then the whole ``body``, then trailers if there are any."""

    set: HeaderList
    remove: tuple[str, ...]
    body: bytes
    trailers: bool
    attempt: str = ""


@dataclass(slots=True)
class ImmediateReply:
    """Answer in the backend's place, and end the stream."""

    status: int
    headers: HeaderList
    body: bytes


@dataclass(slots=True)
class ContinueTrailers:
    pass


@dataclass(slots=True)
class ContinueResponse:
    """Set and remove headers of the answer; ``watch`` asks for its body, in pieces or ``whole``."""

    set: HeaderList = ()
    watch: bool = False
    remove: tuple[str, ...] = ()
    whole: bool = False


@dataclass(slots=True)
class ContinueResponseBody:
    """Let a piece of the answer pass, or ``replaced`` in its place.

    ``echo`` is not ``None`` where the piece has to be sent back.
    """

    echo: bytes | None = None
    end_of_stream: bool = False
    replaced: bytes | None = None


@dataclass(slots=True)
class ContinueResponseTrailers:
    pass


@dataclass(slots=True)
class Finish:
    """End the stream cleanly: Envoy needs nothing more from us."""


@dataclass(slots=True)
class Abort:
    """End the stream with an INTERNAL error, so that Envoy does not go on without a decision."""

    reason: str


Command = (
    ContinueHeaders
    | Route
    | ForwardHeaders
    | ForwardBody
    | ForwardStreamed
    | ForwardAtOnce
    | Wait
    | ImmediateReply
    | ContinueTrailers
    | ContinueResponse
    | ContinueResponseBody
    | ContinueResponseTrailers
    | Finish
    | Abort
)
