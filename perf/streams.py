"""What a streamed answer costs in each body mode: delay of the first chunk, CPU a chunk, memory, and its length."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export import page
from perf.load import at
from perf.results import write_results
from perf.testbed import Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "streams.md.j2"
DOCUMENT: dict[str, Any] = {
    "version": "v0.3",
    "providers": {"models": [{"name": "m"}]},
    "routing": {"decisions": [{"name": "all", "modelRefs": [{"model": "m"}]}]},
}
# Names of rows: body modes of request and answer, and whether the router reads the answer.
MODES: dict[str, dict[str, Any]] = {
    "headers only": {},
    "response read (STREAMED)": {"usage": {"streams": True}},
    "usage requested and hidden": {"usage": {"streams": True, "request_on_streams": True}},
    "FULL_DUPLEX_STREAMED": {
        "usage": {"streams": True},
        "envoy": {
            "request_body_mode": "FULL_DUPLEX_STREAMED", "response_body_mode": "FULL_DUPLEX_STREAMED",
        },
    },
}  # fmt: skip
ALONE = "Envoy alone"
# Chunks of one stream, as fast as they come: a cost that grows with the length of a stream shows in the longer one.
SHORTER, LONGER = 1_000, 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10, help="how long a stream takes")
    parser.add_argument("--requests", type=int, default=150, help="first chunks per mode and round")
    parser.add_argument("--rounds", type=int, default=3)


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.streams, arguments.chunks, arguments.seconds, arguments.requests, arguments.rounds, arguments.out)


def measure(streams: int, chunks: int, seconds: float, requests: int, rounds: int, out: Path) -> dict[str, Any]:
    """First chunks of ``requests`` streams one after another, then ``streams`` at once of ``chunks`` each."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        ports = {ALONE: testbed.gateway("alone", DOCUMENT, processor="nobody")}
        for number, (mode, services) in enumerate(MODES.items()):
            ports[mode] = testbed.gateway(str(number), DOCUMENT, **services)
        testbed.wait_until_routed(dict.fromkeys(ports.values(), "MoM"))
        results = asyncio.run(_measure(testbed, ports, streams, chunks, seconds, requests, rounds))
    document = {"machine": machine(), "command": command(), "streams": streams, "chunks": chunks, "results": results}
    write_results(out, "streams", document, table(document))
    return document


async def _measure(
    testbed: Testbed, ports: dict[str, int], streams: int, chunks: int, seconds: float, requests: int, rounds: int
) -> list[dict[str, Any]]:
    firsts: dict[str, list[float]] = {mode: [] for mode in ports}
    for port in ports.values():
        await first_chunks(port, 20)
    for number in range(rounds):
        for mode, port in ports.items():
            firsts[mode] += await first_chunks(port, requests)
        print(f"round {number + 1} of {rounds} done", flush=True)
    rows = [{"mode": mode, "first_p50": at(ms, 0.5), "first_p99": at(ms, 0.99)} for mode, ms in firsts.items()]
    for row, (mode, port) in zip(rows, ports.items(), strict=True):
        row |= {"requests": len(firsts[mode])}
        if mode == ALONE:
            continue
        router = f"router-{list(MODES).index(mode)}"
        before, cpu = testbed.resident(router), testbed.cpu(router)
        running = asyncio.gather(*(_whole(port, chunks, seconds) for _ in range(streams)))
        peak = before
        while not running.done():
            await asyncio.sleep(0.2)
            peak = max(peak, testbed.resident(router))
        received = sum(await running)
        spent = testbed.cpu(router) - cpu
        row |= {"us_per_chunk": spent * 1e6 / (streams * chunks), "rss_before": before, "rss_peak": peak,
                "chunks_received": received}  # fmt: skip
        for length in (SHORTER, LONGER):
            cpu = testbed.cpu(router)
            await _whole(port, length, 0)
            row[f"us_of_{length}"] = (testbed.cpu(router) - cpu) * 1e6 / length
        print(f"{mode}: {received} chunks", flush=True)
    return rows


async def first_chunks(port: int, requests: int) -> list[float]:
    """Milliseconds from request to first chunk, on one kept-alive connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        writer.write(_request(2, 0))
        await reader.readuntil(b"data: {")
        times.append((time.perf_counter() - began) * 1000)
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return times


async def _whole(port: int, chunks: int, seconds: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request(chunks, seconds))
    received = 0
    while not (line := await reader.readline()).startswith(b"data: [DONE]"):
        if not line:
            raise RuntimeError("a stream broke off")
        received += b'"content"' in line
    writer.close()
    return received


def _request(chunks: int, seconds: float) -> bytes:
    body = json.dumps({"model": "MoM", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}x-chunks: {chunks};{seconds}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    return page.render(TEMPLATE, **document, SHORTER=SHORTER, LONGER=LONGER)
