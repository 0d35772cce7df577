"""The router's protobuf messages against Envoy's published ones, field by field and byte by byte."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import HeaderMap, HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.service.ext_proc import v3 as published
from envoy_data_plane.envoy.type.v3 import HttpStatus
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from triton_router.extproc import wire
from triton_router.extproc.events import BodyMode

ELSEWHERE = {each.__name__: each for each in (HeaderMap, HeaderValue, HeaderValueOption, HttpStatus, ProcessingMode)}
STRUCT = "google.protobuf.Struct"


def messages() -> dict[str, Descriptor]:
    """Every message that can be reached from the two that travel; Google's `Struct` is Google's own."""
    reached: dict[str, Descriptor] = {}
    waiting = [wire.ProcessingRequest.DESCRIPTOR, wire.ProcessingResponse.DESCRIPTOR]
    while waiting:
        each = waiting.pop()
        if each.full_name != STRUCT and each.name not in reached and not each.GetOptions().map_entry:
            reached[each.name] = each
            waiting += [field.message_type for field in each.fields if field.message_type]
    return reached


def published_as(name: str) -> Any:
    return ELSEWHERE.get(name) or getattr(published, name)


FIELDS = [
    pytest.param(name, field, id=f"{name}.{field.name}") for name, each in messages().items() for field in each.fields
]


def test_every_message_that_is_defined_travels() -> None:
    assert set(wire.ProcessingRequest.DESCRIPTOR.file.message_types_by_name) == set(messages())


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_is_the_one_that_envoy_publishes(name: str, field: FieldDescriptor) -> None:
    (theirs,) = [each for each in dataclasses.fields(published_as(name)) if each.name == field.name]
    metadata = theirs.metadata["betterproto"]
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    assert field.number == metadata.number
    assert field.is_repeated == (metadata.repeated or is_map)
    assert (field.containing_oneof.name if field.containing_oneof else None) == metadata.group
    if is_map:
        key, value = field.message_type.fields
        assert metadata.proto_type == "map"
        assert [(each.number, each.type) for each in (key, value)] == [(1, field.TYPE_STRING), (2, field.TYPE_MESSAGE)]
        assert [each.proto_type for each in metadata.map_meta] == ["string", "message"]
        assert value.message_type.full_name == STRUCT and "google__protobuf__.Struct" in str(theirs.type)
    elif field.message_type is not None:
        assert metadata.proto_type == "message"
        # `list[___config__core__v3__.HeaderValue]`, `HeaderMap | None`
        kind = str(theirs.type).removeprefix("list[").removesuffix("]").removesuffix(" | None").rpartition(".")[2]
        assert kind == field.message_type.name
    else:
        kinds = {
            "bool": field.TYPE_BOOL, "bytes": field.TYPE_BYTES, "enum": field.TYPE_INT32, "string": field.TYPE_STRING,
        }  # fmt: skip
        assert field.type == kinds[metadata.proto_type]


def test_values_of_enumerations_are_those_that_envoy_publishes() -> None:
    assert {each.name: int(each) for each in BodyMode} == {each.name: int(each) for each in ProcessingModeBodySendMode}
    assert (wire.SEND, wire.SKIP) == (ProcessingModeHeaderSendMode.SEND, ProcessingModeHeaderSendMode.SKIP)
    assert published.CommonResponseResponseStatus.CONTINUE_AND_REPLACE == wire.CONTINUE_AND_REPLACE


SAMPLES = {FieldDescriptor.TYPE_BOOL: True, FieldDescriptor.TYPE_BYTES: b"\x00\xff", FieldDescriptor.TYPE_INT32: 1,
           FieldDescriptor.TYPE_STRING: "grüße"}  # fmt: skip


def fill(message: Any, choice: int) -> None:
    """Set every field; of fields that exclude each other the one that is number ``choice``, counted around."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and field is not (among := field.containing_oneof.fields)[choice % len(among)]:
            continue
        into = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                into.extend([SAMPLES[field.type]] * 2)
            else:
                setattr(message, field.name, SAMPLES[field.type])
        elif field.message_type.GetOptions().map_entry:
            into["envoy.filters.http.ext_proc"].update({"request.path": "/v1", "deep": {"list": [1.5, None, True]}})
        elif field.message_type.full_name == STRUCT:
            into.update({"vsr": {"model": "big", "score": 0.25}})
        elif field.is_repeated:
            for _ in range(2):
                fill(into.add(), choice)
        else:
            into.SetInParent()
            fill(into, choice)


@pytest.mark.parametrize("name", ["ProcessingRequest", "ProcessingResponse"])
@pytest.mark.parametrize("choice", range(7))
def test_bytes_go_through_envoys_messages_and_come_back(name: str, choice: int) -> None:
    ours = getattr(wire, name)()
    fill(ours, choice)
    theirs = published_as(name).parse(ours.SerializeToString())
    # Nothing is unknown to Envoy's messages, and what they write says the same.
    assert unknown(theirs) == []
    assert getattr(wire, name).FromString(bytes(theirs)) == ours
    # By name as well: a field that two messages number alike would pass the bytes.
    assert names(theirs) >= {field.name for field, _ in ours.ListFields()}


def unknown(message: Any) -> list[bytes]:
    unknowns = [message._unknown_fields] if message._unknown_fields else []
    for value in vars(message).values():
        for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
            if dataclasses.is_dataclass(each):
                unknowns += unknown(each)
    return unknowns


def names(message: Any) -> set[str]:
    return {each.name for each in dataclasses.fields(message) if getattr(message, each.name)}


def test_what_the_router_does_not_know_is_skipped() -> None:
    """Envoy sends more than the router reads."""
    body = published.HttpBody(body=b"{}", end_of_stream=True, grpc_message_compressed=True)
    data = bytes(published.ProcessingRequest(request_body=body, observability_mode=True))
    message = wire.ProcessingRequest.FromString(data)
    assert (message.request_body.body, message.request_body.end_of_stream) == (b"{}", True)
    answer = bytes(published.ProcessingResponse(streamed_immediate_response=published.StreamedImmediateResponse()))
    assert wire.ProcessingResponse.FromString(answer).WhichOneof("response") is None
