"""Twice as many requests as can be served, for a minute: who is turned away, how slow the rest is, when it is over."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export import page
from perf import curves
from perf.ladder import SATURATED, aibrix
from perf.load import Samples, arrivals, at, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "overload.md.j2"
BEFORE, DURING, AFTER = "80 % before", "200 %", "80 % after"
SHARES = {BEFORE: 0.8, DURING: 2.0, AFTER: 0.8}
CONNECTIONS = 800
# It is over when every request of a second is as fast as the ordinary ones are, give or take a half.
WINDOW, AS_BEFORE = 1.0, 1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60, help="of each of three parts: 80 %%, 200 %%, 80 %% again")
    parser.add_argument("--requests", type=int, default=2000, help="to find the saturation")
    parser.add_argument("--workers", type=int, default=1, help="processes of the router")


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.seconds, arguments.requests, arguments.out, workers=arguments.workers)


def measure(
    seconds: float, requests: int, out: Path, *, workers: int = 1, pictures: Path | None = None
) -> dict[str, Any]:
    """Find the saturation with ``requests``, then load it with 80 %, 200 % and 80 % of that rate, ``seconds`` each."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        port = testbed.gateway("overload", aibrix(), extproc={"workers": workers})
        testbed.wait_until_routed({port: "MoM"})
        rate, samples, parts = run_precisely(_measure(port, seconds, requests))
        mib = testbed.resident("router-overload")
    document = {
        "machine": machine(), "command": command(), "seconds": seconds, "saturation": rate, "workers": workers,
        "connections": CONNECTIONS, "router_mib": mib, **judge(samples, parts),
    }  # fmt: skip
    write_results(out, "overload", document, table(document))
    curves.over_time(samples.at, samples.ms, (pictures or out) / "perf-overload.png", document["machine"],
                     {name: begins for name, (begins, _) in parts.items()})  # fmt: skip
    return document


async def _measure(port: int, seconds: float, requests: int) -> tuple[float, Samples, dict[str, tuple[float, float]]]:
    bodies = chat_bodies(PROMPTS, "MoM")
    await closed_loop(port, bodies, SATURATED, requests // 4)
    rate = (await closed_loop(port, bodies, SATURATED, requests)).per_second
    print(f"saturation: {rate:.0f} requests a second", flush=True)
    moments: list[float] = []
    parts: dict[str, tuple[float, float]] = {}
    for number, (name, share) in enumerate(SHARES.items()):
        begins = number * seconds
        moments += [begins + moment for moment in arrivals(rate * share, int(rate * share * seconds), seed=number + 1)
                    if moment < seconds]  # fmt: skip
        parts[name] = (begins, begins + seconds)
    return rate, await open_loop(port, bodies, moments, CONNECTIONS), parts


def judge(samples: Samples, parts: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """What each part was like, how p99 under overload compares, and how long after it things were as before."""
    rows = {name: _part(samples, *bounds) for name, bounds in parts.items()}
    before, during = rows[BEFORE]["p99"], rows[DURING]["p99"]
    recovery = recovered(samples.at, samples.ms, parts[DURING][1], AS_BEFORE * before) if before else None
    statuses = {str(status): count for status, count in sorted(samples.statuses.items())}
    return {"parts": rows, "statuses": statuses, "degraded": samples.degraded, "recovery_seconds": recovery,
            "p99_ratio": during / before if before and during else None}  # fmt: skip


def _part(samples: Samples, begins: float, ends: float) -> dict[str, Any]:
    ms = [ms for moment, ms in zip(samples.at, samples.ms, strict=True) if begins <= moment < ends]
    return {"requests": len(ms), "p50": at(ms, 0.5), "p90": at(ms, 0.9), "p99": at(ms, 0.99),
            "max": max(ms, default=None)}  # fmt: skip


def recovered(moments: list[float], ms: list[float], ended: float, limit: float) -> float | None:
    """Seconds from ``ended`` to the first window that stays under ``limit`` whole, and 99 % of what comes after too.

    ``None`` where that never came.
    """
    later = sorted((moment, took) for moment, took in zip(moments, ms, strict=True) if moment >= ended)
    slow = [moment for moment, took in later if took > limit]
    for begins in [ended, *slow]:
        window = [took for moment, took in later if begins < moment <= begins + WINDOW]
        rest = [took for moment, took in later if moment > begins]
        if window and max(window) <= limit and sum(took <= limit for took in rest) >= 0.99 * len(rest):
            return begins - ended
    return None


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    return page.render(TEMPLATE, **document)
