"""The steps of an export, each done only when what it is made from has changed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from export import centre, delta, ordinary, repository
from export.checksums import Steps, sha256
from export.delta import Delta
from export.manifest import ModelSpec
from export.source import Source, resolve
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows

if TYPE_CHECKING:
    from export.encoder import OnnxEncoder, Vectors
    from export.head import HeadWeights

Platform = Literal["cpu", "gpu", "torch"]

# A change in one of these modules changes what the step makes.
_CODE = Path(__file__).parent


class ExportError(ValueError):
    """A step cannot be done; the message says what to do."""


@dataclass(frozen=True)
class Paths:
    repository: Path
    build: Path
    topics: Path | None = None
    """What `fit-topics` wrote; `None` or missing: nothing."""


class Exporter:
    """The export of one bundle. ``precision`` overrides what the manifest says of CPUs."""

    def __init__(self, places: Paths, models: Sequence[ModelSpec], precision: str | None = None) -> None:
        self.paths = places
        self.models = [_with_precision(model, precision) for model in models]
        self._steps = Steps(places.build / "steps.json")
        self._sources: dict[str, Source] = {}

    def progress(self, text: str) -> None:
        print(f"export: {text}", flush=True)

    # --- steps ------------------------------------------------------------------------------------------------------

    def graphs(self, platform: Platform) -> None:
        """The graph of every model, in the flavour of ``platform``, in the repository."""
        for model in self.models:
            self.program(model) if platform == "torch" else self.served(model, platform)

    def write_repository(self) -> None:
        """Configurations, labels, tokenizers and the bundle's manifest."""
        trunks = [self.trunk(model) for model in self.models]
        topics = self.topics()
        tokenizers = {model.name: self.tokenizer(model) for model in self.models}
        repository.write(trunks, topics, tokenizers, self.paths.repository)
        checksum = repository.manifest(trunks, topics)["checksum"]
        self.progress(f"repository: {self.paths.repository}, bundle {checksum[:12]}…")

    def served(self, model: ModelSpec, platform: Platform) -> Path:
        """The chosen flavour in the repository; for GPUs with the request that `engine` builds from."""
        flavour = getattr(model.precision, platform)
        made = self.flavour(model, flavour)
        name = repository.CPU_GRAPH if platform == "cpu" else repository.GPU_GRAPH
        target = self.paths.repository / model.name / "1" / name
        status = made.stat()
        inputs: dict[str, Any] = {"flavour": flavour, "made": [status.st_size, status.st_mtime_ns]}
        if platform == "cpu":
            return self._step(f"{model.name}, served", target, inputs, lambda: _copy(made, target))
        profiles = [profile.model_dump() for profile in model.engine_profiles]
        request = target.with_name(repository.GPU_PLAN)
        inputs["profiles"] = json.dumps(profiles)

        def make() -> None:
            import onnx

            _copy(made, target)
            initializers = onnx.load(target).graph.initializer
            weights = sum(math.prod(tensor.dims) for tensor in initializers)
            document = repository.engine_request(self.trunk(model), sha256(target), weights)
            request.write_text(json.dumps(document, indent=1) + "\n")

        return self._step(f"{model.name}, served on GPUs", target, inputs, make, beside=[request])

    def program(self, model: ModelSpec) -> Path:
        """PyTorch's program in the GPU's precision, which stands in for a plan where TensorRT's builder is missing.

        Raises ExportError for the other graphs, which have no configuration that would serve it.
        """
        if model.graph != "torch":
            raise ExportError(
                f"{model.name}: PyTorch's program is served for graph `torch` only, this is graph `{model.graph}`"
            )
        flavour = model.precision.gpu
        target = self.paths.repository / model.name / "1" / repository.TORCH_PROGRAM

        def make() -> None:
            from export import network

            self._heads(model)
            network.save_program(network.Network(model, self.published(model), flavour), target)

        inputs = self._torch_inputs(model) | {"flavour": flavour}
        return self._step(f"{model.name}, PyTorch's program", target, inputs, make)

    def flavour(self, model: ModelSpec, flavour: str) -> Path:
        """The graph in `fp32`, `int8`, `fp16` or `bf16`."""
        if flavour == "int8":
            return self._quantized(model)
        target = self._place(model) / f"encoder.{flavour}.onnx"
        if model.graph != "torch":
            if flavour == "bf16":
                raise ExportError(f"{model.name}: graph `{model.graph}` is written in fp32 or fp16")
            half = flavour == "fp16"
            heads = [list(pair) for pair in zip(_head_names(model), _head_digests(model), strict=True)]
            inputs = self._written_inputs(model) | {"half": half, "heads": heads}
            make = lambda: self._build(model, target, half=half)  # noqa: E731
        else:
            inputs = self._torch_inputs(model) | {"flavour": flavour}
            make = lambda: self._exported(model, flavour, target)  # noqa: E731
        return self._step(f"{model.name}, {flavour}", target, inputs, make)

    def trunk(self, model: ModelSpec) -> repository.TrunkText:
        """What the repository says about a model.

        Raises ExportError where a head was tuned with another tokenizer than the trunk's, whose tokens it would get.
        """
        source, served = self.source(model), self.tokenizer(model)
        for head in model.heads:
            if head.source is None:
                continue
            own = self._tuned(model, head.name).tokenizer.read_bytes()
            if not repository.same_tokens(served, repository.served_tokenizer(own)):
                raise ExportError(
                    f"{model.name}: head {head.name} was tuned with another tokenizer than the trunk's; make "
                    f"{head.source.spec} a model of its own"
                )
        return repository.TrunkText(
            model=model,
            model_id=source.model_id,
            weights_sha256=source.weights_sha256,
            outputs=self.outputs(model),
            delta_sha256=_delta_digest(model),
            centre_sha256=_centre_digest(model),
            tokenizer=repository.Tokenizer.of(served, json.loads(source.config.read_text())),
        )

    def outputs(self, model: ModelSpec) -> tuple[repository.Output, ...]:
        """The outputs in order, read from `config.json` and the heads' files: no weights are loaded."""
        from export import head as head_file

        config = json.loads(self.source(model).config.read_text())
        if model.task == "embedding":
            outputs = [repository.Output("embedding", model.dimension or int(config["hidden_size"]))]
        elif model.task == "pair-classification":
            outputs = []
        else:
            outputs = [_classifier(model.output_name, model.task, model.labels, config, self.source(model))]
        for head in model.heads:
            if head.file is not None:
                labels = head_file.load(head.file).labels
                outputs.append(repository.Output(head.name, len(labels), labels, sha256=sha256(head.file)))
            else:
                tuned = self._tuned(model, head.name)
                described = json.loads(tuned.config.read_text())
                outputs.append(_classifier(head.name, head.task, head.labels, described, tuned))
        return tuple(outputs)

    def topics(self) -> dict[str, Any]:
        """By the name of the trunk that they were fitted for; of those in the bundle."""
        path = self.paths.topics
        fitted = json.loads(path.read_text()) if path is not None and path.is_file() else {}
        return {model.name: fitted[model.name] for model in self.models if model.name in fitted}

    # --- where models come from -------------------------------------------------------------------------------------

    def source(self, model: ModelSpec) -> Source:
        """Raises ExportError where the published model reads no text as long as the longest bucket."""
        source = self._resolved(model.name, model.source)
        places = json.loads(source.config.read_text()).get("max_position_embeddings")
        if places is not None and max(model.buckets) > places:
            raise ExportError(
                f"{model.name}: a bucket has {max(model.buckets)} tokens, and config.json says "
                f"`max_position_embeddings` {places}: the model knows no positions beyond"
            )
        return source

    def tokenizer(self, model: ModelSpec) -> bytes:
        return repository.served_tokenizer(self.source(model).tokenizer.read_bytes())

    def published(self, model: ModelSpec) -> Any:
        """What `export/network.py` loads."""
        from export.network import PublishedModel

        tuned = {head.name: self._tuned(model, head.name).directory for head in model.heads if head.source}
        return PublishedModel(self.source(model).directory, tuned)

    def _tuned(self, model: ModelSpec, head: str) -> Source:
        place = next(each.source for each in model.heads if each.name == head)
        assert place is not None
        return self._resolved(f"{model.name}.{head}", place)

    def _resolved(self, name: str, place: Any) -> Source:
        if name in self._sources:
            return self._sources[name]
        inputs = {"place": place.model_dump(mode="json")}
        step, started = f"{name}, source", perf_counter()
        if self._steps.fresh(step, inputs):
            directory, model_id, weights = self._steps.result(step)
            self.progress(f"{step}: {place.spec}, unchanged")
            source = Source(Path(directory), model_id, weights)
        else:
            self.progress(f"{step}: getting {place.spec}")
            source = resolve(place, self.paths.build / "source")
            files = [source.config, source.weights, source.tokenizer]
            result = [str(source.directory.resolve()), source.model_id, source.weights_sha256]
            self._steps.done(step, inputs, files, result)
            self.progress(f"{step}: weights {source.weights_sha256[:12]}…, {perf_counter() - started:.1f} s")
        self._sources[name] = source
        return source

    # --- training and measuring -------------------------------------------------------------------------------------

    def features(self, model: ModelSpec, names: Sequence[str]) -> Callable[[Sequence[str]], Vectors]:
        """Texts to what a head with these features reads, computed by the flavour that is served on CPU."""
        from export import precision
        from export.encoder import OnnxEncoder
        from export.training import unit

        check_trainable(model)
        # Their files may be what is about to be made, and without them no trunk judges pairs.
        model = model.model_copy(update={"heads": (), "task": "embedding"})
        plain = self._place(model) / "features.fp32.onnx"
        inputs = self._written_inputs(model) | {"features": list(names)}
        made = self._step(f"{model.name}, features", plain, inputs, lambda: self._build(model, plain, expose=names))
        if model.precision.cpu == "int8":
            target = self._place(model) / "features.int8.onnx"
            inputs |= self._quantizer_inputs(model)
            make = lambda: precision.quantize(plain, target, self._ordinary(model))  # noqa: E731
            made = self._step(f"{model.name}, features in int8", target, inputs, make)
        encoder = OnnxEncoder(made, self._trunk_for_router(model), self.tokenizer(model))

        def features(texts: Sequence[str]) -> Vectors:
            encoded = encoder.encode(texts)
            return unit([encoded[f"feature.{name}"] for name in names])

        return features

    def windows(self, model: ModelSpec) -> Windows:
        """Texts to the token ids that the model reads."""
        return Windows(Trunk.model_validate(self._trunk_for_router(model)), self.tokenizer(model))

    def delta(self, model: ModelSpec) -> dict[str, Any]:
        """Of a model whose manifest names one, as a head that is trained on it keeps it; else nothing."""
        change = self._delta(model)
        if change is None:
            return {}
        assert model.delta is not None
        facts = {"file": model.delta.name, "sha256": _delta_digest(model), "rank": change.rank, "fork": change.fork}
        files = [entry for task in change.training.get("tasks", ()) for entry in task["data"]]
        learnt = sorted({entry["file"] + (f"={entry['label']}" if "label" in entry else "") for entry in files})
        return facts | {"bytes": model.delta.stat().st_size, "learnt": learnt}

    def encoder(self, model: ModelSpec, flavour: str) -> OnnxEncoder:
        from export.encoder import OnnxEncoder

        return OnnxEncoder(self.flavour(model, flavour), self._trunk_for_router(model), self.tokenizer(model))

    def _trunk_for_router(self, model: ModelSpec) -> dict[str, Any]:
        described: dict[str, Any] = repository.manifest([self.trunk(model)], {})["trunks"][0]
        return described

    # --- making -----------------------------------------------------------------------------------------------------

    def _place(self, model: ModelSpec) -> Path:
        return self.paths.build / model.name

    def _step(
        self, step: str, target: Path, inputs: dict[str, Any], make: Callable[[], Any], beside: Sequence[Path] = ()
    ) -> Path:
        if self._steps.fresh(step, inputs, [target, *beside]):
            self.progress(f"{step}: unchanged")
            return target
        started = perf_counter()
        target.parent.mkdir(parents=True, exist_ok=True)
        # The repository may hold a link to the old file, and somebody may be serving it.
        target.unlink(missing_ok=True)
        make()
        self._steps.done(step, inputs, [target, *beside])
        self.progress(f"{step}: {target.name}, {target.stat().st_size >> 20} MiB, {perf_counter() - started:.1f} s")
        return target

    def _build(self, model: ModelSpec, target: Path, *, half: bool = False, expose: Sequence[str] = ()) -> None:
        import onnx
        from safetensors.numpy import load_file

        from export import graph, use_graph

        heads = [] if expose else self._heads(model)
        source = self.source(model)
        config, weights = json.loads(source.config.read_text()), load_file(source.weights)
        change = self._delta(model)
        middle = centre.load(model.centre, _delta_digest(model)) if model.centre is not None else None
        try:
            if model.task == "token-classification":
                made = graph.build_tagger(weights, config, model.output_name, temperature=model.temperature, half=half)
            elif model.graph == "use":
                made = use_graph.build(weights, config, heads, expose, half=half)
            else:
                options: dict[str, Any] = {"pooling": model.pooling, "half": half, "delta": change, "centre": middle}
                options["embedding"] = model.task == "embedding"
                made = graph.build(weights, config, heads, expose, **options)
        except onnx.checker.ValidationError as error:
            hint = "; a head may be called what something inside is called: rename it" if "SSA" in str(error) else ""
            raise ExportError(f"{model.name}: the graph is not valid: {str(error).splitlines()[0]}{hint}") from error
        onnx.save(made, target)

    def _heads(self, model: ModelSpec) -> list[HeadWeights]:
        """Those with a file, under the manifest's names.

        Raises ExportError for one that was trained on other states than it will read.
        """
        from export import head

        heads = [replace(head.load(each.file), name=each.name) for each in model.heads if each.file is not None]
        here = _delta_digest(model)
        for each in heads:
            digest = each.training.get("delta", {}).get("sha256", "")
            if digest != here:
                raise ExportError(
                    f"{model.name}: head {each.name} was trained with {_delta_name(digest)}, "
                    f"the manifest has {_delta_name(here)}; train it again with `train-head`"
                )
        return heads

    def _delta(self, model: ModelSpec) -> Delta | None:
        if model.delta is None:
            return None
        return delta.load(model.delta, self.source(model).weights_sha256, model.fork)

    def _exported(self, model: ModelSpec, flavour: Any, target: Path) -> None:
        needs_torch(f"{model.name} is exported")
        from export import network

        self._heads(model)
        self.progress(f"{model.name}, {flavour}: tracing with PyTorch, half a minute for a base-sized model")
        made = network.Network(model, self.published(model), flavour)
        for name, layers in made.shared.items():
            self.progress(f"{model.name}: head {name} shares {layers} layers with the trunk")
        counts = network.export(made, flavour, target)
        actual = [asdict(output) | {"sha256": ""} for output in made.outputs]
        expected = [asdict(output) | {"sha256": ""} for output in self.outputs(model)]
        if actual != expected:
            raise ExportError(f"{model.name}: config.json promises outputs {expected}, the model has {actual}")
        self.progress(f"{model.name}, {flavour}: {sum(counts.values())} operators")

    def _quantized(self, model: ModelSpec) -> Path:
        from export import precision

        plain = self.flavour(model, "fp32")
        target = self._place(model) / "encoder.int8.onnx"
        status = plain.stat()
        inputs = {"plain": [status.st_size, status.st_mtime_ns]} | self._quantizer_inputs(model)
        return self._step(
            f"{model.name}, int8", target, inputs, lambda: precision.quantize(plain, target, self._ordinary(model))
        )

    def _written_inputs(self, model: ModelSpec) -> dict[str, Any]:
        source = self.source(model)
        return {
            "weights": source.weights_sha256,
            "config": sha256(source.config),
            "pooling": model.pooling,
            "task": model.task,
            "output": [model.output_name, model.temperature],
            "delta": [_delta_digest(model), model.fork],
            "centre": _centre_digest(model),
            "graph": [sha256(_CODE / name) for name in ("graph.py", "wide.py", "delta.py", "use_graph.py")],
            "onnx": version("onnx"),
        }

    def _torch_inputs(self, model: ModelSpec) -> dict[str, Any]:
        needs_torch(f"{model.name} is exported")
        sources = [self.source(model)]
        sources += [self._tuned(model, head.name) for head in model.heads if head.source]
        shape = model.model_dump(mode="json", include={"task", "pooling", "dimension", "layer", "exit_norm", "labels",
                                                       "output", "temperature", "heads"})  # fmt: skip
        return {
            "weights": [each.weights_sha256 for each in sources],
            "configs": [sha256(each.config) for each in sources],
            "heads": _head_digests(model),
            "shape": json.dumps(shape, sort_keys=True),
            "delta": [_delta_digest(model), model.fork],
            "centre": _centre_digest(model),
            "code": [sha256(_CODE / "network.py"), sha256(_CODE / "delta.py")],
            "versions": [version(name) for name in ("torch", "transformers", "onnx", "onnxscript")],
        }

    def _quantizer_inputs(self, model: ModelSpec) -> dict[str, Any]:
        return {
            "precision": sha256(_CODE / "precision.py"),
            "texts": [sha256(path) for path in ordinary.files(model)],
            "tokenizer": hashlib.sha256(self.tokenizer(model)).hexdigest(),
            "tokens": [model.prefix, model.max_tokens],
            "onnxruntime": version("onnxruntime"),
        }

    def _ordinary(self, model: ModelSpec) -> Iterator[dict[str, Any]]:
        trunk = Trunk.model_validate(self._trunk_for_router(model))
        return ordinary.batches(model, trunk, self.tokenizer(model))


