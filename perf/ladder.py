"""What routing costs, rung by rung, in one run.

Envoy alone, an ext_proc that does nothing, keywords, domain by Triton, everything that config/aibrix.yaml asks for, an
exact repeat from the cache, the first chunk of a stream; beside them the bare Triton call.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from export import page
from perf import curves, start
from perf.bare import BareTriton
from perf.cache import CACHED
from perf.load import Samples, arrivals, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import PROMPTS, distinct
from perf.rounds import CLIENT, Rung, Series, interleaved
from perf.streams import first_chunks
from perf.testbed import ROOT, Processor, Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "ladder.md.j2"
ALONE, NOTHING, KEYWORDS, DOMAIN = "Envoy alone", "ext_proc that does nothing", "keywords only", "domain by Triton"
ALL, HIT, BARE = "all of aibrix.yaml", "exact repeat, cached", "bare Triton call"
# As the product ships, it counts the tokens of responses.
UNCOUNTED_KEYWORDS, UNCOUNTED_DOMAIN = f"{KEYWORDS}, no tokens counted", f"{DOMAIN}, no tokens counted"
FIRST_ALONE, FIRST_ROUTED = "first chunk, Envoy alone", "first chunk, domain by Triton"
SATURATED, WARM = 16, 100
LOAD = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=400, help="per rung, round and number of connections")
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> None:
    measure(arguments.requests, arguments.rounds, arguments.out)


def measure(
    requests: int, rounds: int, out: Path, *, saturated: int = SATURATED, pictures: Path | None = None
) -> dict[str, Any]:
    """Measure every rung in turn, ``rounds`` times over, and write ``ladder.json``, a table and curves."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = LadderTestbed(Path(directory), stack)
        document = {
            "machine": machine(),
            "command": command(),
            "rounds": rounds,
            "saturated": saturated,
            **run_precisely(_measure(testbed, requests, rounds, saturated)),
            "router_mib": testbed.resident("router-domain"),
            "start": start.measure(testbed, testbed.ports[DOMAIN], "domain"),
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "ladder.json").write_text(json.dumps(document, indent=1))
    curves.distributions(
        document["distribution"],
        (pictures or out) / "perf-router.png",
        f"inside the router, less its wait; {machine()}",
    )
    curves.stacked(
        {"1 connection": by_part(document["single"]), f"{saturated} connections": by_part(document["saturation"])},
        (pictures or out) / "perf-cpu.png",
        f"CPU of a request, by process; {machine()}",
    )
    (out / "ladder.md").write_text(table(document))
    print(table(document), end="")
    return document


class LadderTestbed(Testbed):
    """One Triton, one backend, and for each rung an Envoy with what stands behind it."""

    def __init__(self, directory: Path, stack: ExitStack, only: Sequence[str] = ()) -> None:
        """``only`` these rungs; default: all."""
        super().__init__(directory, stack)
        document = aibrix()
        keywords = keywords_only(document)
        cached = {**document, "global": {"stores": {"semantic_cache": {"enabled": True, "max_entries": 1000}}}}
        gateways: dict[str, tuple[str, dict[str, Any], Processor]] = {
            ALONE: ("alone", document, "nobody"),
            NOTHING: ("nothing", document, "nothing"),
            UNCOUNTED_KEYWORDS: ("keywords-uncounted", keywords, "router"),
            KEYWORDS: ("keywords", keywords, "router"),
            UNCOUNTED_DOMAIN: ("domain-uncounted", document, "router"),
            DOMAIN: ("domain", document, "router"),
            ALL: ("all", cached, "router"),
            HIT: ("hit", CACHED, "router"),
        }
        self.ports = {
            rung: self.gateway(name, document, processor=processor, usage={"answers": "uncounted" not in name})
            for rung, (name, document, processor) in gateways.items()
            if not only or rung in only
        }
        self.wait_until_routed({port: self.model(rung) for rung, port in self.ports.items()})

    @staticmethod
    def model(rung: str) -> str:
        """What clients call the model; nobody routes on the first two rungs."""
        return "llama3-8b-instruct" if rung in (ALONE, NOTHING) else "MoM"


def aibrix() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
    document.pop("global", None)
    return document


