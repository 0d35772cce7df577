"""Faults that must be seen before a model is served, each told by its cause. Needs no PyTorch and no GPU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_bundle
from onnx import numpy_helper
from tiny_bert import TinyBert
from tiny_bundle import findings

from export import engine, live, parity, verify, verify_report
from export.exporter import Exporter, ExportError


@pytest.fixture
def exporter(tiny_bert: TinyBert, tmp_path: Path) -> Exporter:
    """A bundle of one small encoder with a head, all its files written."""
    return tiny_bundle.made(tiny_bundle.exporter(tiny_bert, tmp_path, buckets=[8, 16, 48], graph_batches=[1, 4]))


def directory(exporter: Exporter) -> Path:
    return exporter.paths.repository / "tiny"


def plan(exporter: Exporter) -> Path:
    """A plan as `engine` leaves it; nobody looks inside."""
    request = json.loads((directory(exporter) / "1" / "gpu.json").read_text())
    path = directory(exporter) / "1" / "model_sm90.plan"
    path.write_bytes(b"plan" * 100)
    facts = {key: request[key] for key in ("onnx_sha256", "precision", "profiles")}
    path.with_suffix(".json").write_text(json.dumps(facts | {"plan_sha256": engine.sha256(path)}))
    return path


def edited(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))


def test_what_was_just_made_is_well(exporter: Exporter) -> None:
    plan(exporter)
    assert findings(exporter) == []


def test_corrupted_engine(exporter: Exporter) -> None:
    path = plan(exporter)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    (finding,) = findings(exporter)
    assert "model_sm90.plan is corrupted or was replaced" in finding


def test_engine_of_another_graph(exporter: Exporter) -> None:
    path = plan(exporter)
    edited(path.with_suffix(".json"), lambda text: text.replace('"onnx_sha256": "', '"onnx_sha256": "0'))
    (finding,) = findings(exporter)
    assert "was built for another graph" in finding


def test_wrong_profile(exporter: Exporter) -> None:
    plan(exporter)
    edited(directory(exporter) / "1" / "gpu.json", lambda text: text.replace("48", "40"))
    report = findings(exporter)
    assert "tiny: no profile of the engine holds batch 4 of 48 tokens" in report
    assert any("was built for another profiles" in each for each in report)


def test_wrong_labels_file(exporter: Exporter) -> None:
    (directory(exporter) / "topic_labels.txt").write_text("law\nother\nsports\n")
    assert findings(exporter) == ["tiny: labels file topic_labels.txt: line 2 is `other`, the bundle says `sports`"]


def test_missing_labels_line(exporter: Exporter) -> None:
    (directory(exporter) / "topic_labels.txt").write_text("law\nsports\n")
    assert findings(exporter) == ["tiny: labels file topic_labels.txt: 2 lines, the bundle says 3"]


def test_mismatched_tokenizer(exporter: Exporter) -> None:
    path = exporter.paths.repository / "tiny_tokenizer" / "1" / "tokenizer.json"
    edited(path, lambda text: text.replace("w59", "x59"))
    (finding,) = findings(exporter)
    assert "tokenizer of trunk tiny" in finding and "is not the file that the bundle was made with" in finding


def test_tokenizer_with_more_tokens_than_the_model(tiny_bert: TinyBert, exporter: Exporter) -> None:
    from export.repository import Tokenizer

    with pytest.raises(ValueError, match=r"tokenizer\.json has 64 tokens, the model knows 60"):
        Tokenizer.of(exporter.tokenizer(exporter.models[0]), tiny_bert.config | {"vocab_size": 60})


def test_tokenizer_that_pads_with_another_token(tiny_bert: TinyBert, exporter: Exporter) -> None:
    from export.repository import Tokenizer

    with pytest.raises(ValueError, match=r"config\.json pads with token 3, tokenizer\.json with 0"):
        Tokenizer.of(exporter.tokenizer(exporter.models[0]), tiny_bert.config | {"pad_token_id": 3})


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("config.pbtxt", "dims: [ 24 ]", "dims: [ 23 ]", "outputs are {'embedding': [23], 'topic': [3]}"),
        ("config.pbtxt", "graphs: true", "graps: true", 'no field named "graps"'),
        ("config.pbtxt", "dim: 48", "dim: 47", "CUDA graphs are missing or too many: [(1, 47), (1, 48)"),
        ("config.pbtxt", 'profile: [ "0", "1", "2" ]', 'profile: [ "0" ]', "use profiles [0], the manifest has 3"),
        ("configs/cpu.pbtxt", "max_batch_size: 4", "max_batch_size: 9", "max_batch_size is 9, the manifest says 4"),
        ("configs/cpu.pbtxt", "dynamic_batching { }", "dynamic_batching { priority_levels: 2 }", "stall lone requests"),
        ("configs/cpu.pbtxt", "dims: [ 16 ]", "dims: [ 17 ]", "warm-up covers [8, 17, 48]"),
        ("config.pbtxt", "model_sm90.plan", "model_sm89.plan", "capability 9.0 has the plan `model_sm89.plan`"),
        ("configs/onnxruntime.pbtxt", "topic_labels.txt", "labels.txt", "takes its labels from `labels.txt`"),
    ],
)
def test_configuration_that_does_not_fit(exporter: Exporter, name: str, old: str, new: str, message: str) -> None:
    edited(directory(exporter) / name, lambda text: text.replace(old, new))
    (finding,) = findings(exporter)
    assert finding.startswith(f"tiny: tiny/{name}: ") and message in finding


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("tiny_tokenizer", '"pad_id" value: { string_value: "0"', '"pad_id" value: { string_value: "9"', "pad_id is 9"),
        ("tiny_tokenizer", '"8,16,48"', '"8,16"', "buckets is 8,16, the bundle says 8,16,48"),
        ("tiny_tokenizer", 'key: "max_tokens"', 'key: "tokens"', "max_tokens is missing, the bundle says 48"),
        ("tiny_tokenizer", 'key: "tokenizer_sha256"', 'key: "sha256"', "is of another tokenizer than the bundle's"),
        ("tiny_text", "dims: [ 24 ]", "dims: [ 23 ]", "outputs are {'embedding': [23], 'topic': [3]}"),
    ],
)
def test_ensemble_that_does_not_fit(exporter: Exporter, name: str, old: str, new: str, message: str) -> None:
    edited(exporter.paths.repository / name / "config.pbtxt", lambda text: text.replace(old, new))
    (finding,) = findings(exporter)
    assert finding.startswith(f"tiny: {name}/config.pbtxt: ") and message in finding


def test_engine_request_with_other_profiles(exporter: Exporter) -> None:
    """They hold every bucket, and the instances of `config.pbtxt` count on three."""
    path = directory(exporter) / "1" / "gpu.json"
    request = json.loads(path.read_text())
    path.write_text(json.dumps(request | {"profiles": [{"batch": [1, 4, 4], "tokens": [8, 16, 48]}]}))
    (finding,) = findings(exporter)
    assert "gpu.json asks for other profiles than the manifest" in finding


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_manifest_of_an_engine_that_says_nothing(content: str, exporter: Exporter) -> None:
    path = plan(exporter).with_suffix(".json")
    path.write_text(content)
    (finding,) = findings(exporter)
    assert "model_sm90.json: " in finding and "build the plan again with `python -m export engine`" in finding


def test_model_that_the_bundle_lacks(exporter: Exporter) -> None:
    exporter.models.append(exporter.models[0].model_copy(update={"name": "second"}))
    assert findings(exporter) == ["second: is not in the bundle; run `python -m export repository`"]


def test_graph_that_knows_fewer_tokens_than_the_tokenizer(exporter: Exporter) -> None:
    path = directory(exporter) / "1" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "word_table":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:50], tensor.name))
        elif tensor.name == "position_table":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:48], tensor.name))
    path.unlink()
    onnx.save(model, path)
    (finding,) = findings(exporter)
    assert "model.onnx: knows" in finding and "the tokenizer goes up to 63" in finding


def test_graph_of_another_model(exporter: Exporter) -> None:
    path = directory(exporter) / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 5
    path.unlink()  # it is a link to the build's file
    onnx.save(model, path)
    assert findings(exporter) == ["tiny: model.onnx: output topic is [5] a row, the bundle says [3]"]


def test_graph_that_gives_nan(exporter: Exporter) -> None:
    """As converters make it that turn the score of masked places into minus infinity."""
    path = exporter.flavour(exporter.models[0], "fp16")
    probe = parity.Probe(exporter, exporter.models[0])
    assert parity.check_graph(probe, "fp16", path, None)[1] == []
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "masked_score.half":
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(-np.inf, np.float16), tensor.name))
    broken = path.with_name("broken.onnx")
    onnx.save(model, broken)
    (finding,) = parity.check_graph(probe, "fp16", broken, None)[1]
    assert "fp16: embedding holds NaN or infinity for a row of" in str(finding)


@pytest.mark.slow
def test_comparing_needs_no_exporter(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    results = verify.verify(exporter, ("cpu",), reference=True, triton="none", config_name="cpu", rtx=False)
    (compared,) = results.parity
    assert max(compared.difference.values()) <= 1e-4 and compared.agreement == {"topic": 1.0}


def test_run_without_pytorch_says_what_it_did_not_measure(exporter: Exporter) -> None:
    results = verify.verify(exporter, ("cpu", "gpu"), reference=False, triton="none", config_name="cpu", rtx=False)
    assert results.notes == ["Parity with PyTorch was not measured in this run."]
    assert [entry.flavour for entry in results.parity] == ["fp32", "fp16"]
    assert all(entry.difference == {} for entry in results.parity)
    assert json.loads((exporter.paths.build / "verify.json").read_text())["bundle"] == results.bundle


def test_run_sees_a_graph_that_is_not_the_one_it_compared(exporter: Exporter) -> None:
    """Of the right shape, and of another head: what is left by an export that was not run again."""
    path = directory(exporter) / "1" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "topic.dense.0.weight":
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    path.unlink()
    onnx.save(model, path)
    with pytest.raises(
        ExportError, match=r"model\.onnx is not the graph in fp32 .* run `python -m export all --for cpu`"
    ):
        verify.verify(exporter, ("cpu",), reference=False, triton="none", config_name="cpu", rtx=False)


def test_run_sees_a_repository_of_an_older_manifest(exporter: Exporter) -> None:
    """Its files fit each other."""
    exporter.models[0] = exporter.models[0].model_copy(update={"max_windows": 2})
    assert findings(exporter) == []
    with pytest.raises(ExportError, match=r"bundle\.json is not what the manifest gives now"):
        verify.verify(exporter, ("cpu",), reference=False, triton="none", config_name="cpu", rtx=False)


def test_run_tells_its_findings_beside_what_cannot_be_done(exporter: Exporter) -> None:
    """Neither a broken manifest of a plan nor graphs that were not made may take the other findings with them."""
    (directory(exporter) / "topic_labels.txt").write_text("law\n")
    plan(exporter).with_suffix(".json").write_text("{")
    (directory(exporter) / "1" / "gpu.json").unlink()
    with pytest.raises(ExportError, match=r"(?s)labels file topic_labels.txt: 1 lines.*GPU graphs of none"):
        verify.verify(exporter, ("cpu",), reference=False, triton="none", config_name="cpu", rtx=True)


def test_report_of_what_is_wrong_is_refused(exporter: Exporter, tmp_path: Path) -> None:
    """The page says that all numbers were finite and all checks were passed."""
    (directory(exporter) / "topic_labels.txt").write_text("law\n")
    with pytest.raises(ExportError):
        verify.verify(exporter, ("cpu",), reference=False, triton="none", config_name="cpu", rtx=False)
    with pytest.raises(ExportError, match=r"verify\.json: verify found: tiny: labels file"):
        verify_report.write([exporter.paths.build / "verify.json"], None, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize("most", [1, 2, 4, 8])
def test_lengths_around_the_attention_window_are_asked_however_small_a_batch(most: int, exporter: Exporter) -> None:
    probe = parity.Probe(exporter, exporter.models[0].model_copy(update={"max_batch": most}))
    probe.config["local_attention"] = 16
    batches = parity.batches(probe)
    lengths = {len(row) for batch in batches for row in batch}
    assert lengths >= {2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48}
    assert {probe.windows.pad(batch).ids.shape[1] for batch in batches} == {8, 16, 48}
    assert all(len(batch) <= max(most, 3) for batch in batches)


def test_graph_that_fails_on_a_batch(exporter: Exporter) -> None:
    path = exporter.flavour(exporter.models[0], "fp32")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "position_table":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:20], tensor.name))
    broken = path.with_name("broken.onnx")
    onnx.save(model, broken)
    (finding,) = parity.check_graph(parity.Probe(exporter, exporter.models[0]), "fp32", broken, None)[1]
    assert "fp32: fails on a batch of 3x48" in str(finding)


def test_reference_that_gives_nan(exporter: Exporter) -> None:
    """Weights that are broken: nothing may count as equal to them."""

    class Broken:
        def row(self, ids: list[int]) -> dict[str, Any]:
            return {"embedding": np.full(24, np.nan, np.float32), "topic": np.full(3, np.nan, np.float32)}

    path, probe = exporter.flavour(exporter.models[0], "fp32"), parity.Probe(exporter, exporter.models[0])
    (finding,) = parity.check_graph(probe, "fp32", path, Broken())[1]  # type: ignore[arg-type]
    assert "embedding of PyTorch itself holds NaN or infinity" in str(finding)


def test_run_fails_with_every_finding(exporter: Exporter) -> None:
    (directory(exporter) / "topic_labels.txt").write_text("law\n")
    edited(directory(exporter) / "configs" / "cpu.pbtxt", lambda text: text.replace("max_batch_size: 4", ""))
    with pytest.raises(ExportError, match=r"(?s)labels file topic_labels.txt: 1 lines.*max_batch_size is 0"):
        verify.verify(exporter, ("cpu",), reference=False, triton="none", config_name="cpu", rtx=False)


# --- a live Triton --------------------------------------------------------------------------------------------------


def test_a_model_that_takes_one_row_at_a_time_need_not_batch(exporter: Exporter) -> None:
    settings = {"max_batch": 1, "graph_batches": (1,)}
    exporter.models[0] = exporter.models[0].model_copy(update=settings)
    exporter.write_repository()
    root = exporter.paths.repository
    with live.started(root, exporter.paths.build / "triton") as address:
        measured, report = live.check_triton(address, root, exporter.models[0], None)
    assert report == []
    assert measured["batch_sizes"] == {"1": 48} and measured["flavour"] == "fp32"


@pytest.mark.parametrize("broken", [False, True], ids=["as written", "broken"])
def test_int8_answers_as_its_graph_does(broken: bool, exporter: Exporter) -> None:
    """It has no limit to PyTorch; what Triton's tokenizer loses must be seen all the same."""
    precision = exporter.models[0].precision.model_copy(update={"cpu": "int8"})
    exporter.models[0] = exporter.models[0].model_copy(update={"precision": precision})
    exporter.graphs("cpu")
    exporter.write_repository()
    root = exporter.paths.repository
    if broken:
        code = root / "tiny_tokenizer" / "1" / "model.py"
        edited(code, lambda text: text.replace(".ids\n", ".ids[::-1]\n"))
    with live.started(root, exporter.paths.build / "triton") as address:
        measured, report = live.check_triton(address, root, exporter.models[0], None)
    assert measured["flavour"] == "int8"
    # Random weights in int8: with the wrong text some CPUs lose further limits as well, so the others are not counted.
    assert any("differs from its own graph" in str(each) for each in report) == broken
    assert broken or report == []