def _with_precision(model: ModelSpec, precision: str | None) -> ModelSpec:
    if precision is None:
        return model
    return model.model_copy(update={"precision": model.precision.model_copy(update={"cpu": precision})})


def check_trainable(model: ModelSpec) -> None:
    """Raises ExportError for a model that `train-head` has no features of."""
    if model.task not in ("embedding", "pair-classification") or model.graph == "torch":
        raise ExportError(
            f"{model.name}: heads are trained on models of task `embedding` with graph `bert` or `use`, and of task "
            "`pair-classification`"
        )


def needs_torch(what: str, packages: Sequence[str] = ("torch", "transformers", "onnxscript")) -> None:
    """Raises ExportError, saying how to get them, where packages are missing. what: that is done with PyTorch."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{what} with PyTorch, and {', '.join(missing)} is not installed here:\n"
            "  pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu\n"
            "  pip install -c constraints.txt -e '.[export,torch]'"
        )


def _classifier(
    name: str, task: str, labels: Sequence[str], config: dict[str, Any], source: Source
) -> repository.Output:
    names = config.get("id2label") or {
        str(index): f"LABEL_{index}" for index in range(int(config.get("num_labels", 2)))
    }
    ordered = tuple(labels) or tuple(str(names[key]) for key in sorted(names, key=int))
    return repository.Output(name, len(ordered), ordered, task == "token-classification", source.weights_sha256)


def _head_names(model: ModelSpec) -> list[str]:
    """Of those with a file."""
    return [head.name for head in model.heads if head.file is not None]


def _head_digests(model: ModelSpec) -> list[str]:
    return [_digest(f"{model.name}: head", head.file) for head in model.heads if head.file is not None]


def _delta_digest(model: ModelSpec) -> str:
    return _digest(f"{model.name}: delta", model.delta) if model.delta is not None else ""


def _centre_digest(model: ModelSpec) -> str:
    return _digest(f"{model.name}: centre", model.centre) if model.centre is not None else ""


def _digest(what: str, path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ExportError(f"{what} {path}: {error.strerror}") from error


def _delta_name(digest: str) -> str:
    return f"delta {digest[:12]}…" if digest else "no delta"


def _copy(made: Path, target: Path) -> None:
    """By a hard link where that goes: graphs are large."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(made, partial)
    except OSError:
        shutil.copyfile(made, partial)
    partial.replace(target)
