"""Low-rank deltas: the file, and the trunk that it is merged into."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from test_graph import LENGTHS, batch, run
from tiny_bert import HIDDEN, INNER, LAYERS, TinyBert

from export import delta, graph, head
from export.checksums import sha256
from export.delta import Delta, DeltaError
from export.exporter import Exporter, ExportError, Paths
from export.head import HeadWeights, Layer
from export.manifest import Manifest

RANK = 3
SIZES = {
    "query": (HIDDEN, HIDDEN),
    "key": (HIDDEN, HIDDEN),
    "value": (HIDDEN, HIDDEN),
    "attention.output": (HIDDEN, HIDDEN),
    "intermediate": (INNER, HIDDEN),
    "output": (HIDDEN, INNER),
}


def weights_sha256(bert: TinyBert) -> str:
    return sha256(bert.directory / "model.safetensors")


def random_delta(bert: TinyBert, *, fork: int = 0, seed: int = 1) -> Delta:
    """Of all dense layers, or of those of the forked ones; large enough to be seen in every output."""
    generator = np.random.default_rng(seed)

    def half(*shape: int) -> NDArray[np.float32]:
        # What half precision holds, so that the file gives back the same.
        return (0.2 * generator.standard_normal(shape)).astype(np.float16).astype(np.float32)

    layers = range(LAYERS - fork if fork else 0, LAYERS)
    matrices = {(n, kind): (half(RANK, into), half(out, RANK)) for n in layers for kind, (out, into) in SIZES.items()}
    return Delta(weights_sha256(bert), RANK, fork, matrices, {"seed": 0})


def topic(seed: int = 5, training: dict[str, Any] | None = None) -> HeadWeights:
    layer = Layer(np.random.default_rng(seed).normal(size=(3 * HIDDEN, 3)).astype(np.float32), np.zeros(3, np.float32))
    return HeadWeights(
        "topic", ("law", "sports", "other"), ("mean.3", "cls.2", "mean.1"), (layer,), 1.0, training or {}
    )


def outputs(bert: TinyBert, change: Delta | None, *, half: bool = False) -> dict[str, Any]:
    model = graph.build(bert.weights, bert.config, [topic()], delta=change, half=half)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return run(session, *batch(LENGTHS, 24))


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_file_gives_back_what_was_written_and_the_same_bytes_each_time(tiny_bert: TinyBert, tmp_path: Path) -> None:
    written = random_delta(tiny_bert)
    delta.save(written, tmp_path / "one.safetensors")
    delta.save(written, tmp_path / "two.safetensors")
    restored = delta.load(tmp_path / "one.safetensors", weights_sha256(tiny_bert))
    assert (restored.training, restored.rank) == ({"seed": 0}, RANK)
    assert restored.matrices.keys() == written.matrices.keys()
    for place, pair in written.matrices.items():
        for one, other in zip(pair, restored.matrices[place], strict=True):
            np.testing.assert_array_equal(one, other)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    stored = load_file(tmp_path / "one.safetensors")
    assert {str(matrix.dtype) for matrix in stored.values()} == {"float16"}


def spoilt(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Write the file once more with its tensors changed; the metadata stays."""

    def spoil(path: Path) -> None:
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, header["__metadata__"])

    return spoil


def relabelled(key: str, value: str | None) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = path.read_bytes()
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value
        save_file(load_file(path), path, metadata)

    return spoil


