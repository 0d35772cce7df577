"""ModernBERT-like encoders with random weights, written to disk as the hub would give them.

For latency, which does not depend on what was learnt, and for tests, which want them small.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WINDOW = 16
# The numbers of ModernBERT-base.
BASE = {
    "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12,
    "max_position_embeddings": 8192, "local_attention": 128, "vocab_size": 50368, "initializer_range": 0.02,
    "initializer_cutoff_factor": 2.0,
}  # fmt: skip
SENTENCES = [
    "What is the derivative of x squared?",
    "Is a verbal agreement binding, and since when?",
    "Good morning! Write me a short poem about rivers.",
    "The quick brown fox jumps over the lazy dog 0123456789 times.",
    "def f(x): return x ** 2  # doubled",
]


def bert_style(directory: Path) -> dict[str, int]:
    """A byte-level BPE tokenizer as ModernBERT has one; returns the ids of its special tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    return _trained(tokenizer, special, ("[CLS]", "[SEP]", "[PAD]"), directory)


def gemma_style(directory: Path) -> dict[str, int]:
    """A BPE tokenizer with byte fallback and `▁` for spaces as mmBERT has one; padding is token 0."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Replace("▁", " ")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    return _trained(tokenizer, special, ("<bos>", "<eos>", "<pad>"), directory)


def _trained(tokenizer: Tokenizer, special: list[str], around: tuple[str, str, str], directory: Path) -> dict[str, int]:
    trainer = trainers.BpeTrainer(vocab_size=403, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    vocabulary = tokenizer.get_vocab()
    first, last, pad = (vocabulary[token] for token in around)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{around[0]} $A {around[1]}", special_tokens=[(around[0], first), (around[1], last)]
    )
    tokenizer.enable_padding(pad_id=pad, pad_token=around[2])
    tokenizer.enable_truncation(64)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return {"cls_token_id": first, "sep_token_id": last, "pad_token_id": pad, "vocab_size": tokenizer.get_vocab_size()}


def config(special: dict[str, int], *, theta: float = 10_000.0, **changes: Any) -> Any:
    from transformers import ModernBertConfig

    settings = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "max_position_embeddings": 512, "local_attention": WINDOW, "global_attn_every_n_layers": 3,
        "bos_token_id": special["cls_token_id"], "eos_token_id": special["sep_token_id"], "classifier_pooling": "mean",
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 160_000.0},
                            "sliding_attention": {"rope_type": "default", "rope_theta": theta}},
        # Otherwise random weights of a small network say nearly the same of every text.
        "initializer_range": 0.25, "initializer_cutoff_factor": 3.0,
    }  # fmt: skip
    return ModernBertConfig(**(settings | special | changes))


def embedder(directory: Path, *, gemma: bool = False, seed: int = 0, **changes: Any) -> Path:
    """An encoder without a head; ``gemma`` gives it the tokenizer and the rotary settings of mmBERT."""
    import torch
    from transformers import ModernBertModel

    special = (gemma_style if gemma else bert_style)(directory)
    torch.manual_seed(seed)
    ModernBertModel(config(special, theta=160_000.0 if gemma else 10_000.0, **changes)).save_pretrained(directory)
    return directory


def classifier(
    directory: Path, labels: list[str], *, gemma: bool = False, tokens: bool = False, seed: int = 1, **changes: Any
) -> Path:
    """A classifier of texts, or of ``tokens``."""
    import torch
    from transformers import ModernBertForSequenceClassification, ModernBertForTokenClassification

    special = (gemma_style if gemma else bert_style)(directory)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    torch.manual_seed(seed)
    kind = ModernBertForTokenClassification if tokens else ModernBertForSequenceClassification
    kind(config(special, theta=160_000.0 if gemma else 10_000.0, **names, **changes)).save_pretrained(directory)
    return directory


def tuned(directory: Path, trunk: Path, labels: list[str], *, shared: int, seed: int = 2) -> Path:
    """A classifier of texts on ``trunk`` whose first ``shared`` layers (and embeddings) are the trunk's."""
    import torch
    from transformers import ModernBertForSequenceClassification, ModernBertModel

    base = ModernBertModel.from_pretrained(trunk)
    described = base.config.to_dict() | {"id2label": dict(enumerate(labels)), "num_labels": len(labels)}
    torch.manual_seed(seed)
    model = ModernBertForSequenceClassification(type(base.config)(**described))
    model.model.load_state_dict(base.state_dict())
    with torch.no_grad():
        for layer in model.model.layers[shared:]:
            for weight in layer.parameters():
                weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(directory)
    (directory / "tokenizer.json").write_bytes((trunk / "tokenizer.json").read_bytes())
    return directory


def describe(path: Path, models_: list[dict[str, Any]]) -> Path:
    """A manifest (JSON is YAML) with one bundle of all ``models_``."""
    bundle = {"default": [model["name"] for model in models_]}
    path.write_text(json.dumps({"format": 1, "bundles": bundle, "models": models_}, indent=1))
    return path
