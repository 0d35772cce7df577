"""A long run: memory stays flat, the cache keeps to its bound, and nothing is given out after its time."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from perf.load import Samples, at, chat_bodies, closed_loop
from perf.results import write_results
from perf.testbed import Testbed, command, machine, resident
from triton_router.cache.entry import Entry
from triton_router.cache.memory import MemoryStore

MOST, SECONDS = 2000, 10
DOCUMENT: dict[str, Any] = {
    "version": "v0.3",
    "providers": {"models": [{"name": "m"}, {"name": "n"}]},
    "routing": {
        "signals": {"keywords": [{"name": "even", "keywords": [" even "]}]},
        "decisions": [
            {"name": name, "modelRefs": [{"model": model}], **rules,
             "plugins": [{"type": "semantic-cache", "configuration": {"mode": "exact"}}]}
            for name, model, rules in (
                ("even", "m", {"rules": {"type": "keyword", "name": "even"}, "priority": 2}), ("rest", "n", {}),
            )
        ],
    },
    "global": {"stores": {"semantic_cache": {"max_entries": MOST, "ttl_seconds": SECONDS, "eviction_policy": "lru"}}},
}  # fmt: skip
SLICE = 2000
DIMENSION, STORED = 384, 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100_000)


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.requests, arguments.out)


def measure(requests: int, out: Path) -> None:
    """``requests`` through Envoy, every second one a repeat; then as many puts and lookups by meaning in a store."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        port = testbed.gateway("soak", DOCUMENT, usage={"answers": True})
        testbed.wait_until_routed({port: "MoM"})
        soak = asyncio.run(_through_envoy(testbed, port, requests))
    store = asyncio.run(_store(requests))
    document = {"machine": machine(), "command": command(), "soak": soak, "store": store}
    write_results(out, "soak", document)
    print(table(document))


async def _through_envoy(testbed: Testbed, port: int, requests: int) -> dict[str, Any]:
    drawn, total, memory, entries = random.Random(7), Samples(), [], []
    for begin in range(0, requests, SLICE):
        numbers = [drawn.randint(max(0, number - 400), number) if number % 2 else number
                   for number in range(begin, begin + SLICE)]  # fmt: skip
        prompts = [
            f"Is {number} an {'even' if number % 3 else 'odd'} number? {'x' * (number % 700)}" for number in numbers
        ]
        total.add(await closed_loop(port, chat_bodies(prompts, "MoM"), 8, SLICE))
        memory.append(testbed.resident("router-soak"))
        entries.append(await asyncio.to_thread(_entries, testbed.metrics_url(port)))
        print(f"{begin + SLICE} of {requests}: {memory[-1]:.1f} MiB, {entries[-1]:.0f} answers kept", flush=True)
    return {
        "requests": len(total.ms), "errors": total.errors, "hits": total.hits, "seconds": total.seconds,
        "p50": at(total.ms, 0.5), "p99": at(total.ms, 0.99), "oldest": total.oldest, "ttl": SECONDS,
        "most": MOST, "entries": max(entries), "mib": memory,
    }  # fmt: skip


def _entries(url: str) -> float:
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith("router_cache_entries ")), 0.0)


async def _store(requests: int) -> dict[str, Any]:
    numbers, store, memory, largest = np.random.default_rng(1), MemoryStore(STORED, "lru"), [], 0
    for number in range(requests):
        vector = numbers.standard_normal(DIMENSION).astype(np.float32)
        vector /= np.linalg.norm(vector)
        answer = b"x" * (200 + number % 800)
        await store.put(Entry(f"{number:064x}", "p" * 64, "d", f"question {number}", vector, answer, time.time(), 3600))
        if number % 4 == 0:
            await store.nearest("p" * 64, vector, 4, 0.9)
        # A put comes with a request. In a tight loop the thread that builds the graph falls behind, and it is that
        # unfinished graph that grows.
        await asyncio.sleep(0.0005)
        if number % (requests // 20) == 0:
            memory.append(resident(os.getpid()))
            largest = max(largest, await store.size())
    await store.close()
    return {"puts": requests, "most": STORED, "entries": largest, "mib": memory}


def rise(memory: list[float]) -> float:
    """MiB by sample: the slope of the line through all of them, which one large answer at either end does not move."""
    return float(np.polyfit(np.arange(len(memory)), memory, 1)[0]) if len(memory) > 1 else 0.0


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    soak, store = document["soak"], document["store"]
    half = len(soak["mib"]) // 2

    def course(memory: list[float]) -> str:
        return f"{memory[0]:.1f} MiB at first, {memory[len(memory) // 2]:.1f} half way, {memory[-1]:.1f} at the end"

    through = (
        f"Through Envoy: {soak['requests']} requests in {soak['seconds']:.0f} s, {soak['errors']} errors, "
        f"{soak['hits']} from the cache; p50 {soak['p50']:.2f} ms, p99 {soak['p99']:.2f} ms. "
        f"At most {soak['entries']:.0f} answers kept (bound {soak['most']}); the oldest given out was "
        f"{soak['oldest']} s old (kept for {soak['ttl']} s). Router: {course(soak['mib'])}; "
        f"second half {soak['mib'][-1] - soak['mib'][half]:+.1f} MiB, "
        f"or {rise(soak['mib'][half:]) / SLICE * 1000:+.3f} MiB by 1,000 requests."
    )
    alone = (
        f"Store by itself: {store['puts']} answers put, a quarter looked up by meaning, at most {store['entries']} "
        f"kept (bound {store['most']}); {course(store['mib'])}."
    )
    return "\n".join([f"{document['machine']}; `{document['command']}`", "", through, "", alone])
