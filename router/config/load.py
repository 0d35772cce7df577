"""Reading a configuration: every problem at once, each with its line, its path and the nearest valid name."""

from __future__ import annotations

import difflib
import hashlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from router.config.document import Document, Path, parse
from router.config.schema import Config, Decision, RouterSettings, Rule, Section, SemanticCachePlugin


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend (``error``) or to know (``warning``)."""

    severity: Literal["error", "warning"]
    file: str
    line: int
    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean `{self.suggestion}`?" if self.suggestion else ""
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {self.severity}: {where}{self.message}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every error and warning; ``str()`` is the whole report."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    ``digest`` is the SHA-256 of the file's bytes, ``warnings`` what its author should know.
    """

    config: Config
    warnings: list[Problem]
    digest: str


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
    document = parse(text)
    problems = [Problem("error", file, flaw.line, _dotted(flaw.path), flaw.message) for flaw in document.flaws]
    report = _Report(file, document, problems)
    config = _validate(document, report)
    # On the plain data, not on `config`: mistakes of shape must not hide mistakes of sense.
    for check in _CHECKS:
        check(document.data, report)
    problems.sort(key=lambda problem: (problem.line, problem.path))
    if config is None or any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    return Loaded(config, problems, hashlib.sha256(text.encode()).hexdigest())


