"""What docs/hardening.md bounds: time to ready, the event loop during a reload of many models, memory of large bodies.

Triton is the stand-in that hardly takes time (perf/quick_triton.py), so these are the router's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from perf import start
from perf.load import arrivals, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import SHORT
from perf.results import write_results
from perf.testbed import ROOT, Testbed, command, machine

READY, STEP_MS = 1.5, 50.0
STARTS = 7
# Requests a second next to the reload, and for how long: it begins after the first seconds.
RATE, SECONDS, BEGINS = 20.0, 15.0, 2.0
MIB = 1024 * 1024
# Just within the limit.
BODY = 10 * MIB - 64 * 1024
# Seconds between two looks at the memory, and until it is looked at a last time.
LOOK, SETTLED = 0.02, 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=500, help="of the generation that is loaded")
    parser.add_argument("--bodies", type=int, default=64, help="of 10 MiB, sent at once")


def run(arguments: argparse.Namespace) -> int:
    document = measure(arguments.models, arguments.bodies)
    write_results(arguments.out, "bounds", document)
    print(table(document))
    reloaded = document["reload"]
    met = statistics.median(document["ready"]) <= READY and reloaded["step_ms"] <= STEP_MS
    return 0 if met and not reloaded["errors"] else 1


def measure(models: int, bodies: int) -> dict[str, Any]:
    """Each with a router of its own behind its own Envoy, one after the other."""
    document = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        triton = testbed.quick_triton("triton")
        gateway = testbed.gateway("reload", document, inference=triton, watched_by="steps", followed=True)
        testbed.wait_until_routed({gateway: "MoM"})
        reloaded = run_precisely(_reload(testbed, gateway, models))
        testbed.end("router-reload")
        longest = json.loads(testbed.report("reload").read_text())
        gateway = testbed.gateway("plain", document, inference=triton)
        testbed.wait_until_routed({gateway: "MoM"})
        memory = run_precisely(_large_bodies(testbed, gateway, bodies))
        ready = [start.ready(testbed, gateway, "plain") for _ in range(STARTS)]
    return {"machine": machine(), "command": command(), "ready": ready, "models": models, "bodies": bodies,
            "reload": {**reloaded, "step_ms": longest["ms"], "step": longest["what"]}, "memory": memory}  # fmt: skip


async def _reload(testbed: Testbed, gateway: int, models: int) -> dict[str, Any]:
    """A reload from some models to ``models`` while requests are routed."""
    document = yaml.safe_load((testbed.directory / "reload.yaml").read_text())
    declared = document["providers"]["models"]
    first = declared[0]
    declared += [{**first, "name": f"model-{number}"} for number in range(models - len(declared))]
    moments = arrivals(RATE, int(RATE * SECONDS))
    load = asyncio.create_task(open_loop(gateway, chat_bodies(SHORT, "MoM"), moments))
    await asyncio.sleep(BEGINS)
    os.kill(testbed.pid("router-reload"), signal.SIGUSR1)
    fields = await asyncio.to_thread(start.reload, testbed, "reload", yaml.safe_dump(document))
    samples = await load
    return {
        "prepare_ms": fields["prepare_ms"], "gateway_ms": fields["gateway_ms"], "swap_ms": fields["swap_ms"],
        "requests": len(samples.ms), "errors": samples.errors, "slowest_ms": max(samples.ms),
    }  # fmt: skip


async def _large_bodies(testbed: Testbed, gateway: int, bodies: int) -> dict[str, Any]:
    """MiB of router and Envoy before, at most while, and after ``bodies`` come at once, and how they are answered."""
    parts = {"router": "router-plain", "envoy": "envoy-plain"}
    frame = len(chat_bodies([""], "MoM")[0])
    body = chat_bodies([("word " * (BODY // 5 + 1))[: BODY - frame]], "MoM")

    def held() -> dict[str, float]:
        return {name: testbed.resident(part) for name, part in parts.items()}

    before, peak = held(), held()
    sent = asyncio.create_task(closed_loop(gateway, body, bodies, bodies))
    while not sent.done():
        peak = {name: max(mib, peak[name]) for name, mib in held().items()}
        await asyncio.sleep(LOOK)
    samples = await sent
    await asyncio.sleep(SETTLED)
    statuses = {str(status): count for status, count in sorted(samples.statuses.items())}
    return {"statuses": statuses, "before": before, "peak": peak, "after": held()}


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    reloaded, memory, ready = document["reload"], document["memory"], document["ready"]
    answers = ", ".join(f"{count} x {status}" for status, count in memory["statuses"].items())
    return "\n".join([
        f"{document['machine']}; `{document['command']}`",
        "",
        f"Ready after {statistics.median(ready):.2f} s, median of {len(ready)} starts "
        f"({min(ready):.2f} to {max(ready):.2f}; target {READY} s).",
        f"Reload of {document['models']} models: longest step of the event loop {reloaded['step_ms']:.0f} ms "
        f"(target {STEP_MS:.0f} ms); {reloaded['errors']} of {reloaded['requests']} requests failed beside it, the "
        f"slowest took {reloaded['slowest_ms']:.0f} ms. Prepared in {reloaded['prepare_ms']:.0f} ms, Envoy in "
        f"{reloaded['gateway_ms']:.0f} ms, swapped in {reloaded['swap_ms']:.1f} ms.",
        f"  {reloaded['step']}",
        f"{document['bodies']} bodies of 10 MiB at once: {answers}.",
        *(f"  {name}: {memory['before'][name]:.0f} MiB before, {memory['peak'][name]:.0f} at most, "
          f"{memory['after'][name]:.0f} after {SETTLED:.0f} s" for name in memory["before"]),
    ])  # fmt: skip
