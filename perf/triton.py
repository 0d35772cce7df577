"""Latency and throughput of the signal models on Triton, measured by NVIDIA's perf_analyzer.

Closed loop (so many requests in flight) and open loop (Poisson arrivals at a share of the best closed rate; it
alone shows the tail honestly), by model and bucket. Every CSV is kept; batch sizes come from Triton's statistics.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.live import started
from triton_router.inference import load_bundle
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows

ROOT = Path(__file__).parents[1]
# Matches the server of nvidia-pytriton, and is the last that runs on Debian 12.
CLIENT = "tritonclient==2.51.0"
PLATFORM = "manylinux1_x86_64"
# Configurations that a repository has beside the one for GPUs.
ON_CPU = ("cpu", "onnxruntime")
CLOSED = (1, 2, 4, 8)
OPEN = (0.5, 0.8)
REQUESTS = 300
WARM_REQUESTS = 20
# Long enough to fill any bucket; what it says does not matter.
TEXT = "How do I patch a vulnerable library without stopping the service that uses it? "


@dataclass(frozen=True)
class LoadPoint:
    """One measurement. Milliseconds; ``load`` is requests in flight or, in an open loop, requests a second."""

    model: str
    bucket: int
    loop: str
    load: float
    rate: float
    p50: float
    p90: float
    p99: float
    batch: float
    """Average batch that the model executed."""
    failures: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--address", help="host:port of a running Triton (gRPC); default: one is started")
    parser.add_argument("--model-config-name", default="cpu", help="configuration of the Triton that is started")
    parser.add_argument("--concurrency", type=int, action="append", help="requests in flight; default: 1, 2, 4, 8")
    parser.add_argument("--bucket", type=int, action="append", help="only this padded length; repeat")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each measurement")


def run(arguments: argparse.Namespace) -> None:
    measure(
        arguments.repository, arguments.out, address=arguments.address, config_name=arguments.model_config_name,
        concurrency=arguments.concurrency or CLOSED, buckets=arguments.bucket or (), requests=arguments.requests,
    )  # fmt: skip


def measure(
    repository: Path, out: Path, *, address: str | None = None, config_name: str = "cpu",
    concurrency: Sequence[int] = CLOSED, buckets: Sequence[int] = (), requests: int = REQUESTS, open_loop: bool = True,
) -> list[LoadPoint]:  # fmt: skip
    """Measure every trunk of the bundle in ``repository``; CSVs, `results.json` and a curve go to ``out``.

    address: gRPC of a running Triton that nobody else asks; without one a server is started on ``repository``.
    buckets: only these, where a trunk has them.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = analyzer(ROOT / "build" / "perf_analyzer")
    bundle, tokenizers = load_bundle(repository / "bundle.json")
    points: list[LoadPoint] = []
    with _server(repository, address, config_name) as server:
        for trunk in bundle.trunks:
            for bucket in trunk.buckets:
                if buckets and bucket not in buckets:
                    continue
                data = out / f"{trunk.name}-{bucket}.json"
                data.write_text(json.dumps(_input(trunk, tokenizers[trunk.name], bucket)))
                closed = [
                    _measure(command, server, trunk, bucket, data, out, "closed", load, requests)
                    for load in concurrency
                ]
                points += closed
                best = max(point.rate for point in closed)
                for share in OPEN if open_loop else ():
                    points.append(
                        _measure(command, server, trunk, bucket, data, out, "open", round(best * share, 1), requests)
                    )
    document = {
        "machine": _machine(config_name),
        "config": config_name,
        "requests": requests,
        "points": [asdict(p) for p in points],
    }
    (out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(points, out / "triton-curve.png", f"Triton, {_machine(config_name)}")
    print(f"perf: {out / 'results.json'}, {out / 'triton-curve.png'}", flush=True)
    return points


def analyzer(directory: Path) -> tuple[list[str], dict[str, str]]:
    """The command and environment of perf_analyzer: the one on PATH, else that of the client's wheel."""
    import os

    program = shutil.which("perf_analyzer")
    if program:
        return [program], dict(os.environ)
    binary = directory / "perf_analyzer"
    if not binary.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "--platform", PLATFORM, "--dest", str(directory), CLIENT], check=True)
        wheel = next(directory.glob("tritonclient-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/perf_analyzer"))
            unpacked = directory / "perf_analyzer.part"
            unpacked.write_bytes(archive.read(name))
        unpacked.chmod(0o755)
        unpacked.rename(binary)
        wheel.unlink()
    libraries = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
    for name, pattern in (("libb64.so.0d", "libb64-*.so.0d"), ("libcudart.so.12", "libcudart-*.so.12*")):
        target = next(libraries.glob(pattern), None)
        if target is not None and not (directory / name).exists():
            (directory / name).symlink_to(target)
    paths = [str(directory), os.environ.get("LD_LIBRARY_PATH", "")]
    return [str(binary)], {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def _server(repository: Path, address: str | None, config_name: str) -> Iterator[str]:
    if address is not None:
        yield address
        return
    with started(repository, ROOT / "build" / "perf-triton-server", config_name) as grpc:
        yield grpc


def _input(trunk: Trunk, tokenizer: bytes, bucket: int) -> dict[str, Any]:
    """One text that fills the bucket; perf_analyzer's own random ids would overflow the vocabulary."""
    ids = Windows(trunk, tokenizer).rows(TEXT * (1 + bucket // 8))[0][:bucket]
    ids += [ids[1]] * (bucket - len(ids))
    mask = [1] * bucket
    row = {
        trunk.inputs.ids: {"content": ids, "shape": [bucket]},
        trunk.inputs.mask: {"content": mask, "shape": [bucket]},
    }
    return {"data": [row]}


def _measure(
    command: tuple[list[str], dict[str, str]], server: str, trunk: Trunk, bucket: int, data: Path, out: Path,
    loop: str, load: float, requests: int,
) -> LoadPoint:  # fmt: skip
    base, environment = command
    arguments = [*base, "-m", trunk.model, "-u", server, "-i", "grpc", "--input-data", str(data), "--percentile=99"]
    # In a window it waits for steadiness that a busy machine never shows, and then writes nothing.
    target = out / f"{trunk.name}-{bucket}-{loop}-{load:g}.csv"
    shape = (
        ["--concurrency-range", f"{load:g}"]
        if loop == "closed"
        else ["--request-rate-range", f"{load:g}", "--request-distribution", "poisson"]
    )
    warm = [*arguments, *shape, "--request-count", str(max(WARM_REQUESTS, int(load)))]
    subprocess.run(warm, env=environment, capture_output=True, text=True, timeout=300, check=False)
    before = executed(server, trunk.model)
    count = ["--request-count", str(max(requests, int(load) * 4)), "-f", str(target), "--verbose-csv"]
    every = target.with_suffix(".requests.json")
    every.unlink(missing_ok=True)
    count += ["--profile-export-file", str(every)]
    finished = subprocess.run(
        [*arguments, *shape, *count], env=environment, capture_output=True, text=True, timeout=600
    )
    if finished.returncode or not target.is_file():
        raise RuntimeError(f"perf_analyzer failed: {finished.stdout[-800:]} {finished.stderr[-800:]}")
    new = executed(server, trunk.model)
    new.subtract(before)
    with target.open(newline="") as file:
        row = next(csv.DictReader(file))
    point = LoadPoint(
        trunk.name, bucket, loop, load, round(_rate(every), 1), _ms(row, 50), _ms(row, 90), _ms(row, 99),
        round(new["inferences"] / max(new["executions"], 1), 2), new["failures"],
    )  # fmt: skip
    every.unlink()
    print(f"perf: {point}", flush=True)
    return point


def _ms(row: Mapping[str, str], rank: int) -> float:
    """A percentile of perf_analyzer's CSV, which has microseconds."""
    return round(float(row[f"p{rank} latency"]) / 1000, 2)


def _rate(every: Path) -> float:
    """Requests a second, from when each was sent and answered: `Inferences/Second` divides by whole seconds."""
    (experiment,) = json.loads(every.read_text())["experiments"]
    requests = experiment["requests"]
    first = min(request["timestamp"] for request in requests)
    last = max(request["response_timestamps"][-1] for request in requests)
    return len(requests) * 1e9 / float(last - first)


def executed(server: str, model: str) -> Counter[str]:
    """What Triton counts of a model: `inferences`, `executions` and `failures`."""
    from tritonclient.grpc import InferenceServerClient

    time.sleep(0.3)  # Triton counts an execution after it has answered.
    client = InferenceServerClient(server)
    try:
        statistics = client.get_inference_statistics(model).model_stats[0]
    finally:
        client.close()
    return Counter(
        inferences=int(statistics.inference_count),
        executions=int(statistics.execution_count),
        failures=int(statistics.inference_stats.fail.count),
    )


def draw(points: Sequence[LoadPoint], path: Path, title: str) -> None:
    """Latency over throughput, one line a model and bucket: solid p50, dotted p99, open loops as crosses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name in dict.fromkeys((point.model, point.bucket) for point in points):
        mine = [point for point in points if (point.model, point.bucket) == name]
        closed = [point for point in mine if point.loop == "closed"]
        label = f"{name[0]}, {name[1]} tokens"
        (line,) = axes.plot([p.rate for p in closed], [p.p50 for p in closed], marker="o", markersize=3, label=label)
        colour = line.get_color()
        axes.plot([p.rate for p in closed], [p.p99 for p in closed], linestyle=":", linewidth=0.8, color=colour)
        opened = [point for point in mine if point.loop == "open"]
        axes.plot([p.rate for p in opened], [p.p99 for p in opened], "x", markersize=4, color=colour)
    axes.set(xlabel="requests a second", ylabel="milliseconds", yscale="log", title=title)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _machine(config_name: str) -> str:
    """What computes under that configuration: a GPU that is there is not named where nothing runs on it."""
    import os

    from export.engine import find_gpu

    gpu = find_gpu() if config_name not in ON_CPU else None
    return gpu.name if gpu else f"{os.cpu_count()} {platform.machine()} cores, no GPU"
