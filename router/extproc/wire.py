"""The messages of Envoy's external processing protocol, with the fields that the router uses.

The definitions are Envoy's own (``api/envoy/service/ext_proc/v3/external_processor.proto`` and what it imports), less
what nobody here reads or writes.
"""

from __future__ import annotations

from google.protobuf import struct_pb2

from triton_router.protobuf import messages

_DEFINITIONS = """
message ProcessingRequest {
  oneof request {
    HttpHeaders request_headers = 2
    HttpHeaders response_headers = 3
    HttpBody request_body = 4
    HttpBody response_body = 5
    HttpTrailers request_trailers = 6
    HttpTrailers response_trailers = 7
  }
  map<string,google.protobuf.Struct> attributes = 9
  ProtocolConfiguration protocol_config = 11
}
message ProtocolConfiguration {
  int32 request_body_mode = 1
  int32 response_body_mode = 2
}
message HttpHeaders {
  HeaderMap headers = 1
  bool end_of_stream = 3
}
message HttpBody {
  bytes body = 1
  bool end_of_stream = 2
}
message HttpTrailers {
  HeaderMap trailers = 1
}
message HeaderMap {
  repeated HeaderValue headers = 1
}
message HeaderValue {
  string key = 1
  string value = 2
  bytes raw_value = 3
}
message ProcessingResponse {
  oneof response {
    HeadersResponse request_headers = 1
    HeadersResponse response_headers = 2
    BodyResponse request_body = 3
    BodyResponse response_body = 4
    TrailersResponse request_trailers = 5
    TrailersResponse response_trailers = 6
    ImmediateResponse immediate_response = 7
  }
  google.protobuf.Struct dynamic_metadata = 8
  ProcessingMode mode_override = 9
}
message HeadersResponse {
  CommonResponse response = 1
}
message BodyResponse {
  CommonResponse response = 1
}
message TrailersResponse {
  HeaderMutation header_mutation = 1
}
message CommonResponse {
  int32 status = 1
  HeaderMutation header_mutation = 2
  BodyMutation body_mutation = 3
  bool clear_route_cache = 5
}
message HeaderMutation {
  repeated HeaderValueOption set_headers = 1
  repeated string remove_headers = 2
}
message HeaderValueOption {
  HeaderValue header = 1
}
message BodyMutation {
  oneof mutation {
    bytes body = 1
    bool clear_body = 2
    StreamedBodyResponse streamed_response = 3
  }
}
message StreamedBodyResponse {
  bytes body = 1
  bool end_of_stream = 2
}
message ImmediateResponse {
  HttpStatus status = 1
  HeaderMutation headers = 2
  bytes body = 3
  string details = 5
}
message HttpStatus {
  int32 code = 1
}
message ProcessingMode {
  int32 request_header_mode = 1
  int32 response_header_mode = 2
  int32 request_body_mode = 3
  int32 response_body_mode = 4
  int32 request_trailer_mode = 5
  int32 response_trailer_mode = 6
}
"""

# `ProcessingMode.HeaderSendMode`. The modes of bodies are `events.BodyMode`.
SEND, SKIP = 1, 2
# `CommonResponse.ResponseStatus`.
CONTINUE_AND_REPLACE = 1

_message = messages("triton_router.extproc", _DEFINITIONS, [struct_pb2.DESCRIPTOR])

ProcessingRequest = _message("ProcessingRequest")
HttpBody = _message("HttpBody")
HttpHeaders = _message("HttpHeaders")
HttpTrailers = _message("HttpTrailers")
ProcessingResponse = _message("ProcessingResponse")
BodyResponse = _message("BodyResponse")
HeadersResponse = _message("HeadersResponse")
TrailersResponse = _message("TrailersResponse")
ProcessingMode = _message("ProcessingMode")
