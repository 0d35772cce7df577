"""TensorRT plans from the graphs of a model repository, on the GPU that will serve them.

Needs the standard library and TensorRT's Python package, nothing else, so that it runs in NVIDIA's serving image as the
init container of a Triton pod: `python -m export.engine --repository REPOSITORY`. What to build stands beside each
graph in `gpu.json`, which `python -m export all --for gpu` writes.

The same code drives TensorRT 10 and 11 and TensorRT for RTX, whose builder needs no GPU (`--rtx`): with that one a
graph is really parsed and compiled on any machine, and what comes out is only good for the check.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from export.checksums import sha256

FORMAT = 1
REQUEST = "gpu.json"
# What `build` leaves beside a request.
PLANS = "model_sm*"
# What `copy` brought into a repository, and may therefore take away.
COPIED = ".copied.json"
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
# A plan holds its weights once, with kernels and tables beside; small networks are mostly those.
SLACK_BYTES = 64 << 20
# What an RTX plan is compiled for when no GPU says it: Ada.
RTX_TARGET = "8.9"


class EngineError(ValueError):
    """A plan cannot be built, or is not what was asked for; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that a plan is built on. ``capability`` as `9.0`."""

    name: str
    capability: str
    driver: str


def plan_name(capability: str) -> str:
    """As `cc_model_filenames` in `config.pbtxt` has it: `model_sm90.plan` for capability 9.0."""
    return f"model_sm{capability.replace('.', '')}.plan"


def find_gpus() -> list[Gpu]:
    """Those that the driver's own tool names; none where there is no driver."""
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    lines = ([part.strip() for part in line.rsplit(",", 2)] for line in output)
    return [Gpu(*parts) for parts in lines if len(parts) == 3]


def find_gpu() -> Gpu | None:
    """The first GPU, or None."""
    return next(iter(find_gpus()), None)


def copy(source: Path, repository: Path, progress: Callable[[str], None]) -> None:
    """Bring the files of ``source`` into ``repository``, where plans are kept between starts.

    What differs in content is replaced, whatever the files' dates say: after a rollback the older file is the right
    one. What an earlier `copy` brought and ``source`` no longer has goes away, with the plans of models that are gone;
    other files stay. Whether a plan is current, `build` tells by its manifest.

    Raises:
        EngineError: ``source`` has no files: a mistyped path must not take everything away.
    """
    repository.mkdir(parents=True, exist_ok=True)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    if not files:
        raise EngineError(f"{source}: there are no files to bring")
    for name in files:
        target = repository / name
        if not target.is_file() or sha256(target) != sha256(source / name):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.partial")
            shutil.copy(source / name, partial)
            partial.replace(target)
            progress(f"{name}: brought")
    for name in sorted(_copied(repository) - set(files)):
        stale = repository / name
        stale.unlink(missing_ok=True)
        if name.name == REQUEST:
            for plan in stale.parent.glob(PLANS):
                plan.unlink()
        for directory in (repository / parent for parent in name.parents[:-1]):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
        progress(f"{name}: taken away")
    (repository / COPIED).write_text(json.dumps([str(name) for name in files], indent=1) + "\n")


def _copied(repository: Path) -> set[Path]:
    try:
        return {Path(name) for name in json.loads((repository / COPIED).read_text())}
    except (OSError, ValueError):
        return set()


def build(
    request_file: Path, gpu: Gpu, *, level: int, workspace_mib: int, cache: Path | None, progress: Callable[[str], None]
) -> Path:
    """Build the plan that ``request_file`` asks for beside it, with a manifest, if it is not there and current.

    cache: directory of timing caches; one file for each GPU model, driver and TensorRT, which is all they are good for.

    Raises:
        EngineError: the graph is not the one that was asked for, TensorRT refuses it, or the precision is another.
    """
    trt = importlib.import_module("tensorrt")
    request = read_request(request_file)
    plan = request_file.with_name(plan_name(gpu.capability))
    described = {
        "format": FORMAT,
        "onnx_sha256": request["onnx_sha256"],
        "precision": request["precision"],
        "profiles": request["profiles"],
        "tensorrt": trt.__version__,
        "gpu": gpu.name,
        "compute_capability": gpu.capability,
        "driver": gpu.driver,
        "optimization_level": level,
    }
    manifest = plan.with_suffix(".json")
    if _current(manifest, plan, described):
        progress(f"{request['model']}: {plan.name}, unchanged")
        return plan
    started = perf_counter()
    timing = None
    if cache is not None:
        key = hashlib.sha256(f"{gpu.name} {gpu.driver} {trt.__version__}".encode()).hexdigest()[:16]
        timing = cache / f"timing-{key}.bin"
    progress(f"{request['model']}: building {plan.name} for {gpu.name}, minutes")
    content, checks = compile_graph(
        trt, request_file.parent, request, level=level, workspace_mib=workspace_mib, timing=timing
    )
    partial = plan.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(plan)
    seconds = round(perf_counter() - started, 1)
    document = described | {"plan_sha256": hashlib.sha256(content).hexdigest(), "checks": checks, "seconds": seconds}
    manifest.write_text(json.dumps(document, indent=1) + "\n")
    progress(f"{request['model']}: {plan.name}, {len(content) >> 20} MiB, {seconds} s")
    return plan


