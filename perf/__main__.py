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
    "ladder": Command("perf.ladder", "cost of routing, rung by rung, in one run"),
    "peers": Command("perf.peers", "LiteLLM and semantic-router next to us, on the same weights and prompts"),
    "overload": Command("perf.overload", "twice the saturation: refusals, latency, recovery"),
    "gate": Command("perf.gate", "counts and ratios of a short run against those committed; exit status 1 if slower"),
    "targets": Command("perf.targets", "the last results next to their targets"),
    "scale": Command("perf.scale", "replicas and GPUs for a given request rate, by simulation"),
    "all": Command("perf.documents", "ladder, peers, overload, scale; their tables into docs/"),
    "budgets": Command("perf.budgets", "routers that share a Redis: excess over a budget, and failures without Redis"),
    "fallback": Command("perf.fallback", "two models, one ill: answered requests, duplicates, time, and the cost"),
    "streams": Command("perf.streams", "cost of a streamed response, in each body mode"),
    "cache": Command("perf.cache", "cost of cache hits, and of lookups among many responses"),
    "trunks": Command("perf.trunks", "two trunks for one request, compared with the slower one alone"),
    "balance": Command("perf.balance", "one of two models slows down: its share over time, and the slowest waits"),
    "chaos": Command("perf.chaos", "faults under load: failed requests, time to recover, memory"),
    "endurance": Command("perf.endurance", "half an hour of load, reloads and faults: memory, descriptors, threads"),
    "soak": Command("perf.soak", "many requests: memory, bounds, time to live"),
    "cache-quality": Command("perf.cache_quality", "errors and recall of the semantic cache"),
    "triton": Command("perf.triton", "the signal models on Triton, by NVIDIA's perf_analyzer"),
    "views": Command("perf.views", "open live views: CPU per request, and time until an idle one closes"),
    "agents": Command("perf.agents", "Claude Code and Codex against the stack: are questions decided as plain ones"),
    "compare": Command("perf.compare", "a comparison of recorded requests: encodings, and the remaining work"),
    "bounds": Command("perf.bounds", "time to ready, the loop during a reload of 500 models, memory of large bodies"),
    "hook": Command("perf.hook", "time for which our hook blocks LiteLLM's event loop"),
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
