"""A published encoder as one PyTorch module, pooling, normalisation and heads inside, and its way to ONNX.

Several classifiers on one trunk become one forward. A classifier that was tuned from the trunk keeps its own upper
layers; the layers below, which are the trunk's to the bit, are computed once. Nothing of the architecture is rewritten
for it: each head runs through the library's own code, which is given the trunk's states where layers are the same.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from export import centre, wide
from export import delta as low_rank
from export import head as head_file
from export.checksums import sha256
from export.delta import Delta
from export.manifest import WITH_HEADS, ModelSpec
from export.repository import Output

Flavour = Literal["fp32", "fp16", "bf16"]

INPUTS = ("input_ids", "attention_mask")
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# fp32: the traced graph with plain attention, which every runtime takes and the quantizer understands. Halves: the
# native Attention and RotaryEmbedding operators, which TensorRT fuses; in fp32 it has no kernel for them.
OPSET = {"fp32": 17, "fp16": 23, "bf16": 23}
ATTENTION = {"fp32": "eager", "fp16": "sdpa", "bf16": "sdpa"}
# Example for tracing: two rows, one of them padded beyond any attention window that is traced with.
EXAMPLE_LENGTH = 48


class NetworkError(ValueError):
    """The published model cannot be exported; the message says why."""


@dataclass(frozen=True)
class PublishedModel:
    """A fetched model and the directories of the classifiers that were tuned from it, by head name."""

    directory: Path
    tuned: dict[str, Path]


def check_versions(config: dict[str, Any], transformers_version: str | None = None) -> None:
    """Raises NetworkError where the installed transformers would read ``config`` wrongly and say nothing.

    Version 5 writes `rope_parameters`; version 4 does not know the key and falls back to ModernBERT's constants.
    """
    installed = transformers_version or importlib.metadata.version("transformers")
    if "rope_parameters" in config and int(installed.split(".")[0]) < 5:
        raise NetworkError(
            f"config.json has `rope_parameters`, which transformers {installed} ignores without a word: rotary "
            "positions would be wrong. Install transformers 5 or newer."
        )


def check_rope(config: dict[str, Any], loaded: dict[str, Any]) -> None:
    """Compare the rotary settings of ``config.json`` with those of the loaded model.

    Raises NetworkError naming the setting that was lost on the way.
    """
    rope = loaded.get("rope_parameters") or {}
    kinds = {"global_rope_theta": "full_attention", "local_rope_theta": "sliding_attention"}
    older: dict[str, Any] = {
        kinds[key]: {"rope_theta": config[key]} for key in kinds if config.get(key) is not None
    } or {"rope_theta": config.get("rope_theta")}
    for kind, settings in (config.get("rope_parameters") or older).items():
        # By kind of attention, or once for all layers.
        here, there = (settings, rope.get(kind) or {}) if isinstance(settings, dict) else ({kind: settings}, rope)
        for key, value in here.items():
            if value is not None and there.get(key) != value:
                name = key if here is not settings else f"{kind}.{key}"
                raise NetworkError(f"rotary positions: config.json says {name} {value}, the model has {there.get(key)}")


def load_trunk(directory: Path, attention: str) -> Any:
    """The published encoder in single precision, its settings checked.

    Raises NetworkError where it would not be the model that was published.
    """
    from transformers import AutoModel

    config = json.loads((directory / "config.json").read_text())
    check_versions(config)
    trunk = _loaded(AutoModel, directory, attention)
    check_rope(config, trunk.config.to_dict())
    return trunk


class Network(nn.Module):
    """``input_ids`` and ``attention_mask``, INT64 [batch, length], to the outputs in the order of ``outputs``.

    The embedding, of a model that gives one, is FP32 [batch, dimension] of unit length; a head gives FP32
    probabilities, [batch, labels] or [batch, length, labels].
    """

    def __init__(self, model: ModelSpec, published: PublishedModel, flavour: Flavour = "fp32") -> None:
        super().__init__()
        self._attention = ATTENTION[flavour]
        self._pooling, self._layer, self._dimension = model.pooling, model.layer, model.dimension
        self._centre: Tensor | None = None
        if model.centre is not None:
            moved_by = sha256(model.delta) if model.delta is not None else ""
            self._centre = torch.from_numpy(centre.load(model.centre, moved_by))
        self.outputs: list[Output] = []
        self.shared: dict[str, int] = {}
        self.trunk: nn.Module | None = None
        self.fork: nn.Module | None = None
        self.heads = nn.ModuleDict()
        self._embeds = model.task == "embedding"
        if model.task in WITH_HEADS:
            self.trunk = load_trunk(published.directory, self._attention)
            if model.delta is not None:
                weights = sha256(published.directory / "model.safetensors")
                self._change(low_rank.load(model.delta, weights, model.fork))
            self._exit_norm = self._final_norm(model)
            hidden = int(self.trunk.config.hidden_size)
            if (model.dimension or 0) > hidden:
                raise NetworkError(f"{model.name}: dimension {model.dimension} of {hidden}")
            if self._embeds:
                self.outputs.append(Output("embedding", model.dimension or hidden))
        else:
            self._add_classifier(model.output_name, model.task, published.directory, model.labels, model.temperature)
        for head in model.heads:
            if head.file is not None:
                self._add_file(head.name, head.file)
            else:
                tuned = published.tuned[head.name]
                self._add_classifier(head.name, head.task, tuned, head.labels, head.temperature)
        self._rotary = _has_rotary(self)
        self.eval()
        _cast(self, TYPES[flavour])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        arguments: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._rotary:
            # One row a text: from a single row the exporter makes a table that only fits a batch of one.
            length = torch.arange(input_ids.shape[1], device=input_ids.device)
            arguments["position_ids"] = length.unsqueeze(0).expand(input_ids.shape[0], -1)
        results = []
        states: tuple[Tensor, ...] = ()
        if self.trunk is not None:
            states = states_of(self.trunk, arguments)
            if self._embeds:
                results.append(self._embedding(states, attention_mask))
        if self.fork is not None:
            # Layers that are recalled leave no states.
            own = states_of(self.fork, arguments)[-self._forked :]
            states = (*states[: -self._forked], *own)
        for head in self.heads.values():
            if isinstance(head, FileHead):
                results.append(head(states, input_ids, attention_mask))
            else:
                results.append(torch.softmax(head(**arguments).logits.float() / head.temperature, dim=-1))
        return tuple(results)

    def _change(self, delta: Delta) -> None:
        """Merge ``delta`` into the trunk, or into a copy of its top layers."""
        assert self.trunk is not None
        layers = len(layers_of(self.trunk))
        low_rank.check_fork(delta, layers)
        self._forked = delta.fork
        weights = {name: value.numpy() for name, value in self.trunk.state_dict().items()}
        changed = {name: torch.from_numpy(value) for name, value in low_rank.merged(weights, delta).items()}
        if delta.fork:
            self.fork = copy.deepcopy(self.trunk)
            self.fork.load_state_dict(changed)
            _recall(self.trunk, self.fork, layers - delta.fork)
        else:
            self.trunk.load_state_dict(changed)

    def _embedding(self, states: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        state = states[self._layer] if self._layer is not None else states[-1]
        if self._exit_norm is not None:
            state = self._exit_norm(state)
        embedding = unit(pooled(self._pooling, state, mask)[:, : self._dimension])
        return embedding if self._centre is None else unit(embedding - self._centre.to(embedding.device))

    def _final_norm(self, model: ModelSpec) -> nn.Module | None:
        assert self.trunk is not None
        layers = len(layers_of(self.trunk))
        if (model.layer or 0) > layers:
            raise NetworkError(f"{model.name}: layer {model.layer} of {layers}")
        if not model.exit_norm or model.layer in (None, layers):
            return None
        norm = getattr(self.trunk, "final_norm", None)
        if norm is None:
            raise NetworkError(f"{model.name}: `exit_norm` is set, and the trunk has no `final_norm`")
        return norm

    def _add_file(self, name: str, path: Path) -> None:
        trained = head_file.load(path)
        self.heads[name] = FileHead(trained)
        self.outputs.append(Output(name, len(trained.labels), trained.labels, sha256=head_file.digest(path)))

    def _add_classifier(self, name: str, task: str, directory: Path, labels: Sequence[str], temperature: float) -> None:
        from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

        per_token = task == "token-classification"
        kind = AutoModelForTokenClassification if per_token else AutoModelForSequenceClassification
        config = json.loads((directory / "config.json").read_text())
        check_versions(config)
        classifier = _loaded(kind, directory, self._attention)
        check_rope(config, classifier.config.to_dict())
        names = tuple(str(classifier.config.id2label[index]) for index in range(classifier.config.num_labels))
        if labels and len(labels) != len(names):
            raise NetworkError(f"{name}: {len(labels)} labels given for {len(names)} logits")
        if self.trunk is not None:
            self.shared[name] = _share(self.trunk, classifier.base_model)
        classifier.temperature = temperature
        self.heads[name] = classifier
        self.outputs.append(Output(name, len(names), tuple(labels) or names, per_token))


class FileHead(nn.Module):
    """The head of `export/head.py` on pooled states, in float32 whatever the trunk is."""

    def __init__(self, trained: head_file.HeadWeights) -> None:
        super().__init__()
        self.features = trained.features
        self.temperature = trained.temperature
        self.labels, self.mixed = len(trained.labels), trained.mixed
        self.weights = [torch.tensor(layer.weight) for layer in trained.layers]
        self.biases = [torch.tensor(layer.bias) for layer in trained.layers]
        self.table = None if trained.wide is None else torch.tensor(trained.wide)

    def forward(self, states: tuple[Tensor, ...], ids: Tensor, mask: Tensor) -> Tensor:
        return self.probabilities(features(self.features, states, mask), ids, mask)

    def probabilities(self, x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """FP32 [batch, labels] from the concatenated features and the tokens."""
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight.to(x.device) + bias.to(x.device)
            if index < len(self.weights) - 1:
                x = torch.relu(x)
        if self.table is not None:
            table, real = self.table.to(x.device), mask.unsqueeze(-1).to(torch.float32)
            rows = wide.slots(ids, len(table) // wide.GRAMS)
            sums = [(table[each] * real[:, number:]).sum(dim=1) for number, each in enumerate(rows)]
            x = x + sum(sums) / real.sum(dim=1).clamp(min=1.0).sqrt()
        if not self.mixed:
            return torch.softmax(x / self.temperature, dim=-1)
        first, second, gate = x.split([self.labels, self.labels, 1], dim=-1)
        return torch.lerp(second.softmax(dim=-1), first.softmax(dim=-1), gate.sigmoid())


def states_of(trunk: nn.Module, arguments: dict[str, Any]) -> tuple[Tensor, ...]:
    """[batch, length, hidden] after the embeddings and after each layer."""
    output = trunk(**arguments, output_hidden_states=True)
    return (*output.hidden_states[:-1], output.last_hidden_state)


def features(names: Sequence[str], states: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """What a head reads: FP32 [batch, hidden * len(names)], pooled states (`export.head`) of unit length each."""
    parts = (name.split(".") for name in names)
    return torch.cat([unit(pooled(kind, states[int(layer)], mask)) for kind, layer in parts], dim=1)


def pooled(kind: str, states: Tensor, mask: Tensor) -> Tensor:
    """FP32 [batch, hidden] over the real tokens."""
    states = states.float()
    if kind == "cls":
        return states[:, 0]
    column = mask.unsqueeze(-1).to(torch.float32)
    if kind == "max":
        return (states + (column - 1.0) * 1e4).amax(dim=1)
    return (states * column).sum(dim=1) / column.sum(dim=1).clamp(min=1.0)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def _loaded(kind: Any, directory: Path, attention: str) -> Any:
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, loading = kind.from_pretrained(
        directory, attn_implementation=attention, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    # BERT's pooler, which many embedders come without, is read by nobody here; a classifier has it under `bert.`.
    if missing := sorted(name for name in loading["missing_keys"] if not name.startswith("pooler.")):
        raise NetworkError(f"{directory}: the weights lack {', '.join(missing[:5])}; they are of another task")
    return model


def layers_of(trunk: Any) -> nn.ModuleList:
    layers = getattr(trunk, "layers", None) or getattr(getattr(trunk, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList):
        raise NetworkError(f"{type(trunk).__name__}: where its layers are is not known")
    return layers


class _SharedLayer(nn.Module):
    """Stands where a tuned classifier has a layer that is the trunk's: gives what the trunk's gave in this forward."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        # What the library asks of a layer beside calling it, such as its kind of attention.
        for name, value in vars(layer).items():
            if isinstance(value, str | int | float) and name != "training":
                setattr(self, name, value)
        # In a list, so that exporters do not take it for a tensor of the module.
        self._arguments: list[Any] = []
        layer.register_forward_hook(self._remember)

    def _remember(self, layer: nn.Module, _inputs: Any, output: Any) -> None:
        self._arguments[:] = [output]

    def forward(self, *arguments: Any, **more: Any) -> Any:
        return self._arguments[0]


