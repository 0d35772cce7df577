"""`python -m perf`: what routing costs, and what it costs others; docs/performance.md reads the figures."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from export import commands
from export.commands import Command

COMMANDS = {
    "ladder": Command("perf.ladder", "what routing costs, rung by rung, in one run"),
    "peers": Command("perf.peers", "LiteLLM and semantic-router next to us, on the same weights and prompts"),
    "overload": Command("perf.overload", "twice the saturation: who is turned away, how slow, for how long"),
    "gate": Command("perf.gate", "counts and ratios of a short run against those committed; exit status 1 if slower"),
    "targets": Command("perf.targets", "the last results next to what they are to be"),
    "scale": Command("perf.scale", "replicas and GPUs for so many requests a second, by simulation"),
    "all": Command("perf.documents", "ladder, peers, overload, scale; their tables into docs/"),
    "budgets": Command("perf.budgets", "routers that share a Redis: what goes beyond a budget, and without Redis"),
    "fallback": Command("perf.fallback", "two models, one ill: answered requests, duplicates, time; and what it costs"),
    "streams": Command("perf.streams", "what a streamed answer costs, in each body mode"),
    "cache": Command("perf.cache", "what hits cost, and lookups among many answers"),
    "trunks": Command("perf.trunks", "two trunks for one request, next to the slower of them alone"),
    "balance": Command("perf.balance", "one of two models slows down: its share over time, and the slowest waits"),
    "chaos": Command("perf.chaos", "faults under load: failed requests, time to recover, memory"),
    "endurance": Command("perf.endurance", "half an hour of load, reloads and faults: memory, descriptors, threads"),
    "soak": Command("perf.soak", "many requests: memory, bounds, time to live"),
    "cache-quality": Command("perf.cache_quality", "what the semantic cache gets wrong and what it finds"),
    "triton": Command("perf.triton", "the signal models on Triton, by NVIDIA's perf_analyzer"),
    "views": Command("perf.views", "open live views: CPU a request with and without; when an idle one is dropped"),
    "compare": Command("perf.compare", "a comparison of recorded requests: encodings, and the work besides"),
    "bounds": Command("perf.bounds", "time to ready, the loop during a reload of 500 models, memory of large bodies"),
    "hook": Command("perf.hook", "how long our hook holds up LiteLLM's event loop, by the clock"),
    "gpu": Command("perf.gpu", "on a GPU host: build, serve, verify, measure, in bounded time"),
}


def main(words: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    return commands.run("python -m perf", __doc__, COMMANDS, words, shared=_add_out)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("perf/results") / date.today().isoformat())


if __name__ == "__main__":
    # So that what was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
