"""The configuration reference says what the schema says."""

from __future__ import annotations

from pathlib import Path

from triton_router.config import Config, loads
from triton_router.config.reference import EXAMPLE, markdown

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_tracked_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m triton_router.config.reference > docs/configuration.md"


def test_the_example_loads_without_a_warning() -> None:
    loaded = loads(EXAMPLE)
    assert loaded.warnings == []
    assert [decision.name for decision in loaded.config.routing.decisions] == ["think", "tax"]


def test_every_key_is_on_the_page() -> None:
    schema = Config.model_json_schema(by_alias=True)
    keys = {key for definition in [schema, *schema["$defs"].values()] for key in definition["properties"]}
    assert [key for key in sorted(keys) if f"| `{key}` |" not in markdown()] == []
