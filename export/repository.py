"""The Triton model repository and the bundle's manifest, as text: the same inputs always give the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import ModelSpec
from export.pieces import converted

_CHARACTERS_A_TOKEN = 12
# The tracked repository is where the code of the python backend's models is kept; other repositories get copies.
CODE = Path(__file__).resolve().parent.parent / "model_repository"
ENCODER_CODE = CODE / "minilm" / "1" / "model.py"
TORCH_CODE = Path(__file__).resolve().parent / "serving" / "torch_model.py"
TOKENIZER_CODE = CODE / "minilm_tokenizer" / "1" / "model.py"

# Files of a trunk's version directory, by what they are for.
CPU_GRAPH = "model.onnx"
GPU_GRAPH = "gpu.onnx"
ONNXRUNTIME_INSTANCES = 2
GPU_PLAN = "gpu.json"
TORCH_PROGRAM = "model.pt2"
# Case, accents, scripts, white space and code: where tokenizers of one vocabulary part.
_TEXTS = ("Why is the sky  BLUE?", "Größe, naïve, 東京 مرحبا 🙂", "def f(x):\n\treturn x ** 2  # 12345")
# NVIDIA's data-centre and workstation GPUs from Turing on. A plan fits one of them only.
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1")


@dataclass(frozen=True)
class Output:
    """FP32, ``width`` numbers a row, or a token if ``per_token``. A head has ``labels`` and a checksum."""

    name: str
    width: int
    labels: tuple[str, ...] = ()
    per_token: bool = False
    sha256: str = ""


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer as it is served: checksum of its file, and the ids that stand around and behind a text."""

    sha256: str
    pad_id: int
    cls_id: int
    sep_id: int
    json: bool = True
    """A `tokenizer.json`; else a `tokenizer.model` of `sentencepiece`."""

    @property
    def file(self) -> str:
        return "tokenizer.json" if self.json else "tokenizer.model"

    @classmethod
    def of(cls, served: bytes, config: Mapping[str, Any]) -> Tokenizer:
        """served: what `served_tokenizer` gives; config: the model's `config.json`.

        Raises ValueError when the file does not put one token before a text and one behind it, or when tokenizer and
        model do not agree on the padding.
        """
        from triton_router.inference.tokens import load_tokenizer

        tokens, json = load_tokenizer(served), _is_json(served)
        file = "tokenizer.json" if json else "tokenizer.model"
        around = tokens.around
        if len(around) != 2:
            raise ValueError(f"{file} puts {len(around)} special tokens around a text, two are expected")
        if tokens.size > int(config.get("vocab_size", tokens.size)):
            raise ValueError(f"{file} has {tokens.size} tokens, the model knows {config['vocab_size']}")
        # A tokenizer of `sentencepiece` may have no token to pad with; the model's mask hides what stands there.
        token = _padding(served) if json else None
        pad = config.get("pad_token_id", token)
        if pad is None or (token is not None and pad != token):
            raise ValueError(f"config.json pads with token {pad}, {file} with {token}")
        return cls(hashlib.sha256(served).hexdigest(), int(pad), around[0], around[1], json)


@dataclass(frozen=True)
class TrunkText:
    """Everything that the text about one model depends on."""

    model: ModelSpec
    model_id: str
    weights_sha256: str
    outputs: tuple[Output, ...]
    tokenizer: Tokenizer
    delta_sha256: str = ""
    """Empty: the trunk's weights are as published."""
    centre_sha256: str = ""
    """Empty: so is the embedding."""

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def pairs(self) -> bool:
        """Whoever asks it joins two texts himself: Triton gets no models that read text for it."""
        return self.model.task == "pair-classification"

    @property
    def tokenizer_model(self) -> str:
        return f"{self.name}_tokenizer"

    @property
    def tokenizer_file(self) -> str:
        return f"{self.name if self.pairs else self.tokenizer_model}/1/{self.tokenizer.file}"

    @property
    def text_model(self) -> str:
        return f"{self.name}_text"

    @property
    def embedding(self) -> Output | None:
        return next((output for output in self.outputs if not output.labels), None)

    @property
    def heads(self) -> tuple[Output, ...]:
        return tuple(output for output in self.outputs if output.labels)


