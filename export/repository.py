"""The Triton model repository and the bundle's manifest, as text: the same inputs always give the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import recipe

_CHARACTERS_A_TOKEN = 12
# The tracked repository is where the code of the python backend's models is kept; other repositories get copies.
CODE = Path(__file__).resolve().parent.parent / "model_repository"
MODEL_CODE = (f"{recipe.TRUNK}/1/model.py", f"{recipe.TOKENIZER_MODEL}/1/model.py")
PAD, CLS, SEP = "[PAD]", "[CLS]", "[SEP]"


@dataclass(frozen=True)
class HeadFile:
    """What the manifest says about a head."""

    name: str
    labels: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer as it is served: checksum of its file, and token ids by content."""

    sha256: str
    special: Mapping[str, int]

    @classmethod
    def of(cls, served: str) -> Tokenizer:
        """served: what `served_tokenizer` gives."""
        special = {token["content"]: int(token["id"]) for token in json.loads(served)["added_tokens"]}
        return cls(hashlib.sha256(served.encode()).hexdigest(), special)


@dataclass(frozen=True)
class Parts:
    """Everything that the repository's text depends on."""

    model_id: str
    weights_sha256: str
    dimension: int
    heads: tuple[HeadFile, ...]
    tokenizer: Tokenizer
    precision: str
    topics: Mapping[str, Any]


def served_tokenizer(published: str) -> str:
    """The published tokenizer.json without the truncation and padding (to 128) that it ships with."""
    document = json.loads(published)
    document["truncation"] = document["padding"] = None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def manifest(parts: Parts) -> dict[str, Any]:
    """The bundle's manifest, checksum included. Raises KeyError when the tokenizer lacks a special token."""
    special = parts.tokenizer.special
    trunk = {
        "name": recipe.TRUNK,
        "model": recipe.TRUNK,
        "source": {"id": parts.model_id, "weights_sha256": parts.weights_sha256},
        "precision": {"cpu": parts.precision, "gpu": recipe.GPU_PRECISION},
        "inputs": {"ids": "input_ids", "mask": "attention_mask"},
        "embedding": {"output": "embedding", "dimension": parts.dimension},
        "heads": [
            {"name": head.name, "output": head.name, "labels": list(head.labels), "sha256": head.sha256}
            for head in parts.heads
        ],
        "tokenizer": {
            "file": f"{recipe.TOKENIZER_MODEL}/1/tokenizer.json",
            "sha256": parts.tokenizer.sha256,
            "pad_id": special[PAD],
            "cls_id": special[CLS],
            "sep_id": special[SEP],
        },
        "buckets": list(recipe.BUCKETS),
        "max_tokens": recipe.MAX_TOKENS,
        "max_windows": recipe.MAX_WINDOWS,
        "latin_only": recipe.LATIN_ONLY,
    }
    document = {"format": 1, "trunks": [trunk], "topics": dict(parts.topics)}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    return {"format": 1, "checksum": checksum, "trunks": [trunk], "topics": dict(parts.topics)}


def texts(parts: Parts) -> dict[str, str]:
    """The tracked files by path inside the repository."""
    bundle = manifest(parts)
    checksum, pad_id = bundle["checksum"], bundle["trunks"][0]["tokenizer"]["pad_id"]
    files = {
        "bundle.json": json.dumps(bundle, indent=2, ensure_ascii=False) + "\n",
        f"{recipe.TRUNK}/config.pbtxt": _gpu_encoder(parts, checksum),
        f"{recipe.TRUNK}/configs/cpu.pbtxt": _cpu_encoder(parts, checksum),
        f"{recipe.TOKENIZER_MODEL}/config.pbtxt": _tokenizer(checksum, pad_id),
        f"{recipe.TEXT_MODEL}/config.pbtxt": _ensemble(parts, checksum),
        # Triton wants a version directory even of an ensemble, and git keeps no empty one.
        f"{recipe.TEXT_MODEL}/1/.gitkeep": "",
    }
    for head in parts.heads:
        files[f"{recipe.TRUNK}/{head.name}_labels.txt"] = "".join(f"{label}\n" for label in head.labels)
    return files


