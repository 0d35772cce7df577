"""The graph against the same network written out in numpy, row by row without any padding."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tiny_bert import HEADS, HIDDEN, LAYERS, TinyBert

from export import graph, precision, wide
from export import head as heads
from export.head import HeadWeights, Layer

Vector = NDArray[np.floating[Any]]
LENGTHS = [5, 17, 1, 9]
_ERF = np.vectorize(math.erf)


def states(bert: TinyBert, ids: NDArray[np.int64]) -> list[Vector]:
    """[length, hidden] after the embeddings and after each layer, for one text, in double precision."""
    w = {name: value.astype(np.float64) for name, value in bert.weights.items()}

    def dense(name: str, x: Vector) -> Vector:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Vector) -> Vector:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + bert.config["layer_norm_eps"])
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0])
    layers = [x]
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            dense(f"{layer}.attention.self.{part}", x).reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(HIDDEN / HEADS)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        attended = dense(f"{layer}.attention.output.dense", context.swapaxes(0, 1).reshape(len(ids), HIDDEN))
        x = norm(f"{layer}.attention.output.LayerNorm", x + attended)
        inner = dense(f"{layer}.intermediate.dense", x)
        outer = dense(f"{layer}.output.dense", inner * 0.5 * (1 + _ERF(inner / math.sqrt(2))))
        x = norm(f"{layer}.output.LayerNorm", x + outer)
        layers.append(x)
    return layers


def test_a_tagger_gives_the_labels_of_every_token(tiny_bert: TinyBert) -> None:
    generator = np.random.default_rng(5)
    weight = generator.normal(size=(5, HIDDEN)).astype(np.float32)
    offset = generator.normal(size=5).astype(np.float32)
    weights = {f"bert.{name}": value for name, value in tiny_bert.weights.items()}
    weights |= {"classifier.weight": weight, "classifier.bias": offset}
    for half, tolerance in ((False, 1e-5), (True, 3e-2)):
        made = graph.build_tagger(weights, tiny_bert.config, "tags", temperature=1.5, half=half)
        session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        ids = np.zeros((len(LENGTHS), max(LENGTHS)), np.int64)
        mask = np.zeros_like(ids)
        for row, length in enumerate(LENGTHS):
            ids[row, :length], mask[row, :length] = generator.integers(4, 60, length), 1
        (tags,) = session.run(["tags"], {"input_ids": ids, "attention_mask": mask})
        for row, length in enumerate(LENGTHS):
            logits = (states(tiny_bert, ids[row, :length])[-1] @ weight.T + offset) / 1.5
            expected = np.exp(logits - logits.max(axis=-1, keepdims=True))
            expected /= expected.sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(tags[row, :length], expected, atol=tolerance)


def unit(x: Vector) -> Vector:
    return x / np.linalg.norm(x)


@pytest.fixture(scope="module")
def head() -> HeadWeights:
    generator = np.random.default_rng(3)
    shapes = [(3 * HIDDEN, 10), (10, 4)]
    layers = [
        Layer(generator.normal(size=s).astype(np.float32), generator.normal(size=s[1]).astype(np.float32))
        for s in shapes
    ]
    return HeadWeights("topic", ("a", "b", "c", "d"), ("mean.3", "max.2", "cls.1"), tuple(layers), 1.7, {})


@pytest.fixture(scope="module")
def session(tiny_bert: TinyBert, head: HeadWeights) -> ort.InferenceSession:
    model = graph.build(tiny_bert.weights, tiny_bert.config, [head], expose=["mean.0"])
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def batch(lengths: list[int], padded: int, filler: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    generator = np.random.default_rng(11)
    ids = np.full((len(lengths), padded), filler, np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = generator.integers(4, 60, length)
        mask[row, :length] = 1
    return ids, mask


def run(session: ort.InferenceSession, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, Vector]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input_ids": ids, "attention_mask": mask}), strict=True))


def test_padded_batch_of_unequal_lengths_equals_the_reference(
    session: ort.InferenceSession, tiny_bert: TinyBert, head: HeadWeights
) -> None:
    ids, mask = batch(LENGTHS, 32)
    outputs = run(session, ids, mask)
    for row, length in enumerate(LENGTHS):
        x = states(tiny_bert, ids[row, :length])
        np.testing.assert_allclose(outputs["embedding"][row], unit(x[3].mean(axis=0)), atol=2e-5)
        np.testing.assert_allclose(outputs["feature.mean.0"][row], x[0].mean(axis=0), atol=2e-5)
        features = np.concatenate([unit(x[3].mean(axis=0)), unit(x[2].max(axis=0)), unit(x[1][0])])
        logits = head.logits(features[None].astype(np.float32))[0] / head.temperature
        expected = np.exp(logits - logits.max())
        np.testing.assert_allclose(outputs["topic"][row], expected / expected.sum(), atol=2e-5)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("lengths", [LENGTHS, [1, 2], [1], [3]])
def test_a_wide_branch_counts_ngrams(
    tiny_bert: TinyBert, head: HeadWeights, lengths: list[int], padding: int, tmp_path: Path
) -> None:
    table = np.random.default_rng(4).normal(size=(wide.GRAMS * 50, 4)).astype(np.float32)
    path = tmp_path / "head.json"
    heads.save(replace(head, wide=table), path)
    saved = heads.load(path).wide
    assert saved is not None
    made = graph.build(tiny_bert.weights, tiny_bert.config, [replace(head, wide=saved)])
    ids, mask = batch(lengths, max(lengths) + padding, filler=33)
    outputs = run(ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]), ids, mask)
    plain = graph.build(tiny_bert.weights, tiny_bert.config, [head])
    deep = run(ort.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"]), ids, mask)["topic"]
    rows = [[ids[row, :length].tolist()] for row, length in enumerate(lengths)]
    expected = deep * np.exp(wide.counts(rows, 50) @ saved / head.temperature)
    np.testing.assert_allclose(outputs["topic"], expected / expected.sum(axis=1, keepdims=True), atol=2e-5)
    np.testing.assert_allclose(saved, table, atol=np.abs(table).max() / 254 * 1.01)


def test_what_stands_in_the_padding_does_not_matter(session: ort.InferenceSession) -> None:
    clean = run(session, *batch(LENGTHS, 24))
    dirty = run(session, *batch(LENGTHS, 40, filler=33))
    for name, value in clean.items():
        np.testing.assert_allclose(value, dirty[name], atol=1e-6)


def test_rows_without_tokens_give_numbers(session: ort.InferenceSession) -> None:
    zeros = np.zeros((2, 16), np.int64)
    for name, value in run(session, zeros, zeros).items():
        assert np.isfinite(value).all(), name


def test_only_embedding_and_heads_are_given_out(tiny_bert: TinyBert, head: HeadWeights) -> None:
    model = graph.build(tiny_bert.weights, tiny_bert.config, [head])
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "embedding": ["batch", HIDDEN],
        "topic": ["batch", 4],
    }


def test_the_embedding_can_be_left_out(session: ort.InferenceSession, tiny_bert: TinyBert, head: HeadWeights) -> None:
    model = graph.build(tiny_bert.weights, tiny_bert.config, [head], embedding=False)
    assert [value.name for value in model.graph.output] == ["topic"]
    alone = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(run(alone, *batch(LENGTHS, 24))["topic"], run(session, *batch(LENGTHS, 24))["topic"])


def test_the_same_weights_give_the_same_bytes(tiny_bert: TinyBert, head: HeadWeights) -> None:
    first, second = (graph.build(tiny_bert.weights, tiny_bert.config, [head]).SerializeToString() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("key", "value"), [("model_type", "roberta"), ("hidden_act", "relu"), ("position_embedding_type", "relative_key")]
)
def test_other_architectures_are_refused(tiny_bert: TinyBert, key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is '{value}'"):
        graph.build(tiny_bert.weights, tiny_bert.config | {key: value}, [])


@pytest.mark.parametrize("feature", ["mean.4", "sum.1", "mean"])
def test_unknown_features_are_refused(tiny_bert: TinyBert, feature: str) -> None:
    with pytest.raises(ValueError, match="no feature"):
        graph.build(tiny_bert.weights, tiny_bert.config, [], expose=[feature])


def test_int8_quantizes_the_encoder_and_leaves_the_head(
    session: ort.InferenceSession, tiny_bert: TinyBert, head: HeadWeights, tmp_path: Any
) -> None:

    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    onnx.save(graph.build(tiny_bert.weights, tiny_bert.config, [head]), plain)
    precision.quantize(plain, small, [])
    model = onnx.load(small)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == 4 * LAYERS
    scales = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name.startswith("layer.0.inner.weight") and "scale" in tensor.name
    ]
    assert [list(tensor.dims) for tensor in scales] == [[40]], "one scale a column"
    assert {f"topic.dense.{index}.matmul" for index in range(2)} <= {node.name for node in model.graph.node}

    ids, mask = batch(LENGTHS, 32)
    expected = run(session, ids, mask)["embedding"]
    actual = run(ort.InferenceSession(small, providers=["CPUExecutionProvider"]), ids, mask)["embedding"]
    assert (expected * actual).sum(axis=1).min() > 0.99


def test_int8_bears_channels_that_are_much_larger_than_the_rest(tmp_path: Path) -> None:
    """One channel is a hundred times the others, and counts no more: its weights are a hundredth of theirs."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((16, 8)).astype(np.float32)
    weight[3] /= 100
    probes = [generator.standard_normal((1, 5, 16)).astype(np.float32) for _ in range(20)]
    for x in probes:
        x[..., 3] *= 100
    shapes = [onnx.helper.make_tensor_value_info(*each) for each in
              (("x", 1, ["batch", "length", 16]), ("y", 1, ["batch", "length", 8]))]  # fmt: skip
    node = onnx.helper.make_node("MatMul", ["x", "weight"], ["y"], name="layer.0.dense")
    made = onnx.helper.make_graph(
        [node], "dense", shapes[:1], shapes[1:], [onnx.numpy_helper.from_array(weight, "weight")]
    )
    plain = tmp_path / "plain.onnx"
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), plain)

    def furthest(texts: list[dict[str, Any]]) -> float:
        precision.quantize(plain, tmp_path / "int8.onnx", texts)
        session = ort.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
        return max(float(np.abs(session.run(["y"], {"x": x})[0] - x @ weight).max()) for x in probes)

    assert furthest([{"x": x} for x in probes[:10]]) < furthest([]) / 5
