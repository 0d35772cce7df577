"""The router's messages of Triton against those that Triton's own client has."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import service_pb2

from triton_router.inference import kserve
from triton_router.protobuf import messages


def compared(ours: Descriptor, theirs: Descriptor) -> None:
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        if field.message_type is not None:
            compared(field.message_type, other.message_type)


@pytest.mark.parametrize(
    "name",
    ["ServerReadyResponse", "ModelConfigRequest", "ModelConfigResponse", "ModelInferRequest", "ModelInferResponse"],
)
def test_fields_are_those_of_tritons_own(name: str) -> None:
    compared(getattr(kserve, name).DESCRIPTOR, getattr(service_pb2, name).DESCRIPTOR)


def test_bytes_are_read_by_tritons_own_and_the_other_way_round() -> None:
    ours: Any = kserve.ModelInferRequest(model_name="minilm", raw_input_contents=[b"\0\1"])
    ours.inputs.add(name="ids", datatype="INT64", shape=[1, 128])
    ours.outputs.add(name="embedding")
    theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
    assert (theirs.model_name, list(theirs.inputs[0].shape), theirs.outputs[0].name) == (
        "minilm",
        [1, 128],
        "embedding",
    )
    assert theirs.SerializeToString() == ours.SerializeToString()
    config = service_pb2.ModelConfigResponse()
    config.config.parameters["bundle_checksum"].string_value = "abc"
    config.config.backend, config.config.max_batch_size = "python", 8
    parsed: Any = kserve.ModelConfigResponse.FromString(config.SerializeToString())
    assert (parsed.config.parameters["bundle_checksum"].string_value, parsed.config.backend) == ("abc", "python")


def test_what_is_no_definition_is_an_error() -> None:
    with pytest.raises(ValueError, match="no definition: field"):
        messages("p", "message A {\nfield\n}")
