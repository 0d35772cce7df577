"""A configuration file must not be able to take the process along, whatever stands in it."""

import pytest

from triton_router.config import ConfigError, loads
from triton_router.config.document import parse

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
