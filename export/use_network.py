"""Google's Universal Sentence Encoder Multilingual in PyTorch, to compare the graph with that is served.

Written from the published network and not from `use_graph.py`: its convolutions are PyTorch's own, which pad by
themselves, so that a row is read alone and without a mask.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from export import head as head_file
from export import network
from export.manifest import ModelSpec
from export.unpack import USE_PARTS


class UseNetwork(nn.Module):
    """``input_ids`` INT64 [1, length] without padding, to the embedding and each head's probabilities.

    directory: what `export/unpack.py` wrote.
    """

    def __init__(self, model: ModelSpec, directory: Path) -> None:
        super().__init__()
        self.weights = load_file(directory / "model.safetensors")
        self.epsilon = float(json.loads((directory / "config.json").read_text())["layer_norm_eps"])
        self.heads = [network.FileHead(head_file.load(head.file)) for head in model.heads if head.file is not None]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        w, part = self.weights, input_ids % USE_PARTS
        words = w["table"][input_ids].float() * w["table.scale"][part, None] + w["table.low"][part, None]
        parts = [words, *(self._channel(words, tokens) for tokens in (2, 3, 5))]
        joined = torch.cat(parts, -1)
        states = functional.layer_norm(joined, joined.shape[-1:], w["ln_g"], w["ln_b"], self.epsilon)
        sentence = ((states @ w["cnn_W"] + w["cnn_b"]).sum(1)) / input_ids.shape[1] ** 0.5
        first = functional.relu(sentence @ w["p1"] + functional.relu(sentence @ w["d0"]) @ w["d1"])
        second = first @ w["p3"] + functional.relu(first @ w["d2"]) @ w["d3"]
        embedding = network.unit(torch.tanh(second))
        pooled = {"mean.0": words.mean(1), "mean.1": states.mean(1), "embedding": embedding}
        inputs = (torch.cat([network.unit(pooled[name]) for name in head.features], -1) for head in self.heads)
        return (
            embedding,
            *(head.probabilities(x, input_ids, attention_mask) for head, x in zip(self.heads, inputs, strict=True)),
        )

    def _channel(self, words: Tensor, tokens: int) -> Tensor:
        """[1, length, width]: two convolutions over so many tokens, each added to what it read."""
        w = self.weights
        x = words @ w[f"proj{tokens}"] + w[f"proj_b{tokens}"]
        x = functional.layer_norm(x, x.shape[-1:], w[f"ln_g{tokens}"], w[f"ln_b{tokens}"], self.epsilon)
        before = (tokens - 1) // 2
        for layer in (1, 2):
            # [tokens * in, out] to the [out, in, tokens] of a convolution.
            kernel = w[f"w{layer}_{tokens}"].reshape(tokens, x.shape[-1], -1).permute(2, 1, 0)
            padded = functional.pad(x.transpose(1, 2), (before, tokens - 1 - before))
            x = functional.relu(functional.conv1d(padded, kernel, w[f"b{layer}_{tokens}"])).transpose(1, 2) + x
        return x
