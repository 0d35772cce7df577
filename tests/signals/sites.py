"""A router in front of a Triton whose heads choose their second label where they see one word."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from triton_router.config import loads
from triton_router.exchange import Outcome, Request
from triton_router.generations import Generations
from triton_router.inference.bundle import Bundle, checksum
from triton_router.inference.tokens import load_tokenizer
from triton_router.telemetry import Metrics

SOURCE = Path(__file__).parents[2] / "model_repository"


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with probability 0.9 of the second label for rows with the word, or for the word itself where a head
    judges tokens; ``down`` it answers nothing."""

    def __init__(self, bundle: Bundle, words: dict[str, int]) -> None:
        """words: the id of the word by trunk."""
        self.bundle, self.words, self.down = bundle, words, False
        self.rows = self.calls = 0
        self.trunk_names: list[str] = []

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802  # as the service calls it
        response = pb.ModelConfigResponse()
        response.config.parameters["bundle_checksum"].string_value = self.bundle.checksum
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.down:
            await context.abort(grpc.StatusCode.INTERNAL, "down")
        trunk = next(each for each in self.bundle.trunks if each.model == request.model_name)
        response = pb.ModelInferResponse()
        shape = tuple(request.inputs[0].shape)
        ids = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(shape)
        self.rows += len(ids)
        self.calls += 1
        self.trunk_names.append(trunk.name)
        assert trunk.embedding is not None
        outputs = {trunk.embedding.output: np.eye(len(ids), trunk.embedding.dimension, dtype=np.float32)}
        for head in trunk.heads:
            marked = ids == self.words[trunk.name]
            if head.per_token:
                outputs[head.output] = np.where((np.arange(len(head.labels)) == 1) == marked[..., None], 0.9, 0.0)
                outputs[head.output] = outputs[head.output].astype(np.float32)
                continue
            attacked = marked.any(axis=1)
            outputs[head.output] = np.full((len(ids), len(head.labels)), 0.05, np.float32)
            outputs[head.output][np.arange(len(ids)), attacked.astype(int)] = 0.9
        for output in request.outputs:
            tensor = response.outputs.add(name=output.name, datatype="FP32")
            tensor.shape.extend(outputs[output.name].shape)
            response.raw_output_contents.append(outputs[output.name].tobytes())
        return response


def bundle_with(heads: list[dict[str, Any]], *, trunks: int = 1) -> tuple[Bundle, dict[str, bytes]]:
    """So many ``trunks`` of the exported bundle, each with ``heads`` besides its own."""
    document = json.loads((SOURCE / "bundle.json").read_text())
    del document["trunks"][trunks:], document["checksum"]
    for trunk in document["trunks"]:
        trunk["heads"] = [each for each in trunk["heads"] if each["name"] == "domain"] + heads
    document["checksum"] = checksum(document)
    files = {trunk["name"]: trunk["tokenizer"]["file"] for trunk in document["trunks"]}
    return Bundle.model_validate(document), {name: (SOURCE / file).read_bytes() for name, file in files.items()}


class Site:
    """A router in front of that Triton."""

    def __init__(self, generations: Generations, triton: Triton) -> None:
        self.generations, self.triton = generations, triton

    async def ask(self, *contents: str, model: str = "cloud", role: str = "user", last: str = "and now?") -> Outcome:
        messages = [{"role": role, "content": content, "tool_call_id": "1"} for content in contents]
        messages.append({"role": "user", "content": last})
        body = json.dumps({"model": model, "messages": messages}).encode()
        return await self.generations.current.route(Request("POST", "/v1/chat/completions", {}, body))


@asynccontextmanager
async def site_of(text: str, heads: list[dict[str, Any]], word: str, *, trunks: int = 1) -> AsyncIterator[Site]:
    """A router with the configuration ``text``, whose ``ADDRESS`` is that of its Triton."""
    bundle, tokenizers = bundle_with(heads, trunks=trunks)
    triton = Triton(bundle, {name: load_tokenizer(file).ids(f" {word}")[-1] for name, file in tokenizers.items()})
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    generations = Generations(loads(text.replace("ADDRESS", f"127.0.0.1:{port}")), bundle, tokenizers, Metrics())
    async with generations.running():
        await generations.settled(30)
        yield Site(generations, triton)
    await server.stop(0)
