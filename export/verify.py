"""Proof that nothing was lost between the published model and what Triton serves.

Three parts, each usable alone: files and configurations (`check_files`, no PyTorch), every flavour of every graph
against PyTorch in single precision (`check_graph`), and the answers of a live Triton (`check_triton`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import engine, repository
from export.checksums import sha256
from export.encoder import Encoder
from export.manifest import Model
from export.pipeline import ExportError, Pipeline, Platform, needs_torch
from router.inference import BundleError, load_bundle
from router.inference.bundle import Bundle, Trunk
from router.inference.windows import Windows

RESULTS = "verify.json"

# Largest difference of a number from PyTorch's in single precision. int8 is judged by accuracy on labelled rows
# (`evaluate`), here it is only measured.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
# Least share of rows with PyTorch's label, among those where PyTorch is sure by more than a hair.
AGREEMENT = {"fp32": 1.0, "fp16": 0.999, "bf16": 0.99}
SURE = 0.01
# Largest difference of int8 between two runs of one graph on one text: a step of an activation may fall to either side.
SAME = 1e-2

TEXTS = (
    "Why is the sky blue?",
    "hi",
    "How do I patch a CVE in OpenSSL? " * 12,
    "Wie hoch ist die Zugspitze, und wer war zuerst oben? Bitte mit Quelle.",
    "def f(x):\n    return x ** 2  # what does this do\n" * 8,
)

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do about it where that is known."""

    model: str
    message: str

    def __str__(self) -> str:
        return f"{self.model}: {self.message}" if self.model else self.message


@dataclass
class Parity:
    """One flavour of a graph against PyTorch fp32, over all rows of all batches."""

    model: str
    flavour: str
    rows: int
    batches: list[str]
    difference: dict[str, float]
    """Largest absolute difference by output."""
    agreement: dict[str, float]
    """Share of rows (tokens) with PyTorch's label, by head."""
    cosine: float | None
    """Least cosine of an embedding with PyTorch's."""


@dataclass
class Results:
    """What was checked and measured; written as JSON for the report."""

    versions: dict[str, str] = field(default_factory=dict)
    bundle: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    parity: list[Parity] = field(default_factory=list)
    triton: list[dict[str, Any]] = field(default_factory=list)
    rtx: list[dict[str, Any]] = field(default_factory=list)
    plans: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    """What is wrong, in words."""


def run(
    pipeline: Pipeline,
    platforms: Sequence[Platform],
    *,
    reference: bool,
    triton: str | None,
    config_name: str,
    rtx: bool,
) -> Results:
    """All checks of a bundle, results beside the build's other files.

    Raises ExportError listing every finding.
    """
    from importlib.metadata import PackageNotFoundError, version

    root = pipeline.places.repository
    results = Results()
    for package in ("torch", "transformers", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "nvidia-pytriton"):
        try:
            results.versions[package] = version(package)
        except PackageNotFoundError:
            continue
    findings = check_files(root, pipeline.models, platforms)
    pipeline.progress(f"verify: files and configurations, {len(findings)} findings")
    if not findings:
        bundle, _ = load_bundle(root / "bundle.json")
        results.bundle = bundle.checksum
        findings += check_current(pipeline, bundle, platforms)
        if "gpu" in platforms:
            results.plans = [
                json.loads(path.read_text())
                for model in pipeline.models
                for path in sorted((root / model.name / "1").glob("model_sm*.json"))
            ]
    judges: dict[str, Reference] = {}
    for model in pipeline.models:
        results.models.append(_described(pipeline, model))
        probe = Probe(pipeline, model)
        if reference:
            judges[model.name] = Reference(pipeline, probe)
        for flavour in _flavours(model, platforms, reference=reference):
            if flavour == "bf16":
                results.notes.append(f"{model.name}: ONNX Runtime has no bf16 on CPU; parity was not measured")
                continue
            parity, found = check_graph(probe, flavour, pipeline.flavour(model, flavour), judges.get(model.name))
            results.parity.append(parity)
            findings += found
            pipeline.progress(f"verify: {model.name}, {flavour}: {_told(parity)}")
    if not reference:
        results.notes.append("Parity with PyTorch was not measured in this run.")
    if rtx:
        try:
            paths = engine.requests(root, [model.name for model in pipeline.models])
            results.rtx = engine.compile_all(paths, engine.RTX_TARGET, pipeline.progress)
        except engine.EngineError as error:
            findings.append(Finding("", str(error)))
    if triton != "none" and not findings:
        with _server(root, pipeline.places.build, triton, config_name, pipeline.progress) as address:
            for model in pipeline.models:
                measured, found = check_triton(address, root, model, judges.get(model.name))
                results.triton.append(measured)
                findings += found
                pipeline.progress(f"verify: {model.name} on Triton: {json.dumps(measured)}")
    results.findings = [str(finding) for finding in findings]
    target = pipeline.places.build / RESULTS
    target.write_text(json.dumps(asdict(results), indent=1) + "\n")
    if findings:
        raise ExportError("verify found:\n" + "\n".join(f"  {finding}" for finding in results.findings))
    pipeline.progress(f"verify: all well, {target}")
    return results