def test_what_stands_in_for_a_plan_is_judged_in_the_plans_precision(exporter: Exporter) -> None:
    """By the file that `configs/torch.pbtxt` names; here with ONNX Runtime's code in it, which needs no PyTorch."""
    code = directory(exporter) / "1" / "model.py"
    code.with_name("torch_model.py").write_text(code.read_text())
    config = (directory(exporter) / "configs" / "cpu.pbtxt").read_text()
    torch = directory(exporter) / "configs" / "torch.pbtxt"
    torch.write_text(config + 'default_model_filename: "torch_model.py"\n')
    root = exporter.paths.repository
    with live.started(root, exporter.paths.build / "triton", "torch") as address:
        measured, report = live.check_triton(address, root, exporter.models[0], None)
    assert report == []
    assert measured["backend"] == "python" and measured["flavour"] == "fp16"


# --- what stands in for TensorRT where nothing of it is installed ---------------------------------------------------


def test_engine_request_is_read_only_with_its_graph(exporter: Exporter) -> None:
    request = directory(exporter) / "1" / "gpu.json"
    assert engine.read_request(request)["profiles"][2]["tokens"] == [48, 48, 48]
    edited(request, lambda text: text.replace('"onnx_sha256": "', '"onnx_sha256": "0'))
    with pytest.raises(engine.EngineError, match=r"gpu\.onnx is not the graph that gpu\.json was written for"):
        engine.read_request(request)


