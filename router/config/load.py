"""Reading a configuration: every problem at once, each with its line, its path and the nearest valid name."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from triton_router.config import expressions, flat
from triton_router.config.document import Document, Path, parse
from triton_router.config.schema import Config, Decision, Rule, SemanticCachePlugin
from triton_router.config.section import Section
from triton_router.config.services import Identity, RouterSettings
from triton_router.config.signals import INACTIVE_TYPES, SIGNAL_LISTS
from triton_router.names import INTERNAL_HEADERS, INTERNAL_PREFIX, REQUEST_ID

Form = TypeVar("Form", bound=BaseModel)


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

    ``digest`` is the SHA-256 of the file's bytes, ``warnings`` what its author should know; ``text`` and ``file`` are
    what was read, as it was written.
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
    problems = [Problem("error", file, flaw.line, _dotted(flaw.path), flaw.message) for flaw in document.flaws]
    report = _Report(file, document, problems)
    if flat.is_flat(document.data):
        document = _converted(document, report)
    config = _validate(Config, document, report)
    # On the plain data, not on `config`: mistakes of shape must not hide mistakes of sense.
    for check in _CHECKS:
        check(document.data, report)
    # What the flat form says once may stand in several places of the canonical one.
    problems = sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message))
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
        raise ConfigError([Problem("error", file, 1, "", "the file is in the canonical form already")])
    loads(text, file=file)
    body = flat.as_yaml(flat.convert(document.data).data, text)
    return f"# Made by `triton-router migrate` from {FilePath(file).name}.\n{body}"


def _converted(document: Document, report: _Report) -> Document:
    """The canonical form of a flat ``document``; from here on ``report`` names what the user wrote."""
    _validate(flat.FlatConfig, document, report)
    converted = flat.convert(document.data)
    for mistake in converted.problems:
        tell = report.warning if mistake.harmless else report.error
        tell(mistake.path, mistake.message, _nearest(mistake.name, mistake.known))
    report.written = converted.written
    return Document(converted.data)


class _Report:
    def __init__(self, file: str, document: Document, problems: list[Problem]) -> None:
        self._file, self._document, self._problems = file, document, problems
        self.written: Callable[[Path], Path] = lambda path: path

    def error(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("error", path, message, suggestion)

    def warning(self, path: Path, message: str, suggestion: str | None = None) -> None:
        self._add("warning", path, message, suggestion)

    def _add(self, severity: Literal["error", "warning"], path: Path, message: str, suggestion: str | None) -> None:
        path = self.written(path)
        line = self._document.line_of(path)
        self._problems.append(Problem(severity, self._file, line, _dotted(path), message, suggestion))


# --- shape ---------------------------------------------------------------------------------------------------------


def _validate(model: type[Form], document: Document, report: _Report) -> Form | None:
    if document.data is None:
        if not document.flaws:
            report.error((), "the file is empty")
        return None
    if not isinstance(document.data, dict):
        report.error((), "the file must be a mapping with `providers`, `routing` and `global`")
        return None
    _announce_inactive(model, document.data, (), report)
    _drop_empty_sections(model, document.data)
    try:
        return model.model_validate(document.data)
    except ValidationError as failure:
        for error in failure.errors(include_url=False):
            _explain(model, error, document, report)
        return None


def _announce_inactive(model: type[BaseModel], data: Any, path: Path, report: _Report) -> None:
    """Take out the keys that are known and do nothing here, and say so."""
    for section, mapping, where in _sections(model, data, path):
        for key in sorted(section.NOT_ACTIVE & mapping.keys()):
            instead = section.INSTEAD.get(key, "it has no effect")
            report.warning((*where, key), f"`{key}` is known but not active in this version; {instead}")
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
    annotation = _without_none(annotation)
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


def _without_none(annotation: Any) -> Any:
    """``X`` for ``X | None``."""
    if typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation
    others = [argument for argument in typing.get_args(annotation) if argument is not types.NoneType]
    return others[0] if len(others) == 1 else annotation


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


def _explain(model: type[BaseModel], error: Any, document: Document, report: _Report) -> None:
    path = _written(error["loc"], document)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1], document)
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


def _keys_at(model: type[BaseModel], path: Path, document: Document) -> list[str]:
    for section, _, where in _sections(model, document.data, ()):
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
    lists = (("routing", "signals", key) for key in SIGNAL_LISTS.values())
    for where in (_MODELS, _CARDS, _DECISIONS, *lists):
        seen: set[str] = set()
        for path, item in _items(data, where):
            name = str(item.get("name"))
            if name in seen:
                report.error((*path, "name"), f"`{name}` is declared twice")
            seen.add(name)


def _adapters_are_told_apart(data: Any, report: _Report) -> None:
    models, owners = _names(data, *_MODELS), dict[str, Any]()
    for path, card in _items(data, _CARDS):
        for where, lora in _items(card, ("loras",), below=path):
            name, owner = lora.get("name"), card.get("name")
            if name in models:
                report.error((*where, "name"), f"`{name}` is the name of a model; an adapter needs one of its own")
            elif isinstance(name, str) and owners.setdefault(name, owner) != owner:
                message = f"`{owners[name]}` declares `{name}` too; clients who name it get that one, modelRefs say"
                report.warning((*where, "name"), f"{message} which they mean")


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
    named = _at(data, "global", "router", "auto_model_names") or RouterSettings().auto_model_names
    virtual = [*(named if isinstance(named, list | tuple) else ()), _at(data, "global", "router", "auto_model_name")]
    for path, model in _items(data, _MODELS):
        if not model.get("backend_refs"):
            report.error(path, f"model `{model.get('name')}` has no backend_refs")
        if model.get("name") is not None and model["name"] in virtual:
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
    kind, name = str(rule.get("type")), rule.get("name")
    if kind in INACTIVE_TYPES:
        message = f"signals of type `{kind}` are not active in this version: what hangs on one never matches"
        report.warning((*path, "type"), message)
    elif kind in SIGNAL_LISTS and isinstance(name, str):
        declared = _names_for_rules(data, kind)
        if name not in declared:
            message = f"no {kind} named `{name}` in routing.signals.{SIGNAL_LISTS[kind]}"
            report.error((*path, "name"), message, _nearest(name, declared))
    for where, condition in _items(rule, ("conditions",), below=path):
        _rule_references_exist(data, condition, where, report)


def _names_for_rules(data: Any, kind: str) -> list[str]:
    """What a rule may call the signals of a type."""
    names = _names(data, "routing", "signals", SIGNAL_LISTS[kind])
    if kind == "complexity":
        return [f"{name}:{level}" for name in names for level in ("hard", "medium", "easy")]
    if kind == "authz":
        bindings = _items(data, ("routing", "signals", "role_bindings"))
        return [*names, *(str(binding["role"]) for _, binding in bindings if "role" in binding)]
    return names


def _plugins_make_sense(data: Any, report: _Report) -> None:
    for path, decision in _items(data, _DECISIONS):
        seen: set[str] = set()
        for where, plugin in _items(decision, ("plugins",), below=path):
            written = str(plugin.get("type"))
            kind = _CACHE_PLUGINS[0] if written in _CACHE_PLUGINS else written
            if kind in seen:
                report.error((*where, "type"), f"plugin `{written}` is there twice")
            seen.add(kind)
            if kind in _CACHE_PLUGINS and _at(data, "global", "stores", "semantic_cache", "enabled") is False:
                report.warning((*where, "type"), "global.stores.semantic_cache is switched off: nothing is cached")
            if kind == "header_mutation":
                _headers_are_free(plugin, where, report)


def _headers_are_free(plugin: Any, path: Path, report: _Report) -> None:
    settings = (*path, "configuration")
    for key in ("add", "update"):
        for where, header in _items(plugin, ("configuration", key), below=path):
            _header_is_free(header.get("name"), (*where, "name"), report)
    deleted = _at(plugin, "configuration", "delete")
    for index, name in enumerate(deleted if isinstance(deleted, list) else []):
        _header_is_free(name, (*settings, "delete", index), report)


def _header_is_free(name: Any, path: Path, report: _Report) -> None:
    lowered = str(name).lower()
    if lowered in _RESERVED_HEADERS or lowered.startswith((INTERNAL_PREFIX, "x-envoy-", ":")):
        report.error(path, f"`{name}` belongs to the gateway; a plugin cannot change it")


_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", REQUEST_ID, *INTERNAL_HEADERS}
)  # fmt: skip


def _rules_of(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The leaves of all decisions' rules, each with its path."""

    def walk(rule: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        if isinstance(rule, dict):
            if isinstance(rule.get("type"), str):
                yield path, rule
            for where, condition in _items(rule, ("conditions",), below=path):
                yield from walk(condition, where)

    for path, decision in _items(data, _DECISIONS):
        yield from walk(decision.get("rules"), (*path, "rules"))


def _signals_are_used(data: Any, report: _Report) -> None:
    used = {(rule.get("type"), str(rule.get("name"))) for _, rule in _rules_of(data)}
    for kind, key in SIGNAL_LISTS.items():
        if kind in ("domain", "mcp"):  # these compete: one that no rule names still has a say
            continue
        for path, signal in _items(data, ("routing", "signals", key)):
            name = str(signal.get("name"))
            names = {name, str(signal.get("role"))} if kind == "authz" else {name}
            names = {f"{name}:{level}" for level in ("hard", "medium", "easy")} if kind == "complexity" else names
            if not any((kind, each) in used for each in names):
                report.warning(path, f"no decision uses the {kind} signal `{name}`; it is not evaluated")


_MODULES = ("global", "model_catalog", "modules", "classifier")


def _mcp_is_there(data: Any, report: _Report) -> None:
    settings = _at(data, *_MODULES, "mcp")
    asked = [path for path, rule in _rules_of(data) if rule.get("type") == "mcp"]
    if asked and not isinstance(settings, dict):
        report.error(asked[0], f"rules of type `mcp` need a server: {'.'.join(_MODULES)}.mcp")
    elif asked and settings.get("enabled") is False:
        report.warning(asked[0], "the MCP server is switched off: what hangs on it never matches")
    url = settings.get("url") if isinstance(settings, dict) else None
    if isinstance(url, str) and "@" in url.partition("//")[2].partition("/")[0]:
        report.error((*_MODULES, "mcp", "url"), "credentials belong into `http_headers`, where they are never shown")


def _hints_exist(data: Any, report: _Report) -> None:
    models = _names(data, *_MODELS)
    for path, decision in _items(data, _DECISIONS):
        named = _at(decision, "hints", "models")
        for index, name in enumerate(named if isinstance(named, list) else []):
            if name not in models:
                where = (*path, "hints", "models", index)
                report.error(where, f"no model named `{name}`", _nearest(str(name), models))


def _fallback_exists(data: Any, report: _Report) -> None:
    fallback, declared = (
        _at(data, *_MODULES, "domain", "fallback_category"),
        _names(data, "routing", "signals", "domains"),
    )
    if isinstance(fallback, str) and fallback not in declared:
        where = (*_MODULES, "domain", "fallback_category")
        report.error(where, f"no domain named `{fallback}`", _nearest(fallback, declared))


def _expressions_compile(data: Any, report: _Report) -> None:
    for path, signal in _items(data, ("routing", "signals", "keywords")):
        words = signal.get("keywords")
        if "regex" in (signal.get("match"), signal.get("method")) and isinstance(words, list):
            for index, word in enumerate(words):
                _compiles(word, (*path, "keywords", index), report)
    for path, signal in _items(data, ("routing", "signals", "structure")):
        _compiles(_at(signal, "feature", "source", "pattern"), (*path, "feature", "source", "pattern"), report)


def _compiles(expression: Any, path: Path, report: _Report) -> None:
    if isinstance(expression, str) and (why := expressions.refused(expression)):
        report.error(path, f"not an RE2 expression: {why}")


def _identity_is_believed(data: Any, report: _Report) -> None:
    authz = _at(data, "global", "services", "authz") or {}
    identity = _at(authz, "identity") or {}
    if not isinstance(identity, dict) or identity.get("set_by", "nobody") != "nobody":
        return
    asked = [path for path, rule in _rules_of(data) if rule.get("type") == "authz"]
    if asked and _at(authz, "fail_open") is not True:
        message = "nobody is said to set the identity headers, so every request would be refused"
        report.error(asked[0], f"{message}; see global.services.authz.identity.set_by")
    passed = _at(data, *_MODULES, "mcp", "forward_headers")
    claims = {
        str(identity.get(key, field.default)).lower() for key, field in Identity.model_fields.items() if key != "set_by"
    }
    for index, name in enumerate(passed if isinstance(passed, list) else []):
        if str(name).lower() in claims:
            message = f"`{name}` says who is calling, and nobody is said to set it: it is not passed on"
            report.warning(
                (*_MODULES, "mcp", "forward_headers", index), f"{message}; see global.services.authz.identity.set_by"
            )


def _api_is_guarded(data: Any, report: _Report) -> None:
    api = _at(data, "global", "services", "api")
    if not isinstance(api, dict) or api.get("token_env") is not None:
        return
    if api.get("host", "127.0.0.1") not in ("127.0.0.1", "::1", "localhost"):
        path = ("global", "services", "api", "host")
        report.error(path, "beyond loopback the REST service needs `token_env`")


def _answers_are_seen(data: Any, report: _Report) -> None:
    envoy = ("global", "services", "envoy")
    given = _at(data, *envoy)
    if not isinstance(given, dict) or given.get("request_body_mode") != "FULL_DUPLEX_STREAMED":
        return
    if given.get("response_body_mode", "NONE") == "NONE":
        message = "beside FULL_DUPLEX_STREAMED requests Envoy shows no answer with NONE, whoever asks for it: "
        message += "nothing is cached and no tokens are counted; STREAMED shows them"
        report.warning((*envoy, "request_body_mode"), message)


_TRACING = ("global", "services", "observability", "tracing")
_OTLP = ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry.exporter.otlp.proto.http")


def _tracing_can_run(data: Any, report: _Report) -> None:
    if _at(data, *_TRACING, "enabled") is not True:
        return
    if not all(map(_installed, ("opentelemetry.sdk.trace", *_OTLP))):
        message = 'tracing needs: pip install "triton-router[tracing]"'
        report.error((*_TRACING, "enabled"), message)
    sampled, rate = _at(data, *_TRACING, "sampling", "type") or "always_on", _at(data, *_TRACING, "sampling", "rate")
    if rate not in (None, 1) and str(sampled).endswith(("always_on", "always_off")):
        report.warning((*_TRACING, "sampling", "rate"), f"`{sampled}` knows no rate; `traceidratio` does")


def _installed(module: str) -> bool:
    """Whether ``module`` could be imported, without doing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_CHECKS: tuple[Callable[[Any, _Report], None], ...] = (
    _unique_names,
    _adapters_are_told_apart,
    _models_exist,
    _models_are_served,
    _families_exist,
    _references_exist,
    _plugins_make_sense,
    _signals_are_used,
    _mcp_is_there,
    _hints_exist,
    _fallback_exists,
    _expressions_compile,
    _identity_is_believed,
    _api_is_guarded,
    _answers_are_seen,
    _tracing_can_run,
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