def keywords_only(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the first of its decisions alone, which asks no encoder."""
    return {**document, "routing": {**document["routing"], "decisions": document["routing"]["decisions"][:1]}}


async def _measure(testbed: LadderTestbed, requests: int, rounds: int, saturated: int) -> dict[str, Any]:
    bare = await BareTriton.connect(testbed.triton_port, PROMPTS)
    prompts = {rung: chat_bodies(PROMPTS, testbed.model(rung)) for rung in testbed.ports}
    for rung, port in testbed.ports.items():
        await closed_loop(port, prompts[rung], 1, WARM)
    await bare.closed_loop(2, WARM)
    used = 0

    def fresh(count: int) -> list[bytes]:
        """Prompts that no cache has seen."""
        nonlocal used
        used += count
        return chat_bodies(distinct(PROMPTS, count, used), "MoM")

    def rungs(connections: int) -> dict[str, Rung]:
        def closed(rung: str) -> Rung:
            def ask(_: int) -> Any:
                bodies = fresh(requests) if rung == ALL else prompts[rung]
                return closed_loop(testbed.ports[rung], bodies, connections, requests)

            return Rung(ask, part(rung), stack(rung))

        return {
            **{rung: closed(rung) for rung in testbed.ports},
            BARE: Rung(lambda _: bare.closed_loop(connections, requests), CLIENT),
        }

    def first(port: int, part: str | None) -> Rung:
        async def ask(_: int) -> Samples:
            times = await first_chunks(port, requests)
            return Samples(ms=times, at=[0.0] * len(times), seconds=sum(times) / 1000)

        return Rung(ask, part)

    streams = {
        FIRST_ALONE: first(testbed.ports[ALONE], None),
        FIRST_ROUTED: first(testbed.ports[DOMAIN], "router-domain"),
    }
    print("one connection", flush=True)
    single = await interleaved(testbed, {**rungs(1), **streams}, rounds)
    print(f"{saturated} connections", flush=True)
    many = await interleaved(testbed, rungs(saturated), rounds)
    rate = float(many[DOMAIN].summary()["per_second"]) * LOAD
    print(f"open loop, {rate:.0f} a second", flush=True)

    def offered(rung: str) -> Rung:
        def ask(number: int) -> Any:
            return open_loop(testbed.ports[rung], prompts[rung], arrivals(rate, requests, seed=number + 1))

        return Rung(ask, part(rung), stack(rung))

    at_load = await interleaved(testbed, {rung: offered(rung) for rung in (ALONE, NOTHING, DOMAIN)}, rounds)
    await bare.close()
    return {"rate": rate, "single": _rows(single), "saturation": _rows(many), "load": _rows(at_load),
            "distribution": _distribution({"1 connection": single[DOMAIN], "70 % load": at_load[DOMAIN]})}  # fmt: skip


_NAMES = {
    ALONE: "alone", NOTHING: "nothing", UNCOUNTED_KEYWORDS: "keywords-uncounted", KEYWORDS: "keywords",
    UNCOUNTED_DOMAIN: "domain-uncounted", DOMAIN: "domain", ALL: "all", HIT: "hit",
}  # fmt: skip


def part(rung: str) -> str | None:
    """The process whose CPU counts for a rung."""
    if rung == NOTHING:
        return "nothing-nothing"
    return f"router-{_NAMES[rung]}" if rung != ALONE else None


def stack(rung: str) -> tuple[str, ...]:
    """All processes that serve a rung, without the backend and the load."""
    own = part(rung)
    triton = ("triton",) if rung in (UNCOUNTED_DOMAIN, DOMAIN, ALL) else ()
    return (f"envoy-{_NAMES[rung]}", *([own] if own else []), *triton)


def by_part(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """CPU ms of a request by rung and kind of process, for rungs of which it was measured."""
    kinds = {"envoy": "Envoy", "router": "router", "nothing": "router", "triton": "Triton with the encoder"}
    return {
        rung: {kinds[part.partition("-")[0]]: ms for part, ms in row["parts_ms"].items()}
        for rung, row in rows.items()
        if "parts_ms" in row
    }


def _rows(series: dict[str, Series]) -> dict[str, dict[str, Any]]:
    return {name: each.summary() for name, each in series.items()}


def _distribution(series: dict[str, Series]) -> dict[str, list[float]]:
    """Time inside the router less its wait for Triton, in ms: every thousandth of it, least to most."""
    thousandths = {}
    for name, each in series.items():
        values = sorted(ms for samples in each.rounds for ms in samples.router_ms)
        thousandths[name] = (
            [values[min(len(values) - 1, len(values) * n // 1000)] for n in range(1001)] if values else []
        )
    return thousandths


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    single = document["single"]
    over = {
        rung: row["p50"] - single[FIRST_ALONE if rung == FIRST_ROUTED else ALONE]["p50"] for rung, row in single.items()
    }
    return page.render(TEMPLATE, **document, over=over, NOTHING=NOTHING, DOMAIN=DOMAIN, BARE=BARE)
