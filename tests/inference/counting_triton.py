"""A Triton that answers at once, always alike, and counts the texts that it is asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_router.inference import Bundle


class CountingTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """``texts`` counts by model and token ids. The first label of each head is the surest."""

    def __init__(self, bundle: Bundle) -> None:
        self.texts: Counter[tuple[str, bytes]] = Counter()
        self._checksum = bundle.checksum
        self._trunks = {trunk.model: trunk for trunk in bundle.trunks}

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = service_pb2.ModelConfigResponse()
        response.config.parameters["bundle_checksum"].string_value = self._checksum
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        trunk = self._trunks[request.model_name]
        shape = request.inputs[0].shape
        ids = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(shape)
        self.texts.update((trunk.name, row[row != trunk.tokenizer.pad_id].tobytes()) for row in ids)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        heads = {head.output: len(head.labels) for head in trunk.heads}
        for requested in request.outputs:
            if requested.name in heads:
                values = np.full((shape[0], heads[requested.name]), 0.1 / max(heads[requested.name] - 1, 1), np.float32)
                values[:, 0] = 0.9
            else:
                assert trunk.embedding is not None
                values = np.full((shape[0], trunk.embedding.dimension), trunk.embedding.dimension**-0.5, np.float32)
            output = response.outputs.add()
            output.name, output.datatype = requested.name, "FP32"
            output.shape.extend(values.shape)
            response.raw_output_contents.append(values.tobytes())
        return response


@asynccontextmanager
async def counting(bundle: Bundle) -> AsyncIterator[tuple[CountingTriton, str]]:
    """One that listens, and its address."""
    triton = CountingTriton(bundle)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield triton, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
