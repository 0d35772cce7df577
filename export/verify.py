"""Proof that nothing was lost between the published model and what Triton serves.

Three parts, each usable alone: files and configurations (`consistency`, no PyTorch), every flavour of every graph
against PyTorch in single precision (`parity`), and the answers of a live Triton (`live`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from export import bundle as bundles
from export import engine, repository
from export.checksums import sha256
from export.consistency import check_current, check_files
from export.exporter import Exporter, ExportError, Platform
from export.finding import Finding
from export.live import check_triton, started
from export.manifest import ModelSpec
from export.parity import Parity, Probe, Reference, check_graph
from triton_router.inference import load_bundle

RESULTS = "verify.json"


@dataclass
class VerifyResults:
    """What was checked and measured; written as JSON for the report."""

    versions: dict[str, str] = field(default_factory=dict)
    bundle: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    triton: list[dict[str, Any]] = field(default_factory=list)
    rtx: list[dict[str, Any]] = field(default_factory=list)
    plans: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    """What is wrong, in words."""


PLATFORMS: dict[str, tuple[Platform, ...]] = {"cpu": ("cpu",), "gpu": ("gpu",), "both": ("cpu", "gpu")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundles.add_arguments(parser)
    parser.add_argument("--for", dest="platforms", choices=tuple(PLATFORMS), default="cpu", help="whose flavours")
    parser.add_argument("--no-reference", action="store_true", help="without PyTorch: files and configurations only")
    parser.add_argument(
        "--triton", help="host:port of a running Triton (gRPC); default: one is started for the check; `none`: no check"
    )
    parser.add_argument("--model-config-name", default="cpu", help="configuration of the Triton that is started")
    parser.add_argument("--rtx", action="store_true", help="also compile the GPU graphs with TensorRT for RTX")


def run(arguments: argparse.Namespace) -> None:
    verify(
        bundles.exporter(arguments),
        PLATFORMS[arguments.platforms],
        reference=not arguments.no_reference,
        triton=arguments.triton,
        config_name=arguments.model_config_name,
        rtx=arguments.rtx,
    )


def verify(
    exporter: Exporter,
    platforms: Sequence[Platform],
    *,
    reference: bool,
    triton: str | None,
    config_name: str,
    rtx: bool,
) -> VerifyResults:
    """All checks of a bundle, results beside the build's other files.

    Raises ExportError listing every finding.
    """
    from importlib.metadata import PackageNotFoundError, version

    root = exporter.paths.repository
    results = VerifyResults()
    for package in ("torch", "transformers", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "nvidia-pytriton"):
        try:
            results.versions[package] = version(package)
        except PackageNotFoundError:
            continue
    findings = check_files(root, exporter.models, platforms)
    exporter.progress(f"verify: files and configurations, {len(findings)} findings")
    if not findings:
        bundle, _ = load_bundle(root / "bundle.json")
        results.bundle = bundle.checksum
        findings += check_current(exporter, bundle, platforms)
        if "gpu" in platforms:
            results.plans = [
                json.loads(path.read_text())
                for model in exporter.models
                for path in sorted((root / model.name / "1").glob("model_sm*.json"))
            ]
    judges: dict[str, Reference] = {}
    for model in exporter.models:
        results.models.append(_described(exporter, model))
        probe = Probe(exporter, model)
        if reference:
            judges[model.name] = Reference(exporter, probe)
        for flavour in _flavours(model, platforms, reference=reference):
            if flavour == "bf16":
                results.notes.append(f"{model.name}: ONNX Runtime has no bf16 on CPU; parity was not measured")
                continue
            parity, problems = check_graph(probe, flavour, exporter.flavour(model, flavour), judges.get(model.name))
            results.parity.append(parity)
            findings += problems
            exporter.progress(f"verify: {model.name}, {flavour}: {_summary(parity)}")
    if not reference:
        results.notes.append("Parity with PyTorch was not measured in this run.")
    if rtx:
        try:
            paths = engine.requests(root, [model.name for model in exporter.models])
            results.rtx = engine.compile_all(paths, engine.RTX_TARGET, exporter.progress)
        except engine.EngineError as error:
            findings.append(Finding("", str(error)))
    if triton != "none" and not findings:
        with _server(root, exporter.paths.build, triton, config_name, exporter.progress) as address:
            for model in exporter.models:
                measured, problems = check_triton(address, root, model, judges.get(model.name))
                results.triton.append(measured)
                findings += problems
                exporter.progress(f"verify: {model.name} on Triton: {json.dumps(measured)}")
    results.findings = [str(finding) for finding in findings]
    target = exporter.paths.build / RESULTS
    target.write_text(json.dumps(asdict(results), indent=1) + "\n")
    if findings:
        raise ExportError("verify found:\n" + "\n".join(f"  {finding}" for finding in results.findings))
    exporter.progress(f"verify: all well, {target}")
    return results


def _flavours(model: ModelSpec, platforms: Sequence[Platform], *, reference: bool) -> list[str]:
    flavours = ["fp32"] if reference else []
    flavours += [getattr(model.precision, platform) for platform in platforms]
    return list(dict.fromkeys(flavours))


def _described(exporter: Exporter, model: ModelSpec) -> dict[str, Any]:
    graphs = {}
    for name in (repository.CPU_GRAPH, repository.GPU_GRAPH):
        path = exporter.paths.repository / model.name / "1" / name
        if path.is_file():
            graphs[name] = {"sha256": sha256(path), "mib": path.stat().st_size >> 20}
    trunk = exporter.trunk(model)
    return {
        "name": model.name,
        "source": model.source.spec,
        "id": trunk.model_id,
        "task": model.task,
        "outputs": {output.name: output.width for output in trunk.outputs},
        "weights_sha256": trunk.weights_sha256,
        "delta": exporter.delta(model),
        "tokenizer_sha256": trunk.tokenizer.sha256,
        "precision": model.precision.model_dump(),
        "buckets": list(model.buckets),
        "graphs": graphs,
    }


def _summary(parity: Parity) -> str:
    if not parity.difference:
        return f"{parity.rows} rows, not compared with PyTorch"
    largest = max(parity.difference.values(), default=0.0)
    agreement = min(parity.agreement.values(), default=1.0)
    return f"{parity.rows} rows, largest difference {largest:.2g}, same label {agreement:.1%}"


@contextmanager
def _server(
    root: Path, build: Path, address: str | None, config_name: str, progress: Callable[[str], None]
) -> Iterator[str]:
    """The address of a Triton that serves ``root``: the one given, or one that lives as long as the context."""
    if address is not None:
        yield address
        return
    with started(root, build / "triton", config_name) as grpc:
        progress(f"verify: Triton is up at {grpc}")
        yield grpc
