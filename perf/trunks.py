"""What it costs to ask two trunks for one request, beside the slower of them alone.

Both are stand-ins on a real Triton that keep their caller waiting and compute nothing, as encoders on GPUs of their own
would: on a CPU two encoders share the cores, and together take about as long as one behind the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from export import manifest, page
from export.exporter import Exporter, Paths
from export.live import started
from perf.load import at
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import ROOT, command, machine
from triton_router.config import loads
from triton_router.dialects import ChatRequest
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

TEMPLATE = Path(__file__).parent / "templates" / "trunks.md.j2"
WAITS = {"first": 0.010, "second": 0.015}
BOTH = "both, every signal"
STAND_IN = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({seconds})
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        rows = pb_utils.get_input_tensor_by_name(request, "{ids}").shape()[0]
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, np.full((rows, width), width**power, np.float32))
            for name, width, power in {outputs}
        ])
"""
CONFIG: dict[str, Any] = {
    "providers": {"models": [{"name": "m", "backend_refs": [{"endpoint": "127.0.0.1:1"}]}]},
    "routing": {
        "signals": {
            "domains": [{"name": "math"}, {"name": "other"}],
            "embeddings": [{"name": "near", "threshold": 0.9, "candidates": ["How do I reset my password?"]}],
        },
        "decisions": [
            {"name": kind, "rules": {"type": kind, "name": name}, "modelRefs": [{"model": "m"}]}
            for kind, name in (("domain", "math"), ("embedding", "near"))
        ],
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=110, help="per rung and round")
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.requests, arguments.rounds, arguments.out)


def measure(requests: int, rounds: int, out: Path) -> None:
    """Time each trunk alone and a request that asks both, in turn; ``requests`` of each and round."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        _write_repository(directory / "repository")
        with started(directory / "repository", directory / "triton") as address:
            times = asyncio.run(_measure(directory / "repository", address, requests, rounds))
    rows = {name: {"requests": len(ms), "p50": at(ms, 0.5), "p99": at(ms, 0.99)} for name, ms in times.items()}
    document = {"machine": machine(), "command": command(), "waits_ms": WAITS, "rows": rows}
    write_results(out, "trunks", document)
    print(table(document), end="")


def _write_repository(repository: Path) -> None:
    minilm, *_ = manifest.load(ROOT / "export" / "models.yaml").bundle("default")
    models = [minilm.model_copy(update={"name": name}) for name in WAITS]
    exporter = Exporter(Paths(repository, ROOT / "build" / "export"), models, "fp32")
    exporter.graphs("cpu")
    exporter.write_repository()
    for trunk in load_bundle(repository / "bundle.json")[0].trunks:
        assert trunk.embedding is not None
        # The embedding is of unit length, a head's probabilities add up to one.
        outputs = [(trunk.embedding.output, trunk.embedding.dimension, -0.5)]
        outputs += [(head.output, len(head.labels), -1.0) for head in trunk.heads]
        code = STAND_IN.format(seconds=WAITS[trunk.name], ids=trunk.inputs.ids, outputs=outputs)
        (repository / trunk.model / "1" / "model.py").write_text(code)


async def _measure(repository: Path, address: str, requests: int, rounds: int) -> dict[str, list[float]]:
    bundle, tokenizers = load_bundle(repository / "bundle.json")
    config = json.loads(json.dumps(CONFIG))
    config["global"] = {
        "inference": {"endpoint": address},
        "model_catalog": {"modules": {"classifier": {"domain": {"model_id": "second"}}}},
    }
    generations = Generations(loads(json.dumps(config)), bundle, tokenizers, Metrics())
    async with generations.running():
        await generations.settled(30)
        pipeline = generations.current
        assert pipeline.encoders is not None
        calls = {encoder.trunk.name: encoder.encode for encoder in pipeline.encoders}

        async def both(prompt: str) -> None:
            results = (await pipeline.decide(SignalInput(ChatRequest.saying(prompt)))).routing()[0]
            if results.degraded:
                raise RuntimeError(f"without {results.degraded}")

        return await _in_turn({**calls, BOTH: both}, requests, rounds)


async def _in_turn(calls: dict[str, Any], requests: int, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        order: Sequence[str] = list(calls) if number % 2 == 0 else list(reversed(calls))
        for name in order:
            for index in range(requests):
                began = perf_counter()
                await calls[name](PROMPTS[index % len(PROMPTS)])
                times[name].append((perf_counter() - began) * 1000)
        print(f"round {number + 1} of {rounds} done", flush=True)
    return times


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    slower = max(document["rows"][name]["p50"] for name in WAITS)
    return page.render(TEMPLATE, **document, slower=slower, BOTH=BOTH)
