"""`fit-centre`: cosines of an encoder whose embeddings all point the same way mean what another's mean."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_training import declared, describe, workplace  # noqa: F401 - a fixture
from tiny_bert import HIDDEN, LAYERS, TinyBert

from export import centre
from export.__main__ import main
from export.encoder import OnnxEncoder

LAST = f"encoder.layer.{LAYERS - 1}.output.LayerNorm.bias"


@pytest.fixture
def places(workplace: list[str], tiny_bert: TinyBert, tmp_path: Path) -> list[str]:  # noqa: F811
    """The measure in `like`; the bundle's own encoder is the same with all its states pushed aside. Twins share most
    words."""
    assert main(["all", *workplace[:2], "--repository", str(tmp_path / "like"), *workplace[4:]]) == 0
    pushed = tmp_path / "pushed"
    shutil.copytree(tiny_bert.directory, pushed)
    weights = load_file(pushed / "model.safetensors")
    save_file(weights | {LAST: weights[LAST] + 3.0}, pushed / "model.safetensors")
    describe(tmp_path, declared(tmp_path) | {"source": {"directory": "pushed"}})
    generator = random.Random(1)
    with (tmp_path / "pairs.jsonl").open("w") as file:
        for label in [1, 1, 0] * 60:
            words = [f"w{generator.randrange(60)}" for _ in range(10)]
            changed = [f"w{generator.randrange(60)}" if generator.random() < 0.15 else word for word in words]
            row = {"a": " ".join(words), "b": " ".join(changed), "label": label, "source": "open"}
            file.write(json.dumps(row) + "\n" + json.dumps(row | {"b": "w1", "label": 1, "source": "closed"}) + "\n")
    return workplace


def fit(root: Path, places: list[str]) -> int:
    return main(["fit-centre", *places, "--data", str(root / "rows.jsonl"), "--pairs", str(root / "pairs.jsonl"),
                 "--without", "closed", "--like", str(root / "like"), "--out", str(root / "centre.json")])  # fmt: skip


def served(root: Path, places: list[str]) -> tuple[OnnxEncoder, OnnxEncoder]:
    """Before the manifest names the centre and after."""
    assert main(["all", *places[:2], "--repository", str(root / "before"), *places[4:]]) == 0
    describe(root, declared(root) | {"centre": "centre.json"})
    assert main(["all", *places]) == 0
    return OnnxEncoder.served(root / "before"), OnnxEncoder.served(root / "repository")


def test_cosines_spread_as_those_of_the_measure(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, places) == 0
    assert "120 pairs of twins" in capsys.readouterr().out
    before, after = served(tmp_path, places)
    texts = [json.loads(line)["text"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    spread = {}
    for name, encoder in {"like": OnnxEncoder.served(tmp_path / "like"), "before": before, "after": after}.items():
        vectors = encoder.encode(texts[:80])["embedding"]
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(80), abs=1e-5)
        spread[name] = float((vectors @ vectors.T).std())
    assert spread["before"] < spread["like"] / 2
    assert spread["after"] == pytest.approx(spread["like"], rel=0.3)


def test_the_graph_takes_the_centre_off(places: list[str], tmp_path: Path) -> None:
    vector = np.linspace(-0.2, 0.3, HIDDEN).astype(np.float32)
    centre.save(vector, {"delta": ""}, tmp_path / "centre.json")
    before, after = served(tmp_path, places)
    plain = before.encode(["w1 w2 w3", "w7"])["embedding"] - vector.round(centre.DECIMALS)
    expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(after.encode(["w1 w2 w3", "w7"])["embedding"], expected, atol=1e-5)
    bundles = [json.loads((tmp_path / name / "bundle.json").read_text()) for name in ("before", "repository")]
    assert bundles[0]["checksum"] != bundles[1]["checksum"], "cached responses of the other scale do not count"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"format": 1, "centre": [0.0] * HIDDEN, "fitted_on": {"delta": "5" * 64}},
         "was fitted with delta 555555555555, the manifest has (none); fit it again with `fit-centre`"),
        ({"format": 2}, "format 2, expected 1"),
        ({"format": 1, "centre": [[0.0]], "fitted_on": {"delta": ""}}, "`centre` is no row of numbers"),
        ({"format": 1, "centre": [float("nan")], "fitted_on": {"delta": ""}}, "`centre` is no row of numbers"),
        ({"format": 1}, "KeyError('centre')"),
    ],
)  # fmt: skip
def test_a_centre_that_does_not_fit_is_refused(
    document: dict[str, object], message: str, workplace: list[str], tmp_path: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "centre.json").write_text(json.dumps(document))
    describe(tmp_path, declared(tmp_path) | {"centre": "centre.json"})
    assert main(["all", *workplace]) == 1
    assert message in capsys.readouterr().err
