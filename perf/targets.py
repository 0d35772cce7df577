"""What was measured next to what it is to be: one table out of the results of `ladder`, `cache`, `streams`, `peers`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import page
from perf import cache, ladder, peers, streams

TEMPLATE = Path(__file__).parent / "templates" / "targets.md.j2"
SOURCES = ("ladder", "cache", "streams", "peers")
WATCHED = "response read (STREAMED)"


@dataclass(frozen=True)
class Target:
    """``value`` is to be at most ``goal``, or at least that with the ``sign`` ≥; ``None``: it is only shown."""

    figure: str
    value: float | None
    goal: float | None = None
    sign: str = "≤"
    spec: str = ".2f"

    @property
    def met(self) -> str:
        if self.goal is None or self.value is None:
            return ""
        return "yes" if (self.value <= self.goal if self.sign == "≤" else self.value >= self.goal) else "no"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(arguments: argparse.Namespace) -> None:
    print(table(arguments.out), end="")


def table(out: Path) -> str:
    """The table as Markdown, of what there is in ``out``."""
    results = {name: out / f"{name}.json" for name in SOURCES}
    documents = {name: json.loads(path.read_text()) for name, path in results.items() if path.is_file()}
    rows = [row for name, document in documents.items() for row in _TARGETS[name](document)]
    return page.render(TEMPLATE, rows=rows)


def _ladder(document: Mapping[str, Any]) -> Iterator[Target]:
    single, many = document["single"], document["saturation"]
    fewest_most = (("1 connection", single), (f"{document['saturated']} connections", many))
    goals = {
        ladder.DOMAIN: (2.0, 1.0), ladder.UNCOUNTED_DOMAIN: (1.6, 0.8),
        ladder.KEYWORDS: (None, None), ladder.UNCOUNTED_KEYWORDS: (0.5, 0.25),
    }  # fmt: skip
    for rung, limits in goals.items():
        for (load, rows), goal in zip(fewest_most, limits, strict=True):
            yield Target(f"router's CPU ms a request: {rung}, {load}", rows[rung]["cpu_ms"], goal)
    for rung, least in ((ladder.KEYWORDS, None), (ladder.UNCOUNTED_KEYWORDS, 2000)):
        yield Target(f"requests/s of a worker: {rung}", many[rung]["per_second"], least, "≥", ".0f")
    for rung, count in document["system_calls"].items():
        most = 28 if rung.endswith(ladder.UNCOUNTED) else 40
        yield Target(f"system calls a request: {rung}", count, most, spec=".1f")
    grown = single[ladder.HEADS]["p50"] / single[ladder.DOMAIN]["p50"]
    yield Target(f"p50 to {ladder.DOMAIN}: {ladder.HEADS}", grown, 1.1)
    alone = single[ladder.ALONE]["p50"]
    for rung, over in ((ladder.NOTHING, 0.4), (ladder.HIT, 0.6)):
        yield Target(f"p50 ms over Envoy alone: {rung}", single[rung]["p50"] - alone, over, spec="+.2f")
    for rung in (ladder.QUICK, ladder.UNCOUNTED_QUICK):
        spent = many[rung]["cpu_ms"]
        yield Target(f"router's CPU ms a request: {rung}, {document['saturated']} connections", spent, 0.8)
        yield Target(f"requests/s of a router's core: {rung}", 1000 / spent, 1200, "≥", ".0f")
    for name, row in document["bundles"].items():
        yield Target(f"start to ready, s: bundle `{name}`", row["ready_seconds"], 1.3)
        yield Target(f"MiB of a worker: bundle `{name}`", row["mib"], 100 if name == "english" else None, spec=".0f")


def _cache(document: Mapping[str, Any]) -> Iterator[Target]:
    rows = {row["name"]: row for row in document["hits"]}
    hit, behind = rows[cache.SEMANTIC], rows[cache.ALONE + cache.BEHIND]["p50"]
    over = hit["p50"] - behind - (hit["encoder_p50"] or 0)
    yield Target("p50 ms over its Triton calls and Envoy alone: semantic hit", over, 1.0, spec="+.2f")


def _streams(document: Mapping[str, Any]) -> Iterator[Target]:
    row = next(row for row in document["results"] if row["mode"] == WATCHED)
    for length in (streams.SHORTER, streams.LONGER):
        spent = row[f"us_of_{length}"]
        yield Target(f"router's CPU µs a chunk: watched stream of {length:,} chunks", spent, 60, spec=".0f")


def _peers(document: Mapping[str, Any]) -> Iterator[Target]:
    for kind, by_count in document["prompts"].items():
        for ratio in peers.ratios(kind, by_count, document["open"][kind]["rows"]):
            figure = f"to {peers.ROUTED}, {kind}: {ratio.figure}"
            yield Target(figure, ratio.shares.get(peers.ROUTED), ratio.target, ratio.sign)


_TARGETS = {"ladder": _ladder, "cache": _cache, "streams": _streams, "peers": _peers}
