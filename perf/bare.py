"""The encoder's Triton call by itself: prompts tokenized beforehand and sent by `tritonclient`, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from perf.load import Samples
from perf.testbed import REPOSITORY
from triton_router.inference import load_bundle
from triton_router.inference.windows import Windows


class BareTriton:
    """Asks for what the router asks for: the embedding and every head."""

    def __init__(
        self, client: InferenceServerClient, model: str, inputs: list[Any], lengths: list[int], outputs: list[Any]
    ) -> None:
        self._client, self._model, self._inputs, self._outputs = client, model, inputs, outputs
        self.lengths = lengths
        """Padded tokens of each prompt."""

    @classmethod
    async def connect(cls, port: int, prompts: Sequence[str]) -> BareTriton:
        bundle, tokenizers = load_bundle(REPOSITORY / "bundle.json")
        trunk = bundle.trunks[0]
        windows = Windows(trunk, tokenizers[trunk.name])
        batches = [windows.batch(prompt) for prompt in prompts]
        inputs = [
            [
                InferInput(name, array.shape, "INT64").set_data_from_numpy(array)
                for name, array in ((trunk.inputs.ids, batch.ids), (trunk.inputs.mask, batch.mask))
            ]
            for batch in batches
        ]
        assert trunk.embedding is not None
        names = [trunk.embedding.output, *(head.output for head in trunk.heads)]
        outputs = [InferRequestedOutput(name) for name in names]
        client = InferenceServerClient(f"127.0.0.1:{port}")
        return cls(client, trunk.model, inputs, [int(batch.ids.shape[1]) for batch in batches], outputs)

    async def closed_loop(self, connections: int, requests: int, only: int | None = None) -> Samples:
        """``requests`` in all, ``connections`` at a time; ``only`` those that are padded to so many tokens."""
        samples, loop = Samples(), asyncio.get_running_loop()
        inputs = [tensors for tensors, length in zip(self._inputs, self.lengths, strict=True) if only in (None, length)]
        began = loop.time()

        async def one(offset: int) -> None:
            for number in range(requests // connections):
                tensors = inputs[(offset * 7 + number) % len(inputs)]
                start = loop.time()
                await self._infer(tensors)
                samples.at.append(start - began)
                samples.ms.append((loop.time() - start) * 1000)
                samples.status_of.append(200)

        await asyncio.gather(*(one(number) for number in range(connections)))
        samples.seconds = loop.time() - began
        return samples

    async def ask(self, number: int) -> None:
        """One call, with the prompt of that number."""
        await self._infer(self._inputs[number % len(self._inputs)])

    async def _infer(self, inputs: list[Any]) -> None:
        await self._client.infer(self._model, inputs, outputs=self._outputs, client_timeout=60)

    async def close(self) -> None:
        await self._client.close()
