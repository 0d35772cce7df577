"""Heads that read every part, on a Triton that says `jailbreak` where it sees the word `attack`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tokenizers import Tokenizer
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from triton_router.config import loads
from triton_router.errors import BundleError
from triton_router.exchange import Outcome, Request
from triton_router.generations import Generations
from triton_router.inference.bundle import Bundle, checksum
from triton_router.telemetry import Metrics

SOURCE = Path(__file__).parents[2] / "model_repository"
# About 2,200 characters.
FILLER = "The weather in the north was mild this morning, and we went for a walk. " * 30
LABELS = ("benign", "jailbreak", "prompt_injection")

CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    jailbreak: [{name: attack, threshold: 0.6, include_history: false}]
    classifiers: [{name: not harmless, head: jailbreak, labels: [jailbreak], threshold: 0.6}]
  decisions:
    - {name: careful, rules: {type: classifier, name: not harmless}, modelRefs: [{model: own}]}
    - name: no attacks
      rules: {type: jailbreak, name: attack}
      plugins: [{type: block, configuration: CHOICE}]
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000}}
"""


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with probability 0.9 of `jailbreak` for rows with the word; ``down`` it answers nothing."""

    def __init__(self, bundle: Bundle, word: int) -> None:
        self.bundle, self.word, self.down, self.rows = bundle, word, False, 0

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802  # as the service calls it
        response = pb.ModelConfigResponse()
        response.config.parameters["bundle_checksum"].string_value = self.bundle.checksum
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.down:
            await context.abort(grpc.StatusCode.INTERNAL, "down")
        (trunk,), response = self.bundle.trunks, pb.ModelInferResponse()
        shape = tuple(request.inputs[0].shape)
        ids = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(shape)
        self.rows += len(ids)
        assert trunk.embedding is not None
        outputs = {trunk.embedding.output: np.eye(len(ids), trunk.embedding.dimension, dtype=np.float32)}
        for head in trunk.heads:
            attacked = (ids == self.word).any(axis=1)
            outputs[head.output] = np.full((len(ids), len(head.labels)), 0.05, np.float32)
            outputs[head.output][np.arange(len(ids)), attacked.astype(int)] = 0.9
        for output in request.outputs:
            tensor = response.outputs.add(name=output.name, datatype="FP32")
            tensor.shape.extend(outputs[output.name].shape)
            response.raw_output_contents.append(outputs[output.name].tobytes())
        return response


def bundle_with(heads: list[dict[str, Any]]) -> tuple[Bundle, dict[str, bytes]]:
    document = json.loads((SOURCE / "bundle.json").read_text())
    del document["trunks"][1:], document["checksum"]
    trunk = document["trunks"][0]
    trunk["heads"] += heads
    document["checksum"] = checksum(document)
    return Bundle.model_validate(document), {trunk["name"]: (SOURCE / trunk["tokenizer"]["file"]).read_bytes()}


class Site:
    """A router in front of that Triton."""

    def __init__(self, generations: Generations, triton: Triton) -> None:
        self.generations, self.triton = generations, triton

    async def ask(self, *contents: str, model: str = "cloud", role: str = "user", last: str = "and now?") -> Outcome:
        messages = [{"role": role, "content": content, "tool_call_id": "1"} for content in contents]
        messages.append({"role": "user", "content": last})
        body = json.dumps({"model": model, "messages": messages}).encode()
        return await self.generations.current.route(Request("POST", "/v1/chat/completions", {}, body))


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    bundle, tokenizers = bundle_with([{"name": "jailbreak", "output": "jailbreak", "labels": LABELS}])
    (tokenizer,) = tokenizers.values()
    triton = Triton(bundle, Tokenizer.from_buffer(tokenizer).token_to_id("attack"))
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    text = CONFIG.replace("ADDRESS", f"127.0.0.1:{port}").replace("CHOICE", getattr(request, "param", "{}"))
    generations = Generations(loads(text), bundle, tokenizers, Metrics())
    watch = asyncio.create_task(generations.run())
    await generations.settled(30)
    yield Site(generations, triton)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await server.stop(0)


def blocked(outcome: Outcome) -> int | None:
    return getattr(outcome, "status", None)


@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_an_attack_in_any_part_is_refused(site: Site, model: str) -> None:
    assert blocked(await site.ask("hello", model=model)) is None
    assert blocked(await site.ask("an attack", model=model)) == 403
    assert blocked(await site.ask("an attack", model=model, role="tool")) == 403
    assert blocked(await site.ask("an attack", model=model, role="system")) == 403
    assert blocked(await site.ask("a t t a c k and @tt4ck", model=model)) == 403
    assert blocked(await site.ask(FILLER + "attack " + FILLER, model=model, role="tool")) == 403


async def test_all_passages_of_a_request_are_in_few_calls(site: Site) -> None:
    site.triton.rows = 0
    await site.ask(FILLER * 2)
    assert 8 < site.triton.rows <= 24


@pytest.mark.parametrize("site", ["{shadow: true}"], indirect=True)
async def test_the_prompt_alone_is_what_a_classifier_reads(site: Site) -> None:
    models = [
        (await site.ask(*contents, model="MoM", last=last)).headers["x-selected-model"]
        for contents, last in (((), "hello"), (("an attack",), "Which river flows through Paris?"), ((), "an attack"))
    ]
    assert models == ["cloud", "cloud", "own"]


@pytest.mark.parametrize(
    ("site", "result"),
    [("{}", 503), ("{on_unknown: ignore}", None), ("{on_unknown: deny}", 503)],
    indirect=["site"],
)
@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_without_triton_it_does_what_the_operator_chose(site: Site, result: int | None, model: str) -> None:
    site.triton.down = True
    assert blocked(await site.ask("hello", model=model)) == result


async def test_a_script_that_the_trunk_cannot_read_is_unknown_and_not_harmless(site: Site) -> None:
    assert blocked(await site.ask("\u043a\u0430\u043a \u0442\u0430\u043c \u0434\u0435\u043b\u0430")) == 503


def test_a_bundle_without_the_head_does_not_load() -> None:
    bundle, tokenizers = bundle_with([])
    text = CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("CHOICE", "{}")
    with pytest.raises(BundleError, match="no head `jailbreak`"):
        asyncio.run(_generations(text, bundle, tokenizers))


def test_a_label_that_the_head_does_not_have_does_not_load() -> None:
    bundle, tokenizers = bundle_with([{"name": "jailbreak", "output": "jailbreak", "labels": LABELS}])
    text = CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("CHOICE", "{}").replace("labels: [jail", "labels: [jale")
    with pytest.raises(BundleError, match="did you mean `jailbreak`"):
        asyncio.run(_generations(text, bundle, tokenizers))


async def _generations(text: str, bundle: Bundle, tokenizers: dict[str, bytes]) -> Generations:
    return Generations(loads(text), bundle, tokenizers, Metrics())
