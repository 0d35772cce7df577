"""The configuration reader. It reports every problem at once, with line, path and nearest valid name."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path as FilePath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from triton_router.config import checks, early, foreign, limits, recipes, wrapped
from triton_router.config.converted import Converted
from triton_router.config.document import Document, Path, parse
from triton_router.config.kinds import BROKEN
from triton_router.config.plain import SIGNALS, at, items, mappings, switch
from triton_router.config.report import ConfigError, Coverage, Problem, Report, nearest
from triton_router.config.schema import Config
from triton_router.config.section import Section, word
from triton_router.config.signals import KeywordSignal

Form = TypeVar("Form", bound=BaseModel)

# Generated files write 0 for numbers that nobody has set.
_UNSET_BY_ZERO = frozenset(
    {"latency_percentile", "lookback_turns", "max_entries", "max_inflight", "max_n", "max_records", "max_tokens_limit",
     "max_tpot_ms", "max_ttft_ms", "ngram_arity", "slope", "temperature", "timeout_seconds", "top_m", "tpot_percentile",
     "ttft_percentile"}
)  # fmt: skip

# Modules with their own `check(data, report)`. By name, because they are in upper layers.
OWNERS = (
    "triton_router.signals.registry",
    "triton_router.plugins.registry",
    "triton_router.access",
    "triton_router.stack.checks",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    ``digest`` is the SHA-256 of the file's bytes; ``text`` and ``file`` are the source and its name. ``allow_inactive``
    are the protections that may do nothing besides those that the file names; ``coverage`` says how much of it acts, if
    not all does.
    """

    config: Config
    warnings: list[Problem]
    digest: str
    text: str = ""
    file: str = "<string>"
    allow_inactive: tuple[str, ...] = ()
    coverage: Coverage | None = None


def load(path: FilePath, *, allow_inactive: Collection[str] = ()) -> Loaded:
    """Read ``path``. Protections that ``allow_inactive`` names may do nothing.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong.
    """
    return loads(_text(path), file=str(path), allow_inactive=allow_inactive)


def loads(
    text: str,
    *,
    file: str = "<string>",
    environment: Mapping[str, str] = os.environ,
    allow_inactive: Collection[str] = (),
) -> Loaded:
    """Read configuration from ``text``, whose variables come from ``environment``; it may be wrapped (:mod:`.wrapped`).

    ``file`` is used in messages, and paths in the text are relative to it.

    Raises:
        ConfigError: anything in it is wrong.
    """
    document = wrapped.read(text, environment)
    report = Report(file, document, allow_inactive)
    for entry_point, reason in BROKEN.items():
        report.error((), f"the entry point {entry_point} of an installed package cannot be loaded: {reason}")
    document = _converted(document, FilePath(file).parent, report)
    config = _validate(Config, document, report)
    if document.data is None:
        raise ConfigError(report.problems)
    # On the plain data, not on `config`: mistakes of shape must not hide mistakes of meaning.
    recipes.check(document.data, report)
    limits.check(document.data, report)
    written = report.written
    for data, place in recipes.views(document.data):
        report.written = partial(_place, written, place)
        checks.check(data, report)
        for owner in OWNERS:
            importlib.import_module(owner).check(data, report)
    report.written = written
    problems = report.problems
    if config is None or any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems, report.coverage())
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Loaded(config, problems, digest, text, file, tuple(allow_inactive), report.coverage())


def _place(written: Callable[[Path], Path], place: Callable[[Path], Path], path: Path) -> Path:
    return written(place(path))


def read_form(path: FilePath, form: type[Form]) -> Form:
    """Read another file than a configuration by the same rules. Variables of the environment stay as they are written.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong.
    """
    document = parse(_text(path))
    report = Report(str(path), document)
    content = _validate(form, document, report)
    if content is None or document.flaws:
        raise ConfigError([problem for problem in report.problems if problem.severity == "error"])
    return content


def _text(path: FilePath) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("error", str(path), 1, "", f"cannot be read: {error}")]) from error


def migrate(text: str, *, file: str = "<string>", whole_words: bool = False) -> str:
    """The canonical form of a flat configuration, as YAML; variables stay as they are written.

    With ``whole_words`` its keywords match as whole words.

    Raises:
        ConfigError: anything in it is wrong, or it is canonical already.
    """
    from triton_router.config import flat

    document = parse(text)
    if isinstance(document.data, dict) and not document.flaws and not wrapped.is_flat(document.data):
        raise ConfigError([Problem("error", file, 1, "", "the file is already in the canonical form")])
    loads(text, file=file)
    data = flat.convert(document.data).data
    for _, signal in items(data, (*SIGNALS, KeywordSignal.LIST)) if whole_words else ():
        signal.setdefault("match", "word")
    body = flat.as_yaml(data, text)
    return f"# Made by `triton-router migrate` from {FilePath(file).name}.\n{body}"


def _converted(document: Document, directory: FilePath, report: Report) -> Document:
    """``document`` in the canonical form and this version's spelling. Then ``report`` uses the user's own paths."""
    if wrapped.is_flat(document.data):
        from triton_router.config import flat

        _validate(flat.FlatConfig, document, report)
        converted = flat.convert(document.data)
    else:
        converted = early.convert(document.data)
    _tell(converted, report)
    report.written = converted.written
    data = converted.data if isinstance(document.data, dict) else document.data
    allowed = at(data, "global", "router", "allow_inactive")
    report.allowed.update(name for name in (allowed if isinstance(allowed, list) else ()) if isinstance(name, str))
    adopted = foreign.adopt(data, directory, report)
    _tell(adopted, report)
    report.written = partial(_place, converted.written, adopted.written)
    return Document(data, flaws=document.flaws)


