"""Several routing tables in one file: what each of them is checked as, and whether entrypoints make sense."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from triton_router.config.document import Path
from triton_router.config.plain import CARDS, ENTRYPOINTS, MODELS, RECIPES, at, items, names
from triton_router.config.report import Report

DEFAULT = "default"
"""The name under which entrypoints mean `routing` itself."""


def views(data: Any) -> Iterator[tuple[Any, Callable[[Path], Path]]]:
    """The plain ``data`` once for each routing table, as if it had no other; and where a path of that view stands."""
    yield data, _here
    for path, recipe in items(data, RECIPES):
        routing = recipe.get("routing")
        own = routing if isinstance(routing, dict) else {}
        yield {**data, "routing": {**own, "modelCards": at(data, *CARDS)}}, partial(_below, path)


def _here(path: Path) -> Path:
    return path


def _below(recipe: Path, path: Path) -> Path:
    """All recipes share the model cards of `routing`."""
    return (*recipe, *path) if path[:1] == ("routing",) and path[:2] != CARDS else path


def check(data: Any, report: Report) -> None:
    """Report entrypoints that nobody can use, and recipes that nobody can ask for."""
    recipes = names(data, *RECIPES)
    for index, (path, recipe) in enumerate(items(data, RECIPES)):
        name = recipe.get("name")
        if name == DEFAULT:
            report.error((*path, "name"), f"`{DEFAULT}` is the name of `routing`; a recipe needs one of its own")
        elif name in recipes[:index]:
            report.error((*path, "name"), f"`{name}` is declared twice")
    targets = [entrypoint.get("recipe") for _, entrypoint in items(data, ENTRYPOINTS)]
    for path, recipe in items(data, RECIPES):
        if recipe.get("name") not in targets:
            report.warning(path, f"no entrypoint asks for the recipe `{recipe.get('name')}`; it is never used")
    _entrypoints(data, [*recipes, DEFAULT], report)


def _entrypoints(data: Any, recipes: list[str], report: Report) -> None:
    models = names(data, *MODELS)
    adapters = {name for _, card in items(data, CARDS) for name in names(card, "loras")}
    earlier: list[tuple[str, dict[str, Any]]] = []
    for path, entrypoint in items(data, ENTRYPOINTS):
        recipe, listed, headers = (entrypoint.get(key) for key in ("recipe", "model_names", "headers"))
        headers = headers if isinstance(headers, dict) else {}
        report.must_exist((*path, "recipe"), "recipe", recipe, recipes)
        for index, name in enumerate(map(str, listed) if isinstance(listed, list) else ()):
            where = (*path, "model_names", index)
            if name in models or name in adapters:
                report.error(where, f"`{name}` is the name of a model or adapter; an entrypoint needs one of its own")
            elif any(name == other and needed.items() <= headers.items() for other, needed in earlier):
                report.error(where, f"an earlier entrypoint takes all requests for `{name}`, so this one is never used")
            earlier.append((name, headers))
