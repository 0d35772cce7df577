"""Training of a low-rank delta for several heads at once, in PyTorch, with the embedding held in place.

Each step reads rows of all tasks. The loss is the mean cross-entropy of their heads plus, where the embedding is of the
states that change, `hold` times how far it has moved since the start: 1 - cosine of a text's two embeddings, and five
times the squared difference of the similarities of the texts of a batch, which is what rules and caches compare.
The heads here only lead the delta: `train-head` trains the served ones on its states.
"""

from __future__ import annotations

import copy
import math
import os
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
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from export import network
from export.delta import PLACES, Delta, LayerSlot, Matrix
from export.encoder import SEPARATOR
from export.labelled import Data
from export.quality import Drift

BATCH = 32
# Batches are cut from so many batches' rows sorted by length: little padding, and still another mixture each epoch.
POOL = 32
# Of a row's passages so many are read an epoch: the first one, and others at random.
PASSAGES = 3
SIMILARITY = 5.0
HEAD_RATE = 1e-2
SMOOTHING = 0.05
# Of what the head reads.
DROPOUT = 0.1
DECAY = 0.01
LARGEST_STEP = 1.0
# Share of the steps in which the rates rise.
WARM_UP = 0.05
EVERY = 25
# So many texts at most tell how far the embedding has moved.
DRIFT_TEXTS = 500


@dataclass(frozen=True)
class Task:
    """What one head learns of the states. A row is read as often an epoch as its weight says, on average."""

    name: str
    data: Data
    share: float = 1.0
    """Of its loss in the sum."""
    negative: str | None = None
    """Of rows that stand as passages: any passage of a row with this label has it, and one of every other row."""


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
    seed: int
    prefix: str = ""
    """Before every text."""
    layers: int = 0
    """So many top layers change, the others keep the matrices of the start; 0: all change."""


@dataclass(frozen=True)
class _Example:
    """One row of task number ``task``."""

    task: int
    texts: tuple[str, ...]
    label: int
    negative: bool
    weight: float
    tokens: int
    """Of the longest text."""


