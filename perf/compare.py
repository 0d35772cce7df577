"""What a comparison of recorded requests costs: encodings a prompt, and the time besides encoding."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

from perf.load import chat_bodies, closed_loop, run_precisely
from perf.prompts import PROMPTS
from perf.quick_triton import encoded
from perf.results import write_results
from perf.testbed import ROOT, Testbed, command, machine

TARGET_SECONDS = 20.0
PART = "router-compare"
CONNECTIONS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=10_000)


def run(arguments: argparse.Namespace) -> int:
    document = measure(arguments.requests)
    write_results(arguments.out, "compare", document)
    print(table(document))
    met = document["seconds"] < TARGET_SECONDS and document["encodings"] <= 1.01 * document["compared"]
    return 0 if met and not document["degraded"] else 1


def measure(requests: int) -> dict[str, Any]:
    """Record so many requests, each with a prompt of its own, and compare on them through REST.

    Triton is the stand-in that hardly takes time (perf/quick_triton.py), so ``seconds`` are those besides encoding;
    ``cpu_seconds`` are the router's and those of the process that compares. ``encodings`` are rows that went to Triton.
    """
    document = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
    replay = {"enabled": True, "include_request": True, "max_records": requests}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        triton = testbed.quick_triton("triton")
        gateway = testbed.gateway("compare", document, inference=triton, router_replay=replay)
        testbed.wait_until_routed({gateway: "MoM"})
        prompts = [f"{PROMPTS[number % len(PROMPTS)]} (case {number})" for number in range(requests)]
        run_precisely(closed_loop(gateway, chat_bodies(prompts, "MoM"), CONNECTIONS, requests))
        rest = f"http://127.0.0.1:{testbed.rest_port(gateway)}"
        before = asyncio.run(encoded(triton["endpoint"]))
        measured = asyncio.run(_measure(rest, requests, lambda: testbed.cpu(PART)))
        encodings = asyncio.run(encoded(triton["endpoint"])) - before
    return {"machine": machine(), "command": command(), **measured, "encodings": encodings}


async def _measure(rest: str, requests: int, cpu: Callable[[], float]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=rest, timeout=600) as client:
        config = yaml.safe_load((await client.get("/config", params={"format": "yaml"})).text)
        config["routing"]["decisions"][0]["priority"] = 1
        before, began = cpu(), time.perf_counter()
        comparing = asyncio.create_task(_compared(client, {"config": yaml.safe_dump(config), "recorded": requests}))
        used = 0.0
        while not comparing.done():
            # The process that compares takes its seconds with it when it ends.
            used = max(used, cpu() - before)
            await asyncio.sleep(0.05)
        report = await comparing
    return {"seconds": time.perf_counter() - began, "cpu_seconds": used, "compared": report["requests"],
            "moved": report["moved"], "degraded": report["degraded"]}  # fmt: skip


async def _compared(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    async with client.stream("POST", "/api/v1/compare", json=body) as response:
        last = ""
        async for line in response.aiter_lines():
            last = line or last
    message: dict[str, Any] = json.loads(last)
    if "report" not in message:
        raise RuntimeError(f"nothing was compared: {last}")
    report: dict[str, Any] = message["report"]
    return report


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    count = document["compared"]
    return "\n".join([
        f"{document['machine']}; `{document['command']}`",
        "",
        f"{count} recorded requests, each with its own prompt; {document['moved']} move; "
        f"degraded: {document['degraded'] or 'none'}.",
        f"Besides encoding: {document['seconds']:.1f} s (target under {TARGET_SECONDS:.0f} s), "
        f"{document['cpu_seconds']:.1f} s of CPU.",
        f"Encodings: {document['encodings']}, {document['encodings'] / max(count, 1):.3f} a prompt (target at most 1).",
    ])  # fmt: skip
