"""The models on real Triton: one forward for all outputs, batches, and the ensemble for other clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from local_stack import wait_for
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from whole_system import MODELS, Site

from triton_router.inference import Encoder, load_bundle
from triton_router.telemetry import Metrics

pytestmark = pytest.mark.e2e

TEXTS = ["What is the derivative of x^3 + 2x?", "Good morning!", "Is a verbal agreement binding? " * 8]


@pytest.fixture
def triton(aibrix: Site) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(aibrix.config.global_.inference.endpoint)
    yield client
    client.close()


@pytest.fixture
async def encoder(aibrix: Site) -> AsyncIterator[Encoder]:
    bundle, tokenizers = load_bundle(MODELS / "bundle.json")
    trunk = bundle.trunks[0]
    # Deadlines and admission have tests of their own; here each call is answered, however slow the machine.
    settings = aibrix.config.global_.inference.model_copy(update={"deadline_ms": 10_000, "adaptive_limit": False})
    encoder = Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, Metrics())
    await encoder.probe(_nothing)
    assert encoder.failure is None
    yield encoder
    await encoder.close()


async def _nothing() -> None:
    return None


def as_text(triton: InferenceServerClient, text: str) -> tuple[Any, Any]:
    text_input = InferInput("text", [1, 1], "BYTES")
    text_input.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
    outputs = [InferRequestedOutput("embedding"), InferRequestedOutput("domain")]
    answer = triton.infer("minilm_text", [text_input], outputs=outputs, client_timeout=60)
    return answer.as_numpy("embedding")[0], answer.as_numpy("domain")[0]


async def test_the_ensemble_says_what_the_router_is_told(triton: InferenceServerClient, encoder: Encoder) -> None:
    for text in TEXTS:
        direct = await encoder.encode(text)
        embedding, domain = as_text(triton, text)
        np.testing.assert_allclose(embedding, direct.embedding, atol=1e-5)
        np.testing.assert_allclose(domain, direct.heads["domain"], atol=1e-5)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)
        assert domain.sum() == pytest.approx(1, abs=1e-4)


async def test_concurrent_requests_of_one_bucket_are_batched(triton: InferenceServerClient, encoder: Encoder) -> None:
    def executions() -> dict[int, int]:
        stats = triton.get_inference_statistics("minilm", as_json=True)["model_stats"][0]["batch_stats"]
        return {int(entry["batch_size"]): int(entry["compute_infer"]["count"]) for entry in stats}

    # Counts of what was asked before arrive late too.
    before: dict[int, int] = {}
    while (current := executions()) != before:
        before = current
        await asyncio.sleep(0.3)

    def new() -> dict[int, int]:
        return {size: count - before.get(size, 0) for size, count in executions().items()}

    await asyncio.gather(*(encoder.encode(TEXTS[0]) for _ in range(48)))
    # Triton counts an execution after it has answered.
    wait_for(lambda: sum(size * count for size, count in new().items()) == 48, "48 inferences are counted")
    assert any(count for size, count in new().items() if size > 1)


def test_every_model_is_of_the_routers_bundle(triton: InferenceServerClient) -> None:
    checksum = load_bundle(MODELS / "bundle.json")[0].checksum
    for model in ("minilm", "minilm_text", "minilm_tokenizer"):
        parameters = triton.get_model_config(model, as_json=True)["config"]["parameters"]
        assert parameters["bundle_checksum"]["string_value"] == checksum


def test_padding_changes_nothing(triton: InferenceServerClient) -> None:
    """Not even int8 activations, whose range is that of all that is computed."""

    def padded(length: int) -> dict[str, Any]:
        tokens = [101, 2054, 2003, 1996, 13100, 1997, 1060, 102]
        inputs = []
        for name, row, filler in (("input_ids", tokens, 0), ("attention_mask", [1] * len(tokens), 0)):
            tensor = np.array([row + [filler] * (length - len(row))], np.int64)
            inputs.append(InferInput(name, tensor.shape, "INT64").set_data_from_numpy(tensor))
        outputs = ("embedding", "domain")
        answer = triton.infer("minilm", inputs, outputs=[InferRequestedOutput(name) for name in outputs])
        return {name: answer.as_numpy(name) for name in outputs}

    short, long = padded(16), padded(128)
    for name, value in short.items():
        np.testing.assert_array_equal(value, long[name])
