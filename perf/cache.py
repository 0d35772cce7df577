"""What the cache costs: hits through Envoy beside the same request without one, lookups among many, memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient

from export import page
from perf.bare import BareTriton
from perf.load import Samples, at, chat_bodies, closed_loop
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import Testbed, command, machine, resident
from triton_router.cache.entry import Entry
from triton_router.cache.memory import MemoryStore

TEMPLATE = Path(__file__).parent / "templates" / "cache.md.j2"
DIMENSION = 384
ALONE, BEHIND, SEMANTIC, JUDGED = "Envoy alone", ", behind a Triton call", "semantic hit", ", judged"
CACHED: dict[str, Any] = {
    "version": "v0.3",
    "providers": {"models": [{"name": "m"}]},
    "routing": {
        "signals": {"domains": [{"name": "math"}, {"name": "other"}]},
        "decisions": [
            {"name": name, "rules": {"type": "domain", "name": name}, "modelRefs": [{"model": "m"}],
             "plugins": [{"type": "semantic-cache", "configuration": {"similarity_threshold": 0.9}}]}
            for name in ("math", "other")
        ],
    },
    "global": {"stores": {"semantic_cache": {"enabled": True, "max_entries": 1000}}},
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=220, help="per rung and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=100_000)


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.requests, arguments.rounds, arguments.entries, arguments.out)


def measure(requests: int, rounds: int, entries: int, out: Path) -> dict[str, Any]:
    """Measure hits and misses through the whole system, then a store of ``entries`` by itself."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        uncached = json.loads(json.dumps(CACHED))
        del uncached["global"]
        ports = {
            ALONE: testbed.gateway("alone", CACHED, processor="nobody"),
            "no cache": testbed.gateway("uncached", uncached),
            "cache": testbed.gateway("cached", CACHED),
        }
        testbed.wait_until_routed(dict.fromkeys(ports.values(), "MoM"))
        rows = asyncio.run(_through_envoy(testbed, ports, requests, rounds))
    store = asyncio.run(_store(entries))
    document = {"machine": machine(), "command": command(), "hits": rows, "store": store}
    write_results(out, "cache", document, table(document))
    return document


async def _through_envoy(testbed: Testbed, ports: dict[str, int], requests: int, rounds: int) -> list[dict[str, Any]]:
    bodies = chat_bodies(PROMPTS, "MoM")
    # With a word that asks for nothing else: of the same words, and some that the judge takes for the same.
    polite = chat_bodies([f"Please, {prompt}" for prompt in PROMPTS], "MoM")
    alike = chat_bodies([f"I was wondering, {prompt}" for prompt in PROMPTS], "MoM")
    # What an encoder on the same cores leaves in their caches slows whatever comes next, with a cache or without.
    rungs: dict[str, tuple[int, Sequence[bytes]]] = {
        ALONE: (ports[ALONE], bodies),
        ALONE + BEHIND: (ports[ALONE], bodies),
        "routed, no cache": (ports["no cache"], bodies),
        "exact repeat": (ports["cache"], bodies),
        "exact repeat" + BEHIND: (ports["cache"], bodies),
        SEMANTIC: (ports["cache"], polite),
    }
    for port in ports.values():
        await closed_loop(port, bodies, 1, len(bodies) * 2)
    rungs[SEMANTIC + JUDGED] = (
        ports["cache"], [body for body in alike if (await closed_loop(ports["cache"], [body], 1, 1)).hits]
    )  # fmt: skip
    bare = await BareTriton.connect(testbed.triton_port, PROMPTS)
    triton = InferenceServerClient(f"127.0.0.1:{testbed.triton_port}")
    collected = {name: Samples() for name in rungs}
    calls = dict.fromkeys(rungs, 0)
    for number in range(rounds):
        for name, (port, prompts) in rungs.items():
            before, behind = _calls(triton), name.endswith(BEHIND)
            collected[name].add(await closed_loop(port, prompts, 1, requests, bare.ask if behind else None))
            calls[name] += _calls(triton) - before - requests * behind
        print(f"round {number + 1} of {rounds} done", flush=True)
    triton.close()
    await bare.close()
    return [
        {"name": name, "requests": len(samples.ms), "errors": samples.errors, "hits": samples.hits,
         "calls": calls[name] / len(samples.ms), "p50": at(samples.ms, 0.5), "p99": at(samples.ms, 0.99),
         "encoder_p50": at(samples.encoder_ms, 0.5)}
        for name, samples in collected.items()
    ]  # fmt: skip


def _calls(client: InferenceServerClient) -> int:
    models = client.get_inference_statistics(as_json=True)["model_stats"]
    stats = (model["inference_stats"]["success"] for model in models if model["name"] in ("minilm", "pairs"))
    return sum(int(each.get("count", 0)) for each in stats)


async def _store(entries: int) -> dict[str, Any]:
    """Lookups in a memory store that holds ``entries`` answers of one partition, and what it weighs."""
    random = np.random.default_rng(1)

    def vector() -> Any:
        drawn = random.standard_normal(DIMENSION).astype(np.float32)
        return drawn / np.linalg.norm(drawn)

    answer = json.dumps({"text": "x" * 800, "usage": None}).encode()
    before, store = resident(os.getpid()), MemoryStore(entries)
    first: dict[str, Any] = {"empty_mib": before}
    for number in range(entries):
        await store.put(
            Entry(
                f"{number:064x}", "p" * 64, "d", f"question {number} " + "y" * 80, vector(), answer, time.time(), 3600
            )
        )
        if number % 1000 == 0:
            await asyncio.sleep(0)
        if number + 1 == 1000:
            first["mib_at_1000"] = resident(os.getpid())
    # The graph is built in the background.
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    times = []
    for _ in range(2000):
        question = vector()
        began = time.perf_counter()
        await store.nearest("p" * 64, question, 4, 0.0)
        times.append((time.perf_counter() - began) * 1000)
    full = resident(os.getpid())
    await store.close()
    return {**first, "entries": entries, "full_mib": full, "lookup_p50": at(times, 0.5), "lookup_p99": at(times, 0.99)}


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = {row["name"]: row["p50"] for row in document["hits"]}
    return page.render(TEMPLATE, **document, alone=rows[ALONE], behind=rows[ALONE + BEHIND], BEHIND=BEHIND)
