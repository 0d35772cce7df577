"""A stand-in for a Triton on a GPU: each call takes a millisecond and hardly any CPU, and says nothing of the text.

``python -m perf.quick_triton PORT MANIFEST`` serves the bundle of that manifest.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triton_router.http2.client import GrpcChannel
from triton_router.http2.grpc import Call, GrpcServer, Handler, bind
from triton_router.inference import Bundle, kserve, load_bundle

SECONDS = 0.001
_SERVICE = "/inference.GRPCInferenceService/"


class QuickTriton:
    def __init__(self, bundle: Bundle) -> None:
        self._trunks = {trunk.model: trunk for trunk in bundle.trunks}
        config: Any = kserve.ModelConfigResponse()
        config.config.parameters["bundle_checksum"].string_value = bundle.checksum
        self._config = config.SerializeToString()
        self._response = cache(self._made)
        self._rows: Counter[str] = Counter()

    def methods(self) -> dict[str, Handler]:
        methods = {"ModelConfig": self._model_config, "ModelInfer": self._infer, "ModelStatistics": self._statistics}
        return {_SERVICE + name: method for name, method in methods.items()}

    async def _model_config(self, call: Call) -> None:
        await call.read()
        await call.write(self._config)

    async def _infer(self, call: Call) -> None:
        request: Any = kserve.ModelInferRequest.FromString(await call.read() or b"")
        rows, tokens = request.inputs[0].shape
        self._rows[request.model_name] += rows
        await asyncio.sleep(SECONDS)
        await call.write_last(self._response(request.model_name, rows, tokens))

    async def _statistics(self, call: Call) -> None:
        await call.read()
        response: Any = kserve.ModelStatisticsResponse()
        for name, rows in self._rows.items():
            response.model_stats.add(name=name, inference_count=rows)
        await call.write_last(response.SerializeToString())

    def _made(self, model: str, rows: int, tokens: int) -> bytes:
        """Every embedding points the same way, and every head is undecided."""
        trunk, response = self._trunks[model], kserve.ModelInferResponse()
        shapes: dict[str, tuple[int, ...]] = {}
        if trunk.embedding is not None:
            shapes[trunk.embedding.output] = (rows, trunk.embedding.dimension)
        for head in trunk.heads:
            labels = len(head.labels)
            shapes[head.output] = (rows, tokens, labels) if head.per_token else (rows, labels)
        for name, shape in shapes.items():
            embeds = trunk.embedding is not None and name == trunk.embedding.output
            output: Any = response.outputs.add()
            output.name, output.datatype = name, "FP32"
            output.shape.extend(shape)
            value = shape[-1] ** (-0.5 if embeds else -1)
            response.raw_output_contents.append(np.full(shape, value, np.float32).tobytes())
        message: bytes = response.SerializeToString()
        return message


async def encoded(address: str) -> int:
    """Rows that the Triton there, this one or a real one, has worked on since it started."""
    channel = GrpcChannel(address)
    try:
        message = await channel.unary(_SERVICE + "ModelStatistics")(b"", 5.0)
    finally:
        await channel.close()
    response: Any = kserve.ModelStatisticsResponse.FromString(message)
    return sum(model.inference_count for model in response.model_stats)


async def _main(port: int, manifest: Path) -> None:
    server = GrpcServer(QuickTriton(load_bundle(manifest)[0]).methods(), max_message=16 * 1024 * 1024)
    await server.listen(bind("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
