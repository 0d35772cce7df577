"""The graph of the real weights against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export import delta, graph, head, manifest, source

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "Why is the sky blue?",
    "hi",
    "How do I patch a CVE in OpenSSL? " * 12,
    "Wie hoch ist die Zugspitze, und wer war zuerst oben? Bitte mit Quelle.",
    "def f(x):\n    return x ** 2  # what does this do\n" * 8,
    "法律上，口头合同有效吗？",
]


@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 256])
def test_embedding_and_probabilities_equal_pytorch(length: int) -> None:
    import torch
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    (minilm,) = manifest.load(ROOT / "export" / "models.yaml").bundle("default")
    files = source.resolve(minilm.source, ROOT / "build" / "export" / "source")
    domain = head.load(ROOT / "export" / "heads" / "domain.json")
    config = BertConfig.from_pretrained(files.directory)
    weights = load_file(files.weights)
    change = None
    if minilm.delta is not None:
        change = delta.load(minilm.delta, files.weights_sha256, minilm.fork)
    changed = delta.merged(weights, change) if change is not None else weights

    def loaded(tensors: dict[str, np.ndarray]) -> BertModel:
        model = BertModel(config)
        missing, _ = model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=False)
        assert missing == []
        return model.eval()

    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encodings = tokenizer.encode_batch(TEXTS)
    ids = np.asarray([encoding.ids for encoding in encodings])
    mask = np.asarray([encoding.attention_mask for encoding in encodings])
    assert len(set(mask.sum(axis=1))) > 3, "the lengths must differ"

    with torch.inference_mode():
        arguments = (torch.tensor(ids), torch.tensor(mask))
        states = loaded(changed)(*arguments, output_hidden_states=True).hidden_states
        # A fork leaves the embedding that of the published weights.
        own = loaded(weights)(*arguments, output_hidden_states=True).hidden_states if minilm.fork else states
        column = torch.tensor(mask)[:, :, None].float()

        def pooled(feature: str, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
            kind, layer = feature.split(".")
            assert kind in ("mean", "cls")
            state = states[int(layer)]
            value = state[:, 0] if kind == "cls" else (state * column).sum(dim=1) / column.sum(dim=1)
            return torch.nn.functional.normalize(value, dim=1)

        embedding = pooled(f"mean.{config.num_hidden_layers}", own)
        logits = torch.cat([pooled(feature, states) for feature in domain.features], dim=1)
        for layer in domain.layers:
            logits = logits @ torch.tensor(layer.weight) + torch.tensor(layer.bias)
        probabilities = torch.softmax(logits / domain.temperature, dim=1)

    built = graph.build(weights, config.to_dict(), [domain], delta=change)
    session = ort.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    actual = session.run(["embedding", "domain"], {"input_ids": ids, "attention_mask": mask})
    assert np.abs(actual[0] - embedding.numpy()).max() <= 1e-4
    assert np.abs(actual[1] - probabilities.numpy()).max() <= 1e-4
