"""`python -m perf`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("ladder", help="what routing costs, rung by rung, in one run")
    command.add_argument("--requests", type=int, default=800, help="per rung, round and number of connections")
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--connections", type=int, action="append", help="default: 1 and 8")
    command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    command.set_defaults(run=_ladder)
    command = commands.add_parser("triton", help="the signal models on Triton, by NVIDIA's perf_analyzer")
    command.add_argument("--repository", type=Path, default=Path("model_repository"))
    command.add_argument("--address", help="host:port of a running Triton (gRPC); default: one is started")
    command.add_argument("--model-config-name", default="cpu", help="configuration of the Triton that is started")
    command.add_argument("--concurrency", type=int, action="append", help="requests in flight; default: 1, 2, 4, 8")
    command.add_argument("--bucket", type=int, action="append", help="only this padded length; repeat")
    command.add_argument("--requests", type=int, default=300, help="of each measurement")
    command.add_argument("--out", type=Path, default=Path("build/perf-triton"))
    command.set_defaults(run=_triton)
    command = commands.add_parser("gpu", help="on a GPU host: build, serve, verify, measure, in bounded time")
    command.add_argument("--out", type=Path, default=Path("build/gpu"))
    command.add_argument("--work", type=Path, help="for weights and graphs; default: `work` in the output's folder")
    command.add_argument("--seconds", type=float, default=540, help="what has not begun by then is left out")
    command.add_argument("--trunks", type=int, default=4, choices=range(1, 6), help="most models asked at once")
    command.add_argument("--length", type=int, default=512, help="tokens of the load")
    command.add_argument("--no-compile", action="store_true", help="the stand-in as exported, not compiled by PyTorch")
    command.add_argument("--tiny", action="store_true", help="small networks, to try the run itself")
    command.set_defaults(run=_gpu)
    options = parser.parse_args()
    options.run(options)


def _ladder(options: argparse.Namespace) -> None:
    from perf import ladder

    ladder.run(options.requests, options.rounds, options.connections or [1, 8], options.out)


def _triton(options: argparse.Namespace) -> None:
    from perf import triton

    triton.run(
        options.repository, options.out, address=options.address, config_name=options.model_config_name,
        concurrency=options.concurrency or triton.CLOSED, buckets=options.bucket or (), requests=options.requests,
    )  # fmt: skip


def _gpu(options: argparse.Namespace) -> None:
    from perf import gpu

    raise SystemExit(
        gpu.run(
            options.out, seconds=options.seconds, compiled=not options.no_compile, tiny=options.tiny,
            trunks=options.trunks, length=options.length, work=options.work,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
