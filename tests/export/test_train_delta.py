"""`train-delta`: several heads change one trunk, and what they learnt is served."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training import declared, describe, train_head, workplace  # noqa: F401 - a fixture
from tiny_bert import LAYERS, TinyBert

from export import delta, head
from export.__main__ import main
from export.bundle import ROOT

RECIPE: dict[str, Any] = {
    "features": ["mean.3", "mean.0"],
    "rank": 4,
    "epochs": 2,
    "learning_rate": 1e-2,
    "tokens": 32,
    "without": ["closed"],
    "languages": ["en"],
    "tasks": [
        {"name": "topic", "data": ["rows.jsonl"]},
        {"name": "attack", "data": ["attacks.jsonl:2"], "labels": {"bad": "jailbreak"}, "passages": "benign"},
    ],
}


@pytest.fixture
def places(workplace: list[str], tmp_path: Path) -> list[str]:  # noqa: F811
    """Next to the rows of `topic`, long texts with an attack in one passage."""
    generator = random.Random(1)
    with (tmp_path / "attacks.jsonl").open("w") as file:
        for _ in range(80):
            kind = generator.choice(["bad", "benign"])
            words = ["w1"] * 600
            if kind == "bad":
                words[generator.randrange(600)] = "w59"
            file.write(json.dumps({"text": " ".join(words), "label": kind, "lang": "en"}) + "\n")
        file.write(json.dumps({"text": "w1", "label": "benign", "lang": "de"}) + "\n")
        file.write(json.dumps({"text": "w1", "label": "benign", "source": "closed:part"}) + "\n")
    return workplace


def train_delta(root: Path, places: list[str], *more: str, **changes: Any) -> int:
    (root / "recipe.yaml").write_text(json.dumps(RECIPE | changes))
    arguments = ["train-delta", *places, "--recipe", str(root / "recipe.yaml"), *more]
    return main([*arguments, "--out", str(root / "delta.safetensors")])


def loaded(root: Path, fork: int = 0) -> delta.Delta:
    from export.checksums import sha256

    directory = Path(str(declared(root)["source"]["directory"]))  # type: ignore[index]
    return delta.load(root / "delta.safetensors", sha256(directory / "model.safetensors"), fork)


@pytest.mark.slow
@pytest.mark.parametrize("fork", [0, 2])
def test_a_delta_and_heads_on_its_states_are_served(
    fork: int, places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime as ort
    from test_graph import LENGTHS, batch, run

    assert main(["all", *places]) == 0

    def embedding() -> np.ndarray:
        path = tmp_path / "repository" / "tiny" / "1" / "model.onnx"
        return run(ort.InferenceSession(path, providers=["CPUExecutionProvider"]), *batch(LENGTHS, 24))["embedding"]

    published = embedding()
    assert train_delta(tmp_path, places, fork=fork) == 0
    assert "embedding before and after: cosine" in capsys.readouterr().out
    topic, attack = loaded(tmp_path, fork).training["tasks"]
    assert (topic["head"], topic["data"][0]["rows"]) == ("topic", 240)
    assert (attack["head"], attack["data"][0]["rows"]) == ("attack", 80), "one row is closed, one is German"

    heads = [{"name": name, "file": f"{name}.json"} for name in ("topic", "attack")]
    describe(tmp_path, declared(tmp_path) | {"delta": "delta.safetensors", "fork": fork, "heads": heads})
    train_head(tmp_path, places)
    attacks = ["--data", str(tmp_path / "attacks.jsonl"), "--passages", "benign", "--name", "attack"]
    assert main(["train-head", *places, *attacks, "--features", "mean.3", "--out", str(tmp_path / "attack.json")]) == 0
    assert main(["all", *places]) == 0
    bundle = json.loads((tmp_path / "repository" / "bundle.json").read_text())
    trained = head.load(tmp_path / "topic.json")
    assert bundle["trunks"][0]["delta"]["sha256"] == trained.training["delta"]["sha256"]
    assert [each["name"] for each in bundle["trunks"][0]["heads"]] == ["topic", "attack"]
    if fork:
        np.testing.assert_array_equal(embedding(), published)
    else:
        assert np.abs(embedding() - published).max() > 1e-4
    # What was trained is what is served: the delta of another run is not these heads'.
    assert train_delta(tmp_path, places, fork=fork, seed=1) == 0
    assert main(["all", *places]) == 1
    assert "was trained with delta" in capsys.readouterr().err


@pytest.mark.slow
def test_training_goes_on_from_a_delta_and_leaves_the_layers_below(places: list[str], tmp_path: Path) -> None:
    assert train_delta(tmp_path, places, rank=2) == 0
    start = (tmp_path / "delta.safetensors").rename(tmp_path / "start.safetensors")
    assert train_delta(tmp_path, places, "--from", str(start), layers=1) == 0
    after = loaded(tmp_path)
    (tmp_path / "delta.safetensors").unlink()
    start.rename(tmp_path / "delta.safetensors")
    before = loaded(tmp_path)
    assert len(after.training["start"]) == 64
    for (layer, _), pair in before.matrices.items():
        if layer < LAYERS - 1:
            for old, new in zip(pair, after.matrices[layer, _], strict=True):
                np.testing.assert_array_equal(old, new)
    assert {len(a) for (layer, _), (a, _b) in after.matrices.items() if layer == LAYERS - 1} == {4}


@pytest.mark.slow
def test_layers_that_do_not_change_may_run_once(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learnt is the same, but for the half precision in which their states are kept."""
    from export import tuning

    learnt = []
    for _ in range(2):
        assert train_delta(tmp_path, places, layers=1, features=["mean.3", "mean.2"], epochs=1) == 0
        matrices = loaded(tmp_path).matrices
        learnt.append(np.concatenate([side.ravel() for _, pair in sorted(matrices.items()) for side in pair]))
        monkeypatch.setattr(tuning._TunableTrunk, "_freeze", lambda *_: None)
    assert not np.array_equal(*learnt), "the second run kept states too"
    assert np.corrcoef(*learnt)[0, 1] > 0.99


