"""A configuration inside of something else: Helm's values, a custom resource, a ConfigMap, one of several documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from triton_router.config.document import Document, Flaw, Path, parse
from triton_router.config.plain import at, mappings

# Deep enough for the values of a Helm release that a custom resource holds.
_DEPTH = 6
_GLOBAL = frozenset({"router", "services", "stores", "integrations", "model_catalog", "inference"})


def read(text: str, environment: Mapping[str, str] | None = None) -> Document:
    """The configuration in ``text``, by the lines of ``text``; ``environment`` as for :func:`.document.parse`.

    Without one, the document as it is.
    """
    document = parse(text, environment)
    top = document.data
    if _is_canonical(top) or (is_flat(top) and not _is_canonical(top.get("config"))):
        return document
    kinds: list[str] = []
    for line, part in _documents(text):
        outer = parse(part)
        for inner in _inside(outer, part, environment):
            return _moved(inner, line)
        if isinstance(at(outer.data, "kind"), str) and "apiVersion" in outer.data:
            kinds.append(outer.data["kind"])
            for broken in _broken(outer):
                return _moved(broken, line)
    if kinds:
        return Document(flaws=[Flaw(1, (), f"there is no configuration in {', '.join(dict.fromkeys(kinds))}")])
    return document


def is_flat(data: Any) -> bool:
    """Whether ``data`` is written in the flat form."""
    if not isinstance(data, dict) or data.keys() & {"providers", "routing", "global"}:
        return False
    # Loaded here: few files are, and the form has many sections.
    from triton_router.config.flat_form import KEYS

    return bool(data.keys() & KEYS)


def _is_canonical(data: Any) -> bool:
    if not isinstance(data, dict):
        return False
    if any(isinstance(data.get(key), dict) for key in ("providers", "routing")) or "recipes" in data:
        return True
    # Charts have a `global` of their own.
    return bool(_GLOBAL & (data["global"].keys() if isinstance(data.get("global"), dict) else set()))


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """The documents of a file, each with the number of lines before it."""
    line = 0
    for part in re.split(r"(?m)^---.*\n", text):
        yield line, part
        line += part.count("\n") + 1


def _inside(outer: Document, text: str, environment: Mapping[str, str] | None) -> Iterator[Document]:
    """The configurations in ``outer``, whose source is ``text`` and whose variables are not replaced yet."""
    for path, mapping in sorted(mappings(outer.data), key=lambda each: len(each[0])):
        if len(path) > _DEPTH:
            return
        if _is_canonical(mapping) or (path[-1:] in ((), ("config",)) and is_flat(mapping)):
            yield _below(parse(text, environment), path)
        for key, value in mapping.items():
            if isinstance(value, str) and "\n" in value:
                # A block's text begins on the line after its key.
                for inner in _inside(parse(value), value, environment):
                    yield _moved(inner, outer.line_of((*path, key)))


def _broken(outer: Document) -> Iterator[Document]:
    """The YAML files in ``outer`` that are not valid YAML."""
    for path, mapping in mappings(outer.data):
        for key, value in mapping.items():
            if isinstance(value, str) and key.endswith((".yaml", ".yml")) and (inner := parse(value)).data is None:
                yield _moved(inner, outer.line_of((*path, key)))


def _below(document: Document, path: Path) -> Document:
    """What stands at ``path``, as a document of its own. Flaws of the rest are nobody's."""
    lines = {each[len(path) :]: line for each, line in document.lines.items() if each[: len(path)] == path}
    flaws = [replace(flaw, path=flaw.path[len(path) :]) for flaw in document.flaws if flaw.path[: len(path)] == path]
    return Document(at(document.data, *path), lines, flaws)


def _moved(document: Document, by: int) -> Document:
    """``document`` with all of its lines ``by`` lines further down."""
    lines = {path: line + by for path, line in document.lines.items()}
    return Document(document.data, lines, [replace(flaw, line=flaw.line + by) for flaw in document.flaws])