def train(
    tasks: Sequence[Task],
    settings: DeltaSettings,
    directory: Path,
    weights_sha256: str,
    progress: Callable[[str], None],
    start: Delta | None = None,
) -> Iterator[Delta]:
    """Train on the rows that are not held back (`Data.held_back`); no other trains it. Yields the delta of each epoch.

    directory: of the published trunk, with `config.json`, `model.safetensors` and `tokenizer.json`. start: a delta of
    at most the same rank to go on from. Started by `torchrun`, several processes share each step.

    Raises ValueError for a trunk whose dense layers are not known, for features or a fork that it does not have, and
    where no row is held back.
    """
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    unseen = [text for task in tasks for text in task.data.of(task.data.held_back).texts]
    if not unseen:
        raise ValueError("none of the rows is held back; give more than a handful")
    trunk = _TunableTrunk(directory, settings)
    trunk.change(settings.rank, start)
    before = copy.deepcopy(trunk, _shared(trunk))
    before.known = trunk.known
    examples = [example for number, task in enumerate(tasks) for example in _examples(number, task, trunk)]
    width = len(settings.features) * int(trunk.encoder.config.hidden_size)
    heads = nn.ModuleList([nn.Linear(width, len(task.data.labels)) for task in tasks]).to(trunk.device)
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    progress(f"{len(examples)} rows to train on, {len(unseen)} texts held back")

    unseen = unseen[:: 1 + len(unseen) // DRIFT_TEXTS]
    embeddings = None if settings.fork else before.embeddings(unseen)
    described = [{"head": task.name, "share": task.share, "data": task.data.facts()} for task in tasks]
    for epoch in _descend(trunk, heads, tasks, examples, before, settings, generator, progress):
        trunk.round()
        drift = Drift(1.0, 1.0) if embeddings is None else Drift.of(embeddings, trunk.embeddings(unseen))
        training = {"tasks": described, "epoch": epoch, **facts(settings, drift)}
        yield Delta(weights_sha256, settings.rank, settings.fork, trunk.matrices(), training)


def facts(settings: DeltaSettings, drift: Drift) -> dict[str, Any]:
    """Settings, versions and what became of the embedding, for the files."""
    document = {name: value for name, value in asdict(settings).items() if name != "pooling"}
    for name in ("layers", "prefix"):
        if not document[name]:
            del document[name]
    if settings.fork:
        del document["hold"]
    return document | {
        "embedding_cosine": {"mean": round(drift.mean, 4), "least": round(drift.least, 4)},
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def _examples(number: int, task: Task, trunk: _TunableTrunk) -> Iterator[_Example]:
    data = task.data.of(~task.data.held_back)
    lengths = trunk.lengths(data.texts)
    places: dict[int, list[int]] = {}
    for place, row in enumerate(data.row.tolist()):
        places.setdefault(row, []).append(place)
    for own in places.values():
        label, first = int(data.truth[own[0]]), own[0]
        yield _Example(
            task=number,
            texts=tuple(data.texts[place] for place in own),
            label=label,
            negative=data.labels[label] == task.negative,
            weight=float(data.weights[first]),
            tokens=max(lengths[place] for place in own),
        )


def _descend(
    trunk: _TunableTrunk,
    heads: nn.ModuleList,
    tasks: Sequence[Task],
    examples: Sequence[_Example],
    before: _TunableTrunk,
    settings: DeltaSettings,
    generator: np.random.Generator,
    progress: Callable[[str], None],
) -> Iterator[int]:
    """Yields the number of each epoch that is over."""
    rank, processes = _processes()
    steps = settings.epochs * math.ceil(sum(each.weight for each in examples) / BATCH / processes)
    matrices = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "lr": settings.learning_rate, "weight_decay": DECAY},
            {"params": list(heads.parameters()), "lr": HEAD_RATE, "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    held = settings.hold > 0 and not settings.fork
    remembered: dict[str, Tensor] = {}
    started, sums, step = perf_counter(), np.zeros(len(tasks) + 2), 0
    for epoch in range(settings.epochs):
        for batch in list(_batches(examples, generator, processes))[rank::processes]:
            texts = [text for _, part in batch for text in part]
            embedding, features = trunk(texts)
            losses = _losses(heads, functional.dropout(features, DROPOUT), batch)
            entropy = sum(task.share * loss for task, loss in zip(tasks, losses, strict=True)) / len(batch)
            moved = similarity = entropy.new_zeros(())
            if held:
                there = before.remembered(texts, remembered)
                moved = 1 - (embedding * there).sum(dim=1).mean()
                similarity = (embedding @ embedding.T - there @ there.T).square().mean()
            loss = entropy + settings.hold * (moved + SIMILARITY * similarity)
            optimizer.zero_grad()
            loss.backward()
            _average([*matrices, *heads.parameters()], processes)
            nn.utils.clip_grad_norm_(matrices, LARGEST_STEP)
            optimizer.step()
            schedule.step()
            step += 1
            counts = np.bincount([example.task for example, _ in batch], minlength=len(tasks))
            means = [loss.item() / max(count, 1) for loss, count in zip(losses, counts, strict=True)]
            sums += [*means, moved.item(), similarity.item()]
            if not math.isfinite(sums.sum()):
                raise ValueError(f"step {step}: the loss is {loss.item()}; take a lower learning rate")
            if step % EVERY == 0 and rank == 0:
                *entropies, moved_, similarity_ = sums / EVERY
                values = ", ".join(f"{task.name} {value:.3f}" for task, value in zip(tasks, entropies, strict=True))
                drift = f"; 1 - cosine {moved_:.4f}, similarities² {similarity_:.5f}" if held else ""
                progress(
                    f"epoch {epoch + 1}, step {step} of about {steps}: cross-entropy {values}{drift}; "
                    f"{perf_counter() - started:.0f} s"
                )
            if step % EVERY == 0:
                sums[:] = 0
        yield epoch + 1


def _losses(heads: nn.ModuleList, features: Tensor, batch: Sequence[tuple[_Example, Sequence[str]]]) -> list[Tensor]:
    """By task, summed over its rows: a row's loss is that of its likeliest passage, for the router goes by that."""
    task = torch.tensor([example.task for example, part in batch for _ in part])
    truth = torch.tensor([example.label for example, part in batch for _ in part], device=features.device)
    each = features.new_zeros(len(task))
    for number, head in enumerate(heads):
        own = (task == number).to(features.device)
        entropy = functional.cross_entropy(head(features[own]), truth[own], reduction="none", label_smoothing=SMOOTHING)
        each = each.masked_scatter(own, entropy)
    sums = [features.new_zeros(()) for _ in heads]
    for (example, _), part in zip(batch, each.split([len(part) for _, part in batch]), strict=True):
        sums[example.task] = sums[example.task] + (part.max() if example.negative else part.min())
    return sums


def _rate(share: float) -> float:
    """Of the highest learning rate, after such a share of the steps: up in a line, down in a cosine."""
    if share < WARM_UP:
        return share / WARM_UP + 1e-3
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def _processes() -> tuple[int, int]:
    """This one's number, and how many there are. On a CPU two of one thread are quicker than one of two."""
    if "RANK" not in os.environ:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def first_process() -> bool:
    return _processes()[0] == 0


def _average(parameters: Sequence[nn.Parameter], processes: int) -> None:
    """Give every process the mean of their gradients."""
    if processes == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).cpu()
    distributed.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = (part / processes).view_as(parameter).to(parameter.device)


def _batches(
    examples: Sequence[_Example], generator: np.random.Generator, processes: int
) -> Iterator[list[tuple[_Example, tuple[str, ...]]]]:
    """Rows with the passages that are read of each, neighbours in length together, in random order.

    The processes' batches of one step are of about the same length, so none waits for the others.
    """
    times = np.floor([each.weight for each in examples] + generator.random(len(examples))).astype(int)
    order = generator.permutation(np.repeat(np.arange(len(examples)), times))
    batches = []
    for start in range(0, len(order), BATCH * POOL):
        pool = sorted(
            order[start : start + BATCH * POOL], key=lambda row: (examples[row].tokens, len(examples[row].texts))
        )
        batches += [pool[at : at + BATCH] for at in range(0, len(pool), BATCH)]
    for step in generator.permutation(len(batches) // processes):
        for batch in batches[step * processes : (step + 1) * processes]:
            yield [(examples[row], _passages(examples[row].texts, generator)) for row in batch]


def _passages(texts: tuple[str, ...], generator: np.random.Generator) -> tuple[str, ...]:
    if len(texts) <= PASSAGES:
        return texts
    others = generator.choice(np.arange(1, len(texts)), PASSAGES - 1, replace=False)
    return (texts[0], *(texts[place] for place in others))


def _shared(module: nn.Module) -> dict[int, Any]:
    """For `copy.deepcopy`: what does not change is there once."""
    return {id(each): each for each in module.parameters() if not each.requires_grad}


class LowRank(nn.Module):
    """A dense layer with the weight W + B·A. B starts as zero, or as the start's: training goes on from there.

    The sum is made once a step: one product of large matrices is several times quicker on a CPU than two of a low rank
    next to it.
    """

    def __init__(self, dense: nn.Linear, rank: int, start: tuple[Matrix, Matrix] | None = None) -> None:
        """Raises ValueError for a start of a higher rank."""
        super().__init__()
        self.dense = dense
        self.a = nn.Parameter(torch.randn(rank, dense.in_features) / math.sqrt(dense.in_features))
        self.b = nn.Parameter(torch.zeros(dense.out_features, rank))
        if start is None:
            return
        a, b = map(torch.from_numpy, start)
        if len(a) > rank:
            raise ValueError(f"the start's matrices are of rank {len(a)}, {rank} is asked for")
        with torch.no_grad():
            self.a[: len(a)].copy_(a)
            self.b[:, : len(a)].copy_(b)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = self.dense.weight + self.b @ self.a
        return functional.linear(x, weight, self.dense.bias)


class _States(nn.Module):
    """Takes the place of embeddings: gives ``states``, whatever the input is."""

    states: Tensor

    def forward(self, *_arguments: Any, **_more: Any) -> Tensor:
        return self.states


class _TunableTrunk(nn.Module):
    """The encoder that is tuned: texts to embeddings and features, both of unit length."""

    def __init__(self, directory: Path, settings: DeltaSettings) -> None:
        super().__init__()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # On a CPU the gradient of the fused attention takes longer than all else. The trunk's own dropout stays off.
        attention = "sdpa" if self.device.type == "cuda" else "eager"
        self.encoder = network.load_trunk(directory, attention).to(self.device).eval().requires_grad_(False)
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
        self.end = self.tokenizer.id_to_token(self.tokenizer.encode("").ids[-1]) or ""
        self.changed: dict[LayerSlot, LowRank] = {}
        self.fixed: dict[LayerSlot, tuple[Matrix, Matrix]] = {}
        # The layers below all that changes, how many they are, and the states above them by text.
        self.lower: nn.Module | None = None
        self.frozen = 0
        self.known: dict[str, Tensor] = {}

    def change(self, rank: int, start: Delta | None = None) -> None:
        """Put low-rank matrices beside the dense layers; those below what is to change get the start's for good.

        Raises ValueError where no dense layer is known.
        """
        first = self.layers - self.settings.fork if self.settings.fork else 0
        lowest = self.layers - self.settings.layers if self.settings.layers else 0
        begun = start.matrices if start is not None else {}
        for layer in range(first, self.layers):
            for kind, place in PLACES.items():
                name = place.format(layer).removesuffix(".weight")
                try:
                    dense = self.encoder.get_submodule(name)
                except AttributeError:
                    continue
                pair = begun.get((layer, kind))
                if layer >= lowest:
                    changed = LowRank(dense, rank, pair).to(self.device)
                    holder, _, attribute = name.rpartition(".")
                    setattr(self.encoder.get_submodule(holder), attribute, changed)
                    self.changed[layer, kind] = changed
                elif pair is not None:
                    a, b = (torch.from_numpy(side).to(self.device) for side in pair)
                    dense.weight.add_(b @ a)
                    self.fixed[layer, kind] = pair
        if not self.changed:
            raise ValueError(f"{type(self.encoder).__name__}: where its dense layers are is not known")
        self._freeze(max(first, lowest))

    def _freeze(self, layers: int) -> None:
        """Run so many lower ``layers`` once a text, and not in every epoch; not where a feature is of them."""
        if not layers or any(int(name.rpartition(".")[2]) < layers for name in self.settings.features):
            return
        self.frozen = layers
        self.lower = copy.deepcopy(self.encoder, _shared(self.encoder))
        # ModernBERT's norm stands behind all layers.
        if hasattr(self.lower, "final_norm"):
            self.lower.final_norm = nn.Identity()
        del network.layers_of(self.lower)[layers:]
        del network.layers_of(self.encoder)[:layers]
        self.encoder.embeddings = _States()

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(row) for row in self.tokens(texts)]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        texts = [self.settings.prefix + text.replace(SEPARATOR, self.end) for text in texts]
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        if self.lower is not None:
            self.encoder.embeddings.states = self._below(self.lower, texts)
        states, mask = self._run(self.encoder, texts)
        states = (*states[:1] * self.frozen, *states)
        embedding = network.unit(network.pooled(self.settings.pooling, states[-1], mask))
        return embedding, network.features(self.settings.features, states, mask)

    def _below(self, lower: nn.Module, texts: Sequence[str]) -> Tensor:
        """[texts, length, width] above the frozen layers, each text's computed once."""
        new = sorted({text for text in texts if text not in self.known})
        if new:
            with torch.no_grad():
                states, mask = self._run(lower, new)
            for text, state, real in zip(new, states[-1].half().cpu(), mask.bool().cpu(), strict=True):
                self.known[text] = state[real]
        return pad_sequence([self.known[text] for text in texts], batch_first=True).float().to(self.device)

    def _run(self, encoder: nn.Module, texts: Sequence[str]) -> tuple[tuple[Tensor, ...], Tensor]:
        """The states after each layer, in single precision, and the attention mask."""
        rows = self.tokens(texts)
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [self.padding] * (longest - len(row)) for row in rows], device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(longest, device=self.device) < lengths[:, None]).long()
        # Half the time of single precision; what is compared and trained is in single precision.
        with torch.autocast(self.device.type, torch.bfloat16):
            states = network.states_of(encoder, {"input_ids": ids, "attention_mask": mask})
        return tuple(state.float() for state in states), mask

    def embeddings(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width], without gradients."""
        order = np.argsort(self.lengths(texts), kind="stable")
        parts = []
        # Not `inference_mode`: a training step may read states that are kept here.
        with torch.no_grad():
            for start in range(0, len(order), 2 * BATCH):
                parts.append(self([texts[row] for row in order[start : start + 2 * BATCH]])[0].cpu().numpy())
        return np.asarray(np.concatenate(parts)[np.argsort(order)])

    def remembered(self, texts: Sequence[str], memory: dict[str, Tensor]) -> Tensor:
        """The embeddings of a trunk that does not change: those that are not in ``memory`` are added to it."""
        new = sorted({text for text in texts if text not in memory})
        if new:
            with torch.no_grad():
                memory.update(zip(new, self(new)[0].half().cpu(), strict=True))
        return torch.stack([memory[text] for text in texts]).float().to(self.device)

    def round(self) -> None:
        """To what half precision holds, as the file does."""
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.requires_grad:
                    parameter.copy_(parameter.half().float())

    def matrices(self) -> dict[LayerSlot, tuple[Matrix, Matrix]]:
        return self.fixed | {
            place: (changed.a.detach().cpu().numpy(), changed.b.detach().cpu().numpy())
            for place, changed in self.changed.items()
        }
