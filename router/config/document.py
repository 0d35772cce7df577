"""A YAML document with the line of every key, so that a problem can be shown where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# As the two loaders of the library call it.
_PLAIN = (None, "")
_MERGE_TAG = "tag:yaml.org,2002:merge"

# Far above what a configuration needs (500 models are about 200 KB), far below what holds a process up: the library's
# composer recurses in C, where a stack that overflows ends the process, and an alias costs nothing to write.
MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 500_000


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with the YAML itself: ``line`` counts from 1."""

    line: int
    path: Path
    message: str


@dataclass(slots=True)
class Document:
    """Plain data, and where each part of it stands."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """Line (from 1) of ``path``, or of the nearest ancestor that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


# `$$`, `${NAME}`, `${NAME:-default}` (also where the variable is empty), `${NAME-default}`, `$NAME`.
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?:(:?-)([^}]*))?\}|([A-Za-z_]\w*))", re.ASCII)


def parse(text: str, environment: Mapping[str, str] | None = None) -> Document:
    """Read one YAML document, with ``environment`` in the place of variables in its values (``None``: as written).

    Syntax errors, repeated keys, variables that are not set and documents beyond this module's limits are returned as
    flaws, never raised.
    """
    document = Document()
    if len(text) > MAX_BYTES:
        document.flaws.append(Flaw(1, (), f"longer than {MAX_BYTES} characters"))
        return document
    loader = Loader(text)
    try:
        if (excess := _excess(text)) is not None:
            document.flaws.append(excess)
            return document
        node = loader.get_single_node()
        if node is not None:
            document.data = _Builder(loader, document, environment).build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        document.flaws.append(Flaw(line, (), f"not valid YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        document.flaws.append(Flaw(1, (), f"not valid YAML: {error}"))
    finally:
        loader.dispose()
    return document


def _excess(text: str) -> Flaw | None:
    """Where the document goes beyond a limit. Events come one by one and without recursion, unlike nodes.

    A node counts as often as aliases repeat it.
    """
    sizes: dict[str, int] = {}
    collections: list[tuple[str | None, int]] = []  # anchor, nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = collections.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, _ in collections):
                    return Flaw(line, (), f"`*{event.anchor}` is recursive: it stands inside what it refers to")
                nodes += sizes.get(event.anchor or "", 0)
            elif isinstance(event, yaml.CollectionStartEvent):
                collections.append((event.anchor, nodes))
            if len(collections) > MAX_DEPTH:
                return Flaw(line, (), f"nested deeper than {MAX_DEPTH} levels")
            if nodes > MAX_NODES:
                return Flaw(line, (), f"more than {MAX_NODES} values, each counted as often as an alias repeats it")
    return None


class _Builder:
    def __init__(self, loader: Any, document: Document, environment: Mapping[str, str] | None) -> None:
        self._loader = loader
        self._document = document
        self._environment = environment

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        if self._environment is not None and isinstance(node, yaml.ScalarNode) and "$" in node.value:
            node = self._expanded(node, path, self._environment)
        return self._loader.construct_object(node)

    def _expanded(self, node: yaml.ScalarNode, path: Path, environment: Mapping[str, str]) -> yaml.ScalarNode:
        def value(match: re.Match[str]) -> str:
            dollar, name, dash, default, bare = match.groups()
            if dollar:
                return "$"
            variable = environment.get(name or bare)
            if variable or (variable is not None and dash != ":-"):
                return variable
            if dash:
                return str(default)
            if bare:
                # Prices and expressions hold dollars too.
                return match[0]
            missing = f"environment variable `{name}` is not set; `${{{name}:-…}}` gives a default"
            self._document.flaws.append(Flaw(node.start_mark.line + 1, path, missing))
            return ""

        expanded = _VARIABLE.sub(value, node.value)
        # What was written without quotes may have become a number or a switch.
        tag = self._loader.resolve(yaml.ScalarNode, expanded, (True, False)) if node.style in _PLAIN else node.tag
        return yaml.ScalarNode(tag, expanded, node.start_mark, node.end_mark, node.style)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in self._entries(node):
            # A key such as `on` or `1` is a name here, whatever YAML 1.1 makes of it.
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key)
            line = key.start_mark.line + 1
            below = (*path, name)
            if name in mapping:
                first = self._document.lines[below]
                self._document.flaws.append(Flaw(line, below, f"`{name}` is written twice, first on line {first}"))
                continue
            self._document.lines[below] = line
            mapping[name] = self.build(value, below)
        return mapping

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        merged = [key for key, _ in node.value if key.tag == _MERGE_TAG]
        if merged:
            self._loader.flatten_mapping(node)
            own = {key.value: pair for pair in node.value for key in pair[:1]}
            yield from own.values()
            return
        yield from node.value