def served_tokenizer(published: bytes) -> bytes:
    """The published tokenizer.json without the truncation and padding that it ships with, or as a `tokenizer.model`
    where that means the same; any other file as it is."""
    if not _is_json(published):
        return published
    document = json.loads(published)
    if (pieces := converted(document)) is not None:
        return pieces
    document["truncation"] = document["padding"] = None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _is_json(tokenizer: bytes) -> bool:
    return tokenizer.lstrip()[:1] == b"{"


def _padding(served: bytes) -> int | None:
    from tokenizers import Tokenizer as Tokens

    tokens = Tokens.from_buffer(served)
    return next((id for name in ("[PAD]", "<pad>") if (id := tokens.token_to_id(name)) is not None), None)


def same_tokens(one: bytes, other: bytes) -> bool:
    """Whether two tokenizers, as `served_tokenizer` gives them, mean the same: files of other versions may differ."""
    from tokenizers import Tokenizer as Tokens

    if one == other:
        return True
    if not (_is_json(one) and _is_json(other)):
        return False
    first, second = Tokens.from_buffer(one), Tokens.from_buffer(other)
    ids = second.get_vocab(with_added_tokens=True)
    if any(ids.get(token, place) != place for token, place in first.get_vocab(with_added_tokens=True).items()):
        return False
    return all(first.encode(text).ids == second.encode(text).ids for text in _TEXTS)


def manifest(trunks: Sequence[TrunkText], topics: Mapping[str, Any]) -> dict[str, Any]:
    """The bundle's manifest, checksum included."""
    document = {"format": 1, "trunks": [_described(trunk) for trunk in trunks], "topics": dict(topics)}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    return {"format": 1, "checksum": checksum, "trunks": document["trunks"], "topics": document["topics"]}


def _described(trunk: TrunkText) -> dict[str, Any]:
    model, tokenizer = trunk.model, trunk.tokenizer
    described: dict[str, Any] = {
        "name": trunk.name,
        "model": trunk.name,
        "source": {"id": trunk.model_id, "weights_sha256": trunk.weights_sha256},
        "precision": {"cpu": model.precision.cpu, "gpu": model.precision.gpu},
        "inputs": {"ids": "input_ids", "mask": "attention_mask"},
    }
    if trunk.delta_sha256:
        described["delta"] = {"sha256": trunk.delta_sha256, "fork": model.fork}
    if trunk.centre_sha256:
        described["centre"] = {"sha256": trunk.centre_sha256}
    if trunk.embedding is not None:
        described["embedding"] = {"output": trunk.embedding.name, "dimension": trunk.embedding.width}
    described["heads"] = [
        {"name": head.name, "output": head.name, "labels": list(head.labels), "sha256": head.sha256}
        | ({"per_token": True} if head.per_token else {})
        for head in trunk.heads
    ]
    described["tokenizer"] = {
        "file": trunk.tokenizer_file,
        "sha256": tokenizer.sha256,
        "pad_id": tokenizer.pad_id,
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
    }
    if model.prefix:
        described["prefix"] = model.prefix
    if trunk.pairs:
        described["pairs"] = True
    return described | {
        "buckets": list(model.buckets),
        "max_tokens": model.max_tokens,
        "max_windows": model.max_windows,
        "languages": list(model.languages),
    }


def texts(trunks: Sequence[TrunkText], topics: Mapping[str, Any]) -> dict[str, str]:
    """The tracked files by path inside the repository."""
    bundle = manifest(trunks, topics)
    files = {"bundle.json": json.dumps(bundle, indent=2, ensure_ascii=False) + "\n"}
    for trunk in trunks:
        checksum = bundle["checksum"]
        files |= {
            f"{trunk.name}/config.pbtxt": _tensorrt(trunk, checksum),
            f"{trunk.name}/configs/cpu.pbtxt": _cpu(trunk, checksum),
            f"{trunk.name}/configs/onnxruntime.pbtxt": _onnxruntime(trunk, checksum),
        }
        if not trunk.pairs:
            files |= {
                f"{trunk.tokenizer_model}/config.pbtxt": _tokenizer(trunk, checksum),
                f"{trunk.text_model}/config.pbtxt": _ensemble(trunk, checksum),
                # Triton wants a version directory even of an ensemble, and git keeps no empty one.
                f"{trunk.text_model}/1/.gitkeep": "",
            }
        if trunk.model.graph == "torch":
            files[f"{trunk.name}/configs/torch.pbtxt"] = _torch(trunk, checksum)
        for head in trunk.heads:
            files[f"{trunk.name}/{head.name}_labels.txt"] = "".join(f"{label}\n" for label in head.labels)
    return files