# --- files and configurations --------------------------------------------------------------------------------------


def check_files(root: Path, models: Sequence[Model], platforms: Sequence[Platform]) -> list[Finding]:
    """What can be seen without running a model: checksums, labels, tokenizers, schema, signatures, shapes."""
    try:
        bundle, tokenizers = load_bundle(root / "bundle.json")
    except BundleError as error:
        return [Finding("", str(error))]
    findings: list[Finding] = []
    known = {model.name: model for model in models}
    for trunk in bundle.trunks:
        model = known.get(trunk.name)
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
    for name in known.keys() - {trunk.name for trunk in bundle.trunks}:
        findings.append(Finding(name, "is not in the bundle; run `python -m export repository`"))
    return findings


def check_current(pipeline: Pipeline, bundle: Bundle, platforms: Sequence[Platform]) -> Iterator[Finding]:
    """Whether the repository holds what the manifest and its sources give now: files that fit each other may be old."""
    trunks = [pipeline.trunk(model) for model in pipeline.models]
    if bundle.checksum != repository.manifest(trunks, pipeline.topics())["checksum"]:
        yield Finding("", "bundle.json is not what the manifest gives now; run `python -m export repository`, and with "
                      "`--precision` give it here too")  # fmt: skip
    for model in pipeline.models:
        for platform in platforms:
            flavour = getattr(model.precision, platform)
            name = repository.CPU_GRAPH if platform == "cpu" else repository.GPU_GRAPH
            path, made = pipeline.places.repository / model.name / "1" / name, pipeline.flavour(model, flavour)
            if not path.samefile(made) and sha256(path) != sha256(made):
                yield Finding(model.name, f"{name} is not the graph in {flavour} that the manifest gives now; run "
                              f"`python -m export all --for {platform}`")  # fmt: skip


def _check_tokenizer(trunk: Trunk, content: bytes) -> Iterator[Finding]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    around = tokenizer.encode("").ids
    if around != [trunk.tokenizer.cls_id, trunk.tokenizer.sep_id]:
        yield Finding(trunk.name, f"tokenizer: puts tokens {around} around a text, the bundle says "
                      f"[{trunk.tokenizer.cls_id}, {trunk.tokenizer.sep_id}]")  # fmt: skip
    if tokenizer.id_to_token(trunk.tokenizer.pad_id) is None:
        yield Finding(trunk.name, f"tokenizer: has no token {trunk.tokenizer.pad_id}, which the bundle pads with")
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        yield Finding(trunk.name, "tokenizer: cuts or pads by itself; windows and buckets are the caller's")


