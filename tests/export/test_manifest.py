from __future__ import annotations

from pathlib import Path

import pytest

from export import manifest

ROOT = Path(__file__).resolve().parents[2]

GOOD = """format: 1
bundles:
  default: [one]
models:
  - name: one
    task: embedding
    source: {directory: weights}
    heads:
      - {name: topic, file: heads/topic.json}
"""


def problems(text: str, path: Path) -> list[str]:
    path.write_text(text)
    with pytest.raises(manifest.ManifestError) as caught:
        manifest.load(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(GOOD)
    (model,) = manifest.load(path).bundle("default")
    assert model.source.directory == tmp_path / "weights"
    assert model.heads[0].file == tmp_path / "heads" / "topic.json"


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """format: 1
bundles:
  default: [ones]
models:
  - name: one
    task: embeding
    source: {hub: some/model, directory: weights}
  - name: two
    task: embedding
    source: {hub: some/model}
    bukets: [32]
  - name: two
    task: embedding
    source: {hub: some/model}
    buckets: [64, 32]
"""
    report = problems(text, tmp_path / "models.yaml")
    assert report == [
        "3: bundles.default[0]: no model `ones`; did you mean `one`?",
        "6: models[0].task: `embeding` is not one of 'embedding', 'sequence-classification', 'token-classification', "
        "'pair-classification'",
        "7: models[0].source: give one of `hub`, `directory`, `package`; hub, directory given",
        "11: models[1].bukets: unknown key `bukets`; did you mean `buckets`?",
        "12: models[2].name: `two` is declared twice, first on line 8",
        "12: models[2]: `buckets` must rise; `max_tokens` 512 is over the largest bucket, 64",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    max_tokens: 600", "`max_tokens` 600 is over the largest bucket, 512"),
        ("    graph_batches: [1, 16]", "`graph_batches` go over `max_batch` 8"),
        ("    profiles: [{batch: [1, 4, 8], tokens: [16, 64, 256]}]", "no profile holds batch 1 of 512 tokens"),
        ("    profiles: [{batch: [4, 1, 8], tokens: [16, 64, 512]}]", "must be [least, best, most]"),
        ("    output: domain", "`labels` and `output` belong to classification tasks"),
    ],
)
def test_settings_that_do_not_fit_together(line: str, message: str, tmp_path: Path) -> None:
    (problem,) = problems(GOOD + line + "\n", tmp_path / "models.yaml")
    assert message in problem


PAIRS = """format: 1
bundles: {default: [pairs]}
models:
  - name: pairs
    task: pair-classification
    source: {hub: some/model}
    graph: bert
    heads: [{name: same, file: same.json}]
"""


def test_a_model_that_judges_pairs(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(PAIRS + "    delta: pairs.safetensors\n")
    (model,) = manifest.load(path).bundle("default")
    assert model.delta == tmp_path / "pairs.safetensors"
    for text, message in (
        (PAIRS.replace("bert", "torch"), "task `pair-classification` needs graph `bert` and one head"),
        (PAIRS.replace("    heads", "    # heads"), "task `pair-classification` needs graph `bert` and one head"),
        (PAIRS + "    delta: d.safetensors\n    fork: 2\n", "`prefix`, `centre` and `fork` go on a model of task"),
        (PAIRS + "    labels: [a, b]\n", "`labels` and `output` belong to classification tasks"),
    ):
        assert message in " ".join(problems(text, path))


def test_bundles_that_cannot_be(tmp_path: Path) -> None:
    text = """format: 1
bundles:
  default: []
  twice: [one, one]
models:
  - name: one
    task: embedding
    source: {hub: some/model}
  - name: one_text
    task: embedding
    source: {hub: some/model}
"""
    empty, twice, part = problems(text, tmp_path / "models.yaml")
    assert empty.startswith("3: bundles.default: ") and "at least 1 item" in empty
    assert twice == "4: bundles.twice[1]: `one` is in it twice"
    assert part == "9: models[1].name: `one_text` is what Triton calls a part of `one`"


def test_profiles_default_to_one_for_each_bucket() -> None:
    minilm, *_ = manifest.load(ROOT / "export" / "models.yaml").bundle("default")
    assert [(profile.tokens, profile.batch) for profile in minilm.engine_profiles] == [
        ((bucket, bucket, bucket), (1, 8, 8)) for bucket in minilm.buckets
    ]


def test_a_bundle_that_is_not_declared() -> None:
    with pytest.raises(manifest.ManifestError, match="no bundle `x`; there are default, english, fast, accurate"):
        manifest.load(ROOT / "export" / "models.yaml").bundle("x")
