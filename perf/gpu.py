"""Everything that only a GPU host can show, in one bounded run: build what can be built, serve, verify, measure.

Random weights of ModernBERT-base's shape: latency does not depend on what was learnt. Where TensorRT's builder is
missing, the program that PyTorch exported stands in, with a CUDA graph for each batch and bucket, and every figure says
so. Where there is no Triton, the same program is measured in this process, and every figure says that. Each stage has a
share of the time that was given; what did not fit is named, never guessed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from perf.triton import executed

BUCKETS = (32, 64, 128, 256, 512)
GRAPH_BATCHES = (1, 2, 4, 8, 16, 32)
CONCURRENCY = (1, 8, 32, 128)
# A client process saturates one core at some thousand calls a second.
CLIENTS = 8
SECONDS_EACH = 4.0
RUNS = 100
LABELS = {"domain": 14, "jailbreak": 2, "fact_check": 2, "user_feedback": 4}


@dataclass
class GpuReport:
    """What was found and measured; ``backend`` stands beside every figure."""

    host: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Setup:
    """Models that one request asks at the same time."""

    name: str
    models: tuple[str, ...]


SETUPS = (
    Setup("one trunk: embedding and four heads", ("trunk",)),
    Setup("two trunks: the same, and one classifier", ("trunk", "classifier1")),
    Setup("three trunks: the same, and two classifiers", ("trunk", "classifier1", "classifier2")),
    Setup("four trunks: the same, and three classifiers", ("trunk", "classifier1", "classifier2", "classifier3")),
    Setup("five trunks: the same, and four classifiers", ("trunk", *(f"classifier{n}" for n in range(1, 5)))),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, help="for weights and graphs; default: `work` in the output's folder")
    parser.add_argument("--seconds", type=float, default=540, help="seconds after which no further stage starts")
    parser.add_argument("--trunks", type=int, default=4, choices=range(1, 6), help="most models asked at once")
    parser.add_argument("--length", type=int, default=512, help="tokens of the load")
    parser.add_argument("--no-compile", action="store_true", help="the stand-in as exported, not compiled")
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the run itself")


def run(arguments: argparse.Namespace) -> int:
    return measure(
        arguments.out, seconds=arguments.seconds, compiled=not arguments.no_compile, tiny=arguments.tiny,
        trunks=arguments.trunks, length=arguments.length, work=arguments.work,
    )  # fmt: skip


def measure(
    out: Path, *, seconds: float = 540, compiled: bool = True, tiny: bool = False, trunks: int = 4,
    length: int = 512, work: Path | None = None,
) -> int:  # fmt: skip
    """Run every stage that fits into ``seconds``; `gpu.json` and `gpu.md` go to ``out`` after each stage.

    compiled: let PyTorch compile the stand-in. tiny: small networks, to try the run itself on any machine. trunks: most
    models asked at once. length: tokens of the load.

    Returns 0 when something was measured.
    """
    deadline = perf_counter() + seconds
    out.mkdir(parents=True, exist_ok=True)
    work = work or out / "work"
    report = GpuReport(host=_host())
    report.notes.append("Random weights: latency and throughput mean something, answers do not.")
    if tiny:
        report.notes.append("Small networks, to try the run itself: no figure here means anything.")
    state: dict[str, Any] = {"trunks": trunks, "tiny": tiny, "compiled": compiled, "length": length, "work": work}
    for stage in (_export, _in_process, _plans, _served_plans, _served_stand_in, _verify):
        remaining = deadline - perf_counter()
        name = stage.__name__.strip("_").replace("_", " ")
        started = perf_counter()
        if remaining < 20:
            report.notes.append(f"{name}: left out, the time was used up")
            continue
        print(f"gpu: {name}, {remaining:.0f} s left", flush=True)
        try:
            outcome = stage(report, state, deadline)
        except Exception as error:  # a stage that fails must not take the others' figures with it
            outcome = f"failed: {error}"
            (out / f"{name.replace(' ', '-')}.txt").write_text(traceback.format_exc())
        report.stages.append({"stage": name, "seconds": round(perf_counter() - started, 1), "outcome": outcome})
        print(f"gpu: {name}: {outcome}", flush=True)
        _write(report, out)
    _write(report, out)
    print(f"gpu: {out / 'gpu.md'}", flush=True)
    return 0 if report.figures else 1


# --- stages --------------------------------------------------------------------------------------------------------


def _export(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    """Random models, their graphs, PyTorch's programs and the repository."""
    from export import manifest, sample
    from export.exporter import Exporter, Paths

    work: Path = state["work"]
    shape: dict[str, Any] = {} if state["tiny"] else dict(sample.BASE)
    buckets = [bucket for bucket in BUCKETS if not state["tiny"] or bucket <= 64]
    common = {
        "buckets": buckets, "max_tokens": max(buckets), "max_batch": max(GRAPH_BATCHES),
        "graph_batches": list(GRAPH_BATCHES), "instances": {"gpu": 2},
    }  # fmt: skip
    trunk = sample.embedder(work / "weights" / "trunk", **shape)
    heads = []
    for seed, (name, labels) in enumerate(LABELS.items()):
        names = [f"{name} {index}" for index in range(labels)]
        layers = int(shape.get("num_hidden_layers", 4))
        place = sample.tuned(work / "weights" / name, trunk, names, shared=layers, seed=seed)
        heads.append({"name": name, "source": {"directory": place.resolve()}})
    models: list[dict[str, Any]] = [
        {"name": "trunk", "task": "embedding", "source": {"directory": trunk.resolve()}, "heads": heads}
    ]
    for number in range(1, min(state["trunks"], 5)):
        place = sample.classifier(
            work / "weights" / f"classifier{number}", [f"class {index}" for index in range(14)], seed=number, **shape
        )
        models.append({"name": f"classifier{number}", "task": "sequence-classification",
                       "source": {"directory": place.resolve()}})  # fmt: skip
    document = {
        "format": 1,
        "bundles": {"default": [m["name"] for m in models]},
        "models": [m | common for m in models],
    }
    bundle = manifest.Manifest.model_validate(document).bundle("default")
    exporter = Exporter(Paths(work / "repository", work / "build"), bundle)
    state["exporter"] = exporter
    exporter.graphs("torch")
    exporter.write_repository()
    return f"{len(models)} models"


