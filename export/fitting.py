"""Training of the network of `router/parts`, with PyTorch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from export.unit_keys import Example, is_shape
from triton_router.parts.network import REACH

WIDTH, HIDDEN = 24, 32
BATCH, RATE = 64, 4e-3
# So many of a message's words are not seen in training, one share drawn for each message: programs have other words.
HIDDEN_WORDS, DRAWN = (0.0, 0.2, 0.5, 1.0), (0.25, 0.35, 0.3, 0.1)
# So many of all keys are not, and of what the network passes on.
HIDDEN_KEYS, DROPPED = 0.2, 0.15
# No message counts more than this: some cannot be told apart.
MOST = 12.0
# The network is the average of those of all steps; each counts by so much less than the next.
DECAY = 0.998
NEVER = -1e4


class _Batch(NamedTuple):
    """Keys of all units in a row, where each unit's begin, how much each counts, and where the unit stands."""

    keys: Tensor
    starts: Tensor
    weights: Tensor
    places: Tensor
    mask: Tensor
    """[messages, units, 1]"""
    first: Tensor
    last: Tensor


class _Network(nn.Module):
    """The one of `router/parts/network.py`, for many messages at once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        around = 2 * REACH + 3
        self.vectors = nn.Parameter(torch.randn(size, WIDTH) * 0.08)
        self.layers = nn.ModuleList([nn.Linear(WIDTH * around, HIDDEN), nn.Linear(HIDDEN * around, HIDDEN)])
        self.last = nn.Linear(HIDDEN, 3)

    def forward(self, batch: _Batch) -> Tensor:
        rows = functional.embedding_bag(
            batch.keys, self.vectors, batch.starts, mode="sum", per_sample_weights=batch.weights
        )
        messages, units, _ = batch.mask.shape
        inner = torch.zeros(messages * units, WIDTH).index_copy(0, batch.places, rows).view(messages, units, WIDTH)
        for layer in self.layers:
            inner = _layer(functional.dropout(inner, DROPPED, self.training) * batch.mask, batch.mask, layer)
        scores: Tensor = self.last(inner)
        return scores


def _layer(rows: Tensor, mask: Tensor, layer: nn.Linear) -> Tensor:
    units = rows.shape[1]
    padded = functional.pad(rows, (0, 0, REACH, REACH))
    window = torch.cat([padded[:, shift : shift + units] for shift in range(2 * REACH + 1)], dim=2)
    whole = torch.cat([(rows + NEVER * (1 - mask)).amax(dim=1), rows.sum(1) / mask.sum(1)], dim=1)
    near, far = layer.weight[:, : window.shape[2]], layer.weight[:, window.shape[2] :]
    return functional.relu(window @ near.T + (whole @ far.T + layer.bias)[:, None])


def _losses(scores: Tensor, batch: _Batch) -> Tensor:
    """Of each message, how improbable the prompt's run is among all runs."""
    outside = batch.mask[..., 0] == 0
    own = scores[..., 0].masked_fill(outside, 0)
    sums = own.cumsum(1)
    starts = (scores[..., 1] - sums + own).masked_fill(outside, NEVER)
    ends = (scores[..., 2] + sums).masked_fill(outside, NEVER)
    units = own.shape[1]
    runs = (starts[:, :, None] + ends[:, None]).masked_fill(torch.ones(units, units).tril(-1).bool(), NEVER)
    true = runs[torch.arange(len(runs)), batch.first, batch.last]
    return runs.flatten(1).logsumexp(1) - true


def train(rows: Sequence[Example], vocabulary: Sequence[str], epochs: int, path: Path, count: int) -> None:
    """Train ``count`` networks on ``rows`` and write them to ``path``."""
    _save(path, vocabulary, [_trained(rows, vocabulary, epochs, seed) for seed in range(1, count + 1)])


def _trained(rows: Sequence[Example], vocabulary: Sequence[str], epochs: int, seed: int) -> _Network:
    torch.manual_seed(seed)
    chance, generator = random.Random(seed), np.random.default_rng(seed)
    numbers = {key: number for number, key in enumerate(vocabulary)}
    words = np.array([not is_shape(key) for key in vocabulary])
    seen = [[[numbers[key] for key in keys if key in numbers] for keys in row.seen] for row in rows]
    model = _Network(len(vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=1e-6)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * max(0.03, 1 - step / steps)
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    for epoch in range(epochs):
        total = 0.0
        for numbers_of in _batches([len(row.seen) for row in rows], chance):
            batch = _batch([(seen[number], rows[number]) for number in numbers_of], words, generator)
            losses = _losses(model(batch), batch)
            optimizer.zero_grad()
            losses.clamp(max=MOST).mean().backward()
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            total += float(losses.detach().sum())
        print(f"network {seed}, epoch {epoch + 1}: loss {total / len(rows):.3f}", flush=True)
    trained = averaged.module
    assert isinstance(trained, _Network)
    return trained


def _batches(lengths: Sequence[int], chance: random.Random) -> Iterator[list[int]]:
    """Numbers of messages of about one length each."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number] + chance.random() * 6)
    groups = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    chance.shuffle(groups)
    yield from groups


def _batch(
    messages: Sequence[tuple[list[list[int]], Example]], words: NDArray[np.bool_], generator: np.random.Generator
) -> _Batch:
    units = max(len(seen) for seen, _ in messages)
    mask = np.zeros((len(messages), units, 1), np.float32)
    keys: list[int] = []
    starts: list[int] = []
    places: list[int] = []
    weights = []
    for number, (seen, _) in enumerate(messages):
        mask[number, : len(seen)] = 1
        begin = len(keys)
        for place, own in enumerate(seen):
            starts.append(len(keys))
            places.append(number * units + place)
            keys += own
        hidden = np.where(words[keys[begin:]], generator.choice(HIDDEN_WORDS, p=DRAWN), 0)
        drawn = generator.random((2, len(hidden)))
        weights.append((drawn[0] >= hidden) & (drawn[1] >= HIDDEN_KEYS))
    return _Batch(
        torch.tensor(keys),
        torch.tensor(starts),
        torch.tensor(np.concatenate(weights), dtype=torch.float32),
        torch.tensor(places),
        torch.tensor(mask),
        torch.tensor([row.first for _, row in messages]),
        torch.tensor([row.last for _, row in messages]),
    )


def _save(path: Path, vocabulary: Sequence[str], models: Sequence[_Network]) -> None:
    vectors = np.concatenate([model.vectors.detach().numpy() for model in models], axis=1)
    scale = (np.abs(vectors).max(axis=0) / 127).astype(np.float32)
    arrays = {"vectors": np.round(vectors / scale).astype(np.int8), "vectors_scale": scale}
    for number, layers in enumerate(zip(*([*model.layers, model.last] for model in models), strict=True), 1):
        arrays[f"w{number}"] = np.stack([layer.weight.detach().numpy().T for layer in layers]).astype(np.float16)
        arrays[f"b{number}"] = np.stack([layer.bias.detach().numpy()[None] for layer in layers]).astype(np.float16)
    text = "\n".join(vocabulary).encode()
    np.savez_compressed(path, vocabulary=np.frombuffer(text, np.uint8), **arrays)