def _tell(converted: Converted, report: Report) -> None:
    for mistake in converted.problems:
        tell = report.warning if mistake.harmless else report.error
        tell(mistake.path, mistake.message, nearest(mistake.name, mistake.candidates))


def _validate(model: type[Form], document: Document, report: Report) -> Form | None:
    if document.data is None:
        if not document.flaws:
            report.error((), "the file is empty")
        return None
    if isinstance(document.data, dict):
        for key in [each for each in document.data if each.startswith("x-")]:
            # Where YAML's anchors are put.
            del document.data[key]
    if not isinstance(document.data, dict):
        report.error((), "the file must be a mapping with `providers`, `routing` and `global`")
        return None
    sections = _Sections(document, report)
    try:
        return model.model_validate(document.data, context=sections)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            _explain(error, sections, document, report)
        return None


class _Sections:
    """The :class:`.section.Reader` of one document: it knows each mapping's section and reports keys without effect."""

    def __init__(self, document: Document, report: Report) -> None:
        self._report = report
        # Validators see a mapping, not its path.
        self._paths = {id(mapping): path for path, mapping in mappings(document.data)}
        self._sections: dict[Path, type[Section]] = {}

    def read(self, section: type[Section], data: dict[str, Any]) -> None:
        path = self._paths.get(id(data), ())
        self._sections[path] = section
        for key in sorted(section.NOT_ACTIVE & data.keys()):
            message = f"`{key}` is known but not active in this version; {section.INSTEAD.get(key, 'it has no effect')}"
            protects = key in section.PROTECTIVE and _is_set(data[key])
            self._report.does_nothing((*path, key), key, message, protects=protects)
            self._report.forget_flaws((*path, key))
            del data[key]
        for key in _switches(section) & data.keys():
            data[key] = switch(data[key])
        for key in _texts(section) & data.keys():
            if isinstance(data[key], list):
                # `true` as the word that it is among words.
                data[key] = [word(each) for each in data[key]]
        for key in _UNSET_BY_ZERO & data.keys():
            if data[key] == 0 and _refuses(section, key, "0"):
                del data[key]
        # `plugins:` with nothing below is `null` in YAML, and generated files have `""` for what is not set.
        for key, value in list(data.items()):
            if value in (None, "", [], {}) and _refuses(section, key, repr(value)):
                del data[key]

    def keys(self, path: Path) -> list[str]:
        """The keys that the section at ``path`` may have."""
        section = self._sections.get(path)
        return [*_fields(section), *section.NOT_ACTIVE] if section is not None else []


def _fields(section: type[Section]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


@cache
def _switches(section: type[Section]) -> frozenset[str]:
    return frozenset(key for key, field in _fields(section).items() if field.annotation in (bool, bool | None))


@cache
def _texts(section: type[Section]) -> frozenset[str]:
    """The keys that take lists of texts."""
    kinds = {key: str(field.annotation) for key, field in _fields(section).items()}
    return frozenset(key for key, kind in kinds.items() if "str" in kind and "bool" not in kind)


@cache
def _refuses(section: type[Section], key: str, empty: str) -> bool:
    """Whether ``empty`` (`None`, `''`, `[]`, `{}` or `0`) is no value of ``key``, which has a default."""
    field = _fields(section).get(key)
    if field is None or field.is_required():
        return False
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        TypeAdapter(kind).validate_python({"None": None, "[]": [], "{}": {}, "0": 0}.get(empty, ""))
    except ValidationError:
        return True
    return False


def _is_set(value: Any) -> bool:
    """Whether anything is switched on by ``value``."""
    if isinstance(value, dict):
        return switch(value.get("enabled")) is not False and any(map(_is_set, value.values()))
    return bool(value)


def _explain(error: Any, sections: _Sections, document: Document, report: Report) -> None:
    path = _written(error["loc"], document)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        report.error(path, f"unknown key `{path[-1]}`", nearest(str(path[-1]), sections.keys(path[:-1])))
    elif kind == "missing":
        report.error(path, f"`{error['loc'][-1]}` is missing")
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
        if kind == "union_tag_invalid":
            path = (*path, "type")
        value = str(context.get("tag", error["input"]))
        report.error(path, f"`{value}` is not one of {', '.join(choices)}", nearest(value, choices))
    elif kind == "string_pattern_mismatch" and path[-1] == "endpoint":
        report.error(path, f"`{error['input']}` is not a `host:port`")
    elif kind == "string_pattern_mismatch" and path[-1] == "base_url":
        report.error(path, f"`{error['input']}` is not a URL such as https://host/v1, without a query")
    elif kind == "too_short" and isinstance(error["input"], list) and error["input"]:
        pass  # an entry that is wrong does not count, and is reported itself
    elif kind == "union_tag_not_found":
        report.error(path, "`type` is missing")
    else:
        report.error(path, str(error["msg"]).removeprefix("Value error, "))


def _written(location: tuple[str | int, ...], document: Document) -> Path:
    """The path as written, without pydantic's names for union members."""
    path: Path = ()
    data: Any = document.data
    for index, step in enumerate(location):
        if (isinstance(data, dict) and step in data) or isinstance(data, list):
            data = data[step]  # type: ignore[index]  # pydantic's steps into lists are integers
        elif index != len(location) - 1:
            continue
        path = (*path, step)
    return path