def set_to(name: str, value: NDArray[Any]) -> Callable[[Path], None]:
    return spoilt(lambda tensors: tensors.update({name: value}))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (set_to("layer.1.key.a", np.full((RANK, HIDDEN), np.nan, np.float16)), r"layer\.1\.key\.a holds NaN"),
        (
            set_to("layer.1.key.b", np.zeros((HIDDEN, 2), np.float16)),
            r"layer\.1\.key is \[24, 2\] · \[3, 24\], the rank is 3",
        ),
        (set_to("layer.1.kye.a", np.zeros((RANK, HIDDEN), np.float16)), r"tensor `layer\.1\.kye\.a`: expected layer"),
        (spoilt(lambda tensors: tensors.pop("layer.0.output.b")), r"layer\.0\.output\.b is missing"),
        (spoilt(lambda tensors: tensors.clear()), "there is no matrix in it"),
        (relabelled("trunk_sha256", "0" * 64), r"trained on weights with sha256 0{64}, the trunk's are [0-9a-f]{64}"),
        (relabelled("fork", "2"), "trained with `fork: 2`, the manifest says `fork: 0`"),
        (relabelled("format", "9"), "format '9', expected '1'"),
        (relabelled("training", None), "its metadata has no 'training'"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), r"delta\.safetensors: "),
        (lambda path: path.unlink(), r"delta\.safetensors: "),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_its_cause(
    spoil: Callable[[Path], Any], cause: str, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    path = tmp_path / "delta.safetensors"
    delta.save(random_delta(tiny_bert), path)
    spoil(path)
    with pytest.raises(DeltaError, match=cause):
        delta.load(path, weights_sha256(tiny_bert))


def test_what_half_precision_cannot_hold_is_not_written(tiny_bert: TinyBert, tmp_path: Path) -> None:
    large = random_delta(tiny_bert)
    large.matrices[0, "query"][1][0, 0] = 1e6
    with pytest.raises(DeltaError, match=r"layer\.0\.query\.b holds NaN or infinity"):
        delta.save(large, tmp_path / "delta.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_too_large_for_git_is_not_written(tmp_path: Path) -> None:
    wide = np.zeros((1200, 1024), np.float32)
    large = Delta("0" * 64, 1200, 0, {(0, "query"): (wide, wide.T)})
    with pytest.raises(DeltaError, match=r"4000000 at most; take a lower rank than 1200"):
        delta.save(large, tmp_path / "delta.safetensors")


# --- merging --------------------------------------------------------------------------------------------------------


def test_a_merged_graph_is_the_graph_of_merged_weights(tiny_bert: TinyBert) -> None:
    change = random_delta(tiny_bert)
    by_hand = dict(tiny_bert.weights)
    for (layer, kind), (a, b) in change.matrices.items():
        part = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
                "attention.output": "attention.output.dense", "intermediate": "intermediate.dense",
                "output": "output.dense"}[kind]  # fmt: skip
        by_hand[f"encoder.layer.{layer}.{part}.weight"] = by_hand[f"encoder.layer.{layer}.{part}.weight"] + b @ a
    expected = outputs(TinyBert(tiny_bert.directory, tiny_bert.config, by_hand), None)
    plain, actual = outputs(tiny_bert, None), outputs(tiny_bert, change)
    for name, value in actual.items():
        np.testing.assert_array_equal(value, expected[name])
        assert np.abs(value - plain[name]).max() > 0.01, "the delta must show"


def test_a_fork_leaves_the_embedding_as_it_is_to_the_bit(tiny_bert: TinyBert) -> None:
    change = random_delta(tiny_bert, fork=2)
    plain, forked, whole = (outputs(tiny_bert, c) for c in (None, change, replace(change, fork=0)))
    np.testing.assert_array_equal(forked["embedding"], plain["embedding"])
    # The head reads a state below the fork, and two above it.
    np.testing.assert_allclose(forked["topic"], whole["topic"], atol=1e-6)
    assert np.abs(forked["topic"] - plain["topic"]).max() > 0.01


def test_lower_layers_are_shared_by_a_fork(tiny_bert: TinyBert) -> None:
    model = graph.build(tiny_bert.weights, tiny_bert.config, [topic()], delta=random_delta(tiny_bert, fork=1))
    assert sum(node.op_type == "Gelu" or node.op_type == "Erf" for node in model.graph.node) == LAYERS + 1
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))


