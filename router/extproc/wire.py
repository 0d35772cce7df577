"""The messages of Envoy's external processing protocol, with the fields that the router uses.

The definitions are Envoy's own (``api/envoy/service/ext_proc/v3/external_processor.proto`` and what it imports), less
what nobody here reads or writes; protobuf skips fields that it does not know. They live in a descriptor pool of their
own, so another package in the process may register the same names: Python packages of Envoy's API bring hundreds of
files, some of which other packages overwrite.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

# Enumerations are int32 here: the bytes are the same.
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
_PACKAGE = "triton_router.extproc"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "string": _Field.TYPE_STRING,
}

# `ProcessingMode.HeaderSendMode`. The modes of bodies are `phases.BodyMode`.
SEND, SKIP = 1, 2
# `CommonResponse.ResponseStatus`.
CONTINUE_AND_REPLACE = 1


def _file() -> descriptor_pb2.FileDescriptorProto:
    """``_DEFINITIONS`` as protobuf's compiler would describe them. Raises ValueError for a line it cannot read."""
    file = descriptor_pb2.FileDescriptorProto(name="triton_router/extproc.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    message = descriptor_pb2.DescriptorProto()
    in_oneof = False
    for line in _DEFINITIONS.strip().splitlines():
        match line.split():
            case ["message", name, "{"]:
                message = file.message_type.add(name=name)
            case ["oneof", name, "{"]:
                message.oneof_decl.add(name=name)
                in_oneof = True
            case ["}"]:
                in_oneof = False
            case ["repeated", kind, name, "=", number]:
                _add_field(message, kind, name, int(number)).label = _Field.LABEL_REPEATED
            case [kind, name, "=", number]:
                field = _add_field(message, kind, name, int(number))
                if in_oneof:
                    field.oneof_index = 0
            case _:
                raise ValueError(f"no definition: {line}")
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, kind: str, name: str, number: int) -> _Field:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return field
    field.type = _Field.TYPE_MESSAGE
    if kind.startswith("map<"):
        # A map is a repeated message of keys and values, by this name.
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        key, value = kind.removeprefix("map<").removesuffix(">").split(",")
        _add_field(entry, key, "key", 1)
        _add_field(entry, value, "value", 2)
        field.label = _Field.LABEL_REPEATED
        kind = f"{message.name}.{entry.name}"
    field.type_name = f".{kind}" if kind.startswith("google.") else f".{_PACKAGE}.{kind}"
    return field


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_file().SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ProcessingRequest = _message("ProcessingRequest")
HttpBody = _message("HttpBody")
HttpHeaders = _message("HttpHeaders")
HttpTrailers = _message("HttpTrailers")
ProcessingResponse = _message("ProcessingResponse")
BodyResponse = _message("BodyResponse")
HeadersResponse = _message("HeadersResponse")
TrailersResponse = _message("TrailersResponse")
ProcessingMode = _message("ProcessingMode")
