"""A configuration file must not be able to take the process along, whatever stands in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from triton_router.cli import main
from triton_router.config import ConfigError, load, loads
from triton_router.config.document import parse
from triton_router.reload import Reloader
from triton_router.telemetry import Metrics

GOOD = """
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]}
global: {router: {reload: {interval_seconds: 0.02}}}
"""

LISTS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = (
    "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(10))
    + "}\n"
    + "".join(
        f"{name}: &{name} {{<<: [{', '.join([f'*{below}'] * 10)}], {name}: 1}}\n"
        for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
)

HOSTILE = {
    "nested lists": ("x: " + "[" * 30_000, "nested deeper"),
    "nested mappings": ("x: " + "{a: " * 30_000, "nested deeper"),
    "nested blocks": ("- " * 30_000, "nested deeper"),
    "aliases of aliases": (LISTS, "more than"),
    "merges of merges": (MERGES, "more than"),
    "an alias of itself": ("x: &x [*x]", "is recursive"),
    "a merge of itself": ("x: &x {<<: *x}", "is recursive"),
    "too long": ("x: " + "a" * 9_000_000, "longer than"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_is_an_error_with_a_line(case: str) -> None:
    text, message = HOSTILE[case]
    with pytest.raises(ConfigError) as raised:
        loads(text)
    assert any(message in problem.message for problem in raised.value.problems)


def test_aliases_of_ordinary_use_are_fine() -> None:
    document = parse("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, z: *a}\nc: [*a, *a]")
    assert document.flaws == []
    assert document.data["b"] == {"x": 1, "y": [1, 2], "z": {"x": 1, "y": [1, 2]}}


@pytest.mark.parametrize("case", HOSTILE)
def test_check_says_so_and_ends_in_order(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(HOSTILE[case][0])
    assert main(["check", "--config", str(path)]) == 1
    assert HOSTILE[case][1] in capsys.readouterr().err


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_running_router_goes_on_with_the_last_generation_and_takes_the_next(case: str, tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(GOOD)
    first = load(path)
    reloader = Reloader(path, first, list, Metrics(), None)
    running = asyncio.create_task(reloader.run())
    try:
        path.write_text(HOSTILE[case][0])
        async with asyncio.timeout(60):
            while not reloader.rejected:
                await asyncio.sleep(0.01)
            assert reloader.current is first
            path.write_text(GOOD + "# mended\n")
            while reloader.rejected:
                await asyncio.sleep(0.01)
        assert reloader.current is not first
    finally:
        running.cancel()
