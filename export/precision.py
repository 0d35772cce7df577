"""The flavours that one graph is served in on CPU: fp32 as built, or int8 weights with dynamic activations."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FLAVOURS = ("fp32", "int8")

# How much of a channel's range goes from the activations into the weights. Of 0.5, 0.7, 0.75, 0.8, 0.85 and 0.9 the one
# whose probabilities are nearest to those of fp32 (MiniLM with its domain head, exam questions).
SHARE = 0.75
# Rows from which a table is worth it; positions and the like stay as they are.
LARGE_TABLE = 4096
# Columns from which it is, too: a row's scale is a number more, and its look-up takes time.
WIDE_ROW = 16
# No channel counts as smaller: one that is always zero must not divide by it.
SMALLEST = 1e-5

Batch = Mapping[str, NDArray[np.int64]]


def quantize(source: Path, target: Path, texts: Iterable[Batch]) -> None:
    """Write `source` with int8 weights, one scale a column, in the encoder's dense layers.

    Attention products and the heads stay fp32: they are a few per cent of the time, and a head's weights are what the
    training set them to. The word table is int8 too, one scale a word: it is most of the memory. Activations are
    quantized with the range of each tensor as it comes, so that results depend on the batch a little; heads are
    therefore trained and judged on this very flavour.

    One range for a whole tensor is coarse where few channels are much larger than the rest. Each dense layer's input is
    therefore divided, channel by channel, by what its weights are multiplied with (SmoothQuant, Xiao et al., 2023, with
    `SHARE` as its alpha). texts: tokens in batches without padding, from which the channels' ranges are taken.

    Raises ValueError where no dense layer is found.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    dense = _dense(model)
    if not dense:
        raise ValueError(f"{source}: no dense layer of an encoder was found, nothing to quantize")
    _smooth(model, dense, _ranges(model, sorted({node.input[0] for node in dense}), texts))
    _shrink_tables(model)
    with TemporaryDirectory() as directory, _quiet():
        smoothed = Path(directory) / "smoothed.onnx"
        onnx.save(model, smoothed)
        quantize_dynamic(
            smoothed,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in dense],
        )


def _dense(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Layers are `layer.N` in the graph written here, `/trunk/layers.N/` and the like in a traced one."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and re.search(r"(^|[./])layers?\.\d+[./]", node.name)
    ]


def _ranges(model: onnx.ModelProto, names: Sequence[str], texts: Iterable[Batch]) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of each channel of these tensors; none where there are no texts."""
    import onnxruntime as ort

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    outputs = {output.name for output in probe.graph.output}
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in outputs
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ranges: dict[str, Any] = {}
    for batch in texts:
        for name, value in zip(names, session.run(list(names), dict(batch)), strict=True):
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            ranges[name] = np.maximum(ranges.get(name, 0), largest)
    return ranges


def _smooth(model: onnx.ModelProto, dense: Sequence[onnx.NodeProto], ranges: Mapping[str, NDArray[np.float32]]) -> None:
    """Divide each dense layer's input by a factor for each channel, and multiply its weights with it."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    used = Counter(name for node in graph.node for name in node.input)
    before: dict[str, onnx.NodeProto] = {}
    for node in dense:
        # Weights that two layers share cannot be multiplied for one of them.
        if node.input[0] not in ranges or used[node.input[1]] > 1:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        channels, rows = (np.maximum(x, SMALLEST) for x in (ranges[node.input[0]], np.abs(weight).max(axis=1)))
        factor = channels**SHARE / rows ** (1 - SHARE)
        factor = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        scaled = numpy_helper.from_array(weight * factor[:, None], node.input[1])
        constants[node.input[1]].CopyFrom(scaled)
        inverse, name = f"{node.name}.smoothing", f"{node.name}.smoothed"
        graph.initializer.append(numpy_helper.from_array(1 / factor, inverse))
        before[node.name] = helper.make_node("Mul", [node.input[0], inverse], [name], name=name)
        node.input[0] = name
    nodes = [each for node in graph.node for each in (before.get(node.name), node) if each is not None]
    del graph.node[:]
    graph.node.extend(nodes)


def _shrink_tables(model: onnx.ModelProto) -> None:
    """Tables that rows are looked up in to int8, each row with the scale that its largest number needs."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        large = table is not None and table.dims[0] >= LARGE_TABLE and table.dims[1] >= WIDE_ROW
        if table is None or table.data_type != onnx.TensorProto.FLOAT or not large:
            nodes.append(node)
            continue
        name, rows = node.output[0], node.input[1]
        weight = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
        table.CopyFrom(numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), table.name))
        graph.initializer.append(numpy_helper.from_array(scale, f"{table.name}.scale"))
        nodes += [
            helper.make_node("Gather", [table.name, rows], [f"{name}.int8"], name=f"{name}.int8"),
            helper.make_node(
                "Cast", [f"{name}.int8"], [f"{name}.float"], name=f"{name}.float", to=onnx.TensorProto.FLOAT
            ),
            helper.make_node("Gather", [f"{table.name}.scale", rows], [f"{name}.scale"], name=f"{name}.scale"),
            helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name], name=node.name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer recommends a pre-processing pass whose work (shapes, constant folding) these graphs do not need."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
