"""The configuration reader. It reports every problem at once, with line, path and nearest valid name."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from triton_router.config import checks, flat
from triton_router.config.document import Document, Path, parse
from triton_router.config.kinds import BROKEN
from triton_router.config.report import ConfigError, Problem, Report, nearest
from triton_router.config.schema import Config
from triton_router.config.section import Section

Form = TypeVar("Form", bound=BaseModel)

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

    ``digest`` is the SHA-256 of the file's bytes; ``text`` and ``file`` are the source and its name.
    """

    config: Config
    warnings: list[Problem]
    digest: str
    text: str = ""
    file: str = "<string>"


def load(path: FilePath) -> Loaded:
    """Read ``path``.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("error", str(path), 1, "", f"cannot be read: {error}")]) from error
    return loads(text, file=str(path))


def loads(text: str, *, file: str = "<string>") -> Loaded:
    """Read configuration from ``text``; ``file`` is only used in messages.

    Raises:
        ConfigError: anything in it is wrong.
    """
    document = parse(text, os.environ)
    report = Report(file, document)
    for entry_point, reason in BROKEN.items():
        report.error((), f"the entry point {entry_point} of an installed package cannot be loaded: {reason}")
    if flat.is_flat(document.data):
        document = _converted(document, report)
    config = _validate(Config, document, report)
    # On the plain data, not on `config`: mistakes of shape must not hide mistakes of meaning.
    checks.check(document.data, report)
    for owner in OWNERS:
        importlib.import_module(owner).check(document.data, report)
    problems = report.problems
    if config is None or any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    return Loaded(config, problems, hashlib.sha256(text.encode()).hexdigest(), text, file)


def migrate(text: str, *, file: str = "<string>") -> str:
    """The canonical form of a flat configuration, as YAML; variables stay as they are written.

    Raises:
        ConfigError: anything in it is wrong, or it is canonical already.
    """
    document = parse(text)
    if isinstance(document.data, dict) and not document.flaws and not flat.is_flat(document.data):
        raise ConfigError([Problem("error", file, 1, "", "the file is already in the canonical form")])
    loads(text, file=file)
    body = flat.as_yaml(flat.convert(document.data).data, text)
    return f"# Made by `triton-router migrate` from {FilePath(file).name}.\n{body}"


def _converted(document: Document, report: Report) -> Document:
    """The canonical form of a flat ``document``. Afterwards ``report`` uses the user's own paths."""
    _validate(flat.FlatConfig, document, report)
    converted = flat.convert(document.data)
    for mistake in converted.problems:
        tell = report.warning if mistake.harmless else report.error
        tell(mistake.path, mistake.message, nearest(mistake.name, mistake.known))
    report.written = converted.written
    return Document(converted.data)


def _validate(model: type[Form], document: Document, report: Report) -> Form | None:
    if document.data is None:
        if not document.flaws:
            report.error((), "the file is empty")
        return None
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
        self._paths = {id(mapping): path for path, mapping in _mappings(document.data, ())}
        self._sections: dict[Path, type[Section]] = {}

    def read(self, section: type[Section], data: dict[str, Any]) -> None:
        path = self._paths.get(id(data), ())
        self._sections[path] = section
        for key in sorted(section.NOT_ACTIVE & data.keys()):
            instead = section.INSTEAD.get(key, "it has no effect")
            self._report.warning((*path, key), f"`{key}` is known but not active in this version; {instead}")
            del data[key]
        # `plugins:` with nothing below is `null` in YAML; it means the default.
        for key in [key for key, value in data.items() if value is None and key in _lists_and_sections(section)]:
            del data[key]

    def keys(self, path: Path) -> list[str]:
        """The keys that the section at ``path`` may have."""
        section = self._sections.get(path)
        return [*_fields(section), *section.NOT_ACTIVE] if section is not None else []


def _mappings(data: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(data, dict):
        yield path, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _mappings(value, (*path, key))


def _fields(section: type[Section]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _lists_and_sections(section: type[Section]) -> set[str]:
    return {key for key, field in _fields(section).items() if field.default_factory is not None or field.default == ()}


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
