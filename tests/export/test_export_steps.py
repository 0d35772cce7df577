"""All steps from a published encoder to a Triton that answers, for encoders made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import sample as tiny

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def export(*arguments: object) -> str:
    """Run `python -m export`; returns what it printed."""
    command = [sys.executable, "-m", "export", *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, env=environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object], str]:
    """A ModernBERT with a classifier tuned from it, and an mmBERT-like classifier of tokens, in one bundle."""
    root = tmp_path_factory.mktemp("steps")
    tiny.embedder(root / "trunk")
    tiny.tuned(root / "tuned", root / "trunk", ["law", "sports", "other"], shared=3)
    tiny.classifier(root / "pii", ["O", "B-NAME", "I-NAME"], gemma=True, tokens=True)
    common = {"buckets": [16, 64, 128], "max_tokens": 128, "max_batch": 4, "graph_batches": [1, 4]}
    heads = [{"name": "topic", "source": {"directory": "tuned"}, "temperature": 1.5}]
    models = [
        {"name": "modern", "task": "embedding", "source": {"directory": "trunk"}, "dimension": 32, "heads": heads},
        {"name": "pii", "task": "token-classification", "source": {"directory": "pii"}},
    ]
    manifest = tiny.describe(root / "models.yaml", [model | common for model in models])
    places = ["--manifest", manifest, "--repository", root / "repository", "--build", root / "build"]
    return root, places, export("all", "--for", "both", *places)


def test_layers_that_are_the_trunks_are_computed_once(exported: tuple[Path, list[object], str]) -> None:
    import onnx

    root, _, output = exported
    assert "head topic shares 3 layers with the trunk" in output
    nodes = onnx.load(root / "build" / "modern" / "encoder.fp32.onnx").graph.node
    # Four layers of the trunk, the fourth of the head once more, and the head's own.
    assert sum(node.op_type == "Softmax" for node in nodes) == 6
    nodes = onnx.load(root / "repository" / "modern" / "1" / "gpu.onnx").graph.node
    assert sum(node.op_type == "Attention" for node in nodes) == 5


def test_everything_agrees_with_pytorch_compiles_and_is_served(exported: tuple[Path, list[object], str]) -> None:
    root, places, _ = exported
    export("verify", "--for", "both", "--rtx", *places)
    results = json.loads((root / "build" / "verify.json").read_text())
    assert {(entry["model"], entry["flavour"]) for entry in results["parity"]} == {
        (model, flavour) for model in ("modern", "pii") for flavour in ("fp32", "fp16")
    }
    for entry in results["parity"]:
        # 16 and 64 tokens hold rows shorter, equal to and longer than the attention window.
        assert "4x16" in entry["batches"] and "4x64" in entry["batches"] and "4x128" in entry["batches"]
        assert max(entry["difference"].values()) <= (1e-4 if entry["flavour"] == "fp32" else 2e-2)
    assert [entry["model"] for entry in results["rtx"]] == ["modern", "pii"]
    assert all(entry["matrix_products"]["HALF"] > entry["matrix_products"].get("FLOAT", 0) for entry in results["rtx"])
    assert [entry["profiles"] for entry in results["rtx"]] == [3, 3]
    for entry in results["triton"]:
        assert entry["difference"] <= 1e-4
        assert any(int(size) > 1 for size in entry["batch_sizes"])


def test_a_second_run_does_nothing_again(exported: tuple[Path, list[object], str]) -> None:
    root, places, _ = exported
    before = (root / "repository" / "modern" / "1" / "model.onnx").stat().st_mtime_ns
    output = export("all", "--for", "both", *places)
    steps = [line for line in output.splitlines() if not line.startswith("export: repository")]
    assert all(line.endswith("unchanged") for line in steps)
    assert (root / "repository" / "modern" / "1" / "model.onnx").stat().st_mtime_ns == before


def test_the_same_weights_give_the_same_graph(exported: tuple[Path, list[object], str], tmp_path: Path) -> None:
    root, places, _ = exported
    again = [tmp_path if place == root / "build" else place for place in places]
    again = [tmp_path / "repository" if place == root / "repository" else place for place in again]
    export("onnx", *again)
    for model in ("modern", "pii"):
        one, other = (place / model / "encoder.fp32.onnx" for place in (root / "build", tmp_path))
        assert one.read_bytes() == other.read_bytes()


def test_what_stands_in_for_a_plan_answers_as_the_graph_does(exported: tuple[Path, list[object], str]) -> None:
    """PyTorch's program in the python backend; here on the CPU, as there is no GPU."""
    import numpy as np
    import onnxruntime as ort
    from tritonclient.grpc import InferenceServerClient, InferInput

    from export import live

    root, places, _ = exported
    export("all", "--for", "torch", *places)
    config = root / "repository" / "modern" / "configs" / "torch.pbtxt"
    config.write_text(config.read_text().replace("KIND_GPU", "KIND_CPU"))
    ids = np.random.default_rng(1).integers(5, 90, (3, 64))
    mask = np.ones_like(ids)
    mask[1, 2:] = 0
    session = ort.InferenceSession(root / "build" / "modern" / "encoder.fp16.onnx")
    expected = session.run(["embedding", "topic"], {"input_ids": ids, "attention_mask": mask})
    with live.started(root / "repository", root / "torch", "torch", models=["modern"]) as address:
        client = InferenceServerClient(address)
        inputs = [
            InferInput(name, [3, 64], "INT64").set_data_from_numpy(value)
            for name, value in (("input_ids", ids), ("attention_mask", mask))
        ]
        answer = client.infer("modern", inputs, client_timeout=60)
        client.close()
    for name, value in zip(("embedding", "topic"), expected, strict=True):
        np.testing.assert_allclose(answer.as_numpy(name), value, atol=2e-2)
