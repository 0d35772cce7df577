"""`train-head`: what it writes, and that `export all` serves it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import HIDDEN, TinyBert

from export import head, quality, training, wide
from export.__main__ import main
from export.labelled import Data, DataFile

LABELS = ("law", "other", "sports")


@pytest.fixture
def workplace(tiny_bert: TinyBert, tmp_path: Path) -> list[str]:
    """Rows whose words lean towards their label's, and a manifest; gives the arguments that name them."""
    generator = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for _ in range(240):
            kind = generator.randrange(3)
            words = [20 * kind + generator.randrange(5) for _ in range(generator.randrange(2, 9))]
            text = " ".join(f"w{word}" for word in words)
            file.write(json.dumps({"text": text, "label": LABELS[kind]}) + "\n")
    described = {
        "name": "tiny", "task": "embedding", "graph": "bert", "source": {"directory": str(tiny_bert.directory)},
        "buckets": [8, 16, 48], "max_tokens": 48, "max_batch": 4, "graph_batches": [1, 4],
    }  # fmt: skip
    describe(tmp_path, described)
    return ["--manifest", str(tmp_path / "models.yaml"), "--repository", str(tmp_path / "repository"),
            "--build", str(tmp_path / "build")]  # fmt: skip


def describe(root: Path, model: dict[str, object]) -> None:
    document = {"format": 1, "bundles": {"default": ["tiny"]}, "models": [model]}
    (root / "models.yaml").write_text(json.dumps(document))


def declared(root: Path) -> dict[str, object]:
    return json.loads((root / "models.yaml").read_text())["models"][0]


def train_head(root: Path, places: Sequence[str], *more: str) -> None:
    arguments = ["train-head", *places, "--data", str(root / "rows.jsonl"), "--out", str(root / "topic.json")]
    assert main([*arguments, "--name", "topic", "--features", "mean.3,mean.0", *more]) == 0