def test_a_fork_in_half_precision_and_in_int8(tiny_bert: TinyBert, tmp_path: Path) -> None:
    import onnx

    from export import precision

    change = random_delta(tiny_bert, fork=1)
    full, half = (outputs(tiny_bert, change, half=half) for half in (False, True))
    for name, value in full.items():
        np.testing.assert_allclose(value, half[name], atol=2e-2)
    plain = tmp_path / "plain.onnx"
    onnx.save(graph.build(tiny_bert.weights, tiny_bert.config, [topic()], delta=change), plain)
    precision.quantize(plain, tmp_path / "int8.onnx", [])
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds.count("MatMulInteger") == 4 * (LAYERS + 1), "the forked layers are quantized too"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"matrices": {(7, "key"): (np.ones((3, 24)), np.ones((24, 3)))}}, r"the trunk has no encoder\.layer\.7\."),
        (
            {"matrices": {(1, "output"): (np.ones((3, 24)), np.ones((24, 3)))}},
            r"layer\.1\.output is for \[24, 24\], encoder\.layer\.1\.output\.dense\.weight is \[24, 40\]",
        ),
        ({"fork": 2}, r"changes layer 0, and `fork: 2` shares all below 1"),
        ({"fork": 4}, r"`fork: 4` of a trunk with 3 layers"),
    ],
)
def test_a_delta_that_does_not_fit_the_trunk(change: dict[str, Any], cause: str, tiny_bert: TinyBert) -> None:
    with pytest.raises(DeltaError, match=cause):
        outputs(tiny_bert, replace(random_delta(tiny_bert), **change))


# --- the steps of the export ----------------------------------------------------------------------------------------


@pytest.fixture
def make(tiny_bert: TinyBert, tmp_path: Path) -> Callable[..., Exporter]:
    """A exporter with a delta and a head of its own, over the same build folder each time."""

    def exporter(seed: int = 1, fork: int = 0, *, head_fits: bool = True) -> Exporter:
        path = tmp_path / "topic.safetensors"
        delta.save(random_delta(tiny_bert, seed=seed, fork=fork), path)
        made_with = {"sha256": sha256(path)} if head_fits else {}
        head.save(topic(training={"delta": made_with}), tmp_path / "topic.json")
        described = {
            "name": "tiny", "task": "embedding", "graph": "bert", "source": {"directory": tiny_bert.directory},
            "heads": [{"name": "topic", "file": tmp_path / "topic.json"}], "delta": path, "fork": fork,
            "buckets": [8, 16, 48], "max_tokens": 48, "max_batch": 4, "graph_batches": [1, 4],
        }  # fmt: skip
        document = {"format": 1, "bundles": {"default": ["tiny"]}, "models": [described]}
        models = Manifest.model_validate(document).bundle("default")
        return Exporter(Paths(tmp_path / "repository", tmp_path / "build"), models)

    return exporter


def exported(exporter: Exporter) -> tuple[bytes, dict[str, Any]]:
    """The graph and the bundle's manifest."""
    exporter.graphs("cpu")
    exporter.write_repository()
    root = exporter.paths.repository
    return (root / "tiny" / "1" / "model.onnx").read_bytes(), json.loads((root / "bundle.json").read_text())


def test_a_changed_delta_makes_graph_and_bundle_anew(
    make: Callable[..., Exporter], capsys: pytest.CaptureFixture[str]
) -> None:
    graph_1, bundle_1 = exported(make(seed=1))
    capsys.readouterr()
    exported(make(seed=1))
    assert "tiny, fp32: unchanged" in capsys.readouterr().out
    graph_2, bundle_2 = exported(make(seed=2))
    assert graph_1 != graph_2
    assert bundle_1["checksum"] != bundle_2["checksum"]
    graph_3, bundle_3 = exported(make(seed=2, fork=LAYERS))
    assert len(graph_3) > len(graph_2)
    assert bundle_3["trunks"][0]["delta"]["fork"] == LAYERS
    assert bundle_3["trunks"][0]["delta"]["sha256"] != bundle_2["trunks"][0]["delta"]["sha256"]


def test_features_for_training_are_of_the_delta_that_is_there(make: Callable[..., Exporter]) -> None:
    """No head's file is looked at here, so the delta alone must tell that the graph is stale."""
    features = []
    for seed in (1, 2):
        exporter = make(seed=seed)
        features.append(exporter.features(exporter.models[0], ["mean.3"])(["w1 w2 w3"]))
    assert np.abs(features[0] - features[1]).max() > 0.01


