"""`python -m perf`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from perf import cache, ladder, soak, streams


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    rungs = commands.add_parser("ladder", help="what routing costs, rung by rung, in one run")
    rungs.add_argument("--requests", type=int, default=800, help="per rung, round and number of connections")
    rungs.add_argument("--rounds", type=int, default=3)
    rungs.add_argument("--connections", type=int, action="append", help="default: 1 and 8")
    streamed = commands.add_parser("streams", help="what a streamed answer costs, in each body mode")
    streamed.add_argument("--streams", type=int, default=64)
    streamed.add_argument("--chunks", type=int, default=500)
    streamed.add_argument("--seconds", type=float, default=10, help="how long a stream takes")
    streamed.add_argument("--requests", type=int, default=150, help="first chunks per mode and round")
    streamed.add_argument("--rounds", type=int, default=3)
    cached = commands.add_parser("cache", help="what hits cost, and lookups among many answers")
    cached.add_argument("--requests", type=int, default=220, help="per rung and round")
    cached.add_argument("--rounds", type=int, default=3)
    cached.add_argument("--entries", type=int, default=100_000)
    long = commands.add_parser("soak", help="many requests: memory, bounds, time to live")
    long.add_argument("--requests", type=int, default=100_000)
    for command in (rungs, streamed, cached, long):
        command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    given = parser.parse_args()
    match given.command:
        case "ladder":
            ladder.run(given.requests, given.rounds, given.connections or [1, 8], given.out)
        case "streams":
            streams.run(given.streams, given.chunks, given.seconds, given.requests, given.rounds, given.out)
        case "cache":
            cache.run(given.requests, given.rounds, given.entries, given.out)
        case "soak":
            soak.run(given.requests, given.out)


if __name__ == "__main__":
    main()
