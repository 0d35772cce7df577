"""What routing costs, rung by rung, in one run: prompts of a line, except for the Triton that answers at once.

Envoy alone, an ext_proc that does nothing, keywords, domain by Triton, everything that config/aibrix.yaml asks for, an
exact repeat from the cache, the first chunk of a stream; next to them the bare Triton call. Then the router's CPU time
by part, its system calls, how long it takes to start and what it holds in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from export import page
from export.__main__ import main as export
from perf import counts, curves, sampled, start
from perf.bare import BareTriton
from perf.cache import CACHED
from perf.load import Samples, arrivals, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import LONG, SHORT, distinct
from perf.results import write_results
from perf.rounds import CLIENT, Rung, Series, interleaved
from perf.streams import first_chunks
from perf.testbed import ROOT, Processor, Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "ladder.md.j2"
ALONE, NOTHING, KEYWORDS, DOMAIN = "Envoy alone", "ext_proc that does nothing", "keywords only", "domain by Triton"
HEADS = "domain and four more heads by Triton"
ALL, HIT, BARE = "all of aibrix.yaml", "exact repeat, cached", "bare Triton call"
# As the product ships, it counts the tokens of responses.
UNCOUNTED = ", no tokens counted"
UNCOUNTED_KEYWORDS, UNCOUNTED_DOMAIN = KEYWORDS + UNCOUNTED, DOMAIN + UNCOUNTED
# What a GPU would do to it: Triton's answer comes after a millisecond, to about 110 tokens.
QUICK = "Triton in 1 ms, 110 tokens"
UNCOUNTED_QUICK = QUICK + UNCOUNTED
FIRST_ALONE, FIRST_ROUTED = "first chunk, Envoy alone", "first chunk, domain by Triton"
SATURATED, WARM = 16, 100
LOAD = 0.7
TRACED = 200


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
        english = testbed.english()
        document = {
            "machine": machine(),
            "command": command(),
            "rounds": rounds,
            "saturated": saturated,
            **run_precisely(_measure(testbed, requests, rounds, saturated)),
            "parts": _by_part_of_router(testbed, requests * rounds, saturated),
            "system_calls": run_precisely(_system_calls(testbed)),
            "bundles": {
                "default": _bundle(testbed, testbed.ports[DOMAIN], "domain"),
                "english": _bundle(testbed, english, "english"),
            },
        }
    for load in ("single", "saturation"):
        for rung, shares in document["parts"][load].items():
            document["parts"][load][rung] = {part: share * document[load][rung]["cpu_ms"] for part, share in shares}
    write_results(out, "ladder", document, table(document))
    loads = {"1 connection": "single", f"{saturated} connections": "saturation"}
    curves.distributions(
        document["distribution"],
        (pictures or out) / "perf-router.png",
        f"inside the router, less its wait; {machine()}",
    )
    curves.stacked(
        {name: by_part(document[load]) for name, load in loads.items()},
        (pictures or out) / "perf-cpu.png",
        f"CPU of a request, by process; {machine()}",
    )
    curves.stacked(
        {name: document["parts"][load] for name, load in loads.items()},
        (pictures or out) / "perf-parts.png",
        f"CPU of a request in the router, by part; {machine()}",
    )
    return document


class LadderTestbed(Testbed):
    """One Triton, one that answers at once, one backend, and for each rung an Envoy with what stands behind it."""

    def __init__(self, directory: Path, stack: ExitStack, only: Sequence[str] = ()) -> None:
        """``only`` these rungs; default: all."""
        super().__init__(directory, stack)
        document = aibrix()
        keywords = keywords_only(document)
        cached = {**document, "global": {"stores": {"semantic_cache": {"enabled": True, "max_entries": 1000}}}}
        gateways: dict[str, tuple[dict[str, Any], Processor]] = {
            ALONE: (document, "nobody"),
            NOTHING: (document, "nothing"),
            UNCOUNTED_KEYWORDS: (keywords, "router"),
            KEYWORDS: (keywords, "router"),
            UNCOUNTED_DOMAIN: (document, "router"),
            DOMAIN: (document, "router"),
            HEADS: (with_heads(document), "router"),
            ALL: (cached, "router"),
            HIT: (CACHED, "router"),
            UNCOUNTED_QUICK: (document, "router"),
            QUICK: (document, "router"),
        }
        chosen = {rung: gateway for rung, gateway in gateways.items() if not only or rung in only}
        quick = self.quick_triton("quick-triton") if QUICK in chosen else None
        self.ports = {
            rung: self.gateway(
                _NAMES[rung], document, processor=processor,
                inference=quick if rung in (QUICK, UNCOUNTED_QUICK) else None,
                usage={"answers": not rung.endswith(UNCOUNTED)},
            )
            for rung, (document, processor) in chosen.items()
        }  # fmt: skip
        self.wait_until_routed({port: self.model(rung) for rung, port in self.ports.items()})

    def english(self) -> int:
        """The port of a gateway whose router has the bundle `english`, at a Triton that answers at once."""
        repository = self.directory / "english"
        export(["repository", "--bundle", "english", "--repository", str(repository)])
        quick = self.quick_triton("quick-triton-english", repository)
        port = self.gateway("english", aibrix(), inference=quick, repository=repository)
        self.wait_until_routed({port: "MoM"})
        return port

    def sampled(self, rung: str) -> int:
        """The port of a gateway whose router is that of ``rung``, and counts where its CPU time goes."""
        document = aibrix()
        name = f"{_NAMES[rung]}-sampled"
        port = self.gateway(name, keywords_only(document) if rung == KEYWORDS else document, watched_by="sampled")
        self.wait_until_routed({port: "MoM"})
        return port

    @staticmethod
    def model(rung: str) -> str:
        """What clients call the model; nobody routes on the first two rungs."""
        return "llama3-8b-instruct" if rung in (ALONE, NOTHING) else "MoM"

    @staticmethod
    def prompts(rung: str) -> list[str]:
        return LONG if rung in (QUICK, UNCOUNTED_QUICK) else SHORT


def aibrix() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
    document.pop("global", None)
    return document


def with_heads(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with a decision before all others that every head of the bundle could still make, and a block."""
    routing = document["routing"]
    models = [{"model": "llama3-8b-instruct"}]
    signals = {
        "jailbreak": [{"name": "attack", "threshold": 1.0}],
        "fact_check": [{"name": "needs_fact_check", "threshold": 1.0}],
        "user_feedbacks": [{"name": "satisfied", "threshold": 1.0}],
        "modality": [{"name": "DIFFUSION", "threshold": 1.0}],
    }
    types = {"fact_check": "fact_check", "user_feedbacks": "user_feedback", "modality": "modality"}
    rules = [{"type": of, "name": signals[list_][0]["name"]} for list_, of in types.items()]
    asking = {"name": "heads", "priority": 99, "rules": {"operator": "OR", "conditions": rules}, "modelRefs": models}
    attacks = {"type": "jailbreak", "name": "attack"}
    blocking = {"name": "attacks", "rules": attacks, "plugins": [{"type": "block"}]}
    decisions = [asking, blocking, *routing["decisions"]]
    return {**document, "routing": {**routing, "signals": {**routing["signals"], **signals}, "decisions": decisions}}


