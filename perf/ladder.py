"""What routing costs, rung by rung, in one run.

Envoy alone, an ext_proc that does nothing, keywords, domain by Triton, everything that config/aibrix.yaml asks for, an
exact repeat from the cache, the first chunk of a stream; beside them the bare Triton call.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from perf import curves, start
from perf.bare import BareTriton
from perf.cache import CACHED
from perf.load import Samples, arrivals, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import PROMPTS, distinct
from perf.rounds import CLIENT, Rung, Series, cells, interleaved
from perf.site import ROOT, Processor, Site, command, machine
from perf.streams import first_chunks

ALONE, NOTHING, KEYWORDS, DOMAIN = "Envoy alone", "ext_proc that does nothing", "keywords only", "domain by Triton"
ALL, HIT, BARE = "all of aibrix.yaml", "exact repeat, cached", "bare Triton call"
FIRST_ALONE, FIRST_ROUTED = "first chunk, Envoy alone", "first chunk, domain by Triton"
SATURATED, WARM = 16, 100
LOAD = 0.7


def run(
    requests: int, rounds: int, out: Path, *, saturated: int = SATURATED, pictures: Path | None = None
) -> dict[str, Any]:
    """Measure every rung in turn, ``rounds`` times over, and write ``ladder.json``, a table and curves."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        site = Ladder(Path(directory), stack)
        document = {
            "machine": machine(),
            "command": command(),
            "rounds": rounds,
            "saturated": saturated,
            **run_precisely(_measure(site, requests, rounds, saturated)),
            "router_mib": site.resident("router-domain"),
            "start": start.measure(site, site.ports[DOMAIN], "domain"),
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "ladder.json").write_text(json.dumps(document, indent=1))
    curves.distributions(
        document["distribution"],
        (pictures or out) / "perf-router.png",
        f"inside the router, less its wait; {machine()}",
    )
    (out / "ladder.md").write_text(table(document) + "\n")
    print(table(document))
    return document