@pytest.mark.parametrize("method", ["linear", "mlp"])
def test_a_trained_head_is_served(
    method: str, workplace: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_head(
        tmp_path,
        workplace,
        "--method",
        method,
        "--hidden",
        "8",
        "--epochs",
        "300",
        "--picture",
        str(tmp_path / "curve.png"),
    )
    printed = capsys.readouterr().out
    trained = head.load(tmp_path / "topic.json")
    shapes = [layer.weight.shape for layer in trained.layers]
    assert shapes == ([(2 * HIDDEN, 3)] if method == "linear" else [(2 * HIDDEN, 8), (8, 3)])
    (file,) = trained.training["data"]
    assert file["held_back_accuracy"] > 0.6, "words give the label away; a guess is right for a third"
    for label in LABELS:
        assert f"\n{label:6}  " in printed
    assert "calibration error" in printed and "\n            0.00     100.0%" in printed
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    describe(tmp_path, declared(tmp_path) | {"heads": [{"name": "topic", "file": "topic.json"}]})
    assert main(["all", *workplace]) == 0


@pytest.mark.parametrize("method", ["linear", "mlp"])
def test_the_wide_branch_learns_what_states_do_not_tell(method: str, tmp_path: Path) -> None:
    """States are noise; a pair of tokens gives the label away, single tokens do not."""
    generator = np.random.default_rng(0)
    rows, tokens = [], {}
    for number in range(400):
        pairs = [[5, 6], [7, 8]] if number % 2 else [[5, 8], [7, 6]]
        own = [token for pair in generator.permutation(pairs).tolist() for token in (*pair, 9)]
        rows.append({"text": f"text {number}", "label": LABELS[number % 2]})
        tokens[f"text {number}"] = [own]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data.read([DataFile(file, 1.0)])
    settings = training.HeadSettings(method, ("embedding",), 1.0, 3, 0, "fp32", hidden=4)
    states = {text: generator.normal(size=4).astype(np.float32) / 2 for text in data.texts}

    def accuracy(ngrams: Any) -> float:
        result = training.train(
            "topic", data, settings, lambda texts: np.stack([states[text] for text in texts]), {}, print, ngrams
        )
        assert (result.head.wide is None) == (ngrams is None)
        return float((result.probabilities.argmax(axis=1) == result.rows.truth).mean())

    assert accuracy(None) < 0.6
    counts = wide.counts([tokens[text] for text in data.texts], 64)
    assert accuracy(counts) > 0.95
    # Folds are scored by weights that have not seen them: labels by chance cannot be learnt.
    assert accuracy(counts[generator.permutation(len(data.texts))]) < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "?"}, "`table` must be base64"),
        ({"scale": None}, "`scale` a number"),
        ({"scale": float("nan")}, "of scale nan"),
        ({"table": "AAAA"}, "3 weights"),
    ],
)
def test_a_wide_branch_that_does_not_fit_is_refused(
    change: dict[str, object], message: str, workplace: list[str], tmp_path: Path
) -> None:
    train_head(tmp_path, workplace, "--ngrams", "16", "--passages", "other")
    document = json.loads((tmp_path / "topic.json").read_text())
    assert document["training"]["ngrams"] == {"buckets": 16, "inverse_penalty": 3.0}
    document["wide"] |= change
    (tmp_path / "topic.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"topic.json: wide branch.*{message}"):
        head.load(tmp_path / "topic.json")


def test_a_gate_mixes_two_heads(workplace: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts have words of their own, and labels that are turned around."""
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    turned = dict(zip(LABELS, reversed(LABELS), strict=True))
    exams, prompts = lines, [
        {"text": f"w59 w59 w59 {row['text']}", "label": turned[row["label"]]} for row in lines
    ]  # fmt: skip
    for name, rows in (("exams", exams), ("prompts", prompts)):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.jsonl").write_text((tmp_path / "rows.jsonl").read_text())
        train_head(tmp_path, workplace)
        (tmp_path / "topic.json").rename(tmp_path / f"{name}.json")
    mixture = ["--method", "mixture", "--exams", str(tmp_path / "exams.jsonl"), "--first", str(tmp_path / "exams.json")]
    train_head(tmp_path, workplace, *mixture, "--second", str(tmp_path / "prompts.json"))
    assert "rows.jsonl: 240 held-back rows, accuracy " in capsys.readouterr().out
    trained = head.load(tmp_path / "topic.json")
    assert trained.mixed
    assert [entry["kind"] for entry in trained.training["data"]] == ["exam", "prompt"]
    describe(tmp_path, declared(tmp_path) | {"heads": [{"name": "topic", "file": "topic.json"}]})
    assert main(["all", *workplace]) == 0
    assert main(["evaluate", *workplace, "--data", f"exams={tmp_path / 'exams.jsonl'}",
                 "--data", f"prompts={tmp_path / 'prompts.jsonl'}"]) == 0  # fmt: skip
    accuracies = [float(share) for share in re.findall(r"fp32, \w+: accuracy ([\d.]+)%", capsys.readouterr().out)]
    assert min(accuracies) > 50, "a head for both would be right for a third, or for one of the two"


def test_a_trained_head_has_a_report(workplace: list[str], tmp_path: Path) -> None:
    train_head(tmp_path, workplace)
    describe(tmp_path, declared(tmp_path) | {"heads": [{"name": "topic", "file": "topic.json"}]})
    rows = f"own rows={tmp_path / 'rows.jsonl'}"
    page = tmp_path / "report" / "model-report.md"
    page.parent.mkdir()
    assert main(["evaluate", *workplace, "--data", rows, "--report", str(page)]) == 0
    text = page.read_text()
    assert "gives `embedding`\n(24 numbers of unit length) and `topic` (3 probabilities)." in text
    assert "\n| set | fp32 | int8 | same label in both |\n| --- | --- | --- | --- |\n| own rows | " in text
    for label in LABELS:
        assert f"\n| {label} | " in text
    for picture in ("reliability", "operating", "confusion-own-rows"):
        assert f"(assets/{picture}.png)" in text
        assert (page.parent / "assets" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_two_labels_have_two_probabilities(workplace: list[str], tmp_path: Path) -> None:
    """scikit-learn gives one column for them."""
    rows = (tmp_path / "rows.jsonl").read_text().replace('"other"', '"law"')
    (tmp_path / "rows.jsonl").write_text(rows)
    for method in ("linear", "mlp"):
        train_head(tmp_path, workplace, "--method", method, "--hidden", "4")
        assert head.load(tmp_path / "topic.json").layers[-1].weight.shape[1] == 2


def test_the_same_texts_are_held_back_in_any_file(workplace: list[str], tmp_path: Path) -> None:
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "turned.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    one, other = (
        Data.read([DataFile(tmp_path / name, 1.0)])
        for name in ("rows.jsonl", "turned.jsonl")
    )  # fmt: skip
    assert set(one.of(one.held_back).texts) == set(other.of(other.held_back).texts)
    assert 10 <= one.held_back.sum() <= 40


def test_rows_of_one_label_are_refused(
    workplace: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "law"}\n')
    arguments = ["--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "topic.json")]
    assert main(["train-head", *workplace, *arguments]) == 1
    assert "rows of two labels at least are needed; found law" in capsys.readouterr().err


def test_heads_are_trained_where_the_graph_gives_features(
    workplace: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without it the command starts itself again in this process's place.
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    describe(tmp_path, declared(tmp_path) | {"graph": "torch"})
    arguments = ["--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "topic.json")]
    assert main(["train-head", *workplace, *arguments]) == 1
    assert "heads are trained on models of task `embedding` with graph `bert`" in capsys.readouterr().err


# --- measures -------------------------------------------------------------------------------------------------------


def test_class_scores_and_operating_curve() -> None:
    probabilities = np.asarray([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
    truth = np.asarray([0, 1, 1, 1])
    law, other, sports = quality.class_scores(probabilities, truth, LABELS)
    assert (law.rows, law.precision, law.recall) == (1, 0.5, 1.0)
    assert (other.rows, other.precision, other.recall) == (3, 1.0, 2 / 3)
    assert (sports.rows, sports.precision, sports.recall) == (0, None, None)
    assert quality.macro_f1(probabilities, truth, LABELS) == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    everything, most, none = quality.operating_curve(probabilities, truth, [0.0, 0.6, 0.95])
    assert (everything.coverage, everything.accuracy) == (1.0, 0.75)
    assert (most.coverage, most.accuracy) == (0.75, 2 / 3)
    assert (none.coverage, none.accuracy) == (0.0, None)


def test_measures_of_an_embedding_agree_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    same = generator.random(80) < 0.4
    near = np.round(generator.normal(size=80) + same, 1)  # with ties
    assert quality.separation(near, same) == pytest.approx(roc_auc_score(same, near))
    with pytest.raises(ValueError, match="pairs labelled 0 and pairs labelled 1"):
        quality.separation(near, np.ones(80, bool))
    assert quality.rank_correlation(near, np.exp(near)) == pytest.approx(1.0)


def test_calibration_takes_back_what_was_multiplied_and_added() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 3)) * 2
    truth = np.asarray([generator.choice(3, p=row) for row in quality.softmax(logits)])
    temperature, offsets = quality.fit_calibration(3 * logits, truth, np.ones(4000))
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert np.abs(offsets).max() < 0.1
    _, offsets = quality.fit_calibration(3 * (logits - [0.6, 0.0, 0.0]), truth, np.ones(4000))
    # The smaller for its penalty.
    assert 0.4 < offsets[0] - offsets[1:].mean() < 0.65


def test_every_method_is_described() -> None:
    assert training.METHODS.keys() == {"linear", "mlp", "mixture"}


def test_a_calibrated_heads_error_is_noise_and_another_ones_is_not() -> None:
    generator = np.random.default_rng(0)
    probabilities = quality.softmax(generator.normal(0, 2, (800, 3)))
    truth = np.asarray([generator.choice(3, p=row) for row in probabilities])
    mean, bound = quality.calibration_noise(probabilities)
    assert 0 < mean < bound
    assert quality.calibration_error(probabilities, truth) < bound
    sharpened = quality.softmax(3 * np.log(probabilities))
    assert quality.calibration_error(sharpened, truth) > quality.calibration_noise(sharpened)[1]


def test_the_calibration_error_of_a_handful() -> None:
    # 0.9 in one bin of the fifteen, right once in two; 0.6 in another, right.
    probabilities = np.asarray([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    assert quality.calibration_error(probabilities, np.asarray([0, 1, 0])) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.4)
