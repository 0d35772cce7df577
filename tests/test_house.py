"""The structure of the package: which module may import which, how large classes are, what importing one loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "router"
FILES = sorted(PACKAGE.rglob("*.py"))
# These import nothing of the package that is not on the list of layers, or are imported by a host's own name.
APART = {"__init__", "integrations"}
METHODS, ATTRIBUTES = 15, 12


def layers() -> dict[str, int]:
    """The height of each module or sub-package, as docs/architecture.md lists them; 0 is the lowest."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = re.search(r"Modules import downwards only:\n\n```text\n(.*?)```", text, re.DOTALL)
    assert block is not None
    lines = block[1].strip().splitlines()[::-1]
    return {name.strip(): height for height, line in enumerate(lines) for name in line.split("·")}


def part(module: str) -> str:
    """The module or sub-package directly below the package that ``module`` belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every module of the package that ``path`` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("triton_router."))
        elif isinstance(node, ast.ImportFrom) and node.module == "triton_router":
            yield from ((node.lineno, f"triton_router.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("triton_router."):
            yield node.lineno, str(node.module)


def module_of(path: Path) -> str:
    return ".".join(("triton_router", *path.relative_to(PACKAGE).with_suffix("").parts))


def test_the_list_of_layers_names_every_module() -> None:
    parts = {part(module_of(path)) for path in FILES} - APART
    assert parts == set(layers())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_downwards_only(path: Path) -> None:
    heights, own = layers(), part(module_of(path))
    if own in APART:
        assert not [name for _, name in imports(path)]
        return
    upward = [
        f"{path.name}:{line} {name}"
        for line, name in imports(path)
        if part(name) != own and part(name) in heights and heights[part(name)] > heights[own]
    ]
    assert upward == []


def test_modules_of_one_layer_do_not_import_each_other() -> None:
    heights = layers()
    across = [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in FILES
        for line, name in imports(path)
        if (own := part(module_of(path))) in heights and part(name) != own and heights.get(part(name)) == heights[own]
    ]
    assert across == []


def test_the_machine_for_envoy_loads_little() -> None:
    script = "import sys; before = set(sys.modules); import triton_router.extproc.phases\n"
    script += "print(*sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert len(loaded) <= 60, loaded
    heavy = {"numpy", "grpc", "tritonclient", "pydantic", "mcp"}
    assert not heavy & {name.partition(".")[0] for name in loaded}
    assert "triton_router.config" not in loaded


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node


def attributes(node: ast.ClassDef) -> set[str]:
    """Names that a class or its methods assign to: fields of a dataclass, members of ``self``."""
    fields = {
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    members = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }
    return fields | members


def is_schema(node: ast.ClassDef) -> bool:
    """Sections of the configuration and bodies of REST have a field for each key."""
    return any(
        isinstance(base, ast.Name) and base.id in ("Section", "BaseModel", "_Part", "_Body") for base in node.bases
    )


def test_no_class_is_large_without_saying_why() -> None:
    large = []
    for where, node in classes():
        methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
        count = 0 if is_schema(node) else len(attributes(node))
        docstring = ast.get_docstring(node) or ""
        if (methods > METHODS and "methods" not in docstring) or (count > ATTRIBUTES and "attributes" not in docstring):
            large.append(f"{where}: {methods} methods, {count} attributes")
    assert large == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_wait_swallows_a_cancellation(path: Path) -> None:
    """``asyncio.wait_for`` does, before Python 3.12, if what it waits for ends in the same moment."""
    assert "asyncio.wait_for(" not in path.read_text()
