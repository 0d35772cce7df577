"""Everything that docs/performance.md and docs/capacity.md report, measured one after another and written into them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from perf import ladder, overload, peers, scale

# Of each measurement: the page, the picture that is drawn for it, and what the picture shows.
PLACES = {
    "ladder": ("performance.md", "perf-router.png", "Time inside the router, less its wait for Triton"),
    "peers": ("performance.md", "perf-peers.png", "Latency over throughput, beside others"),
    "overload": ("performance.md", "perf-overload.png", "Every request before, during and after twice the load"),
    "scale": ("capacity.md", None, None),
}


def run(
    out: Path, documents: Path, *, requests: int, rounds: int, seconds: float, environment: Path = peers.ENVIRONMENT
) -> None:
    """Measure, then replace what stands between ``<!-- perf:NAME -->`` and ``<!-- /perf:NAME -->``.

    ``requests`` of each figure and round of the ladder; peers get a quarter of them. A measurement that was made is not
    lost when a later one fails: each is written down before the next begins.
    """
    pictures = documents / "assets"
    measurements: dict[str, Callable[[], object]] = {
        "ladder": lambda: ladder.run(requests, rounds, out, pictures=pictures),
        "peers": lambda: peers.run(requests // 4, rounds, out, pictures=pictures, environment=environment),
        "overload": lambda: overload.run(seconds, 5 * requests, out, pictures=pictures),
        "scale": lambda: scale.run(5 * requests // 2, out),
    }
    for name, measure in measurements.items():
        measure()
        page, picture, shown = PLACES[name]
        text = (out / f"{name}.md").read_text()
        if picture:
            text += f"\n![{shown}](assets/{picture})\n"
        path = documents / page
        path.write_text(placed(path.read_text(), name, text))


def placed(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marks of ``name``. Raises ValueError where there is not one such pair."""
    marks = re.compile(rf"(<!-- perf:{name} -->\n).*?(<!-- /perf:{name} -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise ValueError(f"there is not exactly one place for {name}")
    return marks.sub(lambda found: f"{found[1]}\n{table.strip()}\n\n{found[2]}", text)
