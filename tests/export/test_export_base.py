"""The size that is served: ModernBERT-base with random weights through every step that needs no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_export_steps import export

from export import sample as tiny


@pytest.mark.slow
def test_base_size_goes_all_the_way(tmp_path: Path) -> None:
    tiny.embedder(tmp_path / "base", **tiny.BASE)
    model = {"name": "base", "task": "embedding", "source": {"directory": "base"}, "buckets": [64, 128, 512]}
    manifest = tiny.describe(tmp_path / "models.yaml", [model])
    places = ["--manifest", manifest, "--repository", tmp_path / "repository", "--build", tmp_path / "build"]
    print(export("all", "--for", "both", *places))
    print(export("verify", "--for", "both", "--rtx", *places))
    results = json.loads((tmp_path / "build" / "verify.json").read_text())
    assert {entry["flavour"] for entry in results["parity"]} == {"fp32", "fp16"}
    (compiled,) = results["rtx"]
    # Half precision through and through: two bytes for each of 150 million weights.
    assert 1.9 <= compiled["bytes_a_weight"] <= 2.3
    (served,) = results["triton"]
    assert served["difference"] <= 1e-4