class _Report:
    def __init__(self, file: str, document: Document, problems: list[Problem]) -> None:
        self._file, self._document, self._problems = file, document, problems

    def error(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("error", path, message, suggestion)

    def warning(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("warning", path, message, suggestion)

    def _add(self, severity: Literal["error", "warning"], path: Path, message: str, suggestion: str | None) -> None:
        line = self._document.line_of(path)
        self._problems.append(Problem(severity, self._file, line, _dotted(path), message, suggestion))


# --- shape ---------------------------------------------------------------------------------------------------------


def _validate(document: Document, report: _Report) -> Config | None:
    if document.data is None:
        if not document.flaws:
            report.error((), "the file is empty")
        return None
    if not isinstance(document.data, dict):
        report.error((), "the file must be a mapping with `providers`, `routing` and `global`")
        return None
    _announce_inactive(Config, document.data, (), report)
    _drop_empty_sections(Config, document.data)
    try:
        return Config.model_validate(document.data)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            _explain(error, document, report)
        return None


def _announce_inactive(model: type[BaseModel], data: Any, path: Path, report: _Report) -> None:
    """Take out the keys that are known and do nothing here, and say so."""
    for section, mapping, where in _sections(model, data, path):
        for key in sorted(section.NOT_ACTIVE & mapping.keys()):
            report.warning((*where, key), f"`{key}` is known but not active in this version; it has no effect")
            del mapping[key]


def _drop_empty_sections(model: type[BaseModel], data: Any) -> None:
    """`plugins:` with nothing below is `null` in YAML; it means the default."""
    for section, mapping, _ in _sections(model, data, ()):
        for key in [key for key, value in mapping.items() if value is None]:
            field = _fields(section).get(key)
            if field is not None and next(_models_in(field.annotation), None) is not None and not field.is_required():
                del mapping[key]


def _sections(model: type[BaseModel], data: Any, path: Path) -> Iterator[tuple[type[Section], dict[str, Any], Path]]:
    if not isinstance(data, dict) or not issubclass(model, Section):
        return
    yield model, data, path
    for name, field in _fields(model).items():
        if name in data:
            yield from _sections_below(field.annotation, data[name], (*path, name))


def _sections_below(annotation: Any, data: Any, path: Path) -> Iterator[tuple[type[Section], dict[str, Any], Path]]:
    if typing.get_origin(annotation) is dict and isinstance(data, dict):
        items: Iterable[tuple[str | int, Any]] = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    else:
        candidates = list(_models_in(annotation))
        chosen = _by_discriminator(candidates, data) or (candidates[0] if candidates else None)
        if chosen is not None:
            yield from _sections(chosen, data, path)
        return
    inner = typing.get_args(annotation)[-1 if typing.get_origin(annotation) is dict else 0 :] or (annotation,)
    for key, item in items:
        yield from _sections_below(inner[0], item, (*path, key))


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated or origin in (tuple, dict, types.UnionType, typing.Union):
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _by_discriminator(candidates: list[type[BaseModel]], data: Any) -> type[BaseModel] | None:
    if len(candidates) < 2 or not isinstance(data, dict):
        return None
    for candidate in candidates:
        if data.get("type") in typing.get_args(candidate.model_fields["type"].annotation):
            return candidate
    return None


def _explain(error: Any, document: Document, report: _Report) -> None:
    path = _written(error["loc"], document)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_at(path[:-1], document)
        report.error(path, f"unknown key `{path[-1]}`", _nearest(str(path[-1]), known))
    elif kind == "missing":
        report.error(path, f"`{error['loc'][-1]}` is missing")
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
        if kind == "union_tag_invalid":
            path = (*path, "type")
        given = str(context.get("tag", error["input"]))
        report.error(path, f"`{given}` is not one of {', '.join(choices)}", _nearest(given, choices))
    elif kind == "string_pattern_mismatch" and path[-1] == "endpoint":
        report.error(path, f"`{error['input']}` is not a `host:port`")
    elif kind == "union_tag_not_found":
        report.error(path, "`type` is missing")
    else:
        report.error(path, str(error["msg"]).removeprefix("Value error, "))


def _written(location: tuple[str | int, ...], document: Document) -> Path:
    """The path as written: pydantic also names the member of a union, which nobody wrote."""
    path: Path = ()
    data: Any = document.data
    for index, step in enumerate(location):
        if (isinstance(data, dict) and step in data) or isinstance(data, list):
            data = data[step]  # type: ignore[index]  # pydantic's steps into lists are integers
        elif index != len(location) - 1:
            continue
        path = (*path, step)
    return path


def _keys_at(path: Path, document: Document) -> list[str]:
    for section, _, where in _sections(Config, document.data, ()):
        if where == path:
            return [*_fields(section), *section.NOT_ACTIVE]
    return []


def _nearest(name: str, known: Iterable[str]) -> str | None:
    known = list(known)
    folded = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


# --- sense ---------------------------------------------------------------------------------------------------------


def _at(data: Any, *path: str | int) -> Any:
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _items(data: Any, path: tuple[str, ...], *, below: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The mappings in the list at ``path``, each with its whole path; whatever has another shape is passed over."""
    found = _at(data, *path)
    for index, item in enumerate(found if isinstance(found, list) else []):
        if isinstance(item, dict):
            yield (*below, *path, index), item


def _names(data: Any, *path: str) -> list[str]:
    return [item["name"] for _, item in _items(data, path) if isinstance(item.get("name"), str)]


_MODELS = ("providers", "models")
_CARDS = ("routing", "modelCards")
_DECISIONS = ("routing", "decisions")
_CACHE_PLUGINS = typing.get_args(SemanticCachePlugin.model_fields["type"].annotation)


def _adapters(data: Any) -> dict[str, list[str]]:
    return {str(card.get("name")): _names(card, "loras") for _, card in _items(data, _CARDS)}


def _unique_names(data: Any, report: _Report) -> None:
    for where in (_MODELS, _CARDS, _DECISIONS, ("routing", "signals", "domains"), ("routing", "signals", "keywords")):
        seen: set[str] = set()
        for path, item in _items(data, where):
            name = str(item.get("name"))
            if name in seen:
                report.error((*path, "name"), f"`{name}` is declared twice")
            seen.add(name)


def _models_exist(data: Any, report: _Report) -> None:
    models, adapters = _names(data, *_MODELS), _adapters(data)
    if not models:
        report.error(_MODELS, "at least one model is needed")
    where = ("providers", "defaults", "default_model")
    default = _at(data, *where)
    known = [*models, *(name for names in adapters.values() for name in names)]
    if isinstance(default, str) and default not in known:
        report.error(where, f"no model or adapter named `{default}`", _nearest(default, known))
    for path, card in _items(data, _CARDS):
        if isinstance(card.get("name"), str) and card["name"] not in models:
            message = f"no model named `{card['name']}` in providers.models"
            report.error((*path, "name"), message, _nearest(card["name"], models))


def _models_are_served(data: Any, report: _Report) -> None:
    virtual = _at(data, "global", "router", "auto_model_names") or RouterSettings().auto_model_names
    for path, model in _items(data, _MODELS):
        if not model.get("backend_refs"):
            report.error(path, f"model `{model.get('name')}` has no backend_refs")
        if model.get("name") in virtual:
            report.error((*path, "name"), f"`{model['name']}` is the name that asks the router to choose")


def _families_exist(data: Any, report: _Report) -> None:
    families = _at(data, "providers", "defaults", "reasoning_families")
    known = list(families) if isinstance(families, dict) else []
    for path, model in _items(data, _MODELS):
        family = model.get("reasoning_family")
        if isinstance(family, str) and family not in known:
            message = f"no reasoning family named `{family}`; reasoning is never switched"
            report.warning((*path, "reasoning_family"), message, _nearest(family, known))


def _references_exist(data: Any, report: _Report) -> None:
    models, adapters = _names(data, *_MODELS), _adapters(data)
    for path, decision in _items(data, _DECISIONS):
        for where, ref in _items(decision, ("modelRefs",), below=path):
            model, adapter = ref.get("model"), ref.get("lora_name")
            if isinstance(model, str) and model not in models:
                report.error((*where, "model"), f"no model named `{model}`", _nearest(model, models))
            elif isinstance(adapter, str) and adapter not in adapters.get(str(model), []):
                message = f"model `{model}` has no adapter named `{adapter}`"
                report.error((*where, "lora_name"), message, _nearest(adapter, adapters.get(str(model), [])))
        _rule_references_exist(data, decision.get("rules"), (*path, "rules"), report)


def _rule_references_exist(data: Any, rule: Any, path: Path, report: _Report) -> None:
    if not isinstance(rule, dict):
        return
    kind, name = rule.get("type"), rule.get("name")
    if kind in ("domain", "keyword") and isinstance(name, str):
        declared = _names(data, "routing", "signals", f"{kind}s")
        if name not in declared:
            message = f"no {kind} named `{name}` in routing.signals.{kind}s"
            report.error((*path, "name"), message, _nearest(name, declared))
    for where, condition in _items(rule, ("conditions",), below=path):
        _rule_references_exist(data, condition, where, report)


def _plugins_make_sense(data: Any, report: _Report) -> None:
    for path, decision in _items(data, _DECISIONS):
        seen: set[str] = set()
        for where, plugin in _items(decision, ("plugins",), below=path):
            kind = str(plugin.get("type"))
            if kind in seen:
                report.error((*where, "type"), f"plugin `{kind}` is there twice")
            seen.add(kind)
            if kind in _CACHE_PLUGINS:
                report.warning((*where, "type"), f"`{kind}` is accepted but not active yet: nothing is cached")


def _signals_are_used(data: Any, report: _Report) -> None:
    used: set[tuple[Any, Any]] = set()

    def collect(rule: Any) -> None:
        if isinstance(rule, dict):
            used.add((rule.get("type"), str(rule.get("name"))))
            for _, condition in _items(rule, ("conditions",)):
                collect(condition)

    for _, decision in _items(data, _DECISIONS):
        collect(decision.get("rules"))
    for path, signal in _items(data, ("routing", "signals", "keywords")):
        if ("keyword", str(signal.get("name"))) not in used:
            report.warning(path, f"no decision uses the keyword signal `{signal.get('name')}`; it is not evaluated")


def _api_is_guarded(data: Any, report: _Report) -> None:
    api = _at(data, "global", "services", "api")
    if not isinstance(api, dict) or api.get("token_env") is not None:
        return
    if api.get("host", "127.0.0.1") not in ("127.0.0.1", "::1", "localhost"):
        path = ("global", "services", "api", "host")
        report.error(path, "beyond loopback the REST service needs `token_env`")


_CHECKS: tuple[Callable[[Any, _Report], None], ...] = (
    _unique_names,
    _models_exist,
    _models_are_served,
    _families_exist,
    _references_exist,
    _plugins_make_sense,
    _signals_are_used,
    _api_is_guarded,
)


def leaves(decision: Decision) -> Iterator[Rule]:
    """The leaves of a decision's rule tree, left to right."""

    def walk(rule: Rule) -> Iterator[Rule]:
        if rule.operator is None:
            yield rule
        for condition in rule.conditions:
            yield from walk(condition)

    if decision.rules is not None:
        yield from walk(decision.rules)
