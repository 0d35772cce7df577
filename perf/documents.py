"""Measure everything that docs/performance.md, its tables and docs/capacity.md report, and write it into them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from perf import cache, ladder, overload, peers, scale, streams, targets

PAGE, TABLES = "performance.md", "performance-tables.md"
# The page of each table, and the page, name and meaning of each picture.
TABLE_ON = {"ladder": TABLES, "cache": "cache.md", "streams": TABLES, "peers": TABLES, "overload": TABLES,
            "scale": "capacity.md", "targets": PAGE}  # fmt: skip
PICTURES = {
    "ladder": {
        "perf-parts.png": (PAGE, "CPU of a request in the router, by part"),
        "perf-cpu.png": (PAGE, "CPU of a request, by process"),
        "perf-router.png": (TABLES, "Time inside the router, without its wait for Triton"),
    },
    "peers": {"perf-peers.png": (PAGE, "Latency over throughput, against LiteLLM with semantic-router")},
    "overload": {"perf-overload.png": (PAGE, "Every request before, during and after twice the load")},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--documents", type=Path, default=Path("docs"))
    parser.add_argument("--requests", type=int, default=400, help="per figure and round of the ladder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30, help="of each part of the overload")
    parser.add_argument("--environment", type=Path, default=peers.ENVIRONMENT, help="with LiteLLM and semantic-router")


def run(arguments: argparse.Namespace) -> None:
    measure(
        arguments.out, arguments.documents, requests=arguments.requests, rounds=arguments.rounds,
        seconds=arguments.seconds, environment=arguments.environment,
    )  # fmt: skip


def measure(
    out: Path, documents: Path, *, requests: int, rounds: int, seconds: float, environment: Path = peers.ENVIRONMENT
) -> None:
    """Measure, then replace what stands between ``<!-- perf:NAME -->`` and ``<!-- /perf:NAME -->``.

    ``requests`` of each figure and round of the ladder; the others get a share of them. A measurement that was made is
    not lost when a later one fails: each is written down before the next begins.
    """
    pictures = documents / "assets"
    measurements: dict[str, Callable[[], object]] = {
        "ladder": lambda: ladder.measure(requests, rounds, out, pictures=pictures),
        "cache": lambda: cache.measure(requests // 4, rounds, 20_000, out),
        "streams": lambda: streams.measure(64, requests // 2, 5, requests // 8, rounds, out),
        "peers": lambda: peers.measure(
            requests // 8, rounds, out, offered=5 * requests, pictures=pictures, environment=environment
        ),
        "overload": lambda: overload.measure(seconds, 5 * requests, out, pictures=pictures),
        "scale": lambda: scale.measure(5 * requests // 2, out),
        "targets": lambda: (out / "targets.md").write_text(targets.table(out)),
    }
    for name, measure in measurements.items():
        measure()
        path = documents / TABLE_ON[name]
        path.write_text(placed(path.read_text(), name, (out / f"{name}.md").read_text()))
        for picture, (page, meaning) in PICTURES.get(name, {}).items():
            path, mark = documents / page, picture.removesuffix(".png")
            path.write_text(placed(path.read_text(), mark, f"![{meaning}](assets/{picture})"))


def placed(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marks of ``name``. Raises ValueError where there is not one such pair."""
    marks = re.compile(rf"(<!-- perf:{name} -->\n).*?(<!-- /perf:{name} -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise ValueError(f"there is not exactly one place for {name}")
    return marks.sub(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
