"""How long our pre-call hook holds up LiteLLM's event loop, by the clock.

Requests for `auto`, which the hook asks the router about, and requests for a model that is named, which it lets pass,
take turns in one proxy. Two things are compared in each round: how late the loop was with and without the hook's work,
and the hook's stretches between two awaits with as much arithmetic in the same loop (perf/loop_watch.py). So other
work on the machine, and LiteLLM's own, is on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from export import page
from perf.load import Samples, at, chat_bodies, closed_loop, run_precisely
from perf.peers import ENVIRONMENT, start_litellm, versions, wait_until_live
from perf.results import write_results
from perf.rounds import QUANTILES
from perf.testbed import FIRST_PORT, ROOT, Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "hook.md.j2"
BOUND_MS = 5.0
PROMPTS = (
    "Is there medication for my symptoms?",
    "A farmer has 17 sheep and all but 9 run away. How many are left?",
    "Write a limerick about a bicycle",
)
MODELS = ("auto", "phi2", "doctor", "dcot")
HOOK, ARITHMETIC = "the hook", "arithmetic"


@dataclass
class Stretches:
    """Milliseconds of what ran on the loop without a pause.

    By the clock, of CPU, ready but without a processor (``queued``), and of Python collecting garbage.
    """

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    collected: list[float] = field(default_factory=list)

    def add(self, measured: Sequence[Sequence[float]]) -> None:
        kinds = (self.clock, self.cpu, self.queued, self.collected)
        for values, each in zip(kinds, zip(*measured, strict=True), strict=False):
            values += each

    def summary(self) -> dict[str, Any]:
        """``held`` is the clock less the time in the kernel's queue: CPU, and what the stretch itself waited for.

        ``own`` is that without the collecting: the heap is LiteLLM's, and whose line it falls on is chance.
        """
        held = [max(clock - queued, 0.0) for clock, queued in zip(self.clock, self.queued, strict=True)]
        own = [max(each - collected, 0.0) for each, collected in zip(held, self.collected, strict=True)]
        kinds = {"clock": self.clock, "held": held, "own": own, "cpu": self.cpu}
        return {"count": len(self.clock), **{name: _quantiles(values) for name, values in kinds.items()}}


def _quantiles(values: Sequence[float]) -> dict[str, Any]:
    return {
        **{label: at(values, quantile) for label, quantile in QUANTILES.items()},
        "max": max(values, default=None),
        "over": sum(value > BOUND_MS for value in values),
    }


@dataclass
class LoopFigures:
    """Of all rounds: both kinds of stretches, and the loop's lateness in each round, without the hook and with it."""

    stretches: dict[str, Stretches] = field(default_factory=lambda: {HOOK: Stretches(), ARITHMETIC: Stretches()})
    lags: list[tuple[list[float], list[float]]] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    degraded: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100, help="that are routed, and that are not, per round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="virtual environment with LiteLLM")


def run(arguments: argparse.Namespace) -> None:
    measure(
        arguments.requests, arguments.rounds, arguments.connections, arguments.out, environment=arguments.environment
    )


def measure(
    requests: int, rounds: int, connections: int, out: Path, *, environment: Path = ENVIRONMENT
) -> dict[str, Any]:
    """Measure, and write ``hook.json`` and ``hook.md``; ``requests`` are those of each kind and round.

    Raises FileNotFoundError without LiteLLM in ``environment``.
    """
    program = environment / "bin" / "litellm"
    if not program.is_file():
        raise FileNotFoundError(f"{program} is missing: `make perf-peers` installs it")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        gateway = testbed.gateway("kickstart", yaml.safe_load((ROOT / "config" / "kickstart.yaml").read_text()))
        port = FIRST_PORT + 90
        start_litellm(
            testbed, "litellm", program, port, MODELS,
            callbacks=["loop_watch.watch", "triton_router.integrations.litellm.hook"],
            environment={
                "TRITON_ROUTER_URL": f"http://127.0.0.1:{testbed.rest_port(gateway)}",
                # Waiting costs the loop nothing; an answer that is given up would.
                "TRITON_ROUTER_WITHIN": "10000",
                "PYTHONPATH": str(ROOT),
            },
        )  # fmt: skip
        wait_until_live(testbed, port)
        testbed.wait_until_routed({gateway: "MoM"})
        measured = run_precisely(_measure(port, requests, rounds, connections))
    document = {
        "machine": machine(),
        "command": command(),
        "versions": versions(environment),
        "rounds": rounds,
        "connections": connections,
        "requests": measured.requests,
        "errors": measured.errors,
        "degraded": measured.degraded,
        "stretches": {name: each.summary() for name, each in measured.stretches.items()},
        "lags": lateness(measured.lags),
    }
    write_results(out, "hook", document, table(document))
    return document


async def _measure(port: int, requests: int, rounds: int, connections: int) -> LoopFigures:
    measured = LoopFigures()
    named, routed = (chat_bodies(PROMPTS, model) for model in ("phi2", "auto"))
    for bodies in (named, routed):
        await closed_loop(port, bodies, connections, max(2 * connections, 20))
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        lags: dict[bool, list[float]] = {}
        for asks in (False, True) if number % 2 else (True, False):
            await _read(port)
            samples: Samples = await closed_loop(port, routed if asks else named, connections, requests)
            figures = await _read(port)
            lags[asks] = figures["lags"]
            measured.requests += len(samples.ms)
            measured.errors += samples.errors - samples.degraded
            measured.degraded += samples.degraded
            measured.stretches[ARITHMETIC].add(figures["arithmetic"])
            if asks:
                measured.stretches[HOOK].add(figures["hook"])
        measured.lags.append((lags[False], lags[True]))
    return measured


async def _read(port: int) -> dict[str, list[Any]]:
    """What was measured since the last time; the proxy forgets it."""
    body = {"model": "phi2", "user": "loop-watch", "messages": [{"role": "user", "content": ""}]}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body)
    figures: dict[str, list[Any]] = json.loads(answer.json()["choices"][0]["message"]["content"])
    return figures


def lateness(rounds: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Of each quantile of the loop's lateness in milliseconds: the median over the rounds without the hook, with it,
    and of the differences within a round, with the lowest and highest of these."""
    rows = {}
    for name, quantile in {**QUANTILES, "max": 1.0}.items():
        pairs = [(at(without, quantile) or 0.0, at(with_it, quantile) or 0.0) for without, with_it in rounds]
        differences = [with_it - without for without, with_it in pairs]
        rows[name] = {
            "without": statistics.median(without for without, _ in pairs),
            "with": statistics.median(with_it for _, with_it in pairs),
            "difference": statistics.median(differences),
            "lowest": min(differences),
            "highest": max(differences),
        }
    return rows


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    return page.render(TEMPLATE, **document, bound=BOUND_MS)