@pytest.mark.slow
def test_two_texts_are_joined_by_the_tokenizers_own_token(tiny_bert: TinyBert) -> None:
    """As the router joins them: it reads both at once."""
    from export import tuning
    from export.encoder import SEPARATOR

    settings = tuning.DeltaSettings(("mean.3",), "mean", 2, 1, 1e-3, 0.0, 0, 32, 0)
    trunk = tuning._TunableTrunk(tiny_bert.directory, settings)
    (one, two), (both,) = trunk.tokens(["w1 w2", "w3"]), trunk.tokens([f"w1 w2{SEPARATOR}w3"])
    assert both == [*one, *two[1:]]


@pytest.mark.slow
def test_two_processes_share_the_steps(places: list[str], tmp_path: Path) -> None:
    """Each gets the mean gradient, so both end with the same matrices."""
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    script = tmp_path / "one.sh"
    out = f'"{tmp_path}/delta.$RANK"'
    recipe = f'--recipe "{tmp_path}/recipe.yaml"'
    script.write_text(f'exec "{sys.executable}" -m export train-delta {" ".join(places)} {recipe} --out {out}\n')
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "sh", str(script)], cwd=ROOT, env=environment, check=True, timeout=300)
    assert (tmp_path / "delta.0").read_bytes() == (tmp_path / "delta.1").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"features": ["mean.2"], "fork": 4}, f"fork 4 of a trunk with {LAYERS} layers"),
        ({"features": ["mean.7"]}, "no feature 'mean.7': expected mean.N, max.N or cls.N, N up to 3"),
    ],
)
def test_a_trunk_without_the_fork_or_the_feature_is_refused(
    changes: dict[str, Any], cause: str, places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_delta(tmp_path, places, **changes) == 1
    assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"tasks": [{"name": "topic", "data": ["lost.jsonl"]}]}, r"task topic: no lost.jsonl in "),
        ({"tasks": [{"name": "topic", "data": []}], "epoch": 2}, "tasks.0.data: "),
        ({"epoch": 2}, "epoch: Extra inputs are not permitted"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_told_by_its_cause(
    changes: dict[str, Any], cause: str, places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_delta(tmp_path, places, **changes) == 1
    assert cause in capsys.readouterr().err
