"""The configurations that documentation shows: every key and every choice in them exists."""

import re
from pathlib import Path

import pytest
import yaml

from triton_router.config import ConfigError, load

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
KEY = re.compile(r"^(\w+):", re.MULTILINE)
SECTIONS = {"version", "providers", "routing", "recipes", "entrypoints", "global"}
# These need packages that the page itself has the reader write; a test of other packages runs them.
OTHER_PACKAGES = {"writing-one.md"}


def examples() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = [(page.name, text) for page in pages for text in EXAMPLE.findall(page.read_text("utf-8"))]
    return [
        (name, text)
        for name, text in shown
        if name not in OTHER_PACKAGES and (keys := set(KEY.findall(text))) and keys <= SECTIONS
    ]


@pytest.mark.parametrize(("page", "text"), examples())
def test_an_example_has_no_unknown_key_or_choice(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml.safe_load(text)  # stricter than the router's own parser: what it takes, others take
    file = tmp_path / "config.yaml"
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "value" * 8)
    file.write_text(text, "utf-8")
    try:
        load(file)
    except ConfigError as error:
        # An example need not be a whole file: it may lack models.
        wrong = [str(problem) for problem in error.problems if problem.severity == "error"]
        assert not [each for each in wrong if "unknown key" in each or "is not one of" in each], page
