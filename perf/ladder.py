"""What routing costs, rung by rung, in one run: Envoy alone, keywords, domain by Triton; beside them bare Triton."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from perf.load import Samples, at, chat_bodies, closed_loop
from perf.prompts import PROMPTS
from perf.site import REPOSITORY, ROOT, Site, command, machine
from router.inference import load_bundle
from router.inference.windows import Windows

RUNGS = ("Envoy alone", "keywords only", "domain by Triton", "bare Triton call")


def run(requests: int, rounds: int, connections: list[int], out: Path) -> None:
    """Measure every rung in turn, ``rounds`` times over, and write ``ladder.json`` and a table."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        site = _Site(Path(directory), stack)
        results = asyncio.run(_measure(site, requests, rounds, connections))
        document = {
            "machine": machine(),
            "command": command(),
            "router_rss_mib": site.resident("router-domain"),
            "results": results,
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "ladder.json").write_text(json.dumps(document, indent=1))
    print(table(document))


async def _measure(site: _Site, requests: int, rounds: int, connections: list[int]) -> list[dict[str, Any]]:
    bare = await _BareTriton.connect(site.triton_port)
    bodies = chat_bodies(PROMPTS, "MoM")
    named = chat_bodies(PROMPTS, "quick")
    askers: dict[str, Callable[[int, int], Any]] = {
        "Envoy alone": lambda c, n: closed_loop(site.plain_port, named, c, n),
        "keywords only": lambda c, n: closed_loop(site.keyword_port, bodies, c, n),
        "domain by Triton": lambda c, n: closed_loop(site.domain_port, bodies, c, n),
        "bare Triton call": bare.closed_loop,
    }
    for ask in askers.values():
        await ask(2, 100)
    collected = {(rung, count): Samples() for rung in RUNGS for count in connections}
    cpu: dict[int, float] = dict.fromkeys(connections, 0.0)
    for number in range(rounds):
        for count in connections:
            for rung in RUNGS:
                before = site.cpu("router-domain")
                collected[rung, count].add(await askers[rung](count, requests))
                if rung == "domain by Triton":
                    cpu[count] += site.cpu("router-domain") - before
        print(f"round {number + 1} of {rounds} done", flush=True)
    await bare.close()
    return [
        _summary(rung, count, samples, cpu[count] if rung == "domain by Triton" else None)
        for (rung, count), samples in collected.items()
    ]


def _summary(rung: str, connections: int, samples: Samples, cpu: float | None) -> dict[str, Any]:
    return {
        "rung": rung, "connections": connections, "requests": len(samples.ms), "errors": samples.errors,
        "p50": at(samples.ms, 0.5), "p90": at(samples.ms, 0.9), "p99": at(samples.ms, 0.99),
        "p999": at(samples.ms, 0.999), "max": max(samples.ms), "per_second": len(samples.ms) / samples.seconds,
        "encoder_p50": at(samples.encoder_ms, 0.5), "encoder_p99": at(samples.encoder_ms, 0.99),
        "router_p50": at(samples.router_ms, 0.5), "router_p99": at(samples.router_ms, 0.99),
        "router_cpu_ms": cpu * 1000 / len(samples.ms) if cpu is not None else None,
    }  # fmt: skip


def table(document: dict[str, Any]) -> str:
    """The results as Markdown; ratios are to the bare Triton call at the same number of connections."""
    bare = {row["connections"]: row["p50"] for row in document["results"] if row["rung"] == "bare Triton call"}
    lines = [
        f"{document['machine']}; `{document['command']}`; router {document['router_rss_mib']:.0f} MiB",
        "",
        "| | connections | requests | errors | p50 ms | p90 | p99 | p99.9 | max | per s | p50 to bare Triton |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sorted(document["results"], key=lambda row: row["connections"]):
        numbers = " | ".join(f"{row[key]:.2f}" for key in ("p50", "p90", "p99", "p999", "max"))
        ratio = row["p50"] / bare[row["connections"]]
        lines.append(
            f"| {row['rung']} | {row['connections']} | {row['requests']} | {row['errors']} | {numbers} | "
            f"{row['per_second']:.0f} | {ratio:.2f} |"
        )
    for row in document["results"]:
        if row["router_cpu_ms"] is not None:
            lines.append(
                f"\nInside the router, {row['connections']} connection(s): waiting for Triton "
                f"p50 {row['encoder_p50']:.2f} ms, p99 {row['encoder_p99']:.2f} ms; everything else "
                f"p50 {row['router_p50']:.2f} ms, p99 {row['router_p99']:.2f} ms; "
                f"CPU {row['router_cpu_ms']:.2f} ms a request."
            )
    return "\n".join(lines)


class _Site(Site):
    """One Triton, a router and an Envoy for each of two configurations, an Envoy without ext_proc, one backend."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        document = yaml.safe_load((ROOT / "config" / "aibrix.yaml").read_text())
        document.pop("global", None)
        document["providers"]["models"].append({**document["providers"]["models"][1], "name": "quick"})
        self.domain_port = self.gateway("domain", document)
        keywords_only = json.loads(json.dumps(document))
        keywords_only["routing"]["decisions"] = keywords_only["routing"]["decisions"][:1]
        self.keyword_port = self.gateway("keyword", keywords_only)
        self.plain_port = self.gateway("plain", document, with_router=False)
        self.wait_until_routed({self.domain_port: "MoM", self.keyword_port: "MoM", self.plain_port: "quick"})


class _BareTriton:
    """The same prompts straight to Triton, tokenized beforehand (tokenizing is not counted)."""

    def __init__(self, client: InferenceServerClient, model: str, inputs: list[Any], outputs: list[Any]) -> None:
        self._client, self._model, self._inputs, self._outputs = client, model, inputs, outputs

    @classmethod
    async def connect(cls, port: int) -> _BareTriton:
        bundle, tokenizers = load_bundle(REPOSITORY / "bundle.json")
        trunk = bundle.trunks[0]
        windows = Windows(trunk, tokenizers[trunk.name])
        batches = [windows.batch(prompt) for prompt in PROMPTS]
        inputs = [
            [
                InferInput(name, array.shape, "INT64").set_data_from_numpy(array)
                for name, array in ((trunk.inputs.ids, batch.ids), (trunk.inputs.mask, batch.mask))
            ]
            for batch in batches
        ]
        names = [trunk.embedding.output, *(head.output for head in trunk.heads)]
        outputs = [InferRequestedOutput(name) for name in names]
        return cls(InferenceServerClient(f"127.0.0.1:{port}"), trunk.model, inputs, outputs)

    async def closed_loop(self, connections: int, requests: int) -> Samples:
        samples = Samples()
        started = time.perf_counter()

        async def one(offset: int) -> None:
            for number in range(requests // connections):
                given = self._inputs[(offset * 7 + number) % len(self._inputs)]
                began = time.perf_counter()
                await self._client.infer(self._model, given, outputs=self._outputs, client_timeout=10)
                samples.ms.append((time.perf_counter() - began) * 1000)

        await asyncio.gather(*(one(number) for number in range(connections)))
        samples.seconds = time.perf_counter() - started
        return samples

    async def close(self) -> None:
        await self._client.close()