def write(trunks: Sequence[TrunkText], topics: Mapping[str, Any], tokenizers: Mapping[str, bytes], root: Path) -> None:
    """Write the texts and each trunk's tokenizer under ``root``, with the code of the python backend's models.

    Files that say the same already are left alone: somebody may be serving them.
    """
    files = texts(trunks, topics)
    for trunk in trunks:
        files[f"{trunk.name}/1/model.py"] = ENCODER_CODE.read_text()
        if not trunk.pairs:
            files[f"{trunk.tokenizer_model}/1/model.py"] = TOKENIZER_CODE.read_text()
        if trunk.model.graph == "torch":
            files[f"{trunk.name}/1/torch_model.py"] = TORCH_CODE.read_text()
    contents = {name: text.encode() for name, text in files.items()}
    for trunk in trunks:
        contents[trunk.tokenizer_file] = tokenizers[trunk.name]
    for name, content in contents.items():
        path = root / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def engine_request(trunk: TrunkText, onnx_sha256: str, weights: int) -> dict[str, Any]:
    """What `export/engine.py` builds from: the graph beside it, its precision, its profiles, its count of weights."""
    return {
        "format": 1,
        "model": trunk.name,
        "onnx": GPU_GRAPH,
        "onnx_sha256": onnx_sha256,
        "precision": trunk.model.precision.gpu,
        "weights": weights,
        "inputs": ["input_ids", "attention_mask"],
        "profiles": [profile.model_dump(mode="json") for profile in trunk.model.engine_profiles],
    }


def plan_name(capability: str) -> str:
    """`model_sm90.plan` for capability 9.0."""
    return f"model_sm{capability.replace('.', '')}.plan"


def _tensorrt(trunk: TrunkText, checksum: str) -> str:
    model = trunk.model
    graphs = "\n".join(
        f"""      graph_spec {{
        batch_size: {batch}
        input {{ key: "input_ids" value {{ dim: {length} }} }}
        input {{ key: "attention_mask" value {{ dim: {length} }} }}
      }}"""
        for length in model.buckets
        for batch in model.graph_batches
    )
    plans = "".join(
        f'cc_model_filenames {{ key: "{capability}" value: "{plan_name(capability)}" }}\n'
        for capability in CAPABILITIES
    )
    profiles = ", ".join(f'"{index}"' for index in range(len(model.engine_profiles)))
    return f"""# The encoder on GPUs: a TensorRT plan ({model.precision.gpu}), built on the GPU that serves it.
# Checked against Triton's schema only: neither this configuration nor a plan has been run on a GPU yet.
{_encoder(trunk, checksum)}platform: "tensorrt_plan"
# A plan fits one compute capability; `python -m export engine` names it by that of the GPU it ran on.
{plans}instance_group [ {{ count: {model.instances.gpu} kind: KIND_GPU profile: [ {profiles} ] }} ]
optimization {{
  # With a dynamic length a CUDA graph fits exactly one shape: one for each batch size and bucket.
  cuda {{
    graphs: true
{graphs}
  }}
}}
{_warmup(trunk)}"""


def _cpu(trunk: TrunkText, checksum: str) -> str:
    return f"""# The encoder on CPU (`tritonserver --model-config-name=cpu`): ONNX Runtime in the python backend.
{_encoder(trunk, checksum)}backend: "python"
instance_group [ {{ count: {trunk.model.instances.cpu} kind: KIND_CPU }} ]
{_warmup(trunk)}"""


def _onnxruntime(trunk: TrunkText, checksum: str) -> str:
    return f"""# The encoder on CPU by Triton's own ONNX Runtime backend, as NVIDIA's containers have it
# (`tritonserver --model-config-name=onnxruntime`). On a GPU: `kind: KIND_GPU`, and `{GPU_GRAPH}` as the file.
# Checked against Triton's schema only: the server of the quickstart has no such backend.
{_encoder(trunk, checksum)}backend: "onnxruntime"
default_model_filename: "{CPU_GRAPH}"
# One thread each, because this backend's threads wait for work in a loop. As many instances as there are cores serve
# most: raise `count`.
instance_group [ {{ count: {max(ONNXRUNTIME_INSTANCES, trunk.model.instances.cpu)} kind: KIND_CPU }} ]
{_parameter("intra_op_thread_count", "1")}{_parameter("inter_op_thread_count", "1")}{_warmup(trunk)}"""


