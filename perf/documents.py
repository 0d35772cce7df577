"""Everything that docs/performance.md and docs/capacity.md report, measured one after another and written into them."""

from __future__ import annotations

import re
from pathlib import Path

from perf import ladder, overload, peers, scale

PAGES = {"ladder": "performance.md", "peers": "performance.md", "overload": "performance.md", "scale": "capacity.md"}


def run(out: Path, documents: Path) -> None:
    """Measure, then replace what stands between ``<!-- perf:NAME -->`` and ``<!-- /perf:NAME -->``."""
    pictures = documents / "assets"
    ladder.run(400, 5, out, pictures=pictures)
    peers.run(100, 5, out, pictures=pictures)
    overload.run(60, 2000, out)
    scale.run(1000, out)
    for name, page in PAGES.items():
        path = documents / page
        path.write_text(placed(path.read_text(), name, (out / f"{name}.md").read_text()))


def placed(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marks of ``name``. Raises ValueError where there is not one such pair."""
    marks = re.compile(rf"(<!-- perf:{name} -->\n).*?(<!-- /perf:{name} -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise ValueError(f"there is not exactly one place for {name}")
    return marks.sub(lambda found: f"{found[1]}\n{table.strip()}\n\n{found[2]}", text)