def test_a_head_that_was_trained_without_the_delta_is_refused(make: Callable[..., Exporter]) -> None:
    with pytest.raises(ExportError, match=r"head topic was trained with no delta, the manifest has delta [0-9a-f]{12}"):
        make(head_fits=False).graphs("cpu")


@pytest.mark.parametrize(
    ("file", "named"),
    [("topic.safetensors", r"tiny: delta .*topic\.safetensors"), ("topic.json", r"head .*topic\.json")],
)
def test_a_file_that_is_not_there_is_named(
    file: str, named: str, make: Callable[..., Exporter], tmp_path: Path
) -> None:
    exporter = make()
    (tmp_path / file).unlink()
    with pytest.raises((ExportError, ValueError), match=named + ": No such file"):
        exporter.graphs("cpu")


# --- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fork", [0, 1, 3])
def test_graph_and_torch_path_equal_pytorch_with_low_rank_branches(
    fork: int, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    """Three ways to the same numbers: our graph, `network.Network` and its ONNX, and unmerged x·Aᵀ·Bᵀ in PyTorch."""
    import torch
    from transformers import BertModel

    from export import network

    change = random_delta(tiny_bert, fork=fork)
    path = tmp_path / "delta.safetensors"
    delta.save(change, path)
    head.save(topic(), tmp_path / "topic.json")
    trained = head.load(tmp_path / "topic.json")
    model = BertModel.from_pretrained(tiny_bert.directory, attn_implementation="eager", add_pooling_layer=False).eval()
    for layer, block in enumerate(model.encoder.layer):
        parts = {
            "query": block.attention.self.query, "key": block.attention.self.key, "value": block.attention.self.value,
            "attention.output": block.attention.output.dense, "intermediate": block.intermediate.dense,
            "output": block.output.dense,
        }  # fmt: skip
        for kind, dense in parts.items():
            if (layer, kind) in change.matrices:
                a, b = (torch.from_numpy(half) for half in change.matrices[layer, kind])
                dense.register_forward_hook(lambda _, x, y, a=a, b=b: y + (x[0] @ a.T) @ b.T)

    ids, mask = batch(LENGTHS, 24)
    with torch.inference_mode():
        states = model(torch.tensor(ids), torch.tensor(mask), output_hidden_states=True).hidden_states
    column = mask[:, :, None]
    pooled = {f"mean.{n}": (x.numpy() * column).sum(1) / column.sum(1) for n, x in enumerate(states)}
    pooled |= {f"cls.{n}": x[:, 0].numpy() for n, x in enumerate(states)}
    unit = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in pooled.items()}
    logits = trained.logits(np.concatenate([unit[name] for name in trained.features], axis=1))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    built = graph.build(tiny_bert.weights, tiny_bert.config, [trained], delta=change)
    ours = run(ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"]), ids, mask)
    described = {"name": "tiny", "task": "embedding", "source": {"directory": tiny_bert.directory}, "delta": path,
                 "fork": fork, "heads": [{"name": "topic", "file": tmp_path / "topic.json"}]}  # fmt: skip
    (declared,) = Manifest.model_validate({"format": 1, "bundles": {}, "models": [described]}).models
    made = network.Network(declared, network.Published(tiny_bert.directory, {}))
    with torch.inference_mode():
        theirs = dict(zip(("embedding", "topic"), made(torch.tensor(ids), torch.tensor(mask)), strict=True))
    counts = network.export(made, "fp32", tmp_path / "traced.onnx")
    assert counts["Erf"] == LAYERS + fork
    traced = run(ort.InferenceSession(tmp_path / "traced.onnx", providers=["CPUExecutionProvider"]), ids, mask)

    np.testing.assert_allclose(ours["topic"], expected, atol=1e-5)
    np.testing.assert_allclose(theirs["topic"].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(traced["topic"], expected, atol=1e-5)
    if not fork:
        np.testing.assert_allclose(ours["embedding"], unit["mean.3"], atol=1e-5)
    np.testing.assert_allclose(theirs["embedding"].numpy(), ours["embedding"], atol=1e-5)
    np.testing.assert_allclose(traced["embedding"], ours["embedding"], atol=1e-5)
