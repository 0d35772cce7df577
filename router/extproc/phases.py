"""One request's conversation with Envoy as a state machine without I/O: an event in, a command out.

The rules come from what Envoy does, not from what would be symmetrical:

- A clean end of the stream means "go on unprocessed" to Envoy. So the only ways out are a decision or ``Abort``.
- A decision changes headers and route only in the reply to the whole body, or to headers that have no body behind
  them. Bodies are therefore asked for BUFFERED, whatever the filter's own mode.
- Envoy shows us answers that it gave itself (its body limit, an earlier filter's refusal): answer headers may come
  before any decision, even first of all.
- Where nobody watches the answer's body, the stream ends with the answer's headers: a running answer needs no router.
- FULL_DUPLEX_STREAMED bodies are ours to send back, in both directions. The reply to the request's headers waits for
  the whole body, because with it the route is chosen.
- A filter that skips headers sends the body first, with the headers as an attribute. Headers cannot be changed in the
  reply then: the decision goes back as metadata, and Envoy applies it. The response is sent only while the stream is
  open, so it ends with the decision where nobody wants more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from enum import Enum

from triton_router.errors import refusal_body
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.extproc.commands import (
    Abort,
    Command,
    ContinueHeaders,
    ContinueResponse,
    ContinueResponseBody,
    ContinueResponseTrailers,
    ContinueTrailers,
    Finish,
    ForwardAtOnce,
    ForwardBody,
    ForwardHeaders,
    ForwardStreamed,
    ImmediateReply,
    Route,
    Wait,
)
from triton_router.extproc.events import (
    BodyMode,
    Event,
    InputEnded,
    NoRoom,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    Routed,
)
from triton_router.extproc.headers import FRAMING, HeaderList, cleaned, declared_length, internal, joined
from triton_router.names import RETURNED


class _Phase(Enum):
    START = "start"
    BODY = "waiting for the body"
    ROUTING = "waiting for the decision"
    DECIDED = "waiting for the answer"
    ANSWERED = "answered by Envoy"
    WATCHING = "watching the answer"
    CLOSED = "closed"


# A response is worth one message less that Envoy can surely hold: some gateways bound connections to 32 KiB.
_HELD_BY_ANY_GATEWAY = 16 * 1024
_NO_REQUEST = Request("", "")
# A stream ends with any of these.
_LAST = (ImmediateReply, Finish, Abort)
_TOO_MANY = "The service holds as many large requests as it can; please try again."


class Exchange:
    """One HTTP request. ``receive`` never raises on events out of order: it answers ``Abort``, once and for all.

    ``admit`` says whether there is room for a body of so many bytes; without it the request is refused (429).
    ``falls_back``: the gateway brings requests back, with headers that say why, and that no client can send.

    It has 16 methods and 13 attributes: each event in each phase has its own.
    """

    __slots__ = (
        "_admit",
        "_answer_headers",
        "_answer_mode",
        "_at_once",
        "_body_mode",
        "_head",
        "_max_body_bytes",
        "_phase",
        "_pieces",
        "_remove",
        "_reserved",
        "_trailers",
        "_whole",
    )

    def __init__(
        self, *, max_body_bytes: int, admit: Callable[[int], bool] = lambda size: True, falls_back: bool = False
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._reserved = RETURNED if falls_back else ()
        self._admit = admit
        self._phase = _Phase.START
        self._at_once = False  # the request came in one message
        self._body_mode = BodyMode.BUFFERED
        self._head = _NO_REQUEST
        self._remove: tuple[str, ...] = ()
        self._whole = True  # the request ended with its headers
        self._trailers = False  # the body said that something follows it
        self._answer_headers: HeaderList = ()
        self._answer_mode = BodyMode.NONE
        self._pieces = bytearray()  # of a body that comes in several

    @property
    def closed(self) -> bool:
        """Whether the stream ends once the last command has been carried out."""
        return self._phase is _Phase.CLOSED

    def receive(self, event: Event) -> Command:
        command = self._step(event)
        if isinstance(command, _LAST):
            self._phase = _Phase.CLOSED
        return command

    def _step(self, event: Event) -> Command:
        phase = self._phase
        match event:
            # A request in one message first, as the router's own Envoy sends all of them.
            case RequestBody(headers=tuple() as headers) if phase is _Phase.START:
                return self._request(event, headers)
            case Routed() if phase is _Phase.ROUTING:
                return self._routed(event.outcome)
            case ResponseHeaders() if phase is _Phase.DECIDED:
                return self._answer(event)
            case ResponseBody() if phase is _Phase.WATCHING:
                return self._answer_piece(event)
            case RequestHeaders() if phase is _Phase.START:
                return self._headers(event)
            case RequestBody() if phase is _Phase.BODY:
                return self._body(event)
            case NoRoom() if phase is _Phase.START or phase is _Phase.BODY:
                return self._refuse(429, _TOO_MANY, "overloaded")
            case RequestTrailers() if phase is _Phase.BODY and self._pieces:
                self._trailers = True
                return self._whole_body()
            case RequestTrailers() if phase is _Phase.BODY:
                # Headers can no longer be changed from here, so the request cannot be routed; nor does any path that
                # takes a body accept none.
                return self._refuse(400, "The request has no body.", "missing_body")
            case RequestTrailers() if phase is _Phase.DECIDED and self._trailers:
                self._trailers = False
                return ContinueTrailers()
            case ResponseTrailers() if phase is _Phase.WATCHING:
                self._phase = _Phase.CLOSED
                return ContinueResponseTrailers()
            case InputEnded() if phase is _Phase.WATCHING:
                return Finish()
            case ResponseHeaders() if phase is _Phase.START or phase is _Phase.BODY:
                return self._gateways_answer(event)
            case ResponseBody() | ResponseTrailers() | InputEnded() if (
                phase is _Phase.DECIDED or phase is _Phase.ANSWERED
            ):
                return Finish()
        return Abort(f"{type(event).__name__} while {phase.value}")

    def _request(self, event: RequestBody, head: HeaderList) -> Command:
        request, self._remove = _read(head, self._reserved, event.body)
        self._head = request
        self._at_once, self._whole = True, False
        if len(event.body) > self._max_body_bytes:
            return self._too_large()
        if not self._admit(len(event.body)):
            return self._refuse(429, _TOO_MANY, "overloaded")
        self._phase = _Phase.ROUTING
        self._head = _NO_REQUEST  # the stream may outlive the body by minutes
        return Route(request)

    def _headers(self, event: RequestHeaders) -> Command:
        self._head, self._remove = _read(event.headers, self._reserved)
        headers = self._head.headers
        self._answer_mode = event.response_body_mode
        if event.end_of_stream:
            self._phase = _Phase.ROUTING
            return Route(self._head)
        if event.body_mode is BodyMode.GRPC:
            return self._misconfigured(event.body_mode)
        if declared_length(headers) > self._max_body_bytes:
            return self._too_large()
        if not self._admit(declared_length(headers)):
            return self._refuse(429, _TOO_MANY, "overloaded")
        self._phase = _Phase.BODY
        self._whole = False
        self._body_mode = event.body_mode
        return Wait() if self._body_mode is BodyMode.FULL_DUPLEX_STREAMED else ContinueHeaders(self._remove)

    def _body(self, event: RequestBody) -> Command:
        if len(self._pieces) + len(event.body) > self._max_body_bytes:
            return self._too_large()
        if not self._admit(len(self._pieces) + len(event.body)):
            return self._refuse(429, _TOO_MANY, "overloaded")
        if self._body_mode is BodyMode.FULL_DUPLEX_STREAMED:
            self._pieces += event.body
            return self._whole_body() if event.end_of_stream else Wait()
        if not event.end_of_stream and self._body_mode is not BodyMode.BUFFERED:
            # The filter did not take our override: the headers have gone on to some backend, and a body gathered from
            # chunks would follow them there whatever the decision is.
            return self._misconfigured(self._body_mode)
        self._trailers = not event.end_of_stream
        self._phase = _Phase.ROUTING
        return Route(replace(self._head, body=event.body))

    def _whole_body(self) -> Command:
        self._phase = _Phase.ROUTING
        return Route(replace(self._head, body=bytes(self._pieces)))

    def _routed(self, outcome: Outcome) -> Command:
        if isinstance(outcome, Reply):
            return _reply(outcome)
        self._phase = _Phase.DECIDED
        response, headers = cleaned(outcome.response_headers), cleaned(outcome.headers)
        if not self._at_once:
            self._answer_headers = response
        if self._body_mode is BodyMode.FULL_DUPLEX_STREAMED and not self._whole:
            return self._streamed(headers, outcome)
        if outcome.body is not None:
            headers += (("content-length", str(len(outcome.body))),)
        unwanted = tuple(name.lower() for name in outcome.remove if name.lower() not in FRAMING)
        if self._whole:
            return ForwardHeaders(headers, (*self._remove, *unwanted), outcome.body)
        if self._at_once:
            if outcome.observer is None or not outcome.observer.watches:
                self._phase = _Phase.CLOSED
            return ForwardAtOnce(headers, (*self._remove, *unwanted), outcome.body, response, outcome.attempt)
        return ForwardBody(headers, outcome.body, unwanted, outcome.attempt)

    def _streamed(self, headers: HeaderList, outcome: Forward) -> Command:
        body = bytes(self._pieces) if outcome.body is None else outcome.body
        self._pieces.clear()
        unwanted = (*self._remove, *(name.lower() for name in outcome.remove), "content-length")
        trailers, self._trailers = self._trailers, False
        return ForwardStreamed(headers, unwanted, body, trailers, outcome.attempt)

    def _answer(self, event: ResponseHeaders) -> Command:
        # A FULL_DUPLEX_STREAMED answer is ours to send back, watched or not.
        watch = (event.watched or self._answer_mode is BodyMode.FULL_DUPLEX_STREAMED) and not event.end_of_stream
        self._phase = _Phase.WATCHING if watch else _Phase.CLOSED
        # A backend may have said how long its stream is.
        removed = ("content-length",) if watch and event.shortened else ()
        whole = watch and not event.shortened and self._answer_mode is not BodyMode.FULL_DUPLEX_STREAMED
        length = declared_length(dict(event.headers)) if whole else 0
        return ContinueResponse(self._answer_headers, watch, removed, 0 < length <= _HELD_BY_ANY_GATEWAY)

    def _gateways_answer(self, event: ResponseHeaders) -> Command:
        """Envoy answers by itself, before anything was decided: an earlier filter refused, or a timer ran out."""
        if self._phase is _Phase.START:
            self._answer_mode = event.body_mode
        # What is not sent back of such a body is lost.
        echoed = self._answer_mode is BodyMode.FULL_DUPLEX_STREAMED and not event.end_of_stream
        self._phase = _Phase.WATCHING if echoed else _Phase.ANSWERED
        return ContinueResponse(watch=echoed)

    def _answer_piece(self, event: ResponseBody) -> Command:
        if event.end_of_stream:
            self._phase = _Phase.CLOSED
        if self._answer_mode is not BodyMode.FULL_DUPLEX_STREAMED:
            return ContinueResponseBody(None, event.end_of_stream, event.replaced)
        echo = event.body if event.replaced is None else event.replaced
        return ContinueResponseBody(echo, event.end_of_stream)

    def _too_large(self) -> ImmediateReply:
        return self._refuse(413, f"The request body is larger than {self._max_body_bytes} bytes.", "request_too_large")

    def _misconfigured(self, mode: BodyMode) -> ImmediateReply:
        return self._refuse(
            500,
            f"The gateway sends bodies as {mode.name}; set request_body_mode BUFFERED or allow_mode_override.",
            "gateway_misconfigured",
        )

    def _refuse(self, status: int, message: str, code: str) -> ImmediateReply:
        headers = {"retry-after": "1"} if status == 429 else {}
        return _reply(Reply(status, refusal_body(self._head.path, status, message, code=code), headers))


def _read(head: HeaderList, reserved: Collection[str], body: bytes = b"") -> tuple[Request, tuple[str, ...]]:
    """A request, and the headers that its sender may not set; it has those of them in ``reserved``."""
    headers = joined(head)
    method, path = headers.pop(":method", ""), headers.pop(":path", "")
    headers.pop(":scheme", None)
    if authority := headers.pop(":authority", None):
        headers["host"] = authority
    remove = tuple(name for name in headers if internal(name))
    for name in remove:
        if name not in reserved:
            del headers[name]
    return Request(method, path, headers, body), remove


def _reply(reply: Reply) -> ImmediateReply:
    headers = cleaned(reply.headers)
    if not any(name == "content-type" for name, _ in headers):
        headers += (("content-type", "application/json"),)
    return ImmediateReply(reply.status, headers, reply.body)
