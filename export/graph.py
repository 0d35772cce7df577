"""The ONNX graph of a BERT encoder with pooling, normalisation and classification heads inside.

Built node by node from the weights, so that neither torch nor an exporter is needed and the same weights always give
the same graph. The network is the one of Devlin et al. (2018), post-layer-norm, with exact (erf) GELU; pooling is
sentence-transformers' mean over real tokens followed by L2 normalisation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import delta as low_rank
from export import wide
from export.delta import Delta
from export.head import HeadWeights

OPSET = 17
INPUTS = ("input_ids", "attention_mask")
IR_VERSION = 10

# Added to the scores of padded positions. Far below any real score, and still finite in half precision.
MASKED_SCORE = -1e4
# Of `Slice`: to the end.
SLICE_END = np.iinfo(np.int64).max

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class BertShape:
    """The numbers of a `config.json` that the graph depends on."""

    hidden: int
    layers: int
    heads: int
    epsilon: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BertShape:
        """Raises ValueError for an architecture that this graph is not."""
        expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for key, value in expected.items():
            if config.get(key, value) != value:
                raise ValueError(f"config.json: {key} is {config[key]!r}, only {value!r} can be exported")
        return cls(
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config["layer_norm_eps"]),
        )


class Graph:
    """Nodes and initializers in the making; every method returns the name of the tensor that it adds."""

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    @property
    def type(self) -> int:
        return TensorProto.FLOAT16 if self.half else TensorProto.FLOAT

    def floats(self, name: str, value: NDArray[Any] | float) -> str:
        if self.half:
            return self.constant(f"{name}.half", np.asarray(value, np.float16))
        return self.constant(name, np.asarray(value, np.float32))

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.asarray(values, np.int64))

    def scalar(self, name: str, value: int) -> str:
        return self.constant(name, np.asarray(value, np.int64))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def dense(self, name: str, x: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        """`x · weight + bias`, weight of shape [in, out]."""
        product = self.op("MatMul", f"{name}.matmul", x, self.floats(f"{name}.weight", weight))
        return self.op("Add", name, product, self.floats(f"{name}.bias", bias))

    def layer_norm(self, name: str, x: str, weights: Weights, prefix: str, epsilon: float) -> str:
        scale = self.floats(f"{name}.scale", weights[f"{prefix}.weight"])
        bias = self.floats(f"{name}.bias", weights[f"{prefix}.bias"])
        return self.op("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, name: str, x: str) -> str:
        """x · ½ (1 + erf(x / √2)), spelt so that ONNX Runtime and TensorRT recognise and fuse it."""
        scaled = self.op("Div", f"{name}.scaled", x, self.floats("sqrt_two", np.sqrt(2.0)))
        erf = self.op("Erf", f"{name}.erf", scaled)
        raised = self.op("Add", f"{name}.raised", erf, self.floats("one", 1.0))
        product = self.op("Mul", f"{name}.product", x, raised)
        return self.op("Mul", name, product, self.floats("half", 0.5))


def build(
    weights: Weights,
    config: Mapping[str, Any],
    heads: Sequence[HeadWeights],
    expose: Sequence[str] = (),
    *,
    pooling: str = "mean",
    half: bool = False,
    delta: Delta | None = None,
    centre: NDArray[np.float32] | None = None,
    embedding: bool = True,
) -> onnx.ModelProto:
    """One forward: `embedding` [batch, hidden] of unit length, and for each head its probabilities [batch, labels].

    weights: tensors of a Hugging Face BertModel (`embeddings.…`, `encoder.layer.N.…`), float32.
    config: the `config.json` beside them.
    expose: feature names (see `export.head.FEATURE`) to give out under `feature.NAME` as well, for training a head.
    pooling: what the embedding is of the last states: their `mean` over real tokens, or `cls`, the first.
    half: the trunk in half precision, pooling and heads in single precision.
    delta: a change of the trunk's dense layers, merged in single precision. With a `fork` the lower layers are shared
        and the top ones are there twice: as published for the embedding, changed for the heads and features.
    centre: what is taken off the embedding of unit length, which then gets unit length again.
    embedding: `False` leaves that output out.

    Inputs `input_ids` and `attention_mask` are INT64 [batch, length]; both axes are dynamic. Outputs are FLOAT.
    Raises ValueError for an architecture, feature or delta that does not fit, KeyError for a missing weight.
    """
    shape = BertShape.from_config(config)
    changed = weights
    if delta is not None:
        low_rank.check_fork(delta, shape.layers)
        changed = low_rank.merged(weights, delta)
    fork = delta.fork if delta is not None else 0
    g = Graph(half=half)
    bias = _attention_bias(g)
    states = [_embeddings(g, weights, shape)]
    for index in range(shape.layers):
        states.append(_layer(g, weights if fork else changed, shape, index, states[-1], bias))
    read_by_heads = states[: len(states) - fork]
    for index in range(shape.layers - fork, shape.layers):
        read_by_heads.append(_layer(g, changed, shape, index, read_by_heads[-1], bias, name=f"fork.layer.{index}"))

    # What is left is a thousandth of the work, and sums over all tokens.
    g.half = False
    mask = g.op("Cast", "mask.float", "attention_mask", to=TensorProto.FLOAT)
    mask = g.op("Unsqueeze", "mask.column", mask, g.ints("axis.last", -1))
    trunk = _Pooling(g, states, mask, half=half)
    widths = {}
    if embedding:
        _embedding(g, trunk.feature(f"{pooling}.{shape.layers}"), centre)
        widths["embedding"] = shape.hidden
    pooled = trunk.of(read_by_heads)
    for head in heads:
        head_output(g, head, pooled.feature)
        widths[head.name] = len(head.labels)
    for name in expose:
        g.op("Identity", f"feature.{name}", pooled.feature(name))
        widths[f"feature.{name}"] = shape.hidden

    return finished(g, widths)


def _embedding(g: Graph, last: str, centre: NDArray[np.float32] | None) -> None:
    if centre is None:
        normalised(g, "embedding", last)
    else:
        published = normalised(g, "embedding.published", last)
        normalised(g, "embedding", g.op("Sub", "embedding.centred", published, g.floats("centre", centre)))


def build_tagger(
    weights: Weights, config: Mapping[str, Any], name: str, *, temperature: float = 1.0, half: bool = False
) -> onnx.ModelProto:
    """A classifier of tokens: its one output ``name`` are probabilities, FLOAT [batch, length, labels].

    weights: tensors of a Hugging Face BertForTokenClassification (`bert.…`, `classifier.…`), float32.
    """
    shape = BertShape.from_config(config)
    trunk = {key.removeprefix("bert."): value for key, value in weights.items()}
    g = Graph(half=half)
    bias = _attention_bias(g)
    states = _embeddings(g, trunk, shape)
    for index in range(shape.layers):
        states = _layer(g, trunk, shape, index, states, bias)
    g.half = False
    states = g.op("Cast", "states.single", states, to=TensorProto.FLOAT)
    weight, offset = weights["classifier.weight"].T / temperature, weights["classifier.bias"] / temperature
    g.op("Softmax", name, g.dense(f"{name}.dense", states, weight, offset), axis=-1)
    return finished(g, {name: len(offset)}, per_token={name})


def finished(g: Graph, widths: Mapping[str, int], per_token: Collection[str] = ()) -> onnx.ModelProto:
    """The model with these outputs by name: FLOAT [batch, width], or [batch, length, width] ``per_token``."""
    axes = {name: ["batch", "length"] if name in per_token else ["batch"] for name in widths}
    graph = helper.make_graph(
        g.nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in INPUTS],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [*axes[n], width]) for n, width in widths.items()],
        list(g.initializers.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="triton-router"
    )
    onnx.checker.check_model(model)
    return model


def _embeddings(g: Graph, weights: Weights, shape: BertShape) -> str:
    """Word, position and segment embeddings, summed and normalised: [batch, length, hidden]."""
    words = g.op(
        "Gather", "embeddings.words", g.floats("word_table", weights["embeddings.word_embeddings.weight"]), "input_ids"
    )
    # Every token is of segment 0, so that row of the segment table is a constant of each position.
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = g.op("Gather", "length", g.op("Shape", "shape", "input_ids"), g.scalar("index.one", 1))
    ids = g.op("Range", "position_ids", g.scalar("index.zero", 0), length, g.scalar("index.one", 1))
    positions = g.op("Gather", "embeddings.positions", g.floats("position_table", places), ids)
    total = g.op("Add", "embeddings.sum", words, positions)
    return g.layer_norm("embeddings", total, weights, "embeddings.LayerNorm", shape.epsilon)


def _attention_bias(g: Graph) -> str:
    """[batch, 1, 1, length]: 0 for real tokens, MASKED_SCORE for padding."""
    mask = g.op("Unsqueeze", "mask.wide", "attention_mask", g.ints("axes.middle", 1, 2))
    mask = g.op("Cast", "mask.wide.float", mask, to=g.type)
    inverse = g.op("Sub", "mask.inverse", g.floats("one", 1.0), mask)
    return g.op("Mul", "attention.bias", inverse, g.floats("masked_score", MASKED_SCORE))


def _layer(
    g: Graph, weights: Weights, shape: BertShape, index: int, x: str, bias: str, *, name: str | None = None
) -> str:
    name, prefix = name or f"layer.{index}", f"encoder.layer.{index}"
    width = shape.hidden // shape.heads

    def matrix(part: str) -> NDArray[np.float32]:
        return weights[f"{prefix}.{part}.weight"].T

    def vector(part: str) -> NDArray[np.float32]:
        return weights[f"{prefix}.{part}.bias"]

    # One product for query, key and value; the scale of the scores goes into the query's weights.
    scale = np.float32(1 / np.sqrt(width))
    parts = [f"attention.self.{part}" for part in ("query", "key", "value")]
    stacked = np.concatenate([matrix(parts[0]) * scale, matrix(parts[1]), matrix(parts[2])], axis=1)
    stacked_bias = np.concatenate([vector(parts[0]) * scale, vector(parts[1]), vector(parts[2])])
    qkv = g.dense(f"{name}.qkv", x, stacked, stacked_bias)
    split = [f"{name}.{part}" for part in ("query", "key", "value")]
    sizes = g.ints("qkv.sizes", *[shape.hidden] * 3)
    g.nodes.append(helper.make_node("Split", [qkv, sizes], split, name=f"{name}.split", axis=-1))
    by_head = [
        g.op("Reshape", f"{part}.heads", part, g.ints("shape.heads", 0, 0, shape.heads, width)) for part in split
    ]
    query = g.op("Transpose", f"{name}.q", by_head[0], perm=[0, 2, 1, 3])
    key = g.op("Transpose", f"{name}.k", by_head[1], perm=[0, 2, 3, 1])
    value = g.op("Transpose", f"{name}.v", by_head[2], perm=[0, 2, 1, 3])

    scores = g.op("Add", f"{name}.scores", g.op("MatMul", f"{name}.qk", query, key), bias)
    context = g.op("MatMul", f"{name}.context", g.op("Softmax", f"{name}.weights", scores, axis=-1), value)
    context = g.op("Transpose", f"{name}.context.tokens", context, perm=[0, 2, 1, 3])
    context = g.op("Reshape", f"{name}.context.joined", context, g.ints("shape.joined", 0, 0, shape.hidden))
    out = g.dense(f"{name}.out", context, matrix("attention.output.dense"), vector("attention.output.dense"))
    residual = g.op("Add", f"{name}.attended", out, x)
    x = g.layer_norm(f"{name}.norm", residual, weights, f"{prefix}.attention.output.LayerNorm", shape.epsilon)

    inner = g.dense(f"{name}.inner", x, matrix("intermediate.dense"), vector("intermediate.dense"))
    outer = g.dense(f"{name}.outer", g.gelu(f"{name}.gelu", inner), matrix("output.dense"), vector("output.dense"))
    residual = g.op("Add", f"{name}.sum", outer, x)
    return g.layer_norm(name, residual, weights, f"{prefix}.output.LayerNorm", shape.epsilon)


class _Pooling:
    """Pooled states by feature name, each computed once however many heads read it."""

    def __init__(
        self, g: Graph, states: Sequence[str], mask: str, *, half: bool, outputs: dict[str, str] | None = None
    ) -> None:
        self.g, self.states, self.mask, self.half = g, states, mask, half
        self.outputs: dict[str, str] = {} if outputs is None else outputs

    def of(self, states: Sequence[str]) -> _Pooling:
        """Of other states; what both have in common is computed once still."""
        return _Pooling(self.g, states, self.mask, half=self.half, outputs=self.outputs)

    def feature(self, name: str) -> str:
        """[batch, hidden]; `mean.N`, `max.N` or `cls.N` of the states after layer N (0: the embeddings)."""
        match = re.fullmatch(r"(mean|max|cls)\.(\d+)", name)
        if match is None or int(match[2]) >= len(self.states):
            last = len(self.states) - 1
            raise ValueError(f"no feature {name!r}: expected mean.N, max.N or cls.N, N up to {last}")
        kind, state = match[1], self.states[int(match[2])]
        target = f"pooled.{kind}.{state}"
        if target not in self.outputs:
            self.outputs[target] = getattr(self, f"_{kind}")(target, self._single(state))
        return self.outputs[target]

    def _single(self, state: str) -> str:
        """In single precision."""
        if not self.half:
            return state
        name = f"single.{state}"
        if name not in self.outputs:
            self.outputs[name] = self.g.op("Cast", name, state, to=TensorProto.FLOAT)
        return self.outputs[name]

    def _mean(self, name: str, x: str) -> str:
        g = self.g
        masked = g.op("Mul", f"{name}.masked", x, self.mask)
        total = g.op("ReduceSum", f"{name}.sum", masked, g.ints("axis.length", 1), keepdims=0)
        if "mask.count" not in self.outputs:
            count = g.op("ReduceSum", "mask.sum", self.mask, g.ints("axis.length", 1), keepdims=0)
            # A row without any token (Triton's warm-up sends zeros) must not divide by zero.
            self.outputs["mask.count"] = g.op("Max", "mask.count", count, g.floats("one", 1.0))
        return g.op("Div", name, total, self.outputs["mask.count"])

    def _max(self, name: str, x: str) -> str:
        g = self.g
        if "mask.low" not in self.outputs:
            inverse = g.op("Sub", "mask.column.inverse", g.floats("one", 1.0), self.mask)
            self.outputs["mask.low"] = g.op("Mul", "mask.low", inverse, g.floats("masked_score", MASKED_SCORE))
        lowered = g.op("Add", f"{name}.lowered", x, self.outputs["mask.low"])
        return g.op("ReduceMax", name, lowered, axes=[1], keepdims=0)

    def _cls(self, name: str, x: str) -> str:
        return self.g.op("Gather", name, x, self.g.scalar("index.zero", 0), axis=1)


def normalised(g: Graph, name: str, x: str) -> str:
    norm = g.op("ReduceL2", f"{name}.norm", x, axes=[-1], keepdims=1)
    return g.op("Div", name, x, g.op("Max", f"{name}.norm.floor", norm, g.floats("tiny", 1e-12)))


def head_output(g: Graph, head: HeadWeights, feature: Callable[[str], str]) -> str:
    """Linear layers with ReLU between them on the concatenated features, then softmax of logits / temperature, or the
    mixture of two experts."""
    features = [normalised(g, f"{head.name}.{f}.unit", feature(f)) for f in head.features]
    x = features[0] if len(features) == 1 else g.op("Concat", f"{head.name}.features", *features, axis=-1)
    last = len(head.layers) - 1
    for index, layer in enumerate(head.layers):
        scale = 1 / head.temperature if index == last else 1.0
        x = g.dense(f"{head.name}.dense.{index}", x, layer.weight * scale, layer.bias * scale)
        if index < last:
            x = g.op("Relu", f"{head.name}.relu.{index}", x)
    if head.wide is not None:
        x = g.op("Add", f"{head.name}.wide.sum", x, _wide(g, f"{head.name}.wide", head.wide * scale))
    if not head.mixed:
        return g.op("Softmax", head.name, x, axis=-1)
    count = len(head.labels)
    first, second, gate = (f"{head.name}.{part}" for part in ("first", "second", "gate"))
    sizes = g.ints(f"{head.name}.sizes", count, count, 1)
    g.nodes.append(helper.make_node("Split", [x, sizes], [first, second, gate], name=f"{head.name}.split", axis=-1))
    first, second = (g.op("Softmax", f"{part}.probabilities", part, axis=-1) for part in (first, second))
    share = g.op("Sigmoid", f"{gate}.share", gate)
    difference = g.op("Mul", f"{head.name}.shared", g.op("Sub", f"{head.name}.difference", first, second), share)
    return g.op("Add", head.name, difference, second)


def _wide(g: Graph, name: str, table: wide.Table) -> str:
    """[batch, labels]: `wide.counts` of the inputs times the table. N-grams with padding in them are left out."""
    buckets = len(table) // wide.GRAMS
    axis = g.ints("axis.length", 1)
    mask = g.op("Cast", f"{name}.mask", "attention_mask", to=TensorProto.FLOAT)
    hashed = INPUTS[0]
    slots, real = [g.op("Mod", f"{name}.slot", hashed, g.scalar(f"{name}.buckets", buckets))], [mask]
    for number, factor in enumerate(wide.FACTORS, 1):
        part = f"{name}.{number}"
        last = (g.ints(f"{part}.from", number), g.ints(f"{name}.end", SLICE_END), axis)
        before = g.op("Slice", f"{part}.before", hashed, g.ints("zero", 0), g.ints("minus.one", -1), axis)
        shifted = g.op("Mul", f"{part}.shifted", before, g.scalar(f"{part}.factor", factor))
        hashed = g.op("Add", f"{part}.hashed", shifted, g.op("Slice", f"{part}.token", INPUTS[0], *last))
        slot = g.op("Mod", f"{part}.slot", hashed, g.scalar(f"{name}.buckets", buckets))
        slots.append(g.op("Add", f"{part}.row", slot, g.scalar(f"{part}.first", number * buckets)))
        # Padding is on the right.
        real.append(g.op("Slice", f"{part}.real", mask, *last))
    rows = g.op(
        "Gather", f"{name}.rows", g.floats(f"{name}.table", table), g.op("Concat", f"{name}.slots", *slots, axis=1)
    )
    counted = g.op("Unsqueeze", f"{name}.counted", g.op("Concat", f"{name}.reals", *real, axis=1), axis)
    total = g.op("Squeeze", f"{name}.total", g.op("MatMul", f"{name}.product", counted, rows), axis)
    root = g.op("ReduceL2", f"{name}.root", mask, axes=[1], keepdims=1)
    return g.op("Div", name, total, g.op("Max", f"{name}.root.floor", root, g.floats("one", 1.0)))