def read_request(path: Path) -> dict[str, Any]:
    """Raises EngineError when the request cannot be read or its graph is not the one it was written for."""
    try:
        request: dict[str, Any] = json.loads(path.read_text())
        checksum = sha256(path.with_name(request["onnx"]))
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"{path}: {error!r}; `python -m export all --for gpu` writes it") from error
    if checksum != request["onnx_sha256"]:
        raise EngineError(f"{path.with_name(request['onnx'])} is not the graph that {path.name} was written for")
    return request


def compile_graph(
    trt: Any, directory: Path, request: dict[str, Any], *, level: int, workspace_mib: int = 4096,
    timing: Path | None = None, targets: tuple[str, ...] = (),
) -> tuple[bytes, dict[str, Any]]:  # fmt: skip
    """Parse and build; returns the serialised plan and what was checked on it.

    trt: the module `tensorrt` or `tensorrt_rtx`. targets: compute capabilities, for RTX on a machine without a GPU.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # Types are those of the graph. TensorRT 11 knows nothing else and may drop the flag; 10 needs it.
    strongly = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(1 << int(strongly) if strongly is not None else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(directory / request["onnx"])):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineError(f"{request['model']}: TensorRT does not read the graph: {errors}")
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    if sorted(inputs) != sorted(request["inputs"]):
        raise EngineError(f"{request['model']}: the graph has inputs {inputs}, expected {request['inputs']}")
    types = check_types(trt, network, request)

    config = builder.create_builder_config()
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target.replace('.', '')}"), index)
    else:
        config.builder_optimization_level = level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    for profile in request["profiles"]:
        shapes = builder.create_optimization_profile()
        for name in inputs:
            shapes.set_shape(name, *zip(profile["batch"], profile["tokens"], strict=True))
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(f"{request['model']}: TensorRT refuses the profile {profile}")
    if timing is not None:
        load_timing(config, timing)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{request['model']}: TensorRT parsed the graph and could not build it; its log says why")
    content = bytes(plan)
    if timing is not None:
        save_timing(config, timing)
    return content, {**types, **check_size(len(content), request), "profiles": len(request["profiles"])}


def load_timing(config: Any, path: Path) -> None:
    """Give the builder what is known of kernels; nothing where ``path`` is not there or TensorRT does not take it."""
    cache = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timing(config: Any, path: Path) -> None:
    """Whole or not at all: a pod may be stopped while it writes."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(bytes(cache.serialize()))
    partial.replace(path)


def check_named(request_file: Path, gpu: Gpu) -> None:
    """Raises EngineError where the model's `config.pbtxt` names no plan for ``gpu``: Triton would look for another."""
    config = request_file.parent.parent / "config.pbtxt"
    name = plan_name(gpu.capability)
    if config.is_file() and name not in config.read_text():
        raise EngineError(
            f"{config} names no plan for compute capability {gpu.capability} ({gpu.name}): add "
            f'`cc_model_filenames {{ key: "{gpu.capability}" value: "{name}" }}`'
        )


