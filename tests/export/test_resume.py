"""Which steps are done again, and what an export refuses before it makes anything. Needs no PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from tiny_bert import TinyBert
from tiny_bundle import exporter, findings, made

from export import evaluate
from export.__main__ import main
from export.exporter import ExportError


def test_another_repository_is_filled_from_the_same_build(tiny_bert: TinyBert, tmp_path: Path) -> None:
    made(exporter(tiny_bert, tmp_path))
    other = made(exporter(tiny_bert, tmp_path, "other"))
    assert findings(other) == []
    for name in ("model.onnx", "gpu.onnx", "gpu.json"):
        assert (tmp_path / "other" / "tiny" / "1" / name).is_file()


def test_a_head_is_called_what_the_manifest_calls_it(tiny_bert: TinyBert, tmp_path: Path) -> None:
    """Also when the graph was made under the name that the head was trained under."""
    made(exporter(tiny_bert, tmp_path))
    renamed = made(exporter(tiny_bert, tmp_path, heads=[{"name": "subject", "file": tmp_path / "topic.json"}]))
    assert findings(renamed) == []
    graph = onnx.load(tmp_path / "repository" / "tiny" / "1" / "model.onnx").graph
    assert [output.name for output in graph.output] == ["embedding", "subject"]


def test_a_bucket_that_is_longer_than_the_model_reads_is_refused(tiny_bert: TinyBert, tmp_path: Path) -> None:
    """ONNX Runtime would fail on it when asked, and TensorRT read whatever lies behind the table."""
    long = exporter(tiny_bert, tmp_path, buckets=[8, 128], max_tokens=128)
    with pytest.raises(ExportError, match="tiny: a bucket has 128 tokens.*`max_position_embeddings` 64"):
        long.graphs("cpu")


def test_another_tokenizer_makes_int8_anew(
    tiny_bert: TinyBert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its ranges are those of texts, which have other tokens then."""
    place = shutil.copytree(tiny_bert.directory, tmp_path / "bert")
    settings = {"source": {"directory": place}, "precision": {"cpu": "int8"}}
    exporter(tiny_bert, tmp_path, **settings).graphs("cpu")
    tokenizer = (place / "tokenizer.json").read_text()
    (place / "tokenizer.json").write_text(tokenizer.replace('"w1"', '"what"'))
    capsys.readouterr()
    exporter(tiny_bert, tmp_path, **settings).graphs("cpu")
    output = capsys.readouterr().out
    assert "tiny, fp32: unchanged" in output and "tiny, int8: unchanged" not in output
    exporter(tiny_bert, tmp_path, **settings).graphs("cpu")
    assert "tiny, int8: unchanged" in capsys.readouterr().out


def test_a_head_that_was_tuned_with_another_tokenizer_is_refused(tiny_bert: TinyBert, tmp_path: Path) -> None:
    """It would get the trunk's tokens, and answer nonsense without an error."""
    place = shutil.copytree(tiny_bert.directory, tmp_path / "tuned")
    settings = {"graph": "torch", "heads": [{"name": "topic", "source": {"directory": place}}]}
    tokenizer = json.loads((place / "tokenizer.json").read_text())
    # Written otherwise, and with a token more that no text has: still the same tokens.
    tokenizer["model"]["vocab"]["another"] = 64
    (place / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1))
    exporter(tiny_bert, tmp_path, **settings).write_repository()
    words = tokenizer["model"]["vocab"]
    words["w1"], words["w2"] = words["w2"], words["w1"]
    (place / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ExportError, match="head topic was tuned with another tokenizer than the trunk's"):
        exporter(tiny_bert, tmp_path, **settings).write_repository()


def test_a_renamed_head_is_evaluated(tiny_bert: TinyBert, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = exporter(tiny_bert, tmp_path, heads=[{"name": "subject", "file": tmp_path / "topic.json"}])
    (tmp_path / "rows.jsonl").write_text('{"text": "w1 w2", "label": "law"}\n' * 3)
    evaluate.evaluate(renamed, renamed.models[0], {"rows": tmp_path / "rows.jsonl"}, {})
    assert "fp32, rows: accuracy" in capsys.readouterr().out


def test_pytorchs_program_of_a_graph_that_nothing_would_serve(tiny_bert: TinyBert, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="served for graph `torch` only, this is graph `bert`"):
        exporter(tiny_bert, tmp_path).graphs("torch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [{"weight": [[float("nan")]] * 24, "bias": [0.0]}], "labels": ["law"]}, "hold NaN or infinity"),
        ({"temperature": 0.0}, "temperature 0, expected a positive number"),
        ({"training": None}, "there is no training in it"),
    ],
)
def test_a_broken_head_is_refused(change: dict[str, object], message: str, tiny_bert: TinyBert, tmp_path: Path) -> None:
    made = exporter(tiny_bert, tmp_path)
    document = json.loads((tmp_path / "topic.json").read_text()) | change
    members = {key: value for key, value in document.items() if value is not None}
    (tmp_path / "topic.json").write_text(json.dumps(members))
    with pytest.raises(ValueError, match=message):
        made.graphs("cpu")


def test_a_head_that_is_called_what_the_graph_has_inside(tiny_bert: TinyBert, tmp_path: Path) -> None:
    named = exporter(tiny_bert, tmp_path, heads=[{"name": "length", "file": tmp_path / "topic.json"}])
    with pytest.raises(ExportError, match="'length' has been used.*a head may be called"):
        named.graphs("cpu")


def test_a_data_set_without_a_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data", "rows.jsonl"]) == 1
    assert "rows.jsonl: expected NAME=FILE" in capsys.readouterr().err
