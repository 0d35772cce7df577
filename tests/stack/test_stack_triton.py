"""The real tritonserver, as the wheel brings it, with a model that the test makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as client
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for

from triton_router.stack import triton

CONFIGURATION = """
name: "identity"
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
MODEL = """
import triton_python_backend_utils as backend

class TritonPythonModel:
    def execute(self, requests):
        tensors = [backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [backend.InferenceResponse([backend.Tensor("y", tensor)]) for tensor in tensors]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    model = tmp_path / "models" / "identity"
    (model / "1").mkdir(parents=True)
    (model / "configs").mkdir()
    (model / "configs" / "cpu.pbtxt").write_text(CONFIGURATION)
    (model / "1" / "model.py").write_text(MODEL)
    return tmp_path / "models"


def start(server: triton.Triton, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(server.command, env=server.environment, stdout=output, stderr=output)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with client.InferenceServerClient(f"127.0.0.1:{port}") as triton:
            try:
                return bool(triton.is_server_ready())
            except client.InferenceServerException:
                return False

    try:
        wait_for(ready, "Triton ready")
    except BaseException:
        process.kill()
        raise
    return process


def segments(prefix: str) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"{prefix}*")]


@pytest.mark.e2e
def test_it_serves_ends_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    server = triton.prepare(repository, tmp_path / "run", grpc_port=port, metrics_port=metrics)
    process = start(server, port, tmp_path / "log")
    try:
        with client.InferenceServerClient(f"127.0.0.1:{port}") as connection:
            tensor = client.InferInput("x", [1, 2], "FP32")
            tensor.set_data_from_numpy(np.array([[1, 2]], np.float32))
            assert connection.infer("identity", [tensor]).as_numpy("y").tolist() == [[1, 2]]
        assert segments(server.shared_memory_prefix)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not segments(server.shared_memory_prefix)


def test_only_segments_of_this_run_directory_are_removed(repository: Path, tmp_path: Path) -> None:
    ours = triton.prepare(repository, tmp_path / "a")
    other = triton.prepare(repository, tmp_path / "b")
    paths = [Path("/dev/shm") / f"{server.shared_memory_prefix}test" for server in (ours, other)]
    for path in paths:
        path.touch()
    try:
        assert ours.remove_shared_memory() == 1
        assert [path.exists() for path in paths] == [False, True]
    finally:
        assert other.remove_shared_memory() == 1


def test_the_backend_is_laid_out_once(repository: Path, tmp_path: Path) -> None:
    def inodes() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in (tmp_path / "run" / "backends" / "python").iterdir()}

    triton.prepare(repository, tmp_path / "run")
    first = inodes()
    assert len(first) == 3
    triton.prepare(repository, tmp_path / "run")
    assert inodes() == first


def test_without_the_wheel_it_says_how_to_get_it() -> None:
    code = "from pathlib import Path; from triton_router.stack import triton; triton.prepare(Path('m'), Path('r'))"
    # -S: this Python without its site-packages.
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 1
    assert 'pip install "nvidia-pytriton==' in result.stderr