class Ladder(Site):
    """One Triton, one backend, and for each rung an Envoy with what stands behind it."""

    def __init__(self, directory: Path, stack: ExitStack, only: Sequence[str] = ()) -> None:
        """``only`` these rungs; default: all."""
        super().__init__(directory, stack)
        document = aibrix()
        keywords = json.loads(json.dumps(document))
        keywords["routing"]["decisions"] = keywords["routing"]["decisions"][:1]
        cached = {**document, "global": {"stores": {"semantic_cache": {"enabled": True, "max_entries": 1000}}}}
        gateways: dict[str, tuple[str, dict[str, Any], Processor]] = {
            ALONE: ("alone", document, "nobody"),
            NOTHING: ("nothing", document, "nothing"),
            KEYWORDS: ("keywords", keywords, "router"),
            DOMAIN: ("domain", document, "router"),
            ALL: ("all", cached, "router"),
            HIT: ("hit", CACHED, "router"),
        }
        self.ports = {
            rung: self.gateway(name, document, processor=processor)
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


async def _measure(site: Ladder, requests: int, rounds: int, saturated: int) -> dict[str, Any]:
    bare = await BareTriton.connect(site.triton_port, PROMPTS)
    asked = {rung: chat_bodies(PROMPTS, site.model(rung)) for rung in site.ports}
    for rung, port in site.ports.items():
        await closed_loop(port, asked[rung], 1, WARM)
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
                bodies = fresh(requests) if rung == ALL else asked[rung]
                return closed_loop(site.ports[rung], bodies, connections, requests)

            return Rung(ask, part(rung))

        return {
            **{rung: closed(rung) for rung in site.ports},
            BARE: Rung(lambda _: bare.closed_loop(connections, requests), CLIENT),
        }

    def first(port: int, part: str | None) -> Rung:
        async def ask(_: int) -> Samples:
            taken = await first_chunks(port, requests)
            return Samples(ms=taken, at=[0.0] * len(taken), seconds=sum(taken) / 1000)

        return Rung(ask, part)

    streams = {FIRST_ALONE: first(site.ports[ALONE], None), FIRST_ROUTED: first(site.ports[DOMAIN], "router-domain")}
    print("one connection", flush=True)
    single = await interleaved(site, {**rungs(1), **streams}, rounds)
    print(f"{saturated} connections", flush=True)
    many = await interleaved(site, rungs(saturated), rounds)
    rate = float(many[DOMAIN].summary()["per_second"]) * LOAD
    print(f"open loop, {rate:.0f} a second", flush=True)

    def offered(rung: str) -> Rung:
        def ask(number: int) -> Any:
            return open_loop(site.ports[rung], asked[rung], arrivals(rate, requests, seed=number + 1))

        return Rung(ask, part(rung))

    at_load = await interleaved(site, {rung: offered(rung) for rung in (ALONE, NOTHING, DOMAIN)}, rounds)
    await bare.close()
    return {"rate": rate, "single": _rows(single), "saturation": _rows(many), "load": _rows(at_load),
            "distribution": _distribution({"1 connection": single[DOMAIN], "70 % load": at_load[DOMAIN]})}  # fmt: skip


def part(rung: str) -> str | None:
    """The process whose CPU counts for a rung."""
    names = {NOTHING: "nothing-nothing", KEYWORDS: "router-keywords", DOMAIN: "router-domain", ALL: "router-all"}
    return {**names, HIT: "router-hit"}.get(rung)


def _rows(series: dict[str, Series]) -> dict[str, dict[str, Any]]:
    return {name: each.summary() for name, each in series.items()}


def _distribution(series: dict[str, Series]) -> dict[str, list[float]]:
    """Time inside the router less its wait for Triton, in ms: every thousandth of it, least to most."""
    found = {}
    for name, each in series.items():
        values = sorted(ms for samples in each.rounds for ms in samples.router_ms)
        found[name] = [values[min(len(values) - 1, len(values) * n // 1000)] for n in range(1001)] if values else []
    return found


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    single, many, load = document["single"], document["saturation"], document["load"]
    alone, bare = single[ALONE], single[BARE]
    lines = [
        f"{document['machine']}; `{document['command']}`; median of {document['rounds']} interleaved rounds.",
        "",
        "One connection, closed loop:",
        "",
        "| | requests | errors | p50 ms | p90 | p99 | p99.9 | max | over Envoy alone | to bare Triton | CPU ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rung, row in single.items():
        over = row["p50"] - (single[FIRST_ALONE] if rung == FIRST_ROUTED else alone)["p50"]
        lines.append(
            f"| {rung} | {cells(row, ('requests', 'errors', 'p50', 'p90', 'p99', 'p999', 'max'))} | {over:+.2f} | "
            f"{row['p50'] / bare['p50']:.2f} | {cells(row, ('cpu_ms',))} |"
        )
    lines += [
        "",
        f"Saturation, closed loop, {document['saturated']} connections:",
        "",
        "| | requests | errors | requests/s | to bare Triton | p50 ms | p99 | CPU ms a request |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rung, row in many.items():
        lines.append(
            f"| {rung} | {cells(row, ('requests', 'errors'))} | {row['per_second']:.0f} | "
            f"{row['per_second'] / many[BARE]['per_second']:.2f} | {cells(row, ('p50', 'p99', 'cpu_ms'))} |"
        )
    floor = many[NOTHING]["cpu_ms"] + many[BARE]["cpu_ms"]
    lines += [
        "",
        f"gRPC alone, the messages with Envoy and the call to Triton, takes {floor:.2f} ms of CPU a request here: "
        f"“{NOTHING}” and the client of “{BARE}”.",
    ]
    lines += [
        "",
        f"Open loop, Poisson arrivals, {document['rate']:.0f} a second (70 % of what “{DOMAIN}” can do); "
        "latency from the intended start:",
        "",
        "| | requests | errors | p50 ms | p90 | p99 | p99.9 | max |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = ("requests", "errors", "p50", "p90", "p99", "p999", "max")
    lines += [f"| {rung} | {cells(row, names)} |" for rung, row in load.items()]
    lines += [
        "",
        f"Inside the router, “{DOMAIN}”, less its wait for Triton:",
        "",
        "| | p50 ms | p90 | p99 | wait for Triton p50 | p99 | CPU ms a request |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in (("1 connection", single[DOMAIN]), ("70 % load", load[DOMAIN]), ("saturation", many[DOMAIN])):
        inside = ("router_p50", "router_p90", "router_p99", "encoder_p50", "encoder_p99", "cpu_ms")
        lines.append(f"| {name} | {cells(row, inside)} |")
    began = document["start"]
    lines += [
        "",
        f"Start to ready {began['ready_seconds']:.2f} s; reload: prepared in {began['prepare_ms']:.0f} ms, swapped in "
        f"{began['swap_ms']:.1f} ms, {began['seen_ms']:.0f} ms from signal to log; "
        f"router {document['router_mib']:.0f} MiB.",
    ]
    return "\n".join(lines)
