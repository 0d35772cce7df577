"""`python -m perf`."""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import date
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    rungs = commands.add_parser("ladder", help="what routing costs, rung by rung, in one run")
    rungs.add_argument("--requests", type=int, default=400, help="per rung, round and number of connections")
    rungs.add_argument("--rounds", type=int, default=5)
    beside = commands.add_parser("peers", help="LiteLLM and semantic-router beside us, on the same weights and prompts")
    beside.add_argument("--requests", type=int, default=100, help="per system, kind of prompts, connections and round")
    beside.add_argument("--rounds", type=int, default=5)
    beside.add_argument("--workers", type=int, default=1, help="processes of LiteLLM")
    beside.add_argument("--environment", type=Path, help="virtual environment with LiteLLM and semantic-router")
    flood = commands.add_parser("overload", help="twice the saturation: who is turned away, how slow, for how long")
    flood.add_argument("--seconds", type=float, default=60, help="of each of three parts: 80 %%, 200 %%, 80 %% again")
    flood.add_argument("--requests", type=int, default=2000, help="to find the saturation")
    flood.add_argument("--workers", type=int, default=1, help="processes of the router")
    gate = commands.add_parser("gate", help="ratios of a short run against those committed; exit status 1 if slower")
    gate.add_argument("--write", action="store_true", help="make the baseline anew")
    model = commands.add_parser("scale", help="replicas and GPUs for so many requests a second, by simulation")
    model.add_argument("--requests", type=int, default=1000, help="of each measurement that it rests on")
    model.add_argument("--rate", type=float, action="append", help="requests a second to plan for; repeat")
    model.add_argument("--p99", type=float, help="milliseconds that 99 %% of requests must keep to, up to the backend")
    model.add_argument(
        "--gpu", action="append", metavar="TOKENS:MS:MS",
        help="the encoder's time on a GPU for one row, and for each further one of a batch; repeat for each length",
    )  # fmt: skip
    whole = commands.add_parser("all", help="ladder, peers, overload, scale; their tables into docs/")
    whole.add_argument("--documents", type=Path, default=Path("docs"))
    whole.add_argument("--requests", type=int, default=400, help="per figure and round of the ladder")
    whole.add_argument("--rounds", type=int, default=5)
    whole.add_argument("--seconds", type=float, default=60, help="of each part of the overload")
    whole.add_argument("--environment", type=Path, help="virtual environment with LiteLLM and semantic-router")
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
    twice = commands.add_parser("trunks", help="two trunks for one request, beside the slower of them alone")
    twice.add_argument("--requests", type=int, default=110, help="per rung and round")
    twice.add_argument("--rounds", type=int, default=5)
    long = commands.add_parser("soak", help="many requests: memory, bounds, time to live")
    long.add_argument("--requests", type=int, default=100_000)
    quality = commands.add_parser("cache-quality", help="what the semantic cache gets wrong and what it finds")
    quality.add_argument("--pairs", type=Path, required=True, help="JSON lines of `a`, `b`, `label`, `source`")
    quality.add_argument("--picture", type=Path, default=Path("docs/assets/cache-quality.png"), help="the curve")
    served = commands.add_parser("triton", help="the signal models on Triton, by NVIDIA's perf_analyzer")
    served.add_argument("--repository", type=Path, default=Path("model_repository"))
    served.add_argument("--address", help="host:port of a running Triton (gRPC); default: one is started")
    served.add_argument("--model-config-name", default="cpu", help="configuration of the Triton that is started")
    served.add_argument("--concurrency", type=int, action="append", help="requests in flight; default: 1, 2, 4, 8")
    served.add_argument("--bucket", type=int, action="append", help="only this padded length; repeat")
    served.add_argument("--requests", type=int, default=300, help="of each measurement")
    hooked = commands.add_parser("hook", help="how long our hook holds up LiteLLM's event loop, by the clock")
    hooked.add_argument("--requests", type=int, default=100, help="that are routed, and that are not, per round")
    hooked.add_argument("--rounds", type=int, default=10)
    hooked.add_argument("--connections", type=int, default=20)
    hooked.add_argument("--environment", type=Path, help="virtual environment with LiteLLM")
    accelerated = commands.add_parser("gpu", help="on a GPU host: build, serve, verify, measure, in bounded time")
    accelerated.add_argument("--work", type=Path, help="for weights and graphs; default: `work` in the output's folder")
    accelerated.add_argument("--seconds", type=float, default=540, help="what has not begun by then is left out")
    accelerated.add_argument("--trunks", type=int, default=4, choices=range(1, 6), help="most models asked at once")
    accelerated.add_argument("--length", type=int, default=512, help="tokens of the load")
    accelerated.add_argument("--no-compile", action="store_true", help="the stand-in as exported, not compiled")
    accelerated.add_argument("--tiny", action="store_true", help="small networks, to try the run itself")
    for command in (
        rungs, beside, flood, gate, model, whole, streamed, cached, twice, long, quality, served, hooked, accelerated
    ):  # fmt: skip
        command.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())
    given = parser.parse_args()
    # So that what was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Each needs other packages, and a GPU host has only those of its own.
    match given.command:
        case "ladder":
            from perf import ladder

            ladder.run(given.requests, given.rounds, given.out)
        case "peers":
            from perf import peers

            environment = given.environment or peers.ENVIRONMENT
            peers.run(given.requests, given.rounds, given.out, workers=given.workers, environment=environment)
        case "overload":
            from perf import overload

            overload.run(given.seconds, given.requests, given.out, workers=given.workers)
        case "gate":
            from perf import gate

            raise SystemExit(gate.run(given.out, write=given.write))
        case "scale":
            from perf import scale

            try:
                gpu = dict(scale.gpu_time(text) for text in given.gpu or ())
            except ValueError:
                parser.error("--gpu: TOKENS:MS:MS, as in 128:1.3:0.15")
            scale.run(given.requests, given.out, rates=given.rate or scale.RATES, p99=given.p99,
                      gpu={**scale.ASSUMED_GPU, **gpu})  # fmt: skip
        case "all":
            from perf import documents

            documents.run(
                given.out, given.documents, requests=given.requests, rounds=given.rounds, seconds=given.seconds,
                environment=given.environment or documents.peers.ENVIRONMENT,
            )  # fmt: skip
        case "streams":
            from perf import streams

            streams.run(given.streams, given.chunks, given.seconds, given.requests, given.rounds, given.out)
        case "cache":
            from perf import cache

            cache.run(given.requests, given.rounds, given.entries, given.out)
        case "trunks":
            from perf import trunks

            trunks.run(given.requests, given.rounds, given.out)
        case "soak":
            from perf import soak

            soak.run(given.requests, given.out)
        case "cache-quality":
            from perf import cache_quality

            cache_quality.run(given.pairs, given.out, given.picture)
        case "triton":
            from perf import triton

            triton.run(
                given.repository, given.out, address=given.address, config_name=given.model_config_name,
                concurrency=given.concurrency or triton.CLOSED, buckets=given.bucket or (), requests=given.requests,
            )  # fmt: skip
        case "hook":
            from perf import hook

            environment = given.environment or hook.ENVIRONMENT
            hook.run(given.requests, given.rounds, given.connections, given.out, environment=environment)
        case "gpu":
            from perf import gpu

            raise SystemExit(
                gpu.run(
                    given.out, seconds=given.seconds, compiled=not given.no_compile, tiny=given.tiny,
                    trunks=given.trunks, length=given.length, work=given.work,
                )
            )  # fmt: skip


if __name__ == "__main__":
    main()
