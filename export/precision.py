"""The flavours that one graph is served in on CPU: fp32 as built, or int8 weights with dynamic activations."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import onnx

FLAVOURS = ("fp32", "int8")


def quantize(source: Path, target: Path) -> None:
    """Write `source` with int8 weights, one scale a column, in the encoder's dense layers.

    Attention products and the heads stay fp32: they are a few per cent of the time, and a head's weights are what the
    training set them to. Activations are quantized with the range of each tensor as it comes, so that results depend on
    padding and on the batch a little; heads are therefore trained and judged on this very flavour.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    constants = {tensor.name for tensor in model.graph.initializer}
    # Layers are `layer.N` in the graph written here, `/trunk/layers.N/` and the like in a traced one.
    dense = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and re.search(r"(^|[./])layers?\.\d+[./]", node.name)
    ]
    if not dense:
        raise ValueError(f"{source}: no dense layer of an encoder was found, nothing to quantize")
    # The quantizer recommends a pre-processing pass whose work (shapes, constant folding) this graph does not need.
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=dense,
        )
    finally:
        logger.setLevel(level)
