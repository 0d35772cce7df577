"""Translates Envoy's messages to events, and commands to messages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from google.protobuf.message import DecodeError

from triton_router.extproc import commands, events, wire
from triton_router.extproc.commands import Command
from triton_router.extproc.events import BodyMode, Event
from triton_router.extproc.headers import HeaderList

# Where Envoy keeps a request's headers for us, and our decision for the filter that applies it.
METADATA = "triton-router"
FILTER = "envoy.filters.http.ext_proc"
HEADERS_ATTRIBUTE = f"metadata.filter_metadata['{METADATA}'].headers"


def _override(response_body: BodyMode) -> bytes:
    """A serialized message that sets the modes; serialized messages may be joined, for their fields add up.

    Only header replies may carry an override, and it replaces every mode: one left out would mean "none". Trailers are
    on because a request of headers and trailers has no body message.
    """
    override: bytes = wire.ProcessingResponse(
        mode_override=wire.ProcessingMode(
            response_header_mode=wire.SEND,
            request_body_mode=BodyMode.BUFFERED,
            response_body_mode=response_body,
            request_trailer_mode=wire.SEND,
            # Only one piece of a watched response body is marked as the last; with trailers there is always a last.
            response_trailer_mode=wire.SEND if response_body else wire.SKIP,
        )
    ).SerializeToString()
    return override


_OVERRIDE = _override(BodyMode.NONE)
_WATCH = _override(BodyMode.STREAMED)
_WATCH_WHOLE = _override(BodyMode.BUFFERED)
# Envoy takes no larger piece of a FULL_DUPLEX_STREAMED body.
_PIECE = 64 * 1024


def _continue(**kind: Any) -> bytes:
    message: bytes = wire.ProcessingResponse(**kind).SerializeToString()
    return message


_CONTINUE_HEADERS = _continue(request_headers=wire.HeadersResponse()) + _OVERRIDE
_CONTINUE_TRAILERS = _continue(request_trailers=wire.TrailersResponse())
_CONTINUE_RESPONSE_BODY = _continue(response_body=wire.BodyResponse())
_CONTINUE_RESPONSE_TRAILERS = _continue(response_trailers=wire.TrailersResponse())


def decode(data: bytes) -> Event:
    """Return the event in a serialized ``ProcessingRequest``.

    Raises ``ValueError`` for other bytes, and for a kind of message that this version does not know.
    """
    try:
        message = wire.ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise ValueError("not a ProcessingRequest") from error
    match message.WhichOneof("request"):
        case "request_headers":
            http = message.request_headers
            request, response = _body_modes(message)
            return events.RequestHeaders(_headers(http.headers), http.end_of_stream, request, response)
        case "request_body":
            body = message.request_body
            return events.RequestBody(body.body, body.end_of_stream, _headers_of_attributes(message))
        case "request_trailers":
            return events.RequestTrailers()
        case "response_headers":
            http = message.response_headers
            _, mode = _body_modes(message)
            status, headers = _status(http.headers), _headers(http.headers)
            return events.ResponseHeaders(status, headers, http.end_of_stream, body_mode=mode)
        case "response_body":
            return events.ResponseBody(message.response_body.body, message.response_body.end_of_stream)
        case "response_trailers":
            return events.ResponseTrailers()
        case kind:
            raise ValueError(f"a ProcessingRequest with {kind or 'nothing'} in it")


def encode(command: Command) -> list[bytes]:
    """Return the command as serialized ``ProcessingResponse`` messages; most commands are one message.

    Raises ``ValueError`` for commands that have no message (``Route``, ``Finish``, ``Abort``).
    """
    match command:
        case commands.Wait():
            return []
        case commands.ForwardStreamed():
            return list(_streamed(command))
        case commands.ContinueResponseBody(echo=bytes() as echo, end_of_stream=last) if len(echo) > _PIECE:
            return [_response_piece(piece, last and end) for piece, end in _pieces(echo)]
    return [_message(command)]


def _message(command: Command) -> bytes:
    # Filled in place: keyword constructors take three times as long.
    message = wire.ProcessingResponse()
    match command:
        # Those of a request in one message first, as the router's own Envoy sends all of them.
        case commands.ForwardAtOnce(set=headers, remove=remove, body=body, response=response, attempt=attempt):
            changes = message.dynamic_metadata.fields[METADATA].struct_value.fields
            if attempt:
                changes["attempt"].string_value = attempt
            changes["request"].string_value = _lines(headers)
            changes["remove"].string_value = "".join(f"{name}\n" for name in remove)
            changes["response"].string_value = _lines(response)
            common = message.request_body.response
            if body:
                common.body_mutation.body = body
            elif body is not None:
                common.body_mutation.clear_body = True
            message.request_body.SetInParent()
            return _serialize(message)
        case commands.ContinueResponse(set=headers, watch=watch, remove=remove, whole=whole):
            mutation = message.response_headers.response.header_mutation
            mutation.remove_headers.extend(remove)
            _set_headers(mutation, headers)
            return _serialize(message) + (_OVERRIDE if not watch else _WATCH_WHOLE if whole else _WATCH)
        case commands.ContinueResponseBody(echo=None, replaced=None):
            return _CONTINUE_RESPONSE_BODY
        case commands.ContinueHeaders(remove=()):
            return _CONTINUE_HEADERS
        case commands.ContinueHeaders(remove=remove):
            message.request_headers.response.header_mutation.remove_headers.extend(remove)
            return _serialize(message) + _OVERRIDE
        case commands.ForwardHeaders(set=headers, remove=remove, body=body):
            common = message.request_headers.response
            common.clear_route_cache = True
            # Envoy removes before it sets, so one name may be in both.
            common.header_mutation.remove_headers.extend(remove)
            _set_headers(common.header_mutation, headers)
            if body is not None:
                common.status = wire.CONTINUE_AND_REPLACE
                common.body_mutation.body = body
            return _serialize(message) + _OVERRIDE
        case commands.ForwardBody(set=headers, body=body, remove=remove, attempt=attempt):
            _keep(message, attempt)
            common = message.request_body.response
            common.clear_route_cache = True
            common.header_mutation.remove_headers.extend(remove)
            _set_headers(common.header_mutation, headers)
            if body:
                common.body_mutation.body = body
            elif body is not None:
                common.body_mutation.clear_body = True
            return _serialize(message)
        case commands.ImmediateReply(status=status, headers=headers, body=body):
            immediate = message.immediate_response
            immediate.status.code = status
            immediate.body = body
            immediate.details = "router_reply"  # for Envoy's access log, which an empty one leaves blank
            _set_headers(immediate.headers, headers)
            return _serialize(message)
        case commands.ContinueTrailers():
            return _CONTINUE_TRAILERS
        case commands.ContinueResponseBody(echo=None, replaced=replaced):
            if replaced:
                message.response_body.response.body_mutation.body = replaced
            else:
                message.response_body.response.body_mutation.clear_body = True
            return _serialize(message)
        case commands.ContinueResponseBody(echo=echo, end_of_stream=last):
            return _response_piece(echo or b"", last)
        case commands.ContinueResponseTrailers():
            return _CONTINUE_RESPONSE_TRAILERS
    raise ValueError(f"{type(command).__name__} has no message")


def _streamed(command: commands.ForwardStreamed) -> Iterator[bytes]:
    message = wire.ProcessingResponse()
    _keep(message, command.attempt)
    common = message.request_headers.response
    common.clear_route_cache = True
    common.header_mutation.remove_headers.extend(command.remove)
    _set_headers(common.header_mutation, command.set)
    yield _serialize(message)
    for piece, last in _pieces(command.body):
        message = wire.ProcessingResponse()
        streamed = message.request_body.response.body_mutation.streamed_response
        streamed.body = piece
        streamed.end_of_stream = last and not command.trailers
        yield _serialize(message)
    if command.trailers:
        yield _CONTINUE_TRAILERS


def _keep(message: Any, attempt: str) -> None:
    """Have Envoy keep what it brings back with the request."""
    if attempt:
        message.dynamic_metadata.fields[METADATA].struct_value.fields["attempt"].string_value = attempt


def _pieces(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """``body`` in pieces that Envoy takes, the last one marked; an empty body is one empty piece."""
    starts = range(0, max(len(body), 1), _PIECE)
    for start in starts:
        yield body[start : start + _PIECE], start == starts[-1]


def _response_piece(piece: bytes, last: bool) -> bytes:
    message = wire.ProcessingResponse()
    streamed = message.response_body.response.body_mutation.streamed_response
    streamed.body = piece
    streamed.end_of_stream = last
    return _serialize(message)


def _serialize(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized


def _headers(message: Any) -> HeaderList:
    # Envoy fills raw_value only. Bytes that are no UTF-8 stay distinguishable, and harmless to JSON and logs.
    return tuple(
        (header.key, (header.raw_value or header.value.encode()).decode("utf-8", "backslashreplace"))
        for header in message.headers
    )


def _headers_of_attributes(message: Any) -> HeaderList | None:
    """The request's headers, where they came as an attribute: their number, then names and values, a line each.

    A line's characters are the header's bytes (Latin-1, as in WSGI): the text of an attribute has to be UTF-8.
    Raises ``ValueError`` where they are not as many as they say.
    """
    attributes = message.attributes
    if FILTER not in attributes or (text := attributes[FILTER].fields[HEADERS_ATTRIBUTE].string_value) == "":
        return None
    if not text.isascii():
        text = text.encode("latin-1").decode("utf-8", "backslashreplace")
    count, *lines = text.split("\n")
    if len(lines) != 2 * int(count):
        raise ValueError("headers that are not whole")
    return tuple(zip(lines[::2], lines[1::2], strict=True))


def _lines(headers: HeaderList) -> str:
    return "\n".join((*chain.from_iterable(headers), ""))


def _status(message: Any) -> int:
    for header in message.headers:
        if header.key == ":status":
            status = header.raw_value or header.value.encode()
            return int(status) if status.isdigit() else 0
    return 0


def _body_modes(message: Any) -> tuple[BodyMode, BodyMode]:
    if not message.HasField("protocol_config"):
        return BodyMode.BUFFERED, BodyMode.NONE
    modes = message.protocol_config
    return BodyMode(modes.request_body_mode), BodyMode(modes.response_body_mode)


def _set_headers(mutation: Any, headers: HeaderList) -> None:
    mutation.SetInParent()
    add = mutation.set_headers.add
    for name, value in headers:
        # Envoy ignores `value` and `append_action` here: a set header replaces.
        header = add().header
        header.key = name
        header.raw_value = value.encode()
