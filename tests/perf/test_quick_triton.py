"""The stand-in for a Triton on a GPU, asked by the router's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perf.quick_triton import QuickTriton, encoded
from triton_router.config.services import InferenceSettings
from triton_router.http2.grpc import GrpcServer, bind
from triton_router.inference import Encoder, load_bundle
from triton_router.telemetry import Metrics

MANIFEST = Path(__file__).parents[2] / "model_repository" / "bundle.json"


async def test_it_answers_as_the_bundle_says() -> None:
    bundle, tokenizers = load_bundle(MANIFEST)
    triton, listener = QuickTriton(bundle), bind("127.0.0.1", 0)
    server = GrpcServer(triton.methods(), max_message=2**20)
    await server.listen(listener)
    settings = InferenceSettings(endpoint=f"127.0.0.1:{listener.getsockname()[1]}")
    try:
        for trunk in bundle.trunks:
            encoder = Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, Metrics())

            async def ready() -> None:
                pass

            await encoder.probe(ready)
            encoding = await encoder.encode("How deep is the sea?", ["And the lake?"])
            assert encoder.failure is None and len(encoding.beside) == 1
            assert trunk.embedding is None or np.linalg.norm(encoding.embedding) == pytest.approx(1)
            assert encoding.heads.keys() == {head.name for head in trunk.heads if not head.per_token}
            await encoder.close()
        # A probe, a text and one beside it.
        assert await encoded(settings.endpoint) == 3 * len(bundle.trunks)
    finally:
        await server.close()
