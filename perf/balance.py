"""One of two models slows down: how its share of the requests falls and recovers, and what the slowest wait."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export import page
from perf import curves
from perf.load import PATIENCE, arrivals, at, paced, punctual, run_precisely
from perf.results import write_results
from perf.testbed import Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "balance.md.j2"
MODELS = ("steady", "victim")
AS_BEFORE, BOTH = 1.5, (0.3, 0.7)
# Seconds of load that are not judged: connections and files are opened.
WARM_UP = 3

Row = tuple[float, float, str, bool]
"""When a request was to be sent, ms to its first token, the model, whether all went well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--factor", type=float, default=10, help="how much slower the model gets")
    parser.add_argument("--seconds", type=float, nargs=3, default=(12, 15, 20), help="before, slow, after")
    parser.add_argument("--workers", type=int, default=2, help="processes of the router")
    parser.add_argument("--algorithms", nargs="+", default=("latency_aware", "static"))


def run(arguments: argparse.Namespace) -> None:
    before, slow, after = arguments.seconds
    bounds = (before, before + slow, before + slow + after)
    rows: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        backends = testbed.slow_backends(MODELS)
        endpoints = {model: [port] for model, port in backends.items()}
        services: dict[str, Any] = {"usage": {"streams": True}, "extproc": {"workers": arguments.workers}}
        ports = {
            name: testbed.gateway(name, _document(name), backends=endpoints, **services)
            for name in arguments.algorithms
        }
        testbed.wait_until_routed(dict.fromkeys(ports.values(), "MoM"))
        moments = [each for each in arrivals(arguments.rate, int(arguments.rate * bounds[2])) if each < bounds[2]]
        for name, port in ports.items():
            rows[name] = run_precisely(_measure(port, backends[MODELS[1]], moments, bounds, arguments.factor))
    document = {
        "machine": machine(), "command": command(), "rate": arguments.rate, "factor": arguments.factor,
        "workers": arguments.workers, "slow": bounds[:2],
        "rows": {name: judged(each, bounds) for name, each in rows.items()},
    }  # fmt: skip
    write_results(arguments.out, "balance", document, page.render(TEMPLATE, **document))
    shares = {name: row["shares"] for name, row in document["rows"].items()}
    curves.shares(
        shares, arguments.out / "perf-balance.png", document["machine"], {"slow": bounds[0], "well": bounds[1]}
    )


def _document(algorithm: str) -> dict[str, Any]:
    refs = [{"model": name} for name in MODELS]
    return {
        "version": "v0.3",
        "providers": {"models": [{"name": name} for name in MODELS]},
        "routing": {"decisions": [{"name": "all", "modelRefs": refs, "algorithm": {"type": algorithm}}]},
    }


async def _measure(
    port: int, victim: int, moments: Sequence[float], bounds: tuple[float, float, float], factor: float
) -> list[Row]:
    rows: list[Row] = []
    body = json.dumps({"model": "MoM", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )

    async def serve(due: Iterator[tuple[int, float]], began: float) -> None:
        async for _, intended in punctual(due, began):
            rows.append(await _ask(port, request, intended, began))

    async def change() -> None:
        for moment, pace in zip(bounds, (factor, 1.0, 1.0), strict=True):
            await asyncio.sleep(max(0.0, start + moment - asyncio.get_running_loop().time()))
            await _pace(victim, pace)

    start = asyncio.get_running_loop().time() + 0.05
    changing = asyncio.create_task(change())
    await paced(serve, moments, 400)
    await changing
    return sorted(rows)


async def _ask(port: int, request: bytes, intended: float, began: float) -> Row:
    loop = asyncio.get_running_loop()
    head, first = b"", 0.0
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"token")
            first = loop.time()
            well = b"[DONE]" in await reader.read(-1) and b" 200 " in head[:16]
            writer.close()
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        well = False
    model = next((name for name in MODELS if b"x-vsr-selected-model: " + name.encode() in head), "")
    return intended - began, ((first or loop.time()) - intended) * 1000, model, well


async def _pace(port: int, factor: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = str(factor).encode()
    writer.write(b"POST /pace HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def judged(rows: Sequence[Row], bounds: tuple[float, float, float]) -> dict[str, Any]:
    """The victim's share by second, and how long after each change all was well again, to the second.

    ``p99_back`` is after the slowdown, ``share_back`` after its end; ``None`` where it was not.
    """
    slow, well, end = (int(each) for each in bounds)
    seconds: list[list[Row]] = [[] for _ in range(end)]
    for row in rows:
        if row[0] < end:
            seconds[int(row[0])].append(row)
    shares = [_share(second) for second in seconds]
    before = at([ms for second in seconds[WARM_UP:slow] for _, ms, _, _ in second], 0.99) or 0.0
    # A second has too few requests for a p99 of its own.
    tails = [at([ms for second in seconds[start : start + 5] for _, ms, _, _ in second], 0.99) for start in range(end)]
    fine = [tail is not None and tail <= AS_BEFORE * before for tail in tails]
    both = [share is not None and BOTH[0] <= share <= BOTH[1] for share in shares]
    steady = [share for share in (*shares[WARM_UP:slow], *shares[well + 10 : end]) if share is not None]
    during = [row for second in seconds[slow + 5 : well] for row in second]
    return {
        "failed": sum(not went_well for *_, went_well in rows),
        "p99_before": before,
        "p99_back": _settled(fine[slow : well - 5]),
        "share_slow": _share(during) or 0.0,
        "share_back": _settled(both[well:end]),
        "share_steady": (min(steady), max(steady)),
        "shares": shares,
    }


def _share(rows: Sequence[Row]) -> float | None:
    return sum(model == MODELS[1] for _, _, model, _ in rows) / len(rows) if rows else None


def _settled(well: Sequence[bool]) -> float | None:
    """The first place from which on all is well."""
    last = max((place for place, each in enumerate(well) if not each), default=-1)
    return last + 1 if last + 1 < len(well) else None
