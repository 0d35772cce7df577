"""Envoy's wire messages to events, and commands to wire messages."""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.message import DecodeError

from router.extproc import phases
from router.extproc.phases import BodyMode, Command, Event, HeaderList

# Only header replies may carry an override, and it replaces every mode: one left out would mean "none". Trailers are
# asked for because a request of headers and trailers shows us no body message.
# Serialized messages may be joined: their fields add up.
_OVERRIDE: bytes = pb.ProcessingResponse(
    mode_override=ProcessingMode(
        response_header_mode=ProcessingMode.SEND,
        request_body_mode=ProcessingMode.BUFFERED,
        response_body_mode=ProcessingMode.NONE,
        request_trailer_mode=ProcessingMode.SEND,
        response_trailer_mode=ProcessingMode.SKIP,
    )
).SerializeToString()
_CONTINUE_HEADERS: bytes = pb.ProcessingResponse(request_headers=pb.HeadersResponse()).SerializeToString() + _OVERRIDE
_CONTINUE_TRAILERS: bytes = pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString()


def decode(data: bytes) -> Event:
    """Return the event in a serialized ``ProcessingRequest``.

    Raises ``ValueError`` for bytes that are none, and for a kind of message that this version does not know.
    """
    try:
        message = pb.ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise ValueError("not a ProcessingRequest") from error
    match message.WhichOneof("request"):
        case "request_headers":
            http = message.request_headers
            return phases.RequestHeaders(_headers(http.headers), http.end_of_stream, _body_mode(message))
        case "request_body":
            return phases.RequestBody(message.request_body.body, message.request_body.end_of_stream)
        case "request_trailers":
            return phases.RequestTrailers()
        case "response_headers":
            return phases.ResponseHeaders(_status(message.response_headers.headers))
        case "response_body":
            return phases.ResponseBody()
        case "response_trailers":
            return phases.ResponseTrailers()
        case kind:
            raise ValueError(f"a ProcessingRequest with {kind or 'nothing'} in it")


def encode(command: Command) -> bytes:
    """Return the command as a serialized ``ProcessingResponse``.

    Raises ``ValueError`` for commands that are no message (``Route``, ``Finish``, ``Abort``).
    """
    # Messages are filled in place: with keyword constructors the same takes three times as long.
    message = pb.ProcessingResponse()
    match command:
        case phases.ContinueHeaders(remove=()):
            return _CONTINUE_HEADERS
        case phases.ContinueHeaders(remove=remove):
            message.request_headers.response.header_mutation.remove_headers.extend(remove)
            return _serialize(message) + _OVERRIDE
        case phases.ForwardHeaders(set=headers, remove=remove, body=body):
            common = message.request_headers.response
            common.clear_route_cache = True
            # Envoy removes before it sets, so a name may stand in both.
            common.header_mutation.remove_headers.extend(remove)
            _set_headers(common.header_mutation, headers)
            if body is not None:
                common.status = pb.CommonResponse.CONTINUE_AND_REPLACE
                common.body_mutation.body = body
            return _serialize(message) + _OVERRIDE
        case phases.ForwardBody(set=headers, body=body, remove=remove):
            common = message.request_body.response
            common.clear_route_cache = True
            common.header_mutation.remove_headers.extend(remove)
            _set_headers(common.header_mutation, headers)
            if body:
                common.body_mutation.body = body
            elif body is not None:
                common.body_mutation.clear_body = True
            return _serialize(message)
        case phases.ImmediateReply(status=status, headers=headers, body=body):
            immediate = message.immediate_response
            immediate.status.code = status
            immediate.body = body
            immediate.details = "router_reply"  # for Envoy's access log, which an empty one leaves blank
            _set_headers(immediate.headers, headers)
            return _serialize(message)
        case phases.ContinueTrailers():
            return _CONTINUE_TRAILERS
        case phases.ContinueResponse(set=headers):
            _set_headers(message.response_headers.response.header_mutation, headers)
            return _serialize(message) + _OVERRIDE
    raise ValueError(f"{type(command).__name__} is no message")


def _serialize(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized


def _headers(message: Any) -> HeaderList:
    # Envoy fills raw_value only. Bytes that are no UTF-8 stay distinguishable, and harmless to JSON and logs.
    return tuple(
        (header.key, (header.raw_value or header.value.encode()).decode("utf-8", "backslashreplace"))
        for header in message.headers
    )


def _status(message: Any) -> int:
    for header in message.headers:
        if header.key == ":status":
            status = header.raw_value or header.value.encode()
            return int(status) if status.isdigit() else 0
    return 0


def _body_mode(message: Any) -> BodyMode:
    if not message.HasField("protocol_config"):
        return BodyMode.BUFFERED
    return BodyMode(message.protocol_config.request_body_mode)


def _set_headers(mutation: Any, headers: HeaderList) -> None:
    mutation.SetInParent()
    add = mutation.set_headers.add
    for name, value in headers:
        # Envoy ignores `value` here, and every append_action: a set header replaces.
        header = add().header
        header.key = name
        header.raw_value = value.encode()
