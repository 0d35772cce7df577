"""A name with several addresses: calls go round all Tritons behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_router.config.services import InferenceSettings
from triton_router.http2.client import GrpcChannel
from triton_router.inference import load_bundle
from triton_router.inference.encoder import Encoder
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[2] / "model_repository" / "bundle.json"


class Replica(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves another bundle, and counts who asks."""

    def __init__(self) -> None:
        self.calls = 0

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        return service_pb2.ModelConfigResponse()


@asynccontextmanager
async def listening(replica: Replica) -> AsyncIterator[int]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(replica, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def test_calls_go_round_the_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = [Replica(), Replica()]
    bundle, tokenizers = load_bundle(BUNDLE)
    trunk = bundle.trunks[0]

    async def nothing() -> None:
        return None

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(replica)) for replica in replicas]

        async def resolve(_: GrpcChannel) -> list[tuple[str, int]]:
            return [("127.0.0.1", port) for port in ports]

        monkeypatch.setattr(GrpcChannel, "addresses", resolve)
        settings = InferenceSettings().model_copy(update={"endpoint": "triton:8001"})
        encoder = Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, Metrics())
        for _ in range(20):
            await encoder.probe(nothing)
        await encoder.close()
    assert min(replica.calls for replica in replicas) >= 5