def _in_process(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    """The trunk with all heads without Triton: what the network costs, and what batching gives."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    program = torch.export.load(state["exporter"].paths.repository / "trunk" / "1" / "model.pt2")
    if device.type == "cuda":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, "cuda")
    plain = program.module()
    forwards = [("PyTorch, in process", plain)]
    if state["compiled"] and device.type == "cuda":
        forwards.append(("PyTorch compiled, in process", torch.compile(plain, dynamic=True)))
    buckets = state["exporter"].models[0].buckets
    for backend, forward in forwards:
        for bucket in buckets:
            for batch in GRAPH_BATCHES if bucket == max(buckets) else (1,):
                if perf_counter() > deadline - 30:
                    return "stopped: the time was used up"
                times = _times(forward, device, batch, bucket)
                report.figures.append({
                    "backend": backend + (", CUDA graph" if device.type == "cuda" else ", CPU"),
                    "what": "forward, trunk with four heads", "tokens": bucket, "load": f"batch {batch}",
                    "p50": round(statistics.median(times), 3), "p99": round(sorted(times)[int(len(times) * 0.99)], 3),
                    "rate": round(batch * 1000 / statistics.median(times), 1),
                })  # fmt: skip
    return f"{len(report.figures)} figures"


def _plans(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    """TensorRT plans, where its builder is there."""
    from export import engine

    gpu = engine.find_gpu()
    if gpu is None or importlib.util.find_spec("tensorrt") is None:
        return "TensorRT's builder is not here; PyTorch stands in"
    exporter = state["exporter"]
    exporter.graphs("gpu")
    for path in engine.requests(exporter.paths.repository, []):
        if perf_counter() > deadline - 120:
            return "stopped: the time was used up"
        engine.build(path, gpu, level=3, workspace_mib=4096, cache=state["work"] / "timing", progress=print)
    state["plans"] = True
    return "built"


def _served_plans(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    if not state.get("plans"):
        return "no plans"
    return _served(report, state, deadline, "default", "TensorRT plan through Triton")


def _served_stand_in(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    if state.get("plans"):
        return "not needed: plans were measured"
    return _served(report, state, deadline, "torch", "PyTorch stand-in through Triton (python backend)")


def _served(report: GpuReport, state: dict[str, Any], deadline: float, config: str, backend: str) -> str:
    """All set-ups at every concurrency; the server starts anew for each, so that only its models share the GPU."""
    from export.live import started

    exporter = state["exporter"]
    names = {model.name for model in exporter.models}
    if not _on_gpu():
        _to_cpu(exporter.paths.repository)
    backend += ", CUDA graphs" if _on_gpu() else ", on CPU"
    length = min(state["length"], max(exporter.models[0].buckets))
    count = 0
    for setup in SETUPS:
        if not set(setup.models) <= names:
            continue
        if perf_counter() > deadline - 45:
            report.notes.append(f"{setup.name}: left out, the time was used up")
            continue
        seconds = max(20.0, deadline - perf_counter() - 30)
        with started(
            exporter.paths.repository, state["work"] / "triton", config, models=setup.models, seconds=seconds
        ) as address:
            if count == 0:
                for bucket in exporter.models[0].buckets:
                    report.figures.append(_load(address, setup, bucket, 1, backend, 1.5))
            for concurrency in CONCURRENCY:
                report.figures.append(_load(address, setup, length, concurrency, backend, SECONDS_EACH))
        count += 1
    return f"{count} set-ups"


def _verify(report: GpuReport, state: dict[str, Any], deadline: float) -> str:
    """Files and configurations of what was served, plans included; parity of a plan with its graph through Triton."""
    from export import consistency, live

    exporter = state["exporter"]
    platforms: tuple[Any, ...] = ("gpu",) if state.get("plans") else ()
    findings = consistency.check_files(exporter.paths.repository, exporter.models, platforms)
    if state.get("plans") and perf_counter() < deadline - 60:
        with live.started(
            exporter.paths.repository, state["work"] / "triton", "default", models=["trunk"], seconds=60
        ) as address:
            report.notes.append(f"largest difference of plan and graph: {_difference(address, exporter):.2g}")
    report.notes += [f"finding: {finding}" for finding in findings]
    return f"{len(findings)} findings"


# --- measuring -----------------------------------------------------------------------------------------------------


def _times(forward: Callable[..., Any], device: Any, batch: int, length: int) -> list[float]:
    """Milliseconds of one forward; on a GPU the replay of its CUDA graph, input copied in and outputs copied out."""
    import torch

    ids = torch.randint(5, 90, (batch, length))
    mask = torch.ones_like(ids)
    times = []
    with torch.inference_mode():
        if device.type != "cuda":
            for _ in range(5):
                started = perf_counter()
                forward(ids, mask)
                times.append((perf_counter() - started) * 1000)
            return times
        inputs = [ids.cuda(), mask.cuda()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                forward(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = forward(*inputs)
        for run_number in range(RUNS + 10):
            torch.cuda.synchronize()
            started = perf_counter()
            for tensor, value in zip(inputs, (ids, mask), strict=True):
                tensor.copy_(value)
            graph.replay()
            for output in outputs:
                output.cpu()
            if run_number >= 10:
                times.append((perf_counter() - started) * 1000)
    return times


def _load(address: str, setup: Setup, length: int, concurrency: int, backend: str, seconds: float) -> dict[str, Any]:
    """Closed loop from several processes; one request asks every model of the set-up at the same time."""
    clients = min(concurrency, CLIENTS, max(1, (os.cpu_count() or 2) // 2))
    shares = [concurrency // clients + (index < concurrency % clients) for index in range(clients)]
    before = {model: executed(address, model) for model in setup.models}
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool:
        results = pool.starmap(_client, [(address, setup.models, length, share, seconds) for share in shares])
    times = sorted(value for latencies, _, _ in results for value in latencies)
    failures = sum(count for _, count, _ in results)
    elapsed = max(length for _, _, length in results)
    batch = 0.0
    for model in setup.models:
        new = executed(address, model)
        new.subtract(before[model])
        batch += new["inferences"] / max(new["executions"], 1) / len(setup.models)
    return {
        "backend": backend, "what": setup.name, "tokens": length, "load": f"{concurrency} clients",
        "p50": round(statistics.median(times), 2) if times else None,
        "p99": round(times[int(len(times) * 0.99)], 2) if times else None,
        "rate": round(len(times) / elapsed, 1), "batch": round(batch, 2), "failures": failures,
    }  # fmt: skip


def _client(
    address: str, models: Sequence[str], length: int, concurrency: int, seconds: float
) -> tuple[list[float], int, float]:
    """Milliseconds of each request, failures, seconds; after a short run that is not counted."""
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    async def ask() -> tuple[list[float], int, float]:
        client = InferenceServerClient(address)
        generator = np.random.default_rng(os.getpid())
        ids = generator.integers(5, 90, (1, length))
        inputs = [
            InferInput(name, [1, length], "INT64").set_data_from_numpy(value)
            for name, value in (("input_ids", ids), ("attention_mask", np.ones_like(ids)))
        ]
        times: list[float] = []
        failures = 0

        async def loop(until: float, counted: bool) -> None:
            nonlocal failures
            while perf_counter() < until:
                started = perf_counter()
                try:
                    await asyncio.gather(*(client.infer(model, inputs, client_timeout=30) for model in models))
                except InferenceServerException:
                    failures += 1
                    continue
                if counted:
                    times.append((perf_counter() - started) * 1000)

        await asyncio.gather(*(loop(perf_counter() + seconds / 4, False) for _ in range(concurrency)))
        failures, started = 0, perf_counter()
        await asyncio.gather(*(loop(started + seconds, True) for _ in range(concurrency)))
        elapsed = perf_counter() - started
        await client.close()
        return times, failures, elapsed

    return asyncio.run(ask())


def _difference(address: str, exporter: Any) -> float:
    """Largest difference of Triton's answers from ONNX Runtime's on CPU, padded rows of unequal lengths."""
    import onnxruntime as ort
    from tritonclient.grpc import InferenceServerClient, InferInput

    generator = np.random.default_rng(0)
    ids = generator.integers(5, 90, (4, 128))
    mask = np.zeros_like(ids)
    for row, length in enumerate((2, 63, 65, 128)):
        mask[row, :length] = 1
    session = ort.InferenceSession(exporter.paths.repository / "trunk" / "1" / "gpu.onnx")
    names = [output.name for output in session.get_outputs()]
    expected = session.run(names, {"input_ids": ids, "attention_mask": mask})
    client = InferenceServerClient(address)
    inputs = [
        InferInput(name, list(ids.shape), "INT64").set_data_from_numpy(value)
        for name, value in (("input_ids", ids), ("attention_mask", mask))
    ]
    answer = client.infer("trunk", inputs, client_timeout=30)
    client.close()
    return max(float(np.abs(answer.as_numpy(n) - value).max()) for n, value in zip(names, expected, strict=True))


# --- host and page -------------------------------------------------------------------------------------------------


def _host() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    from export import engine

    gpu = engine.find_gpu()
    host: dict[str, Any] = {
        "gpu": asdict(gpu) if gpu else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in ("torch", "transformers", "tensorrt", "nvidia-pytriton", "tritonclient", "onnxruntime", "numpy"):
        try:
            host[package] = version(package)
        except PackageNotFoundError:
            host[package] = None
    return host


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _to_cpu(repository: Path) -> None:
    for path in repository.glob("*/configs/torch.pbtxt"):
        path.write_text(path.read_text().replace("KIND_GPU", "KIND_CPU"))


def _write(report: GpuReport, out: Path) -> None:
    (out / "gpu.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    keys = ("backend", "what", "tokens", "load", "rate", "p50", "p99", "batch", "failures")
    lines = ["# GPU run", "", f"`{json.dumps(report.host)}`", "", "Rate in requests (rows) a second, times in ms.", ""]
    lines += ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(str(figure.get(key, "-")) for key in keys) + " |" for figure in report.figures]
    lines += ["", *(f"- {stage['stage']}: {stage['outcome']} ({stage['seconds']} s)" for stage in report.stages)]
    lines += [f"- {note}" for note in report.notes]
    (out / "gpu.md").write_text("\n".join(lines) + "\n")
