"""What a live Triton answers, and whether it batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export import repository
from export.consistency import shapes
from export.encoder import OnnxEncoder
from export.exporter import ExportError
from export.finding import Finding
from export.manifest import ModelSpec
from export.parity import TEXTS, TOLERANCE, Reference
from triton_router.inference import load_bundle
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows
from triton_router.processes import Process

# Largest difference of int8 between two runs of one graph on one text: a step of an activation may fall to either side.
SAME = 1e-2


def check_triton(
    address: str, root: Path, model: ModelSpec, reference: Reference | None
) -> tuple[dict[str, Any], list[Finding]]:
    """What Triton answers to texts against PyTorch, and whether requests of one bucket are batched.

    Counts executions from Triton's own statistics, so nobody else may be asking this server.
    """
    from tritonclient.grpc import InferenceServerClient, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    findings: list[Finding] = []
    bundle, tokenizers = load_bundle(root / "bundle.json")
    trunk = next(trunk for trunk in bundle.trunks if trunk.name == model.name)
    outputs, windows = list(shapes(trunk)), Windows(trunk, tokenizers[trunk.name])
    client = InferenceServerClient(address)
    measured: dict[str, Any] = {"model": model.name}
    try:
        config = client.get_model_config(model.name).config
        measured["backend"] = config.backend or config.platform
        # The python backend runs ONNX Runtime, or PyTorch's program in the plan's place.
        on_gpu = "tensorrt" in measured["backend"] or config.default_model_filename == repository.TORCH_CODE.name
        flavour = model.precision.gpu if on_gpu else model.precision.cpu
        measured["flavour"] = flavour
        served = config.parameters["bundle_checksum"].string_value
        if served != bundle.checksum:
            findings.append(Finding(model.name, f"Triton serves bundle {served[:12]}…, not {bundle.checksum[:12]}…"))
        largest, from_graph = 0.0, 0.0
        # Without a limit to PyTorch, the answer must at least be the graph's; other backends read the padding too.
        alone = flavour == "int8" and measured["backend"] == "python"
        encoder = OnnxEncoder.served(root, trunk.name) if alone else None
        for text in TEXTS:
            expected = reference.text(text) if reference else {}
            own = encoder.first(text) if encoder is not None else {}
            # No model on Triton reads text for a trunk that reads pairs.
            asked = trunk.model if trunk.pairs else f"{model.name}_text"
            inputs = _ids(trunk, windows, text) if trunk.pairs else _text(text)
            wanted = [InferRequestedOutput(name) for name in outputs]
            answer = client.infer(asked, inputs, outputs=wanted, client_timeout=60)
            for name in outputs:
                value = answer.as_numpy(name)
                if value is None or not np.isfinite(value).all():
                    findings.append(Finding(model.name, f"Triton answers NaN or nothing for {name}"))
                    continue
                if name in expected:
                    actual = value[0][: len(expected[name])]
                    largest = max(largest, float(np.abs(actual - expected[name]).max()))
                if name in own:
                    actual = value[0][: len(own[name])]
                    from_graph = max(from_graph, float(np.abs(actual - own[name]).max()))
        if reference is not None:
            measured["difference"] = largest
            if flavour in TOLERANCE and largest > TOLERANCE[flavour]:
                findings.append(Finding(model.name, f"Triton's answer differs from PyTorch by {largest:.2g}"))
        if from_graph > SAME:
            findings.append(Finding(model.name, f"Triton's answer differs from its own graph by {from_graph:.2g}"))
        measured["batch_sizes"] = _batched(client, trunk, windows)
        if model.max_batch > 1 and not any(int(size) > 1 for size in measured["batch_sizes"]):
            findings.append(Finding(model.name, "48 requests at once of one bucket were not batched"))
    except InferenceServerException as error:
        findings.append(Finding(model.name, f"Triton: {error}"))
    finally:
        client.close()
    return measured, findings


def _text(text: str) -> list[Any]:
    from tritonclient.grpc import InferInput

    return [InferInput("text", [1, 1], "BYTES").set_data_from_numpy(np.array([[text.encode()]], dtype=object))]


def _ids(trunk: Trunk, windows: Windows, text: str) -> list[Any]:
    """The first window of ``text``."""
    from tritonclient.grpc import InferInput

    batch = windows.pad(windows.rows(text)[:1])
    return [
        InferInput(name, value.shape, "INT64").set_data_from_numpy(value)
        for name, value in ((trunk.inputs.ids, batch.ids), (trunk.inputs.mask, batch.mask))
    ]


def _batched(client: Any, trunk: Trunk, windows: Windows) -> dict[str, int]:
    """How often each batch size was executed for 48 requests at once."""

    def executions() -> dict[str, int]:
        model = client.get_inference_statistics(trunk.model).model_stats[0]
        return {str(entry.batch_size): int(entry.compute_infer.count) for entry in model.batch_stats}

    time.sleep(0.3)  # Triton counts an execution after it has answered.
    before = executions()
    inputs = _ids(trunk, windows, TEXTS[0])
    pending = [_future(client, trunk.model, inputs) for _ in range(48)]
    for wait in pending:
        wait()
    new: dict[str, int] = {}
    for _ in range(50):
        new = {size: count - before.get(size, 0) for size, count in executions().items()}
        if sum(int(size) * count for size, count in new.items()) >= 48:
            break
        time.sleep(0.1)
    return {size: count for size, count in new.items() if count}


def _future(client: Any, model: str, inputs: list[Any]) -> Callable[[], None]:
    from threading import Event

    answer, failures = Event(), []

    def answered(result: Any, error: Any) -> None:
        if error is not None:
            failures.append(error)
        answer.set()

    client.async_infer(model, inputs, answered, client_timeout=60)

    def wait() -> None:
        answer.wait(60)
        if failures:
            raise failures[0]

    return wait


@contextmanager
def started(
    root: Path, directory: Path, config_name: str = "cpu", *, models: Sequence[str] = (), seconds: float = 120
) -> Iterator[str]:
    """Start the server of the nvidia-pytriton wheel on ``root`` and wait until it is ready; yields `host:port`.

    Only ``models`` are loaded, if any are named.

    Raises ExportError with the end of its log when it does not come up.
    """
    from triton_router.stack import triton

    grpc_port, metrics_port = _free_ports()
    server = triton.prepare(root, directory, grpc_port=grpc_port, metrics_port=metrics_port)
    command = [part.replace("--model-config-name=cpu", f"--model-config-name={config_name}") for part in server.command]
    if models:
        command += ["--model-control-mode=explicit", *(f"--load-model={model}" for model in models)]
    log = directory / "triton.log"
    process = Process(command, log, environment=server.environment)
    try:
        _wait_ready(process, f"127.0.0.1:{grpc_port}", log, seconds)
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.end(15)
        server.remove_shared_memory()


def _wait_ready(process: Process, address: str, log: Path, seconds: float) -> None:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(address)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and process.code is None:
            try:
                if client.is_server_ready(client_timeout=2):
                    return
            except InferenceServerException:
                pass
            time.sleep(0.2)
    finally:
        client.close()
    lines = log.read_text(errors="replace").splitlines()
    failures = [line for line in lines if "UNAVAILABLE" in line or '] "failed' in line or "error:" in line.lower()]
    raise ExportError("Triton did not come up:\n" + "\n".join((failures or lines)[-15:]))


def _free_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
