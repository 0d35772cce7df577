"""`python -m perf`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from perf import ladder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("ladder", help="what routing costs, rung by rung, in one run")
    command.add_argument("--requests", type=int, default=800, help="per rung, round and number of connections")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--connections", type=int, action="append", help="default: 1 and 8")
    command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    options = parser.parse_args()
    ladder.run(options.requests, options.rounds, options.connections or [1, 8], options.out)


if __name__ == "__main__":
    main()