def test_plan_that_is_too_large_for_its_precision() -> None:
    request: dict[str, Any] = {"model": "m", "precision": "fp16", "weights": 300_000_000}
    assert engine.check_size(640 << 20, request) == {"bytes_a_weight": 2.24}
    with pytest.raises(engine.EngineError, match="it was built in another precision"):
        engine.check_size(1200 << 20, request)


def driver(directory: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `nvidia-smi` first that answers so: of GPUs that are not here."""
    tool = directory / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


def test_no_plan_is_built_that_triton_would_not_look_for(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver(tmp_path, "NVIDIA Tomorrow, 99.0, 999.10", monkeypatch)
    assert engine.main(["--repository", str(exporter.paths.repository)]) == 1
    output = capsys.readouterr().err
    assert "tiny/config.pbtxt names no plan for compute capability 99.0 (NVIDIA Tomorrow)" in output
    assert 'cc_model_filenames { key: "99.0" value: "model_sm990.plan" }' in output


def test_gpus_of_several_kinds_are_refused(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan would be named after one and built on another."""
    driver(tmp_path, "NVIDIA L4, 8.9, 999.10\nNVIDIA H100 80GB HBM3, 9.0, 999.10", monkeypatch)
    assert engine.main(["--repository", str(exporter.paths.repository)]) == 1
    assert "NVIDIA L4 (8.9), NVIDIA H100 80GB HBM3 (9.0); show this container one kind" in capsys.readouterr().err


@pytest.mark.parametrize("capability", ["8.9", "9.0", "10.3", "12.1"])
def test_plans_of_known_gpus_are_named(capability: str, exporter: Exporter) -> None:
    gpu = engine.Gpu("some GPU", capability, "999.10")
    engine.check_named(directory(exporter) / "1" / "gpu.json", gpu)


def test_timing_cache_in_the_repository_is_refused(exporter: Exporter, capsys: pytest.CaptureFixture[str]) -> None:
    """Triton would take it for a model and not start."""
    root = exporter.paths.repository
    assert engine.main(["--repository", str(root), "--timing-cache", str(root / ".timing")]) == 1
    assert "lies in the model repository, where Triton takes every directory for a model" in capsys.readouterr().err


class BuilderConfig:
    """What of TensorRT's keeps timings; it gives none for bytes that were cut short."""

    cache: Any = None

    def create_timing_cache(self, content: bytes) -> Any:
        return None if content == b"cut" else SimpleNamespace(serialize=lambda: content or b"new")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache is None:
            raise TypeError("incompatible function arguments")
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


@pytest.mark.parametrize(("there", "expected"), [(None, b"new"), (b"cut", b"new"), (b"known", b"known")])
def test_timing_cache_that_was_cut_short_stops_no_build(there: bytes | None, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "timing" / "timing-0.bin"
    if there is not None:
        path.parent.mkdir()
        path.write_bytes(there)
    config = BuilderConfig()
    engine.load_timing(config, path)
    engine.save_timing(config, path)
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_engine_runs_on_little_more_than_the_standard_library() -> None:
    """In the serving image there is neither onnx nor pydantic."""
    import subprocess

    block = (
        "import sys; sys.modules.update(dict.fromkeys(['onnx','pydantic','yaml','numpy','triton_router','torch'])); "
    )
    code = block + "from export.__main__ import main; sys.exit(main(['engine', '--repository', '/nowhere']))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 1
    assert "`python -m export all --for gpu` makes them" in finished.stderr