def _torch(trunk: TrunkText, checksum: str) -> str:
    model = trunk.model
    shapes = ",".join(f"{batch}x{bucket}" for bucket in model.buckets for batch in model.graph_batches)
    return f"""# Stand-in on GPUs without TensorRT's builder (`tritonserver --model-config-name=torch`): what PyTorch
# exported, in the python backend, with a CUDA graph for each batch size and bucket.
{_encoder(trunk, checksum)}backend: "python"
default_model_filename: "torch_model.py"
instance_group [ {{ count: 1 kind: KIND_GPU }} ]
{_parameter("shapes", shapes)}{_warmup(trunk)}"""


def _encoder(trunk: TrunkText, checksum: str) -> str:
    return f"""name: "{trunk.name}"
max_batch_size: {trunk.model.max_batch}
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [
{_outputs(trunk, labels=True)}
]
# No queue policy and no delay: a policy can stall a lone request for 500 ms, and the caller keeps the deadlines.
dynamic_batching {{ }}
{_parameter("bundle_checksum", checksum)}"""


def _outputs(trunk: TrunkText, *, labels: bool) -> str:
    parts = []
    for output in trunk.outputs:
        dims = f"-1, {output.width}" if output.per_token else f"{output.width}"
        if labels and output.labels:
            parts.append(f"""  {{
    name: "{output.name}"
    data_type: TYPE_FP32
    dims: [ {dims} ]
    label_filename: "{output.name}_labels.txt"
  }}""")
        else:
            parts.append(f'  {{ name: "{output.name}" data_type: TYPE_FP32 dims: [ {dims} ] }}')
    return ",\n".join(parts)


def _warmup(trunk: TrunkText) -> str:
    return "".join(
        f"""model_warmup {{
  name: "length {length}"
  batch_size: 1
  inputs {{ key: "input_ids" value {{ data_type: TYPE_INT64 dims: [ {length} ] zero_data: true }} }}
  inputs {{ key: "attention_mask" value {{ data_type: TYPE_INT64 dims: [ {length} ] zero_data: true }} }}
}}
"""
        for length in trunk.model.buckets
    )


def _tokenizer(trunk: TrunkText, checksum: str) -> str:
    model = trunk.model
    settings = {
        "bundle_checksum": checksum,
        "buckets": ",".join(str(bucket) for bucket in model.buckets),
        "max_tokens": str(model.max_tokens),
        "max_characters": str(model.max_tokens * _CHARACTERS_A_TOKEN),
        "pad_id": str(trunk.tokenizer.pad_id),
        "tokenizer_sha256": trunk.tokenizer.sha256,
    }
    if model.prefix:
        settings["prefix"] = model.prefix
    return f"""# Text to token ids, on every platform: the first step of {trunk.text_model}.
name: "{trunk.tokenizer_model}"
backend: "python"
max_batch_size: {model.max_batch}
input [ {{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
dynamic_batching {{ }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{"".join(_parameter(key, value) for key, value in settings.items())}"""


def _ensemble(trunk: TrunkText, checksum: str) -> str:
    outputs = "\n".join(f'      output_map {{ key: "{o.name}" value: "{o.name}" }}' for o in trunk.outputs)
    return f"""# Text in, embedding and probabilities out: for perf_analyzer and for clients without a tokenizer.
# Reads the first {trunk.model.max_tokens} tokens of a text. Ask for all outputs: Triton 2.51 answers
# "unexpected deadlock" to a request for only some of a step's.
name: "{trunk.text_model}"
platform: "ensemble"
max_batch_size: {trunk.model.max_batch}
input [ {{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
{_outputs(trunk, labels=False)}
]
ensemble_scheduling {{
  step [
    {{
      model_name: "{trunk.tokenizer_model}"
      model_version: -1
      input_map {{ key: "text" value: "text" }}
      output_map {{ key: "input_ids" value: "input_ids" }}
      output_map {{ key: "attention_mask" value: "attention_mask" }}
    }},
    {{
      model_name: "{trunk.name}"
      model_version: -1
      input_map {{ key: "input_ids" value: "input_ids" }}
      input_map {{ key: "attention_mask" value: "attention_mask" }}
{outputs}
    }}
  ]
}}
{_parameter("bundle_checksum", checksum)}"""


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
