"""Envoy's wire messages to events, and commands to wire messages."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.message import DecodeError

from router.extproc import phases
from router.extproc.phases import BodyMode, Command, Event, HeaderList

# Only header replies may carry an override, and it replaces every mode: one left out would mean "none". Trailers are
# asked for because a request of headers and trailers shows us no body message.
_MODES = ProcessingMode(
    response_header_mode=ProcessingMode.SEND,
    request_body_mode=ProcessingMode.BUFFERED,
    response_body_mode=ProcessingMode.NONE,
    request_trailer_mode=ProcessingMode.SEND,
    response_trailer_mode=ProcessingMode.SKIP,
)
_CONTINUE_HEADERS: bytes = pb.ProcessingResponse(
    request_headers=pb.HeadersResponse(), mode_override=_MODES
).SerializeToString()
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
            return phases.ResponseHeaders()
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
    match command:
        case phases.ContinueHeaders(remove=()):
            return _CONTINUE_HEADERS
        case phases.ContinueHeaders(remove=remove):
            common = pb.CommonResponse(header_mutation=pb.HeaderMutation(remove_headers=remove))
            message = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common), mode_override=_MODES)
        case phases.ForwardHeaders(set=headers, remove=remove, body=body):
            common = pb.CommonResponse(
                # Envoy removes before it sets, so a name may stand in both.
                header_mutation=pb.HeaderMutation(set_headers=_options(headers), remove_headers=remove),
                body_mutation=None if body is None else pb.BodyMutation(body=body),
                status=pb.CommonResponse.CONTINUE if body is None else pb.CommonResponse.CONTINUE_AND_REPLACE,
                clear_route_cache=True,
            )
            message = pb.ProcessingResponse(request_headers=pb.HeadersResponse(response=common), mode_override=_MODES)
        case phases.ForwardBody(set=headers, body=body):
            common = pb.CommonResponse(
                header_mutation=pb.HeaderMutation(set_headers=_options(headers)),
                # An empty body is only taken off when asked for in so many words.
                body_mutation=None if body is None else pb.BodyMutation(body=body) if body else _CLEAR,
                clear_route_cache=True,
            )
            message = pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))
        case phases.ImmediateReply(status=status, headers=headers, body=body):
            immediate = pb.ImmediateResponse(
                status={"code": status},
                headers=pb.HeaderMutation(set_headers=_options(headers)),
                body=body,
                details="router_reply",  # Envoy's access log; an empty one leaves a gap there
            )
            message = pb.ProcessingResponse(immediate_response=immediate)
        case phases.ContinueTrailers():
            return _CONTINUE_TRAILERS
        case phases.ContinueResponse(set=headers):
            common = pb.CommonResponse(header_mutation=pb.HeaderMutation(set_headers=_options(headers)))
            message = pb.ProcessingResponse(response_headers=pb.HeadersResponse(response=common), mode_override=_MODES)
        case _:
            raise ValueError(f"{type(command).__name__} is no message")
    serialized: bytes = message.SerializeToString()
    return serialized


_CLEAR = pb.BodyMutation(clear_body=True)


def _headers(message: Any) -> HeaderList:
    # Envoy fills raw_value only. Bytes that are no UTF-8 stay distinguishable, and harmless to JSON and logs.
    return tuple(
        (header.key, (header.raw_value or header.value.encode()).decode("utf-8", "backslashreplace"))
        for header in message.headers
    )


def _body_mode(message: Any) -> BodyMode:
    if not message.HasField("protocol_config"):
        return BodyMode.BUFFERED
    return BodyMode(message.protocol_config.request_body_mode)


def _options(headers: HeaderList) -> list[Any]:
    # Envoy ignores `value` here, and every append_action: a set header replaces.
    return [
        base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, raw_value=value.encode()))
        for name, value in headers
    ]