def _check_labels(root: Path, trunk: Trunk) -> Iterator[Finding]:
    for head in trunk.heads:
        path = root / trunk.model / f"{head.name}_labels.txt"
        try:
            found = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            yield Finding(trunk.name, f"labels of {head.name}: {error}")
            continue
        if found != list(head.labels):
            place = next((i for i, (a, b) in enumerate(zip(found, head.labels, strict=False)) if a != b), None)
            where = f"line {place + 1} is `{found[place]}`" if place is not None else f"{len(found)} lines"
            there = f"`{head.labels[place]}`" if place is not None else str(len(head.labels))
            yield Finding(trunk.name, f"labels file {path.name}: {where}, the bundle says {there}")


def _check_configs(root: Path, trunk: Trunk, model: Model, bundle: Bundle) -> Iterator[Finding]:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    directory = root / trunk.model
    paths = [directory / "config.pbtxt", *sorted((directory / "configs").glob("*.pbtxt"))]
    paths += [root / name / "config.pbtxt" for name in (f"{trunk.name}_tokenizer", f"{trunk.name}_text")]
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
            found = {item.name: list(item.dims) for item in config.output}
            if found != _dims(trunk):
                yield Finding(trunk.name, f"{where}: outputs are {found}, the bundle says {_dims(trunk)}")
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
        if (found := config.parameters[key].string_value) != value:
            yield f"{key} is {found or 'missing'}, the bundle says {value}"


def _encoder_config(config: Any, trunk: Trunk, model: Model) -> Iterator[str]:
    inputs = [item.name for item in config.input]
    if inputs != [trunk.inputs.ids, trunk.inputs.mask]:
        yield f"inputs are {inputs}, the bundle says {[trunk.inputs.ids, trunk.inputs.mask]}"
    expected = _dims(trunk)
    found = {item.name: list(item.dims) for item in config.output}
    if found != expected:
        yield f"outputs are {found}, the bundle says {expected}"
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
        wanted = {(batch, bucket) for batch in model.graph_batches for bucket in trunk.buckets}
        if graphs != wanted:
            yield f"CUDA graphs are missing or too many: {sorted(graphs ^ wanted)}"
        numbers = {int(number) for group in config.instance_group for number in group.profile}
        if numbers != set(range(len(model.engine_profiles))):
            yield f"instances use profiles {sorted(numbers)}, the manifest has {len(model.engine_profiles)}"
        for capability, name in sorted(config.cc_model_filenames.items()):
            if name != engine.plan_name(capability):
                yield f"capability {capability} has the plan `{name}`, `engine` writes {engine.plan_name(capability)}"


def _dims(trunk: Trunk) -> dict[str, list[int]]:
    dims = {trunk.embedding.output: [trunk.embedding.dimension]} if trunk.embedding else {}
    return dims | {h.output: [-1, len(h.labels)] if h.per_token else [len(h.labels)] for h in trunk.heads}


def _check_signature(path: Path, trunk: Trunk, tokenizer: bytes) -> Iterator[Finding]:
    import onnx
    from tokenizers import Tokenizer

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own, which has no public name
        yield Finding(trunk.name, f"{path.name} cannot be read: {error}")
        return
    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    wanted = dict.fromkeys((trunk.inputs.ids, trunk.inputs.mask), onnx.TensorProto.INT64)
    if inputs != wanted:
        yield Finding(trunk.name, f"{path.name}: inputs are {sorted(inputs)}, expected INT64 {sorted(wanted)}")
    found = {}
    for value in graph.output:
        found[value.name] = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim][
            1:
        ]
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            yield Finding(trunk.name, f"{path.name}: output {value.name} is not FLOAT")
    # An exporter may leave a width open that the graph fixes.
    for name, dims in _dims(trunk).items():
        there = found.get(name)
        if there is None:
            yield Finding(trunk.name, f"{path.name}: has no output {name}, but {sorted(found)}")
        elif len(there) != len(dims) or any(a != b and -1 not in (a, b) for a, b in zip(there, dims, strict=True)):
            yield Finding(trunk.name, f"{path.name}: output {name} is {there} a row, the bundle says {dims}")
    rows = [tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2]
    last = max(Tokenizer.from_buffer(tokenizer).get_vocab(with_added_tokens=True).values())
    if rows and max(rows) <= last:
        yield Finding(
            trunk.name,
            f"{path.name}: knows {max(rows)} tokens at most, the tokenizer goes up to {last}; it is another model's",
        )


