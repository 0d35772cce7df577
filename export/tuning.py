"""Training of a low-rank delta together with a head, in PyTorch, with the embedding held in place.

The loss is the head's cross-entropy plus, where the embedding is of the states that change, `hold` times how far it has
moved from the published trunk's: 1 - cosine of a text's two embeddings, and five times the squared difference of the
similarities of the texts of a batch, which is what rules and caches compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from export import network
from export.delta import PLACES, Delta, LayerSlot, Matrix
from export.head import Layer, rounded
from export.labelled import Data
from export.quality import Drift
from export.training import fit_linear

BATCH = 32
# Batches are cut from so many batches' rows sorted by length: little padding, and still another mixture each epoch.
POOL = 16
SIMILARITY = 5.0
HEAD_RATE = 1e-2
SMOOTHING = 0.05
# Of what the head reads.
DROPOUT = 0.1
DECAY = 0.01
LARGEST_STEP = 1.0
EVERY = 25


@dataclass(frozen=True)
class DeltaSettings:
    features: tuple[str, ...]
    pooling: str
    """Of the embedding: `mean` or `cls`."""
    rank: int
    epochs: int
    learning_rate: float
    """Of the delta, at its highest."""
    hold: float
    """Weight of the term that keeps the embedding; not used with a fork, which cannot move it."""
    fork: int
    """0: all layers change. N: the top N do, for the heads alone."""
    tokens: int
    """Longer texts are cut; memory and time grow with it."""
    inverse_penalty: float
    """Of the regression that the head starts from."""
    seed: int
    layers: int = 0
    """So many top layers change, the others keep the matrices of the start; 0: all change."""


@dataclass(frozen=True)
class DeltaResult:
    delta: Delta
    layer: Layer
    drift: Drift
    """Of the embedding, over the rows that were held back, by the matrices as they are saved."""


def train(
    data: Data,
    settings: DeltaSettings,
    directory: Path,
    weights_sha256: str,
    progress: Callable[[str], None],
    start: Delta | None = None,
) -> DeltaResult:
    """Train on the rows that are not held back (`Data.held_back`); no other is looked at until the end.

    directory: of the published trunk, with `config.json`, `model.safetensors` and `tokenizer.json`. start: a delta of
    the same rank to go on from.

    Raises ValueError for a trunk whose dense layers are not known, for features or a fork that it does not have, and
    where a label has no row to train on.
    """
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    held_back = data.held_back
    seen, unseen = data.of(~held_back), data.of(held_back)
    if not len(unseen.texts):
        raise ValueError("none of the rows is held back for the temperature; give more than a handful")
    trunk = _TunableTrunk(directory, settings)

    progress(f"{len(seen.texts)} rows to train on, {len(unseen.texts)} held back; encoding them as published")
    published, features = trunk.encode(seen.texts)
    before, _ = trunk.encode(unseen.texts)
    trunk.change(settings.rank, start)
    if start is not None:
        _, features = trunk.encode(seen.texts)
    first = fit_linear(
        features.numpy(), seen.truth, seen.weights, settings.inverse_penalty, len(data.labels), settings.seed
    )
    progress(f"head on the states at the start: {_accuracy(features, first, seen):.1%} of the training rows")
    head = nn.Linear(*first.weight.shape).to(trunk.device)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(first.weight.T))
        head.bias.copy_(torch.from_numpy(first.bias))

    _descend(trunk, head, seen, published, settings, generator, progress)

    trunk.round()
    after, _ = trunk.encode(unseen.texts)
    drift = Drift.of(before.numpy(), after.numpy()) if not settings.fork else Drift(1.0, 1.0)
    with torch.no_grad():
        layer = rounded(Layer(head.weight.T.cpu().numpy().copy(), head.bias.cpu().numpy().copy()))
    training = {"data": data.facts(), **facts(settings, drift)}
    delta = Delta(weights_sha256, settings.rank, settings.fork, trunk.matrices(), data.labels, training)
    return DeltaResult(delta, layer, drift)


def facts(settings: DeltaSettings, drift: Drift) -> dict[str, Any]:
    """Settings, versions and what became of the embedding, for the files."""
    document = {name: value for name, value in asdict(settings).items() if name not in ("features", "pooling")}
    if not settings.layers:
        del document["layers"]
    if settings.fork:
        del document["hold"]
    return document | {
        "embedding_cosine": {"mean": round(drift.mean, 4), "least": round(drift.least, 4)},
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def _descend(
    trunk: _TunableTrunk,
    head: nn.Linear,
    data: Data,
    published: Tensor,
    settings: DeltaSettings,
    generator: np.random.Generator,
    progress: Callable[[str], None],
) -> None:
    truth = torch.from_numpy(data.truth)
    weights = torch.tensor(data.weights, dtype=torch.float32)
    steps = settings.epochs * math.ceil(len(data.texts) / BATCH)
    matrices = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "lr": settings.learning_rate, "weight_decay": DECAY},
            {"params": list(head.parameters()), "lr": HEAD_RATE, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[settings.learning_rate, HEAD_RATE], total_steps=steps + 1, pct_start=0.06, div_factor=10,
        final_div_factor=100,
    )  # fmt: skip
    lengths = trunk.lengths(data.texts)
    started, sums, step = perf_counter(), np.zeros(3), 0
    for epoch in range(settings.epochs):
        for rows in _batches(lengths, generator):
            embedding, features = trunk([data.texts[row] for row in rows])
            index = torch.from_numpy(rows)
            right, weight, there = (x[index].to(trunk.device) for x in (truth, weights, published))
            losses = functional.cross_entropy(
                head(functional.dropout(features, DROPOUT)), right, reduction="none", label_smoothing=SMOOTHING
            )
            entropy = (losses * weight).sum() / weight.sum()
            moved = 1 - (embedding * there).sum(dim=1).mean()
            similarity = (embedding @ embedding.T - there @ there.T).square().mean()
            loss = entropy
            if not settings.fork:
                loss = entropy + settings.hold * (moved + SIMILARITY * similarity)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(matrices, LARGEST_STEP)
            optimizer.step()
            schedule.step()
            step += 1
            sums += [entropy.item(), moved.item(), similarity.item()]
            if not math.isfinite(sums[0]):
                raise ValueError(f"step {step}: the loss is {entropy.item()}; take a lower learning rate")
            if step % EVERY == 0 or step == steps:
                count = (step - 1) % EVERY + 1
                entropy_, moved_, similarity_ = sums / count
                held = "" if settings.fork else f", 1 - cosine {moved_:.4f}, similarities² {similarity_:.5f}"
                progress(
                    f"epoch {epoch + 1} of {settings.epochs}, step {step} of {steps}: cross-entropy {entropy_:.3f}"
                    f"{held}, {perf_counter() - started:.0f} s"
                )
                sums[:] = 0


def _batches(lengths: Sequence[int], generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Every row once, neighbours in length together, in random order."""
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), BATCH * POOL):
        pool = np.asarray(sorted(order[start : start + BATCH * POOL], key=lambda row: lengths[row]))
        batches += [pool[at : at + BATCH] for at in range(0, len(pool), BATCH)]
    for index in generator.permutation(len(batches)):
        yield batches[index]


