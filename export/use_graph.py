"""The ONNX graph of Google's Universal Sentence Encoder Multilingual (Yang et al., 2019; the convolutional one).

Words are looked up and projected to three channels. Each channel is two convolutions over 2, 3 or 5 tokens with a
residual connection. Their sum over the text, divided by the root of its length, goes through four dense layers. There
is no attention: a text costs a fifth of what a small transformer takes.

States that heads can read: `mean.0` (the words), `mean.1` (words and channels after the convolutions), and `embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from export.graph import Graph, finished, head_output, normalised
from export.head import HeadWeights
from export.unpack import USE_PARTS

# Tokens of a window, and how many of them lie before the token that the window is of.
WINDOWS = ((2, 0), (3, 1), (5, 2))
FEATURES = ("mean.0", "mean.1", "embedding")

Weights = Mapping[str, NDArray[Any]]


def build(
    weights: Weights,
    config: Mapping[str, Any],
    heads: Sequence[HeadWeights],
    expose: Sequence[str] = (),
    *,
    half: bool = False,
) -> onnx.ModelProto:
    """One forward, with the inputs and outputs of :func:`export.graph.build`.

    weights: as :func:`export.unpack.use_multilingual` writes them. half: all but sums over tokens and heads in half
    precision.

    Raises ValueError for a feature that there is not.
    """
    g, epsilon = Graph(half=half), float(config["layer_norm_eps"])
    mask = g.op("Cast", "mask.float", "attention_mask", to=TensorProto.FLOAT)
    mask = g.op("Unsqueeze", "mask.column", mask, g.ints("axis.last", -1))
    words = _words(g, weights)
    convolved = _convolutions(g, weights, words, mask, epsilon)

    g.half = False
    if half:
        words, convolved = (g.op("Cast", f"{x}.single", x, to=TensorProto.FLOAT) for x in (words, convolved))
    count = g.op("ReduceSum", "mask.sum", mask, g.ints("axis.length", 1), keepdims=0)
    # A row without any token (Triton's warm-up sends zeros) must not divide by zero.
    count = g.op("Max", "mask.count", count, g.floats("one", 1.0))
    total = _total(g, "states.sum", convolved, mask)
    embedding = normalised(g, "embedding", _sentence(g, weights, total, count, half=half))

    def feature(name: str) -> str:
        if name not in FEATURES:
            raise ValueError(f"no feature {name!r}: expected {', '.join(FEATURES)}")
        if name == "embedding":
            return embedding
        target = f"pooled.{name}"
        if target not in pooled:
            pooled[target] = g.op(
                "Div", target, _total(g, f"{target}.sum", words, mask) if name == "mean.0" else total, count
            )
        return pooled[target]

    pooled: dict[str, str] = {}
    hidden = int(config["hidden_size"])
    outputs = {"embedding": (embedding, hidden)}
    for head in heads:
        outputs[head.name] = (head_output(g, head, feature), len(head.labels))
    for name in expose:
        width = len(weights["ln_g"]) if name == "mean.1" else weights["table"].shape[1] if name == "mean.0" else hidden
        outputs[f"feature.{name}"] = (g.op("Identity", f"feature.{name}", feature(name)), width)
    return finished(g, {name: width for name, (_, width) in outputs.items()})


def _words(g: Graph, weights: Weights) -> str:
    """[batch, length, width]. In single precision from the bytes of the table, which are a quarter of its numbers."""
    if g.half:
        rows = np.arange(len(weights["table"])) % USE_PARTS
        table = weights["table"] * weights["table.scale"][rows, None] + weights["table.low"][rows, None]
        return g.op("Gather", "words", g.floats("table", table), "input_ids")
    part = g.op("Mod", "part", "input_ids", g.scalar("parts", USE_PARTS))
    vectors = g.op("Gather", "words.bytes", g.constant("table", weights["table"]), "input_ids")
    vectors = g.op("Cast", "words.float", vectors, to=TensorProto.FLOAT)
    scale = g.op("Gather", "words.scale", g.floats("table.scale", weights["table.scale"][:, None]), part)
    low = g.op("Gather", "words.low", g.floats("table.low", weights["table.low"][:, None]), part)
    return g.op("Add", "words", g.op("Mul", "words.scaled", vectors, scale), low)


def _convolutions(g: Graph, weights: Weights, words: str, mask: str, epsilon: float) -> str:
    """[batch, length, words and channels], normalised."""
    if g.half:
        mask = g.op("Cast", "mask.half", mask, to=TensorProto.FLOAT16)
    names = [tokens for tokens, _ in WINDOWS]
    weight = np.concatenate([weights[f"proj{name}"] for name in names], axis=1)
    bias = np.concatenate([weights[f"proj_b{name}"] for name in names])
    width = weight.shape[1] // len(names)
    projected = g.dense("layer.0.projection", words, weight, bias)
    channels = [f"channel.{name}" for name in names]
    sizes = g.ints("channel.sizes", *[width] * len(names))
    g.nodes.append(onnx.helper.make_node("Split", [projected, sizes], channels, name="channels", axis=-1))
    parts = [words]
    for (tokens, before), channel in zip(WINDOWS, channels, strict=True):
        x = _norm(g, f"{channel}.norm", channel, weights[f"ln_g{tokens}"], weights[f"ln_b{tokens}"], epsilon)
        # Padding counts as what lies outside of the text: zero.
        x = g.op("Mul", f"{channel}.inside", x, mask)
        for layer in (1, 2):
            name = f"layer.{layer}.{channel}"
            windows = _windows(g, f"{name}.windows", x, tokens, before)
            dense = g.dense(name, windows, weights[f"w{layer}_{tokens}"], weights[f"b{layer}_{tokens}"])
            x = g.op("Add", f"{name}.sum", g.op("Relu", f"{name}.relu", dense), x)
            if layer == 1:
                x = g.op("Mul", f"{name}.inside", x, mask)
        parts.append(x)
    joined = g.op("Concat", "states.joined", *parts, axis=-1)
    return _norm(g, "states", joined, weights["ln_g"], weights["ln_b"], epsilon)


def _windows(g: Graph, name: str, x: str, tokens: int, before: int) -> str:
    """[batch, length, tokens * width]: each token with its neighbours, zero outside of the row."""
    padded = g.op("Pad", f"{name}.padded", x, g.ints(f"around.{tokens}", 0, before, 0, 0, tokens - 1 - before, 0))
    parts = []
    for step in range(tokens):
        # From the front by `step`, from the end by what is left: slices of one length.
        end = step - tokens + 1
        stop = np.iinfo(np.int64).max if end == 0 else end
        parts.append(
            g.op(
                "Slice",
                f"{name}.{step}",
                padded,
                g.ints(f"from.{step}", step),
                g.ints(f"to.{stop}", stop),
                g.ints("axis.length", 1),
            )
        )
    return g.op("Concat", name, *parts, axis=-1)


def _total(g: Graph, name: str, x: str, mask: str) -> str:
    return g.op("ReduceSum", name, g.op("Mul", f"{name}.masked", x, mask), g.ints("axis.length", 1), keepdims=0)


def _sentence(g: Graph, weights: Weights, total: str, count: str, *, half: bool) -> str:
    """[batch, hidden] from the sum over tokens: two pairs of dense layers, each with a path around it.

    The sum is taken in single precision, and divided before it is made half: its largest number is one token's then.
    """

    def product(name: str, x: str, key: str) -> str:
        return g.op("MatMul", name, x, g.floats(f"{key}.weight", weights[key]))

    root = g.op("Sqrt", "mask.root", count)
    scaled = g.op("Div", "sentence.scaled", total, root)
    if half:
        scaled, root = (g.op("Cast", f"{x}.half", x, to=TensorProto.FLOAT16) for x in (scaled, root))
        g.half = True
    bias = g.op("Mul", "sentence.bias", root, g.floats("sentence.bias.weight", weights["cnn_b"][None]))
    mean = g.op("Add", "sentence.mean", product("sentence.projected", scaled, "cnn_W"), bias)
    first = product("dense.0", g.op("Relu", "dense.0.in", product("dense.0.product", mean, "d0")), "d1")
    first = g.op("Relu", "dense.1", g.op("Add", "dense.1.sum", product("dense.1.around", mean, "p1"), first))
    second = product("dense.2", g.op("Relu", "dense.2.in", product("dense.2.product", first, "d2")), "d3")
    sentence = g.op("Tanh", "dense.3", g.op("Add", "dense.3.sum", product("dense.3.around", first, "p3"), second))
    g.half = False
    return g.op("Cast", "sentence.single", sentence, to=TensorProto.FLOAT) if half else sentence


def _norm(g: Graph, name: str, x: str, scale: NDArray[Any], bias: NDArray[Any], epsilon: float) -> str:
    scales, biases = g.floats(f"{name}.scale", scale), g.floats(f"{name}.bias", bias)
    return g.op("LayerNormalization", name, x, scales, biases, axis=-1, epsilon=epsilon)
