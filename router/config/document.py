"""A YAML document with the line of every key, for error messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The styles of plain scalars in the library's two loaders.
_PLAIN = (None, "")
_MERGE_TAG = "tag:yaml.org,2002:merge"
_BOOL, _INT, _FLOAT, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp"))

# Far above what a configuration needs (500 models are about 200 KB), far below what holds a process up: the library's
# composer recurses in C, where a stack that overflows ends the process, and an alias costs nothing to write.
MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 500_000


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with the YAML itself: ``line`` counts from 1. ``unset``: a variable that has no value."""

    line: int
    path: Path
    message: str
    unset: bool = False


@dataclass(slots=True)
class Document:
    """Plain data, and the line of each part."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """Line (from 1) of ``path``, or of its nearest ancestor in the document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


# `$$`, `${NAME}`, `${NAME:-default}` (also where the variable is empty), `${NAME-default}`, `$NAME`.
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?:(:?-)([^}]*))?\}|([A-Za-z_]\w*))", re.ASCII)


def parse(text: str, environment: Mapping[str, str] | None = None) -> Document:
    """Read one YAML document. ``environment`` replaces variables in its values (``None``: no replacement).

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
    """The first limit that the document exceeds. Events, unlike nodes, need no recursion.

    Each alias counts the nodes that it repeats.
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
                    return Flaw(line, (), f"`*{event.anchor}` is recursive: it is inside the value that it refers to")
                nodes += sizes.get(event.anchor or "", 0)
            elif isinstance(event, yaml.CollectionStartEvent):
                collections.append((event.anchor, nodes))
            if len(collections) > MAX_DEPTH:
                return Flaw(line, (), f"nested deeper than {MAX_DEPTH} levels")
            if nodes > MAX_NODES:
                return Flaw(line, (), f"more than {MAX_NODES} values, including the repetitions by aliases")
    return None


class WrittenInt(int):
    """An integer that is another text than it would be printed as, such as `007`: a name where a text is meant."""

    text: str

    def __str__(self) -> str:
        return self.text


class WrittenFloat(float):
    """The same for a number such as `1.10`."""

    text: str

    def __str__(self) -> str:
        return self.text


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
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        """YAML 1.2 and Go read `on`, `no`, `12:30` and dates as texts; the library still reads YAML 1.1."""
        text = node.value
        if node.tag == _TIMESTAMP or (node.tag == _BOOL and text.lower() not in ("true", "false")):
            return text
        if node.tag not in (_INT, _FLOAT):
            return self._loader.construct_object(node)
        if ":" in text:
            return text
        number = self._loader.construct_object(node)
        if str(number) == text:
            return number
        written = WrittenInt(number) if isinstance(number, int) else WrittenFloat(number)
        written.text = text
        return written

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
                # Prices and expressions also contain dollars.
                return match[0]
            missing = f"environment variable `{name}` is not set; `${{{name}:-…}}` gives a default"
            self._document.flaws.append(Flaw(node.start_mark.line + 1, path, missing, unset=True))
            return ""

        expanded = _VARIABLE.sub(value, node.value)
        # An unquoted value may have become a number or a switch.
        tag = self._loader.resolve(yaml.ScalarNode, expanded, (True, False)) if node.style in _PLAIN else node.tag
        return yaml.ScalarNode(tag, expanded, node.start_mark, node.end_mark, node.style)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in self._entries(node):
            # A key such as `on` or `1` is a name here, regardless of YAML 1.1.
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
