"""The steps of an export, each done only when what it is made from has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from export import recipe, repository, source
from export.checksums import Steps, sha256

if TYPE_CHECKING:
    from export.encoder import Encoder, Vectors

# A change in one of these modules changes what the step makes.
_CODE = Path(__file__).parent


class ExportError(Exception):
    """A step cannot be done; the message says what to do."""


@dataclass(frozen=True)
class Places:
    repository: Path
    build: Path
    head: Path
    topics: Path


class Pipeline:
    def __init__(self, places: Places, spec: str, weights_sha256: str | None, precision: str) -> None:
        self.places = places
        self.precision = precision
        self._spec, self._expected = spec, weights_sha256
        self._steps = Steps(places.build / "steps.json")

    def progress(self, text: str) -> None:
        print(f"export: {text}", flush=True)

    @cached_property
    def source(self) -> source.Source:
        inputs = {"spec": self._spec, "expected": self._expected}
        started = perf_counter()
        if self._steps.fresh("source", inputs):
            directory, model_id, weights = self._steps.result("source")
            self.progress(f"source: {self._spec}, unchanged")
            return source.Source(Path(directory), model_id, weights)
        self.progress(f"source: getting {self._spec}")
        found = source.resolve(self._spec, self.places.build / "source", self._expected)
        files = [found.config, found.weights, found.tokenizer]
        result = [str(found.directory.resolve()), found.model_id, found.weights_sha256]
        self._steps.done("source", inputs, files, result)
        self.progress(f"source: weights {found.weights_sha256[:12]}…, {perf_counter() - started:.1f} s")
        return found

    def onnx(self) -> Path:
        """The fp32 graph with the trained head inside."""
        if not self.places.head.is_file():
            raise ExportError(f"no head at {self.places.head}; `python -m export train-head` makes one")
        target = self.places.build / "encoder.fp32.onnx"
        inputs = self._graph_inputs() | {"head": sha256(self.places.head)}
        return self._step("onnx", target, inputs, lambda: self._build(target, with_head=True))

    def quantized(self) -> Path:
        from export import precision

        plain = self.onnx()
        target = self.places.build / "encoder.int8.onnx"
        inputs = self._graph_inputs() | {"head": sha256(self.places.head)} | self._quantizer_inputs()
        return self._step("int8", target, inputs, lambda: precision.quantize(plain, target))

    def flavour(self, precision: str) -> Path:
        return self.quantized() if precision == "int8" else self.onnx()

    def served(self) -> Path:
        """The chosen flavour in the repository."""
        made = self.flavour(self.precision)
        target = self.places.repository / recipe.TRUNK / "1" / "model.onnx"
        status = made.stat()
        inputs = {"precision": self.precision, "made": [status.st_size, status.st_mtime_ns]}
        return self._step("served", target, inputs, lambda: _copy(made, target))

    @cached_property
    def tokenizer(self) -> str:
        return repository.served_tokenizer(self.source.tokenizer.read_text(encoding="utf-8"))

    def parts(self, *, with_head: bool = True) -> repository.Parts:
        heads: tuple[repository.HeadFile, ...] = ()
        if with_head:
            document = json.loads(self.places.head.read_text())
            digest = sha256(self.places.head)
            heads = (repository.HeadFile(document["name"], tuple(document["labels"]), digest),)
        topics = json.loads(self.places.topics.read_text()) if self.places.topics.is_file() else {}
        return repository.Parts(
            model_id=self.source.model_id,
            weights_sha256=self.source.weights_sha256,
            dimension=int(json.loads(self.source.config.read_text())["hidden_size"]),
            heads=heads,
            tokenizer=repository.Tokenizer.of(self.tokenizer),
            precision=self.precision,
            topics=topics,
        )

    def write_repository(self) -> None:
        parts = self.parts()
        repository.write(parts, self.tokenizer, self.places.repository)
        checksum = repository.manifest(parts)["checksum"]
        self.progress(f"repository: {self.places.repository}, bundle {checksum[:12]}…")

    def features(self, names: Sequence[str]) -> Callable[[Sequence[str]], Vectors]:
        """Texts to what a head with these features reads, computed by the flavour that is served."""
        from export import precision
        from export.encoder import Encoder
        from export.training import unit

        plain = self.places.build / "features.fp32.onnx"
        inputs = self._graph_inputs() | {"features": list(names)}
        model = self._step("features", plain, inputs, lambda: self._build(plain, expose=names))
        if self.precision == "int8":
            target = self.places.build / "features.int8.onnx"
            inputs |= self._quantizer_inputs()
            model = self._step("features-int8", target, inputs, lambda: precision.quantize(plain, target))
        encoder = Encoder(model, self.parts(with_head=False), self.tokenizer)

        def features(texts: Sequence[str]) -> Vectors:
            encoded = encoder.encode(texts)
            return unit([encoded[f"feature.{name}"] for name in names])

        return features

    def encoder(self, precision: str) -> Encoder:
        from export.encoder import Encoder

        return Encoder(self.flavour(precision), self.parts(), self.tokenizer)

    def _step(self, step: str, target: Path, inputs: dict[str, Any], make: Callable[[], None]) -> Path:
        if self._steps.fresh(step, inputs):
            self.progress(f"{step}: unchanged")
            return target
        started = perf_counter()
        target.parent.mkdir(parents=True, exist_ok=True)
        make()
        self._steps.done(step, inputs, [target])
        self.progress(f"{step}: {target.name}, {target.stat().st_size >> 20} MiB, {perf_counter() - started:.1f} s")
        return target

    def _build(self, target: Path, *, with_head: bool = False, expose: Sequence[str] = ()) -> None:
        import onnx
        from safetensors.numpy import load_file

        from export import graph, head

        heads = [head.load(self.places.head)] if with_head else []
        config = json.loads(self.source.config.read_text())
        onnx.save(graph.build(load_file(self.source.weights), config, heads, expose), target)

    def _graph_inputs(self) -> dict[str, Any]:
        config = hashlib.sha256(self.source.config.read_bytes()).hexdigest()
        return {
            "weights": self.source.weights_sha256,
            "config": config,
            "graph": sha256(_CODE / "graph.py"),
            "onnx": version("onnx"),
        }

    def _quantizer_inputs(self) -> dict[str, Any]:
        return {"precision": sha256(_CODE / "precision.py"), "onnxruntime": version("onnxruntime")}


def _copy(made: Path, target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.copyfile(made, partial)
    partial.replace(target)
