"""What open live views cost: CPU a request with and without them, in turn; and when one that does not read goes."""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from perf.load import Samples, arrivals, chat_bodies, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import ROOT, Testbed, command, machine

TARGET = 0.03
PART = "router-views"
_REQUEST = b"GET /api/v1/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
# Seconds in which a view that does not read has to be dropped.
DROPPED_WITHIN = 180.0
# Seconds for which the load goes on before its CPU counts.
SETTLE = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="of load, with and without views, per round")
    parser.add_argument("--rounds", type=int, default=6)


def run(arguments: argparse.Namespace) -> int:
    document = measure(arguments.views, arguments.rate, arguments.seconds, arguments.rounds)
    write_results(arguments.out, "views", document)
    print(table(document))
    return 0 if document["more"] <= TARGET and document["dropped_seconds"] is not None else 1


def measure(views: int, rate: float, seconds: float, rounds: int) -> dict[str, Any]:
    """``more`` is the median over the rounds of what the views add to the router's CPU a request, as a share.

    Triton is the stand-in of perf/quick_triton.py, so that the rate is kept on few cores.
    """
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        document = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
        gateway = testbed.gateway("views", document, inference=testbed.quick_triton("triton"))
        testbed.wait_until_routed({gateway: "MoM"})
        measured = run_precisely(_measure(testbed, gateway, views, rate, seconds, rounds))
    ratios = [watched / alone - 1 for alone, watched in measured["cpu_ms"]]
    return {
        "machine": machine(), "command": command(), "views": views, "rate": rate, "rounds": rounds, **measured,
        "more": statistics.median(ratios), "spread": [min(ratios), max(ratios)],
    }  # fmt: skip


async def _measure(
    testbed: Testbed, gateway: int, views: int, rate: float, seconds: float, rounds: int
) -> dict[str, Any]:
    bodies, rest = chat_bodies(PROMPTS, "MoM"), testbed.rest_port(gateway)
    events, requests, errors = 0, 0, 0
    cpu: list[tuple[float, float]] = []
    for number in range(rounds):
        spent: dict[int, float] = {}
        for open_views in (0, views) if number % 2 == 0 else (views, 0):
            async with _watching(rest, open_views) as counts:
                await open_loop(gateway, bodies, arrivals(rate, int(rate * SETTLE), seed=number))
                before, first = testbed.cpu(PART), sum(counts)
                samples = await open_loop(gateway, bodies, arrivals(rate, int(rate * seconds), seed=number))
                spent[open_views] = (testbed.cpu(PART) - before) * 1000 / len(samples.ms)
                events += sum(counts) - first
            requests, errors = requests + len(samples.ms), errors + samples.errors
        cpu.append((spent[0], spent[views]))
        print(f"round {number + 1} of {rounds}: {spent[0]:.3f} ms alone, {spent[views]:.3f} ms watched", flush=True)
    dropped = await _dropped(testbed, gateway, bodies, rate)
    return {"cpu_ms": cpu, "requests": requests, "errors": errors, "dropped_seconds": dropped,
            "events_per_view": events / max(views, 1) / rounds}  # fmt: skip


@asynccontextmanager
async def _watching(port: int, views: int) -> AsyncIterator[list[int]]:
    """That many views which read; yields how many events each has seen."""
    counts, connected = [0] * views, [asyncio.Event() for _ in range(views)]

    async def watch(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_REQUEST)
            while piece := await reader.read(1 << 20):
                counts[number] += piece.count(b"event: ")
                connected[number].set()
        finally:
            writer.close()

    tasks = [asyncio.create_task(watch(number)) for number in range(views)]
    try:
        await asyncio.gather(*(each.wait() for each in connected))
        yield counts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _dropped(testbed: Testbed, gateway: int, bodies: list[bytes], rate: float) -> float | None:
    """Seconds until the router has closed a view that does not read; ``None`` where it has not in time."""
    rest = testbed.rest_port(gateway)
    load = asyncio.create_task(_endless(gateway, bodies, rate))
    try:
        await asyncio.sleep(SETTLE)
        with socket.socket() as sleeper:
            sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sleeper.connect(("127.0.0.1", rest))
            sleeper.sendall(_REQUEST)
            began = time.monotonic()
            while time.monotonic() - began < DROPPED_WITHIN:
                if not _established(rest, sleeper.getsockname()[1]):
                    return time.monotonic() - began
                await asyncio.sleep(0.2)
        return None
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


def _established(port: int, peer: int) -> bool:
    """Whether the process that listens on ``port`` still holds its connection to ``peer``."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (port, peer):
            return state == "01"
    return False


async def _endless(gateway: int, bodies: list[bytes], rate: float) -> Samples:
    while True:
        await open_loop(gateway, bodies, arrivals(rate, int(rate * 10)), connections=32)


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    alone, watched = (statistics.median(side) for side in zip(*document["cpu_ms"], strict=True))
    low, high = document["spread"]
    dropped = document["dropped_seconds"]
    return "\n".join([
        f"{document['machine']}; `{document['command']}`",
        "",
        f"{document['views']} live views, {document['rate']:.0f} requests a second, {document['rounds']} rounds, each "
        f"with and without views: {document['requests']} requests, {document['errors']} of them failed or degraded; "
        f"{document['events_per_view']:.0f} events a view and round.",
        f"CPU of the router: {alone:.3f} ms a request without views, {watched:.3f} ms with them; "
        f"{document['more']:+.1%} (rounds {low:+.1%} to {high:+.1%}; target at most {TARGET:+.0%}).",
        "A view that does not read: "
        + (f"closed after {dropped:.0f} s." if dropped is not None else f"still open after {DROPPED_WITHIN:.0f} s."),
    ])  # fmt: skip
