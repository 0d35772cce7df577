"""`python -m perf`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from perf import cache_quality, ladder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("ladder", help="what routing costs, rung by rung, in one run")
    command.add_argument("--requests", type=int, default=800, help="per rung, round and number of connections")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--connections", type=int, action="append", help="default: 1 and 8")
    command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    command.set_defaults(
        run=lambda given: ladder.run(given.requests, given.rounds, given.connections or [1, 8], given.out)
    )
    command = commands.add_parser("cache-quality", help="what the semantic cache gets wrong and what it finds")
    command.add_argument("--pairs", type=Path, required=True, help="JSON lines of `a`, `b`, `label`, `source`")
    command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    command.add_argument("--picture", type=Path, default=Path("docs/assets/cache-quality.png"), help="the curve")
    command.set_defaults(run=lambda given: cache_quality.run(given.pairs, given.out, given.picture))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