def write(parts: Parts, tokenizer: str, root: Path) -> None:
    """Write the texts and the tokenizer's file under `root`, with the code of the python backend's models.

    Files that say the same already are left alone: somebody may be serving them.
    """
    code = {name: (CODE / name).read_text() for name in MODEL_CODE}
    for name, text in (texts(parts) | code | {f"{recipe.TOKENIZER_MODEL}/1/tokenizer.json": tokenizer}).items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _gpu_encoder(parts: Parts, checksum: str) -> str:
    graphs = "\n".join(
        f"""      graph_spec {{
        batch_size: {batch}
        input {{ key: "input_ids" value {{ dim: {length} }} }}
        input {{ key: "attention_mask" value {{ dim: {length} }} }}
      }}"""
        for length in recipe.BUCKETS
        for batch in recipe.GRAPH_BATCHES
    )
    return f"""# The encoder on GPUs: a TensorRT plan ({recipe.GPU_PRECISION}), built on the GPU that serves it.
# Checked against Triton's schema only: neither this configuration nor a plan has been run on a GPU yet.
{_encoder_head(parts, checksum)}platform: "tensorrt_plan"
instance_group [ {{ count: {recipe.GPU_INSTANCES} kind: KIND_GPU }} ]
optimization {{
  # With a dynamic length a CUDA graph fits exactly one shape: one for each batch size and bucket.
  cuda {{
    graphs: true
{graphs}
  }}
}}
{_warmup()}"""


def _cpu_encoder(parts: Parts, checksum: str) -> str:
    return f"""# The encoder on CPU (`tritonserver --model-config-name=cpu`): ONNX Runtime in the python backend.
{_encoder_head(parts, checksum)}backend: "python"
instance_group [ {{ count: {recipe.CPU_INSTANCES} kind: KIND_CPU }} ]
{_warmup()}"""


def _encoder_head(parts: Parts, checksum: str) -> str:
    heads = "".join(
        f""",
  {{
    name: "{head.name}"
    data_type: TYPE_FP32
    dims: [ {len(head.labels)} ]
    label_filename: "{head.name}_labels.txt"
  }}"""
        for head in parts.heads
    )
    return f"""name: "{recipe.TRUNK}"
max_batch_size: {recipe.MAX_BATCH}
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [
  {{ name: "embedding" data_type: TYPE_FP32 dims: [ {parts.dimension} ] }}{heads}
]
# No queue policy and no delay: a policy can stall a lone request for 500 ms, and the caller keeps the deadlines.
dynamic_batching {{ }}
{_parameter("bundle_checksum", checksum)}"""


def _warmup() -> str:
    return "".join(
        f"""model_warmup {{
  name: "length {length}"
  batch_size: 1
  inputs {{ key: "input_ids" value {{ data_type: TYPE_INT64 dims: [ {length} ] zero_data: true }} }}
  inputs {{ key: "attention_mask" value {{ data_type: TYPE_INT64 dims: [ {length} ] zero_data: true }} }}
}}
"""
        for length in recipe.BUCKETS
    )


def _tokenizer(checksum: str, pad_id: int) -> str:
    settings = {
        "bundle_checksum": checksum,
        "buckets": ",".join(str(bucket) for bucket in recipe.BUCKETS),
        "max_tokens": str(recipe.MAX_TOKENS),
        "max_characters": str(recipe.MAX_TOKENS * _CHARACTERS_A_TOKEN),
        "pad_id": str(pad_id),
    }
    return f"""# Text to token ids, on every platform: the first step of {recipe.TEXT_MODEL}.
name: "{recipe.TOKENIZER_MODEL}"
backend: "python"
max_batch_size: {recipe.MAX_BATCH}
input [ {{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
dynamic_batching {{ }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{"".join(_parameter(key, value) for key, value in settings.items())}"""


def _ensemble(parts: Parts, checksum: str) -> str:
    heads = "".join(
        f""",
  {{ name: "{head.name}" data_type: TYPE_FP32 dims: [ {len(head.labels)} ] }}"""
        for head in parts.heads
    )
    names = ["embedding", *(head.name for head in parts.heads)]
    outputs = "\n".join(f'      output_map {{ key: "{name}" value: "{name}" }}' for name in names)
    return f"""# Text in, embedding and probabilities out: for perf_analyzer and for clients without a tokenizer.
# Reads the first {recipe.MAX_TOKENS} tokens of a text. Ask for all outputs: Triton 2.51 answers
# "unexpected deadlock" to a request for only some of a step's.
name: "{recipe.TEXT_MODEL}"
platform: "ensemble"
max_batch_size: {recipe.MAX_BATCH}
input [ {{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
  {{ name: "embedding" data_type: TYPE_FP32 dims: [ {parts.dimension} ] }}{heads}
]
ensemble_scheduling {{
  step [
    {{
      model_name: "{recipe.TOKENIZER_MODEL}"
      model_version: -1
      input_map {{ key: "text" value: "text" }}
      output_map {{ key: "input_ids" value: "input_ids" }}
      output_map {{ key: "attention_mask" value: "attention_mask" }}
    }},
    {{
      model_name: "{recipe.TRUNK}"
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
