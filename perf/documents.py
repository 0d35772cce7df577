"""Measure everything that docs/performance.md and docs/capacity.md report, and write it into them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from perf import ladder, overload, peers, scale

# For each measurement: the page, its pictures, and what they show.
PLACES: dict[str, tuple[str, dict[str, str]]] = {
    "ladder": ("performance.md", {
        "perf-cpu.png": "CPU of a request, by process",
        "perf-router.png": "Time inside the router, less its wait for Triton",
    }),
    "peers": ("performance.md", {"perf-peers.png": "Latency over throughput, against LiteLLM"}),
    "overload": ("performance.md", {"perf-overload.png": "Every request before, during and after twice the load"}),
    "scale": ("capacity.md", {}),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--documents", type=Path, default=Path("docs"))
    parser.add_argument("--requests", type=int, default=400, help="per figure and round of the ladder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60, help="of each part of the overload")
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

    ``requests`` of each figure and round of the ladder; peers get a quarter of them. A measurement that was made is not
    lost when a later one fails: each is written down before the next begins.
    """
    pictures = documents / "assets"
    measurements: dict[str, Callable[[], object]] = {
        "ladder": lambda: ladder.measure(requests, rounds, out, pictures=pictures),
        "peers": lambda: peers.measure(requests // 4, rounds, out, pictures=pictures, environment=environment),
        "overload": lambda: overload.measure(seconds, 5 * requests, out, pictures=pictures),
        "scale": lambda: scale.measure(5 * requests // 2, out),
    }
    for name, measure in measurements.items():
        measure()
        page, shown = PLACES[name]
        text = (out / f"{name}.md").read_text()
        text += "".join(f"\n![{what}](assets/{picture})\n" for picture, what in shown.items())
        path = documents / page
        path.write_text(placed(path.read_text(), name, text))


def placed(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marks of ``name``. Raises ValueError where there is not one such pair."""
    marks = re.compile(rf"(<!-- perf:{name} -->\n).*?(<!-- /perf:{name} -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise ValueError(f"there is not exactly one place for {name}")
    return marks.sub(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