def check_types(trt: Any, network: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Count the types in which products are computed. An engine in the wrong precision works, and is slow.

    Raises EngineError when most of them are not in the precision that was asked for.
    """
    precision = {"fp16": trt.DataType.HALF, "bf16": trt.DataType.BF16, "fp32": trt.DataType.FLOAT}[request["precision"]]
    kinds = {trt.LayerType.MATRIX_MULTIPLY}
    products: dict[str, int] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in kinds:
            kind = str(layer.get_output(0).dtype).split(".")[-1]
            products[kind] = products.get(kind, 0) + 1
    right, total = products.get(str(precision).split(".")[-1], 0), sum(products.values())
    # Heads and pooling stay in single precision on purpose.
    if total and right < total / 2:
        raise EngineError(f"{request['model']}: {request['precision']} was asked for, matrix products are {products}")
    return {"matrix_products": products}


def check_size(size: int, request: dict[str, Any]) -> dict[str, Any]:
    """A plan of halves takes about two bytes a weight.

    Raises EngineError for one that is larger than its precision explains.
    """
    most = int(request["weights"] * BYTES[request["precision"]] * 1.25) + SLACK_BYTES
    if size > most:
        raise EngineError(
            f"{request['model']}: the plan has {size >> 20} MiB, {request['precision']} explains {most >> 20}: it was "
            "built in another precision"
        )
    return {"bytes_a_weight": round(size / max(request["weights"], 1), 2)}


def check_plan(plan: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Compare a plan with the manifest beside it and with the request. Needs no TensorRT.

    Raises EngineError naming what does not fit: the plan's bytes, the graph, the precision or the profiles.
    """
    manifest = plan.with_suffix(".json")
    try:
        described: dict[str, Any] = json.loads(manifest.read_text())
    except (OSError, ValueError) as error:
        raise EngineError(f"{manifest}: {error}; build the plan again with `python -m export engine`") from error
    keys = ("plan_sha256", "onnx_sha256", "precision", "profiles")
    if not isinstance(described, dict) or not described.keys() >= set(keys):
        raise EngineError(
            f"{manifest}: does not say {', '.join(keys)}; build the plan again with `python -m export engine`"
        )
    if sha256(plan) != described["plan_sha256"]:
        raise EngineError(f"{plan} is corrupted or was replaced: its checksum is not the one in {manifest.name}")
    for key, name in (("onnx_sha256", "graph"), ("precision", "precision"), ("profiles", "profiles")):
        if described[key] != request[key]:
            raise EngineError(f"{plan} was built for another {name}: {described[key]}, now {request[key]}")
    return described


def requests(repository: Path, models: list[str]) -> list[Path]:
    """The request of each model in ``repository``; of ``models`` only if any are named.

    Raises EngineError when there is none.
    """
    paths = sorted(repository.glob(f"*/1/{REQUEST}"))
    chosen = [path for path in paths if not models or path.parent.parent.name in models]
    if not chosen or (models and len(chosen) < len(models)):
        there = ", ".join(path.parent.parent.name for path in paths) or "none"
        raise EngineError(f"{repository}: GPU graphs of {there}; `python -m export all --for gpu` makes them")
    return chosen


def _current(manifest: Path, plan: Path, described: dict[str, Any]) -> bool:
    try:
        record = json.loads(manifest.read_text())
        return all(record[key] == value for key, value in described.items()) and sha256(plan) == record["plan_sha256"]
    except (OSError, ValueError, KeyError):
        return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="Triton model repository")
    parser.add_argument("--from", dest="source", type=Path, metavar="REPOSITORY", help="bring its files there first")
    parser.add_argument("--model", action="append", default=[], help="only this model; repeat")
    parser.add_argument("--level", type=int, default=3, choices=range(6), help="builder optimisation level")
    parser.add_argument("--workspace-mib", type=int, default=4096, help="memory for trying kernels")
    parser.add_argument("--timing-cache", type=Path, help="directory of timing caches, kept between builds")
    parser.add_argument("--rtx", action="store_true", help="compile with TensorRT for RTX, as a check; keep nothing")
    parser.add_argument("--rtx-target", default=RTX_TARGET, help="its compute capability (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Raises EngineError; see `build`."""
    cache: Path | None = arguments.timing_cache
    if cache is not None and cache.resolve().is_relative_to(arguments.repository.resolve()):
        raise EngineError(
            f"{cache} lies in the model repository, where Triton takes every directory for a model and does not start; "
            "put it beside"
        )
    if arguments.source is not None:
        copy(arguments.source, arguments.repository, _say)
    chosen = requests(arguments.repository, arguments.model)
    if arguments.rtx:
        compile_all(chosen, arguments.rtx_target, _say)
        return
    gpus = find_gpus()
    if not gpus:
        raise EngineError("no GPU here: plans are built on the GPU that serves them. `--rtx` checks graphs without one")
    gpu = gpus[0]
    if len({each.capability for each in gpus}) > 1:
        # TensorRT builds on CUDA's first GPU, which need not be the driver's; and Triton serves on all.
        kinds = ", ".join(f"{each.name} ({each.capability})" for each in gpus)
        raise EngineError(f"GPUs of several kinds here, and a plan fits one: {kinds}; show this container one kind")
    for path in chosen:
        check_named(path, gpu)
    try:
        importlib.import_module("tensorrt")
    except ImportError as error:
        raise EngineError(f"TensorRT's Python package is not usable here: {error}") from error
    for path in chosen:
        build(path, gpu, level=arguments.level, workspace_mib=arguments.workspace_mib, cache=cache,
              progress=_say)  # fmt: skip


def compile_all(chosen: list[Path], target: str, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Parse and compile each graph with TensorRT for RTX, for ``target``; returns what was checked on each.

    Raises EngineError as `compile_graph` does, or when the package is not installed.
    """
    try:
        rtx = importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        raise EngineError(f"`pip install tensorrt-rtx==1.7.1.116` brings the builder: {error}") from error
    results = []
    for path in chosen:
        started = perf_counter()
        request = read_request(path)
        content, checks = compile_graph(rtx, path.parent, request, level=3, targets=(target,))
        seconds = round(perf_counter() - started, 1)
        progress(f"{request['model']}: TensorRT-RTX {rtx.__version__} compiles it for sm{target}, {seconds} s")
        results.append({"model": request["model"], "rtx": rtx.__version__, "target": target,
                        "mib": len(content) >> 20, "seconds": seconds, **checks})  # fmt: skip
    return results


def _say(text: str) -> None:
    print(f"engine: {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.engine", description=__doc__)
    add_arguments(parser)
    try:
        run(parser.parse_args(arguments))
    except EngineError as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
