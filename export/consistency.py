"""Whether the files of a model repository fit each other, and what the manifest gives now; no model is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from export import engine, repository
from export.checksums import sha256
from export.exporter import Exporter, Platform
from export.finding import Finding
from export.manifest import ModelSpec
from triton_router.errors import BundleError
from triton_router.inference import load_bundle
from triton_router.inference.bundle import Bundle, Trunk
from triton_router.inference.tokens import load_tokenizer


def check_files(root: Path, models: Sequence[ModelSpec], platforms: Sequence[Platform]) -> list[Finding]:
    """What can be seen without running a model: checksums, labels, tokenizers, schema, signatures, shapes."""
    try:
        bundle, tokenizers = load_bundle(root / "bundle.json")
    except BundleError as error:
        return [Finding("", str(error))]
    findings: list[Finding] = []
    declared = {model.name: model for model in models}
    for trunk in bundle.trunks:
        model = declared.get(trunk.name)
        if model is None:
            findings.append(Finding(trunk.name, "is in the bundle and not among the models that were asked for"))
            continue
        findings += _check_tokenizer(trunk, tokenizers[trunk.name])
        findings += _check_labels(root, trunk)
        findings += _check_configs(root, trunk, model, bundle)
        for platform in platforms:
            name = repository.CPU_GRAPH if platform == "cpu" else repository.GPU_GRAPH
            findings += _check_signature(root / trunk.model / "1" / name, trunk, tokenizers[trunk.name])
        if "gpu" in platforms:
            findings += _check_plans(root / trunk.model / "1", trunk, model)
    for name in declared.keys() - {trunk.name for trunk in bundle.trunks}:
        findings.append(Finding(name, "is not in the bundle; run `python -m export repository`"))
    return findings


def check_current(exporter: Exporter, bundle: Bundle, platforms: Sequence[Platform]) -> Iterator[Finding]:
    """Whether the repository holds what the manifest and its sources give now: files that fit each other may be old."""
    trunks = [exporter.trunk(model) for model in exporter.models]
    if bundle.checksum != repository.manifest(trunks, exporter.topics())["checksum"]:
        yield Finding("", "bundle.json is not what the manifest gives now; run `python -m export repository`, and with "
                      "`--precision` give it here too")  # fmt: skip
    for model in exporter.models:
        for platform in platforms:
            flavour = getattr(model.precision, platform)
            name = repository.CPU_GRAPH if platform == "cpu" else repository.GPU_GRAPH
            path, made = exporter.paths.repository / model.name / "1" / name, exporter.flavour(model, flavour)
            if not path.samefile(made) and sha256(path) != sha256(made):
                yield Finding(model.name, f"{name} is not the graph in {flavour} that the manifest gives now; run "
                              f"`python -m export all --for {platform}`")  # fmt: skip


def _check_tokenizer(trunk: Trunk, content: bytes) -> Iterator[Finding]:
    tokens = load_tokenizer(content)
    around = tokens.around
    if around != [trunk.tokenizer.cls_id, trunk.tokenizer.sep_id]:
        yield Finding(trunk.name, f"tokenizer: puts tokens {around} around a text, the bundle says "
                      f"[{trunk.tokenizer.cls_id}, {trunk.tokenizer.sep_id}]")  # fmt: skip
    if not 0 <= trunk.tokenizer.pad_id < tokens.size:
        yield Finding(trunk.name, f"tokenizer: has no token {trunk.tokenizer.pad_id}, which the bundle pads with")
    document = json.loads(content) if trunk.tokenizer.file.endswith(".json") else {}
    if document.get("truncation") is not None or document.get("padding") is not None:
        yield Finding(trunk.name, "tokenizer: cuts or pads by itself; windows and buckets are the caller's")


def _check_labels(root: Path, trunk: Trunk) -> Iterator[Finding]:
    for head in trunk.heads:
        path = root / trunk.model / f"{head.name}_labels.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            yield Finding(trunk.name, f"labels of {head.name}: {error}")
            continue
        if lines != list(head.labels):
            place = next((i for i, (a, b) in enumerate(zip(lines, head.labels, strict=False)) if a != b), None)
            where = f"line {place + 1} is `{lines[place]}`" if place is not None else f"{len(lines)} lines"
            there = f"`{head.labels[place]}`" if place is not None else str(len(head.labels))
            yield Finding(trunk.name, f"labels file {path.name}: {where}, the bundle says {there}")


def _check_configs(root: Path, trunk: Trunk, model: ModelSpec, bundle: Bundle) -> Iterator[Finding]:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    directory = root / trunk.model
    paths = [directory / "config.pbtxt", *sorted((directory / "configs").glob("*.pbtxt"))]
    beside = () if trunk.pairs else (f"{trunk.name}_tokenizer", f"{trunk.name}_text")
    paths += [root / name / "config.pbtxt" for name in beside]
    for path in paths:
        try:
            config: Any = text_format.Parse(path.read_text(), ModelConfig())
        except (OSError, text_format.ParseError) as error:
            yield Finding(trunk.name, f"{path.relative_to(root)}: {error}")
            continue
        where = str(path.relative_to(root))
        if config.parameters["bundle_checksum"].string_value != bundle.checksum:
            yield Finding(trunk.name, f"{where}: is of another bundle; run `python -m export repository`")
        if path.parent in (directory, directory / "configs"):
            for message in _encoder_config(config, trunk, model):
                yield Finding(trunk.name, f"{where}: {message}")
        elif config.HasField("ensemble_scheduling"):
            outputs = {item.name: list(item.dims) for item in config.output}
            if outputs != shapes(trunk):
                yield Finding(trunk.name, f"{where}: outputs are {outputs}, the bundle says {shapes(trunk)}")
        else:
            for message in _tokenizer_config(config, trunk):
                yield Finding(trunk.name, f"{where}: {message}")


def _tokenizer_config(config: Any, trunk: Trunk) -> Iterator[str]:
    if config.parameters["tokenizer_sha256"].string_value != trunk.tokenizer.sha256:
        yield "is of another tokenizer than the bundle's"
    expected = {
        "pad_id": str(trunk.tokenizer.pad_id),
        "buckets": ",".join(map(str, trunk.buckets)),
        "max_tokens": str(trunk.max_tokens),
    }
    for key, value in expected.items():
        if (actual := config.parameters[key].string_value) != value:
            yield f"{key} is {actual or 'missing'}, the bundle says {value}"


def _encoder_config(config: Any, trunk: Trunk, model: ModelSpec) -> Iterator[str]:
    inputs = [item.name for item in config.input]
    if inputs != [trunk.inputs.ids, trunk.inputs.mask]:
        yield f"inputs are {inputs}, the bundle says {[trunk.inputs.ids, trunk.inputs.mask]}"
    expected = shapes(trunk)
    outputs = {item.name: list(item.dims) for item in config.output}
    if outputs != expected:
        yield f"outputs are {outputs}, the bundle says {expected}"
    for item in config.output:
        head = trunk.head(item.name)
        if head is not None and item.label_filename != f"{head.name}_labels.txt":
            yield f"output {item.name} takes its labels from `{item.label_filename}`"
    if config.max_batch_size != model.max_batch:
        yield f"max_batch_size is {config.max_batch_size}, the manifest says {model.max_batch}"
    if not config.HasField("dynamic_batching"):
        yield "dynamic batching is off"
    elif config.dynamic_batching.HasField("default_queue_policy") or config.dynamic_batching.priority_levels:
        yield "a queue policy or priorities stall lone requests for 500 ms"
    warmed = sorted(warmup.inputs[trunk.inputs.ids].dims[0] for warmup in config.model_warmup)
    if warmed != sorted(trunk.buckets):
        yield f"warm-up covers {warmed}, the buckets are {sorted(trunk.buckets)}"
    if config.platform == "tensorrt_plan":
        graphs = {
            (spec.batch_size, spec.input[trunk.inputs.ids].dim[0]) for spec in config.optimization.cuda.graph_spec
        }
        required = {(batch, bucket) for batch in model.graph_batches for bucket in trunk.buckets}
        if graphs != required:
            yield f"CUDA graphs are missing or too many: {sorted(graphs ^ required)}"
        numbers = {int(number) for group in config.instance_group for number in group.profile}
        if numbers != set(range(len(model.engine_profiles))):
            yield f"instances use profiles {sorted(numbers)}, the manifest has {len(model.engine_profiles)}"
        for capability, name in sorted(config.cc_model_filenames.items()):
            if name != engine.plan_name(capability):
                yield f"capability {capability} has the plan `{name}`, `engine` writes {engine.plan_name(capability)}"


def shapes(trunk: Trunk) -> dict[str, list[int]]:
    """Shape of each output of one row, by name; -1 is tokens."""
    dims = {trunk.embedding.output: [trunk.embedding.dimension]} if trunk.embedding else {}
    return dims | {h.output: [-1, len(h.labels)] if h.per_token else [len(h.labels)] for h in trunk.heads}


def _check_signature(path: Path, trunk: Trunk, tokenizer: bytes) -> Iterator[Finding]:
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own, which has no public name
        yield Finding(trunk.name, f"{path.name} cannot be read: {error}")
        return
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    signature = dict.fromkeys((trunk.inputs.ids, trunk.inputs.mask), onnx.TensorProto.INT64)
    if inputs != signature:
        yield Finding(trunk.name, f"{path.name}: inputs are {sorted(inputs)}, expected INT64 {sorted(signature)}")
    outputs = {}
    for value in graph.output:
        dims = list(value.type.tensor_type.shape.dim)[1:]
        outputs[value.name] = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            yield Finding(trunk.name, f"{path.name}: output {value.name} is not FLOAT")
    # An exporter may leave a width open that the graph fixes.
    for name, expected in shapes(trunk).items():
        actual = outputs.get(name)
        if actual is None:
            yield Finding(trunk.name, f"{path.name}: has no output {name}, but {sorted(outputs)}")
        elif len(actual) != len(expected) or any(
            a != b and -1 not in (a, b) for a, b in zip(actual, expected, strict=True)
        ):
            yield Finding(trunk.name, f"{path.name}: output {name} is {actual} a row, the bundle says {expected}")
    rows = [tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2]
    last = load_tokenizer(tokenizer).size - 1
    if rows and max(rows) <= last:
        yield Finding(
            trunk.name,
            f"{path.name}: knows {max(rows)} tokens at most, the tokenizer goes up to {last}; it is another model's",
        )


def _check_plans(directory: Path, trunk: Trunk, model: ModelSpec) -> Iterator[Finding]:
    try:
        request = engine.read_request(directory / repository.GPU_PLAN)
    except engine.EngineError as error:
        yield Finding(trunk.name, str(error))
        return
    if request["precision"] != model.precision.gpu:
        yield Finding(trunk.name, f"gpu.json asks for {request['precision']}, the manifest for {model.precision.gpu}")
    if request["profiles"] != [profile.model_dump(mode="json") for profile in model.engine_profiles]:
        yield Finding(
            trunk.name, "gpu.json asks for other profiles than the manifest; run `python -m export all --for gpu`"
        )
    for bucket in trunk.buckets:
        for batch in {1, model.max_batch}:
            holds = any(
                profile["batch"][0] <= batch <= profile["batch"][2]
                and profile["tokens"][0] <= bucket <= profile["tokens"][2]
                for profile in request["profiles"]
            )
            if not holds:
                yield Finding(trunk.name, f"no profile of the engine holds batch {batch} of {bucket} tokens")
    for plan in sorted(directory.glob("model_sm*.plan")):
        try:
            engine.check_plan(plan, request)
        except engine.EngineError as error:
            yield Finding(trunk.name, str(error))
