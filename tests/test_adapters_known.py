"""What `/v1/models` of a backend says about adapters."""

from __future__ import annotations

from typing import Any

import pytest

from triton_router.selection import LoadedAdapters
from triton_router.selection.adapters import listed_adapters

BASE = {"id": "base", "object": "model", "root": "/weights/base", "parent": None}


def entry(name: str, parent: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "root": f"/adapters/{name}", "parent": parent}


@pytest.mark.parametrize(
    ("entries", "adapters"),
    [
        ([BASE, entry("a", "base"), entry("b", "base")], {"a", "b"}),
        ([BASE, entry("a", "/weights/base")], {"a"}),
        ([BASE, entry("a", "other")], set()),
        ([BASE, entry("a", None)], set()),
        ([BASE, "odd", {"id": 3, "parent": "base"}, {}], set()),
    ],
)
def test_an_entry_with_the_right_parent_is_an_adapter(entries: list[Any], adapters: set[str]) -> None:
    assert listed_adapters({"object": "list", "data": entries}, ["base"]) == adapters


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"data": {}}, "text", {"data": []}, {"data": [entry("a", "base")]}, {"data": [{"id": "x"}]}],
)
def test_what_does_not_list_the_model_says_nothing(answer: Any) -> None:
    with pytest.raises(ValueError, match="list"):
        listed_adapters(answer, ["base"])


def test_only_a_base_that_has_answered_can_miss_an_adapter() -> None:
    loaded = LoadedAdapters({"base": frozenset({"a"})})
    assert [loaded.missing("base", "a"), loaded.missing("base", "b"), loaded.missing("silent", "b")] == [
        False, True, False,
    ]  # fmt: skip
    assert (loaded.base_of("a"), loaded.base_of("b")) == ("base", None)