def keywords_only(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the first of its decisions alone, which asks no encoder."""
    return {**document, "routing": {**document["routing"], "decisions": document["routing"]["decisions"][:1]}}


async def _measure(testbed: LadderTestbed, requests: int, rounds: int, saturated: int) -> dict[str, Any]:
    bare = await BareTriton.connect(testbed.triton_port, SHORT)
    prompts = {rung: chat_bodies(testbed.prompts(rung), testbed.model(rung)) for rung in testbed.ports}
    for rung, port in testbed.ports.items():
        await closed_loop(port, prompts[rung], 1, WARM)
    await bare.closed_loop(2, WARM)
    used = 0

    def fresh(count: int) -> list[bytes]:
        """Prompts that no cache has seen."""
        nonlocal used
        used += count
        return chat_bodies(distinct(SHORT, count, used), "MoM")

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


def _by_part_of_router(
    testbed: LadderTestbed, requests: int, saturated: int
) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """The shares of the router's CPU time by part, for each load and rung."""
    shares: dict[str, dict[str, list[tuple[str, float]]]] = {"single": {}, "saturation": {}}
    for rung in (KEYWORDS, DOMAIN):
        bodies, name = chat_bodies(SHORT, "MoM"), f"{_NAMES[rung]}-sampled"
        for load, connections in (("single", 1), ("saturation", saturated)):
            port = testbed.sampled(rung)
            run_precisely(closed_loop(port, bodies, connections, WARM))
            os.kill(testbed.pid(f"router-{name}"), signal.SIGUSR1)
            run_precisely(closed_loop(port, bodies, connections, requests))
            for process in (f"router-{name}", f"envoy-{name}"):
                testbed.end(process)
            counted = json.loads(testbed.report(name).read_text())
            shares[load][rung] = [(part, counted.get(part, 0) / sum(counted.values())) for part in sampled.NAMES]
    return shares


async def _system_calls(testbed: LadderTestbed) -> dict[str, float | None]:
    report = testbed.directory / "system-calls"
    return {
        rung: await counts.system_calls(
            testbed.pid(part(rung) or ""), testbed.ports[rung], chat_bodies(SHORT, "MoM"), TRACED, report
        )
        for rung in (UNCOUNTED_KEYWORDS, KEYWORDS, UNCOUNTED_DOMAIN, DOMAIN)
    }


def _bundle(testbed: LadderTestbed, port: int, name: str) -> dict[str, float]:
    """What a router with a bundle holds in memory after some requests, and how long it takes to start and reload."""
    bodies = chat_bodies(SHORT, "MoM")
    run_precisely(closed_loop(port, bodies, 4, WARM))
    mib = testbed.resident(f"router-{name}")
    return {"mib": mib, **start.measure(testbed, port, name)}


_NAMES = {
    ALONE: "alone", NOTHING: "nothing", UNCOUNTED_KEYWORDS: "keywords-uncounted", KEYWORDS: "keywords",
    UNCOUNTED_DOMAIN: "domain-uncounted", DOMAIN: "domain", HEADS: "heads", ALL: "all", HIT: "hit",
    UNCOUNTED_QUICK: "quick-uncounted", QUICK: "quick",
}  # fmt: skip


def part(rung: str) -> str | None:
    """The process whose CPU counts for a rung."""
    if rung == NOTHING:
        return "nothing-nothing"
    return f"router-{_NAMES[rung]}" if rung != ALONE else None


def stack(rung: str) -> tuple[str, ...]:
    """All processes that serve a rung, without the backend and the load."""
    own = part(rung)
    triton = ("triton",) if rung in (UNCOUNTED_DOMAIN, DOMAIN, HEADS, ALL) else ()
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
    names = {"NOTHING": NOTHING, "DOMAIN": DOMAIN, "BARE": BARE}
    return page.render(TEMPLATE, **document, **names, over=over)