def _accuracy(features: Tensor, layer: Layer, data: Data) -> float:
    return float(((features.numpy() @ layer.weight + layer.bias).argmax(axis=1) == data.truth).mean())


class LowRank(nn.Module):
    """A dense layer with the weight W + B·A. B starts as zero, so that training starts at the published trunk.

    The sum is made once a step: one product of large matrices is several times quicker on a CPU than two of a low rank
    next to it.
    """

    def __init__(self, dense: nn.Linear, rank: int) -> None:
        super().__init__()
        self.dense = dense
        self.a = nn.Parameter(torch.randn(rank, dense.in_features) / math.sqrt(dense.in_features))
        self.b = nn.Parameter(torch.zeros(dense.out_features, rank))

    def begin(self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> None:
        """Raises ValueError for matrices of another rank."""
        if a.shape != self.a.shape or b.shape != self.b.shape:
            raise ValueError(f"the start's matrices are of rank {len(a)}, not {len(self.a)}")
        with torch.no_grad():
            self.a.copy_(torch.from_numpy(a))
            self.b.copy_(torch.from_numpy(b))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = self.dense.weight + self.b @ self.a
        return functional.linear(x, weight, self.dense.bias)


class _TunableTrunk(nn.Module):
    """The encoder that is tuned: texts to embeddings and features, both of unit length."""

    def __init__(self, directory: Path, settings: DeltaSettings) -> None:
        super().__init__()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Plain attention gives gradients everywhere. The trunk's own dropout stays off.
        self.encoder = network.load_trunk(directory, "sdpa").to(self.device).eval().requires_grad_(False)
        self.layers = len(network.layers_of(self.encoder))
        self.settings = settings
        if settings.fork > self.layers:
            raise ValueError(f"fork {settings.fork} of a trunk with {self.layers} layers")
        for name in settings.features:
            kind, _, layer = name.partition(".")
            if kind not in ("mean", "max", "cls") or not layer.isdigit() or int(layer) > self.layers:
                raise ValueError(f"no feature {name!r}: expected mean.N, max.N or cls.N, N up to {self.layers}")
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(settings.tokens)
        self.padding = self.encoder.config.pad_token_id or 0
        self.changed: dict[LayerSlot, LowRank] = {}

    def change(self, rank: int, start: Delta | None = None) -> None:
        """Put low-rank matrices beside the dense layers. Raises ValueError where none of them is known."""
        first = self.layers - self.settings.fork if self.settings.fork else 0
        fixed = self.layers - self.settings.layers if self.settings.layers else 0
        for layer in range(first, self.layers):
            for kind, place in PLACES.items():
                name = place.format(layer).removesuffix(".weight")
                try:
                    dense = self.encoder.get_submodule(name)
                except AttributeError:
                    continue
                holder, _, attribute = name.rpartition(".")
                self.changed[layer, kind] = changed = LowRank(dense, rank).to(self.device)
                changed.requires_grad_(layer >= fixed)
                dense.requires_grad_(False)
                if start is not None:
                    changed.begin(*start.matrices[layer, kind])
                setattr(self.encoder.get_submodule(holder), attribute, self.changed[layer, kind])
        if not self.changed:
            raise ValueError(f"{type(self.encoder).__name__}: where its dense layers are is not known")

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [found.ids for found in self.tokenizer.encode_batch(list(texts))]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [self.padding] * (longest - len(row)) for row in rows], device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(longest, device=self.device) < lengths[:, None]).long()
        # Half the time of single precision; what is compared and trained is in single precision.
        with torch.autocast(self.device.type, torch.bfloat16):
            states = network.states_of(self.encoder, {"input_ids": ids, "attention_mask": mask})
        states = tuple(state.float() for state in states)
        embedding = network.unit(network.pooled(self.settings.pooling, states[-1], mask))
        return embedding, network.features(self.settings.features, states, mask)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Without gradients and dropout, on the CPU, in the order of the texts."""
        self.eval()
        lengths = self.lengths(texts)
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(order), 2 * BATCH):
                outputs = self([texts[row] for row in order[start : start + 2 * BATCH]])
                parts.append(tuple(part.cpu() for part in outputs))
        back = torch.from_numpy(np.argsort(order))
        embeddings, features = (torch.cat(side)[back].clone() for side in zip(*parts, strict=True))
        return embeddings, features

    def round(self) -> None:
        """To what half precision holds, as the file does."""
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.requires_grad:
                    parameter.copy_(parameter.half().float())

    def matrices(self) -> dict[LayerSlot, tuple[Matrix, Matrix]]:
        return {
            place: (changed.a.detach().cpu().numpy(), changed.b.detach().cpu().numpy())
            for place, changed in self.changed.items()
        }