def _check_plans(directory: Path, trunk: Trunk, model: Model) -> Iterator[Finding]:
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


# --- graphs against PyTorch ----------------------------------------------------------------------------------------


class Probe:
    """What a model's graphs are asked, and how its rows are made; needs no PyTorch."""

    def __init__(self, pipeline: Pipeline, model: Model) -> None:
        trunk = pipeline.trunk(model)
        self.model = model
        self.config = json.loads(pipeline.source(model).config.read_text())
        self.outputs = [output.name for output in trunk.outputs]
        self.per_token = {output.name for output in trunk.outputs if output.per_token}
        self.heads = {output.name for output in trunk.outputs if output.labels}
        described = repository.manifest([trunk], {})["trunks"][0]
        self.windows = Windows(Trunk.model_validate(described), pipeline.tokenizer(model).encode())


class Reference:
    """The published model in PyTorch, fp32, one row at a time and without any padding, which so cannot leak in."""

    def __init__(self, pipeline: Pipeline, probe: Probe) -> None:
        from export import network

        needs_torch(f"{probe.model.name} is compared", ("torch", "transformers"))
        self._network = network.Network(probe.model, pipeline.published(probe.model))
        self._windows, self._outputs = probe.windows, probe.outputs
        self._rows: dict[tuple[int, ...], list[Vectors]] = {}

    def row(self, ids: Sequence[int]) -> dict[str, Vectors]:
        """[width] by output, or [tokens, labels] per token."""
        import torch

        key = tuple(int(token) for token in ids)
        if key not in self._rows:
            given = torch.tensor([key], dtype=torch.int64)
            with torch.inference_mode():
                self._rows[key] = [output[0].numpy() for output in self._network(given, torch.ones_like(given))]
        return dict(zip(self._outputs, self._rows[key], strict=True))

    def text(self, text: str) -> dict[str, Vectors]:
        """Of the first window of a text."""
        return self.row(self._windows.rows(text)[0])


