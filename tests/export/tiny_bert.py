"""A small BERT with random weights, written to disk as the hub would give it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

HIDDEN, LAYERS, HEADS, INNER, PLACES = 24, 3, 4, 40, 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *[f"w{index}" for index in range(60)]]


@dataclass(frozen=True)
class TinyBert:
    directory: Path
    config: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]


def make(directory: Path, *, specials_last: bool = False) -> TinyBert:
    """``specials_last`` gives it a tokenizer of its own, whose padding is not token 0."""
    words = [*WORDS[4:], *WORDS[:4]] if specials_last else WORDS
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": PLACES,
        "type_vocab_size": 2,
        "vocab_size": len(words),
        "layer_norm_eps": 1e-12,
        "pad_token_id": words.index("[PAD]"),
    }
    weights = _random_weights(np.random.default_rng(8 if specials_last else 7))
    (directory / "config.json").write_text(json.dumps(config))
    save_file(weights, directory / "model.safetensors")
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer(words)))
    return TinyBert(directory, config, weights)


def _random_weights(generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    weights: dict[str, NDArray[np.float32]] = {}

    def add(name: str, *shape: int, scale: float = 0.3, around: float = 0.0) -> None:
        weights[name] = (around + scale * generator.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> None:
        add(f"{name}.weight", HIDDEN, scale=0.1, around=1.0)
        add(f"{name}.bias", HIDDEN, scale=0.1)

    def dense(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    add("embeddings.word_embeddings.weight", len(WORDS), HIDDEN, scale=1.0)
    add("embeddings.position_embeddings.weight", PLACES, HIDDEN)
    add("embeddings.token_type_embeddings.weight", 2, HIDDEN)
    norm("embeddings.LayerNorm")
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", INNER, HIDDEN)
        dense(f"{layer}.output.dense", HIDDEN, INNER)
        norm(f"{layer}.output.LayerNorm")
    return weights


def _tokenizer(words: list[str]) -> dict[str, Any]:
    """Whole words, with the truncation and padding to few tokens that published files come with."""
    special = [
        {"id": words.index(word), "special": True, "content": word, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for word in WORDS[:4]
    ]  # fmt: skip
    around = {name: words.index(name) for name in ("[CLS]", "[SEP]")}
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": words.index("[PAD]"),
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in around.items()},
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(words)},
            "unk_token": "[UNK]",
        },
    }
