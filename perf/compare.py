"""What a comparison of recorded requests costs: encodings a prompt, and the work besides encoding."""

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
from tritonclient.grpc import InferenceServerClient

from perf.load import chat_bodies, closed_loop, run_precisely
from perf.prompts import PROMPTS
from perf.testbed import ROOT, Testbed, command, machine

TARGET_SECONDS = 20.0
PART = "router-compare"
CONNECTIONS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=10_000)


def run(arguments: argparse.Namespace) -> int:
    document = measure(arguments.requests)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "compare.json").write_text(json.dumps(document, indent=1))
    print(table(document))
    met = document["besides_seconds"] < TARGET_SECONDS and document["encodings"] <= document["prompts"]
    return 0 if met and not document["degraded"] else 1


def measure(requests: int) -> dict[str, Any]:
    """Record so many requests, each with a prompt of its own, and compare on them through REST.

    ``encodings`` are rows that Triton counted meanwhile. ``besides_seconds`` is the CPU of the router and of the
    process that compares, which is all that is done besides encoding.
    """
    document = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
    replay = {"enabled": True, "include_request": True, "max_records": requests}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        gateway = testbed.gateway("compare", document, router_replay=replay)
        testbed.wait_until_routed({gateway: "MoM"})
        prompts = [f"{PROMPTS[number % len(PROMPTS)]} (case {number})" for number in range(requests)]
        run_precisely(closed_loop(gateway, chat_bodies(prompts, "MoM"), CONNECTIONS, requests))
        rest = f"http://127.0.0.1:{testbed.rest_port(gateway)}"
        before, triton = _encoded(testbed), testbed.cpu("triton")
        measured = asyncio.run(_measure(rest, requests, lambda: testbed.cpu(PART)))
        encodings, triton_seconds = _encoded(testbed) - before, testbed.cpu("triton") - triton
    return {"machine": machine(), "command": command(), "prompts": requests, **measured, "encodings": encodings,
            "triton_seconds": triton_seconds}  # fmt: skip


async def _measure(rest: str, requests: int, cpu: Callable[[], float]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=rest, timeout=600) as client:
        text = (await client.get("/config", params={"format": "yaml"})).text
        # Both configurations decide, and some requests move.
        config = yaml.safe_load(text)
        config["routing"]["decisions"][0]["priority"] = 1
        before, began = cpu(), time.perf_counter()
        comparing = asyncio.create_task(_compared(client, {"config": yaml.safe_dump(config), "recorded": requests}))
        used = 0.0
        while not comparing.done():
            # The process that compares takes its seconds with it when it ends.
            used = max(used, cpu() - before)
            await asyncio.sleep(0.05)
        report = await comparing
    return {"seconds": time.perf_counter() - began, "besides_seconds": used, "compared": report["requests"],
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


def _encoded(testbed: Testbed) -> int:
    """Rows that Triton's models have worked on since it started."""
    client = InferenceServerClient(f"127.0.0.1:{testbed.triton_port}")
    try:
        counted = client.get_inference_statistics(as_json=True)
    finally:
        client.close()
    return sum(int(model.get("inference_count", 0)) for model in counted["model_stats"])


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    return "\n".join([
        f"{document['machine']}; `{document['command']}`",
        "",
        f"{document['compared']} recorded requests, each with its own prompt, compared in {document['seconds']:.1f} s; "
        f"{document['moved']} move; degraded: {document['degraded'] or 'none'}.",
        f"Encodings: {document['encodings']}, {document['encodings'] / max(document['compared'], 1):.3f} a prompt. "
        f"Triton took {document['triton_seconds']:.1f} s of CPU.",
        f"All besides encoding took {document['besides_seconds']:.1f} s of CPU (target under {TARGET_SECONDS:.0f} s).",
    ])  # fmt: skip