def batches(probe: Probe) -> list[list[list[int]]]:
    """Rows of token ids, batch by batch: for each bucket lengths from two tokens to the whole bucket, and those around
    the attention window, whose last token sees other neighbours than its first."""
    model = probe.model
    vocabulary = int(probe.config["vocab_size"])
    window = int(probe.config.get("local_attention") or 0)
    generator = np.random.default_rng(0)
    found: list[list[list[int]]] = []
    seen: set[int] = set()
    for low, bucket in zip((0, *model.buckets), model.buckets, strict=False):
        # The shortest row, padded by far more than the window, is where half precision turns to NaN.
        around = {2, bucket, (low + bucket) // 2 + 1}
        around |= {edge + step for edge in (window // 2, window, 2 * window) if edge for step in (-1, 0, 1)}
        fitting = sorted(length for length in around if 2 <= length <= min(bucket, model.max_tokens))
        lengths = [[fitting[0], *fitting[1:][1 - max(model.max_batch, 2) :]]]
        seen |= set(lengths[0])
        # What a small batch has no room for, with the longest row beside, which keeps it in this bucket.
        left = [length for length in fitting if length not in seen]
        seen |= set(left)
        room = max(model.max_batch - 2, 1)
        lengths += [[fitting[0], *left[at : at + room], fitting[-1]] for at in range(0, len(left), room)]
        found += [[generator.integers(0, vocabulary, length).tolist() for length in batch] for batch in lengths]
    real = [probe.windows.rows(text)[0] for text in TEXTS]
    found += [real[start : start + model.max_batch] for start in range(0, len(real), model.max_batch)]
    return found


def check_graph(probe: Probe, flavour: str, path: Path, reference: Reference | None) -> tuple[Parity, list[Finding]]:
    """One ONNX file against PyTorch, in padded batches of unequal lengths, each row against its own unpadded forward.

    Without ``reference`` only that all numbers are finite.
    """
    model = probe.model
    import onnxruntime as ort

    findings: list[Finding] = []
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, of many kinds
        return Parity(model.name, flavour, 0, [], {}, {}, None), [Finding(model.name, f"{flavour}: {error}")]
    difference = dict.fromkeys(probe.outputs if reference else [], 0.0)
    agreed: dict[str, list[bool]] = {name: [] for name in (probe.heads if reference else ())}
    cosines, shapes, rows = [], [], 0
    for batch in batches(probe):
        padded = probe.windows.pad(batch)
        shapes.append(f"{padded.ids.shape[0]}x{padded.ids.shape[1]}")
        try:
            values = session.run(probe.outputs, {"input_ids": padded.ids, "attention_mask": padded.mask})
        except Exception as error:  # ONNX Runtime's own, of many kinds
            findings.append(Finding(model.name, f"{flavour}: fails on a batch of {shapes[-1]}: {error}"))
            break
        got = dict(zip(probe.outputs, values, strict=True))
        for index, ids in enumerate(batch):
            rows += 1
            expected = reference.row(ids) if reference else {}
            for name in probe.outputs:
                actual = got[name][index][: len(ids)] if name in probe.per_token else got[name][index]
                if not np.isfinite(actual).all():
                    findings.append(
                        Finding(
                            model.name,
                            f"{flavour}: {name} holds NaN or infinity for a row of {len(ids)} tokens padded to "
                            f"{padded.ids.shape[1]}",
                        )
                    )
                elif name in expected and not np.isfinite(expected[name]).all():
                    # `max` would pass a NaN over, and every comparison with it is false.
                    findings.append(Finding(model.name, f"{name} of PyTorch itself holds NaN or infinity for a row of "
                                            f"{len(ids)} tokens; look at the weights"))  # fmt: skip
                elif name in expected:
                    difference[name] = max(difference[name], float(np.abs(actual - expected[name]).max()))
                    if name in probe.heads:
                        agreed[name] += _agree(np.atleast_2d(expected[name]), np.atleast_2d(actual))
                    else:
                        cosines.append(float(expected[name] @ actual / np.linalg.norm(actual)))
    agreement = {name: float(np.mean(votes)) if votes else 1.0 for name, votes in agreed.items()}
    parity = Parity(model.name, flavour, rows, shapes, difference, agreement, min(cosines) if cosines else None)
    # One message for a graph that is broken everywhere.
    findings = findings[:1]
    if flavour in TOLERANCE and not findings:
        for name, most in difference.items():
            if most > TOLERANCE[flavour]:
                findings.append(Finding(model.name, f"{flavour}: {name} differs from PyTorch by {most:.2g}, "
                                        f"{TOLERANCE[flavour]:g} is allowed"))  # fmt: skip
        for name, share in agreement.items():
            if share < AGREEMENT[flavour]:
                findings.append(Finding(model.name, f"{flavour}: {name} has PyTorch's label in {share:.2%} of rows, "
                                        f"{AGREEMENT[flavour]:.1%} are needed"))  # fmt: skip
    return parity, findings


def _agree(expected: Vectors, actual: Vectors) -> list[bool]:
    """Whether the label is the same, for each row where the expected one leads by ``SURE``."""
    if expected.shape[1] < 2:
        return []
    ranked = np.sort(expected, axis=1)
    sure = ranked[:, -1] - ranked[:, -2] > SURE
    return list(expected.argmax(axis=1)[sure] == actual.argmax(axis=1)[sure])


def _flavours(model: Model, platforms: Sequence[Platform], *, reference: bool) -> list[str]:
    found = ["fp32"] if reference else []
    found += [getattr(model.precision, platform) for platform in platforms]
    return list(dict.fromkeys(found))


def _described(pipeline: Pipeline, model: Model) -> dict[str, Any]:
    graphs = {}
    for name in (repository.CPU_GRAPH, repository.GPU_GRAPH):
        path = pipeline.places.repository / model.name / "1" / name
        if path.is_file():
            graphs[name] = {"sha256": sha256(path), "mib": path.stat().st_size >> 20}
    trunk = pipeline.trunk(model)
    return {
        "name": model.name,
        "source": model.source.spec,
        "id": trunk.model_id,
        "task": model.task,
        "outputs": {output.name: output.width for output in trunk.outputs},
        "weights_sha256": trunk.weights_sha256,
        "delta": pipeline.delta(model),
        "tokenizer_sha256": trunk.tokenizer.sha256,
        "precision": model.precision.model_dump(),
        "buckets": list(model.buckets),
        "graphs": graphs,
    }


def _told(parity: Parity) -> str:
    if not parity.difference:
        return f"{parity.rows} rows, not compared with PyTorch"
    largest = max(parity.difference.values(), default=0.0)
    agreement = min(parity.agreement.values(), default=1.0)
    return f"{parity.rows} rows, largest difference {largest:.2g}, same label {agreement:.1%}"


# --- a live Triton -------------------------------------------------------------------------------------------------


def check_triton(
    address: str, root: Path, model: Model, reference: Reference | None
) -> tuple[dict[str, Any], list[Finding]]:
    """The ensemble's answers against PyTorch, and whether requests of one bucket are batched.

    Counts executions from Triton's own statistics, so nobody else may be asking this server.
    """
    from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    findings: list[Finding] = []
    bundle, tokenizers = load_bundle(root / "bundle.json")
    trunk = next(trunk for trunk in bundle.trunks if trunk.name == model.name)
    outputs = list(_dims(trunk))
    client = InferenceServerClient(address)
    measured: dict[str, Any] = {"model": model.name}
    try:
        config = client.get_model_config(model.name).config
        measured["backend"] = config.backend or config.platform
        # The python backend runs ONNX Runtime, or PyTorch's program in the plan's place.
        on_gpu = "tensorrt" in measured["backend"] or config.default_model_filename == repository.TORCH_CODE.name
        flavour = model.precision.gpu if on_gpu else model.precision.cpu
        measured["flavour"] = flavour
        served = config.parameters["bundle_checksum"].string_value
        if served != bundle.checksum:
            findings.append(Finding(model.name, f"Triton serves bundle {served[:12]}…, not {bundle.checksum[:12]}…"))
        largest, from_graph = 0.0, 0.0
        # Without a limit to PyTorch, the answer must at least be the graph's; other backends read the padding too.
        alone = flavour == "int8" and measured["backend"] == "python"
        encoder = Encoder.served(root, trunk.name) if alone else None
        for text in TEXTS:
            expected = reference.text(text) if reference else {}
            own = encoder.first(text) if encoder is not None else {}
            given = InferInput("text", [1, 1], "BYTES")
            given.set_data_from_numpy(np.array([[text.encode()]], dtype=object))
            answer = client.infer(
                f"{model.name}_text",
                [given],
                outputs=[InferRequestedOutput(name) for name in outputs],
                client_timeout=60,
            )
            for name in outputs:
                value = answer.as_numpy(name)
                if value is None or not np.isfinite(value).all():
                    findings.append(Finding(model.name, f"the ensemble answers NaN or nothing for {name}"))
                    continue
                if name in expected:
                    actual = value[0][: len(expected[name])]
                    largest = max(largest, float(np.abs(actual - expected[name]).max()))
                if name in own:
                    actual = value[0][: len(own[name])]
                    from_graph = max(from_graph, float(np.abs(actual - own[name]).max()))
        if reference is not None:
            measured["difference"] = largest
            if flavour in TOLERANCE and largest > TOLERANCE[flavour]:
                findings.append(Finding(model.name, f"the ensemble differs from PyTorch by {largest:.2g}"))
        if from_graph > SAME:
            findings.append(Finding(model.name, f"the ensemble differs from its own graph by {from_graph:.2g}"))
        measured["batch_sizes"] = _batched(client, trunk, tokenizers[trunk.name])
        if model.max_batch > 1 and not any(int(size) > 1 for size in measured["batch_sizes"]):
            findings.append(Finding(model.name, "48 requests at once of one bucket were not batched"))
    except InferenceServerException as error:
        findings.append(Finding(model.name, f"Triton: {error}"))
    finally:
        client.close()
    return measured, findings


def _batched(client: Any, trunk: Trunk, tokenizer: bytes) -> dict[str, int]:
    """How often each batch size was executed for 48 requests at once."""
    from tritonclient.grpc import InferInput

    batch = Windows(trunk, tokenizer).batch(TEXTS[0])

    def executions() -> dict[str, int]:
        model = client.get_inference_statistics(trunk.model).model_stats[0]
        return {str(entry.batch_size): int(entry.compute_infer.count) for entry in model.batch_stats}

    time.sleep(0.3)  # Triton counts an execution after it has answered.
    before = executions()
    inputs = [
        InferInput(name, value.shape, "INT64").set_data_from_numpy(value)
        for name, value in ((trunk.inputs.ids, batch.ids), (trunk.inputs.mask, batch.mask))
    ]
    pending = [_future(client, trunk.model, inputs) for _ in range(48)]
    for wait in pending:
        wait()
    new: dict[str, int] = {}
    for _ in range(50):
        new = {size: count - before.get(size, 0) for size, count in executions().items()}
        if sum(int(size) * count for size, count in new.items()) >= 48:
            break
        time.sleep(0.1)
    return {size: count for size, count in new.items() if count}


def _future(client: Any, model: str, inputs: list[Any]) -> Callable[[], None]:
    from threading import Event

    done, failures = Event(), []

    def answered(result: Any, error: Any) -> None:
        if error is not None:
            failures.append(error)
        done.set()

    client.async_infer(model, inputs, answered, client_timeout=60)

    def wait() -> None:
        done.wait(60)
        if failures:
            raise failures[0]

    return wait


@contextmanager
def _server(
    root: Path, build: Path, address: str | None, config_name: str, progress: Callable[[str], None]
) -> Iterator[str]:
    """The address of a Triton that serves ``root``: the one given, or one that lives as long as the context."""
    if address is not None:
        yield address
        return
    with started(root, build / "triton", config_name) as found:
        progress(f"verify: Triton is up at {found}")
        yield found


@contextmanager
def started(
    root: Path, directory: Path, config_name: str = "cpu", *, models: Sequence[str] = (), seconds: float = 120
) -> Iterator[str]:
    """Start the server of the nvidia-pytriton wheel on ``root`` and wait until it is ready; yields `host:port`.

    Only ``models`` are loaded, if any are named.

    Raises ExportError with the end of its log when it does not come up.
    """
    from router.stack import triton

    grpc_port, metrics_port = _free_ports()
    server = triton.prepare(root, directory, grpc_port=grpc_port, metrics_port=metrics_port)
    command = [part.replace("--model-config-name=cpu", f"--model-config-name={config_name}") for part in server.command]
    if models:
        command += ["--model-control-mode=explicit", *(f"--load-model={model}" for model in models)]
    log = directory / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=server.environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_ready(process, f"127.0.0.1:{grpc_port}", log, seconds)
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        server.remove_shared_memory()


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: Path, seconds: float) -> None:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(address)
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.is_server_ready(client_timeout=2):
                    return
            except InferenceServerException:
                pass
            time.sleep(0.2)
    finally:
        client.close()
    lines = log.read_text(errors="replace").splitlines()
    failures = [line for line in lines if "UNAVAILABLE" in line or '] "failed' in line or "error:" in line.lower()]
    raise ExportError("Triton did not come up:\n" + "\n".join((failures or lines)[-15:]))


def _free_ports() -> tuple[int, int]:
    import socket

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
