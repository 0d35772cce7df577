"""REST work beside live traffic: a batch that is too slow for Triton degrades itself only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_router.api.app import create_app
from triton_router.config import loads
from triton_router.errors import Unavailable
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.inference.background import Background
from triton_router.pipeline import Pipeline
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "config" / "aibrix.yaml").read_text()
SLOW = "slow " * 400


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers zeros at once, and long texts never."""

    def __init__(self, checksum: str, outputs: dict[str, dict[str, tuple[int, ...]]]) -> None:
        self.checksum, self.outputs = checksum, outputs
        self.now = self.most = self.slow = 0

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = service_pb2.ModelConfigResponse()
        response.config.parameters["bundle_checksum"].string_value = self.checksum
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        windows, length = request.inputs[0].shape
        if length > 128:
            self.now += 1
            self.slow += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(30)
            finally:
                self.now -= 1
        response = service_pb2.ModelInferResponse()
        for output in request.outputs:
            shape = (windows, *self.outputs[request.model_name][output.name])
            tensor = response.outputs.add(name=output.name, datatype="FP32")
            tensor.shape.extend(shape)
            response.raw_output_contents.append(np.full(shape, 0.1, np.float32).tobytes())
        return response


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Triton, Pipeline]]:
    bundle, tokenizers = load_bundle(ROOT / "model_repository" / "bundle.json")
    outputs: dict[str, dict[str, tuple[int, ...]]] = {}
    for trunk in bundle.trunks:
        outputs[trunk.model] = {head.output: (len(head.labels),) for head in trunk.heads}
        if trunk.embedding:
            outputs[trunk.model][trunk.embedding.output] = (trunk.embedding.dimension,)
    triton, server = Triton(bundle.checksum, outputs), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = f'\nglobal: {{inference: {{endpoint: "127.0.0.1:{port}", deadline_ms: 200}}}}\n'
    pipeline = Generations(loads(CONFIG + settings), bundle, tokenizers, Metrics()).current
    for encoder in pipeline.encoders or ():
        await encoder.probe(pipeline.prepare)
    try:
        yield triton, pipeline
    finally:
        await encoder.close()
        await server.stop(0)


async def test_a_batch_that_is_too_slow_leaves_live_traffic_its_encoder() -> None:
    async with served() as (triton, pipeline):
        encoder = pipeline.recipes.default.gatherer.embedder
        assert encoder is not None and encoder.failure is None
        transport = httpx.ASGITransport(create_app(lambda: pipeline))
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
            batch = await rest.post("/api/v1/classify/batch", json={"texts": [SLOW + str(n) for n in range(100)]})
            assert batch.status_code == 503
            assert triton.most == 1, "a request waits for one of them at most"
            assert triton.slow <= 6, "their own breaker has opened"
            assert encoder.failure is None
            assert (await encoder.encode("hello")).windows == 1


async def test_the_breaker_closes_again_and_only_timeouts_open_it() -> None:
    now = [0.0]
    background = Background(lambda: now[0])

    async def fail(reason: str) -> None:
        raise Unavailable(reason)

    async def work() -> str:
        return "done"

    for reason in ("error", "error", "error", "deadline", "deadline"):
        with pytest.raises(Unavailable):
            await background.run(lambda reason=reason: fail(reason))
    assert await background.run(work) == "done"
    for _ in range(3):
        with pytest.raises(Unavailable):
            await background.run(lambda: fail("deadline"))
    with pytest.raises(Unavailable):
        await background.run(work)
    now[0] = 10.0
    assert await background.run(work) == "done"
