"""Two models with two replicas each, the first one ill: who is answered, how late, and what it costs when all is well.

Needs no Triton: the decision that names both models has no rules.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perf.load import Samples, arrivals, at, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.rounds import Rung, interleaved
from perf.testbed import FIRST_PORT, PORTS, Testbed, command, machine

ILLNESSES = ("500", "502", "503", "429", "close", "reset", "context", "hang", "down")
# Seconds until a replica that hangs is given up, and until a request is.
ATTEMPT, TOTAL = 0.5, 5.0
FIRST, SECOND = "first", "second"


def document(**fallback: Any) -> dict[str, Any]:
    """Both models for every request, ``first`` before ``second``."""
    routing: dict[str, Any] = {
        "modelCards": [
            {"name": FIRST, "context_window_size": "8K"},
            {"name": SECOND, "context_window_size": "32K"},
        ],
        "decisions": [{"name": "all", "modelRefs": [{"model": FIRST, "score": 2}, {"model": SECOND, "score": 1}]}],
    }
    if fallback:
        routing["fallback"] = fallback
    return {"providers": {"models": [{"name": FIRST}, {"name": SECOND}]}, "routing": routing}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="for each failure")
    parser.add_argument("--failures", nargs="*", default=ILLNESSES, choices=ILLNESSES, help="none: only the comparison")
    parser.add_argument("--rounds", type=int, default=6, help="of the comparison")
    parser.add_argument("--requests", type=int, default=400, help="per rung and round of the comparison")


def run(arguments: argparse.Namespace) -> None:
    result: dict[str, Any] = {"machine": machine(), "command": command()}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        result |= {
            "failures": failures(testbed, arguments.failures, arguments.rate, arguments.seconds),
            "cost": cost(testbed, arguments.rounds, arguments.requests),
        }
    write_results(arguments.out, "fallback", result)
    print(json.dumps(result, indent=1))


# --- failures ------------------------------------------------------------------------------------------------------


def failures(testbed: Testbed, illnesses: Sequence[str], rate: float, seconds: float) -> list[dict[str, Any]]:
    """Each failure for so many ``seconds``, with breakers that never open, and that do for a second."""
    ports = [FIRST_PORT + PORTS - 10 + number for number in range(4)]
    for port in ports:
        testbed.start(f"ill-{port}", [sys.executable, "-m", "perf.ill_backend", str(port)])
    backends = {FIRST: ports[:2], SECOND: ports[2:]}
    times = {"total_timeout": TOTAL, "per_attempt_timeout": ATTEMPT}
    gateways = {
        "never open": testbed.gateway(
            "patient", document(**times, circuit_breaker={"consecutive_failures": 1_000_000}), backends=backends
        ),
        "for a second": testbed.gateway(
            "default", document(**times, circuit_breaker={"cooldown_period": 1}), backends=backends
        ),
    }
    testbed.wait_until_routed(dict.fromkeys(gateways.values(), "MoM"))
    rows = []
    for illness in illnesses:
        for breakers, gateway in gateways.items():
            rows.append(
                {"failure": illness, "breakers": breakers}
                | _failure(testbed, gateway, backends, illness, rate, seconds)
            )
            print(rows[-1], flush=True)
    return rows


def _failure(
    testbed: Testbed, gateway: int, backends: dict[str, list[int]], illness: str, rate: float, seconds: float
) -> dict[str, Any]:
    before = sum(map(_count, backends[SECOND]))
    for port in backends[FIRST]:
        testbed.end(f"ill-{port}") if illness == "down" else _fall_ill(port, illness)
    try:
        bodies = chat_bodies(PROMPTS, "MoM")
        samples = run_precisely(open_loop(gateway, bodies, arrivals(rate, round(rate * seconds))))
    finally:
        for port in backends[FIRST]:
            testbed.restart(f"ill-{port}") if illness == "down" else _fall_ill(port, "")
        time.sleep(1.5)
    answered = samples.statuses[200]
    return {
        "requests": len(samples.ms),
        "answered": answered,
        "statuses": dict(samples.statuses),
        "asked twice": sum(map(_count, backends[SECOND])) - before - answered,
        "p50": at(samples.ms, 0.5),
        "p99": at(samples.ms, 0.99),
        "max": max(samples.ms),
    }


def _fall_ill(port: int, illness: str) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/illness", illness.encode(), timeout=5).read()


def _count(port: int) -> int:
    return int(urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=5).read())


# --- cost ----------------------------------------------------------------------------------------------------------


def cost(testbed: Testbed, rounds: int, requests: int) -> list[dict[str, Any]]:
    """The same requests with a policy and without one, nothing being ill, and with a first model that answers 500:
    time, CPU of both parts, messages."""
    ill = FIRST_PORT + PORTS - 10
    patient = {"circuit_breaker": {"consecutive_failures": 1_000_000}}
    gateways = {
        "without": testbed.gateway("without", document()),
        "with": testbed.gateway("with", document(models=[SECOND])),
        "fallback": testbed.gateway("fallback", document(**patient), backends={FIRST: [ill]}),
    }
    _fall_ill(ill, "500")
    testbed.wait_until_routed(dict.fromkeys(gateways.values(), "MoM"))
    bodies = chat_bodies(PROMPTS, "MoM")
    rungs = {}
    for name, port in gateways.items():
        for part in ("router", "envoy"):

            async def ask(number: int, port: int = port) -> Samples:
                return await closed_loop(port, bodies, 1, requests)

            rungs[f"{name}: {part}"] = Rung(ask, f"{part}-{name}")
    before = {name: _messages(port) for name, port in gateways.items()}
    series = asyncio.run(interleaved(testbed, rungs, rounds))
    rows = []
    for name, port in gateways.items():
        router, gateway = (series[f"{name}: {part}"].summary() for part in ("router", "envoy"))
        total = router["requests"] + gateway["requests"]
        rows.append(
            {
                "policy": name,
                "requests": total,
                "errors": router["errors"] + gateway["errors"],
                "p50": min(router["p50"], gateway["p50"]),
                "router cpu us": router["cpu_ms"] * 1000,
                "envoy cpu us": gateway["cpu_ms"] * 1000,
                "messages": (_messages(port) - before[name]) / total,
            }
        )
    return rows


def _messages(gateway: int) -> int:
    """Messages that Envoy has sent to the router."""
    url = f"http://127.0.0.1:{gateway + 1}/stats?filter=ext_proc.stream_msgs_sent"
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    return sum(int(value) for value in re.findall(r": (\d+)", text))
