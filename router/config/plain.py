"""Access to a configuration's plain data before validation. Data of an unexpected shape is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triton_router.config.document import Path

MODELS = ("providers", "models")
CARDS = ("routing", "modelCards")
DECISIONS = ("routing", "decisions")
SIGNALS = ("routing", "signals")
RECIPES = ("recipes",)
ENTRYPOINTS = ("entrypoints",)

# Switches as YAML 1.1 has them too; the reader leaves such words as texts, since they may be names.
_WORDS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}


def switch(value: Any) -> Any:
    """``value`` as ``True`` or ``False`` where it is a word for one of them."""
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def at(data: Any, *path: str | int) -> Any:
    """The value at ``path``, or ``None``."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def items(data: Any, path: tuple[str, ...], *, below: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The mappings in the list at ``path``, each with its whole path."""
    listed = at(data, *path)
    for index, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, dict):
            yield (*below, *path, index), item


def names(data: Any, *path: str) -> list[str]:
    """The names of the mappings in the list at ``path``."""
    return [item["name"] for _, item in items(data, path) if isinstance(item.get("name"), str)]


def tables(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The routing tables of a file, `routing` first, each with its path."""
    if isinstance(routing := at(data, "routing"), dict):
        yield ("routing",), routing
    for path, recipe in items(data, RECIPES):
        if isinstance(routing := recipe.get("routing"), dict):
            yield (*path, "routing"), routing


def decisions(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The decisions of all routing tables, each with its path."""
    for path, routing in tables(data):
        yield from items(routing, ("decisions",), below=path)


def rules(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The leaves of all decisions' rules, each with its path."""

    for path, decision in items(data, DECISIONS):
        yield from leaves_of(decision.get("rules"), (*path, "rules"))


def leaves_of(rule: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The leaves of one rule tree that stands at ``path``, each with its path."""
    if isinstance(rule, dict):
        if isinstance(rule.get("type"), str):
            yield path, rule
        for where, condition in items(rule, ("conditions",), below=path):
            yield from leaves_of(condition, where)


def mappings(data: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All mappings in ``data``, itself too, each with its path."""
    if isinstance(data, dict):
        yield path, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from mappings(value, (*path, key))