def _share(trunk: Any, tuned: Any) -> int:
    """Let ``tuned`` take from the trunk what it has in common with it; returns how many layers that is.

    The trunk must run first.
    """
    if not _same(trunk.embeddings, tuned.embeddings):
        return 0
    pairs = list(zip(layers_of(trunk), layers_of(tuned), strict=False))
    shared = next((index for index, pair in enumerate(pairs) if not _same(*pair)), len(pairs))
    _recall(trunk, tuned, shared)
    return shared


def _recall(trunk: Any, other: Any, layers: int) -> None:
    """Let ``other`` take embeddings and so many lower ``layers`` from the trunk."""
    other.embeddings = _SharedLayer(trunk.embeddings)
    own, theirs = layers_of(trunk), layers_of(other)
    for index in range(layers):
        theirs[index] = _SharedLayer(own[index])


def _same(first: nn.Module, second: nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _has_rotary(module: nn.Module) -> bool:
    return any(name.endswith("inv_freq") for name, _ in module.named_buffers())


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """To ``dtype`` but for the rotary frequencies: in half precision far positions would turn by a wrong angle."""
    exact = {
        (name, key): buffer.clone()
        for name, part in module.named_modules()
        for key, buffer in part.named_buffers(recurse=False)
        if key.endswith("inv_freq")
    }
    module.to(dtype)
    for (name, key), buffer in exact.items():
        setattr(module.get_submodule(name), key, buffer)


# --- ONNX ----------------------------------------------------------------------------------------------------------


def export(network: Network, flavour: Flavour, target: Path) -> dict[str, int]:
    """Write the ONNX file; returns how often each operator stands in it.

    Run under `PYTHONHASHSEED=0` where the checksum must be the same the next time: the library walks through sets.
    """
    ids = torch.ones((2, EXAMPLE_LENGTH), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    # The exporter calls inner values `embedding` too, and does not see that the name is taken.
    names = [f"output.{output.name}" for output in network.outputs]
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        if flavour == "fp32":
            axes = {name: {0: "batch", 1: "length"} for name in INPUTS}
            for name, output in zip(names, network.outputs, strict=True):
                axes[name] = {0: "batch", 1: "length"} if output.per_token else {0: "batch"}
            torch.onnx.export(
                network, (ids, mask), target, input_names=list(INPUTS), output_names=names, dynamic_axes=axes,
                opset_version=OPSET[flavour], dynamo=False, external_data=False,
            )  # fmt: skip
        else:
            shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
            torch.onnx.export(
                network, (ids, mask), target, input_names=list(INPUTS), output_names=names,
                dynamic_shapes={name: shape for name in INPUTS}, opset_version=OPSET[flavour], dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip
    model = onnx.load(target)
    _rename_outputs(model)
    merge(model)
    # Shapes that were noted while exporting hold for the example; ONNX Runtime's quantizer stumbles over them.
    del model.graph.value_info[:]
    # They name paths of the machine that exported.
    model.graph.ClearField("metadata_props")
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.checker.check_model(model)
    onnx.save(model, target)
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def save_program(network: Network, target: Path) -> None:
    """Write the program for `export/serving/torch_model.py`: PyTorch's own format, weights inside."""
    ids = torch.ones((2, EXAMPLE_LENGTH), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with torch.no_grad():
        program = torch.export.export(network, (ids, mask), dynamic_shapes=(shape, shape), strict=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, target)


def _rename_outputs(model: onnx.ModelProto) -> None:
    """`output.NAME` to NAME, and what else has that name to another."""
    names = {output.name: output.name.removeprefix("output.") for output in model.graph.output}
    names |= {name: f"inner.{name}" for name in list(names.values())}
    for node in model.graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    for output in model.graph.output:
        output.name = names.get(output.name, output.name)
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def merge(model: onnx.ModelProto) -> int:
    """Merge nodes that compute the same from the same; returns how many went. Outputs keep their names."""
    same: dict[str, str] = {}
    values: dict[bytes, str] = {}
    initializers = []
    for tensor in model.graph.initializer:
        name, tensor.name = tensor.name, ""
        key = tensor.SerializeToString(deterministic=True)
        tensor.name = name
        if key in values:
            same[name] = values[key]
        else:
            values[key] = name
            initializers.append(tensor)
    outputs = {output.name for output in model.graph.output}
    first_outputs: dict[bytes, list[str]] = {}
    nodes, before = [], len(model.graph.node)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        for part in ("name", "doc_string", "metadata_props", "output"):
            bare.ClearField(part)
        key = bare.SerializeToString(deterministic=True) + bytes([len(node.output)])
        first = first_outputs.get(key)
        if first is not None and not outputs & set(node.output):
            same.update(zip(node.output, first, strict=True))
        else:
            first_outputs.setdefault(key, list(node.output))
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
    return before - len(nodes)
