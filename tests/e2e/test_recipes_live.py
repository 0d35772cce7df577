"""Recipes and probes through the real Envoy, router and Triton; the file changes while it is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_stack import REPOSITORY, wait_for
from whole_system import Site, running

from triton_router.cli import main

pytestmark = pytest.mark.e2e

SAMPLES = sorted((REPOSITORY / "config" / "probes").glob("*.yaml"))
ENTRYPOINTS = [{"model_names": ["desk/fast"], "recipe": "fast"}, {"model_names": ["desk/good"], "recipe": "good"}]
RECIPES = [
    {
        "name": "fast",
        "routing": {
            "signals": {"keywords": [{"name": "careful", "keywords": ["proof"]}]},
            "decisions": [
                {"name": "careful", "rules": {"type": "keyword", "name": "careful"},
                 "modelRefs": [{"model": "thinker"}]},
                {"name": "rest", "modelRefs": [{"model": "quick"}]},
            ],
        },
    },
    {"name": "good", "routing": {"decisions": [{"name": "all", "modelRefs": [{"model": "thinker"}]}]}},
]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, triton_port: int) -> Iterator[Site]:
    changes = {"global": {"router": {"reload": {"interval_seconds": 0.05}}}}
    yield from running(Site(tmp_path, REPOSITORY / "config" / "quickstart.yaml", changes, grpc=triton_port))


def listed(site: Site) -> list[str]:
    return [entry["id"] for entry in site.client.get("/v1/models").json()["data"]]


def chosen(site: Site, model: str, prompt: str = "A proof, please.") -> tuple[str | None, str, str]:
    answer = site.ask(prompt, model=model)
    assert answer.status_code == 200, answer.text
    headers = answer.headers
    return headers.get("x-vsr-selected-recipe"), headers["x-vsr-selected-decision"], answer.json()["model"]


def test_recipes_come_and_change_while_the_file_is_served(site: Site) -> None:
    assert site.ask("Hello", model="desk/fast").status_code == 404
    document: dict[str, Any] = yaml.safe_load(site.config_file.read_text())
    document |= {"entrypoints": ENTRYPOINTS, "recipes": RECIPES}
    site.config_file.write_text(yaml.safe_dump(document))
    wait_for(lambda: "desk/fast" in listed(site), "the entrypoints")
    assert chosen(site, "desk/fast") == ("fast", "careful", "thinker")
    assert chosen(site, "desk/fast", "Hello") == ("fast", "rest", "quick")
    assert chosen(site, "desk/good", "Hello") == ("good", "all", "thinker")
    assert chosen(site, "MoM", "Hello! How are you today?") == (None, "everything_else", "quick")
    wait_for(lambda: site.metric("router_requests_total", recipe="fast") == 2, "requests by recipe")

    document["entrypoints"] = [{"model_names": ["desk/fast"], "recipe": "good"}]
    site.config_file.write_text(yaml.safe_dump(document))
    wait_for(lambda: "desk/good" not in listed(site), "the change")
    assert chosen(site, "desk/fast") == ("good", "all", "thinker")


@pytest.mark.parametrize("probes", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_pass_their_probes(
    tmp_path: Path, triton_port: int, probes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load((REPOSITORY / "config" / probes.name).read_text())
    document.setdefault("global", {})["inference"] = {"endpoint": f"127.0.0.1:{triton_port}", "deadline_ms": 10_000}
    config = tmp_path / "router.yaml"
    config.write_text(yaml.safe_dump(document))
    repository = str(REPOSITORY / "model_repository")
    status = main(["probes", str(probes), "--config", str(config), "--repository", repository])
    assert status == 0, capsys.readouterr().out


def test_probes_through_a_gateway(aibrix: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probes = REPOSITORY / "config" / "probes" / "aibrix.yaml"
    command = ["probes", str(probes), "--config", str(aibrix.config_file), "--gateway", aibrix.url, "--format", "junit"]
    assert main(command) == 0, capsys.readouterr().out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "decisions: [{id: a, expected_decision: law_decision, variants: [{id: b, query: Show your work}]}]"
    )
    assert main(["probes", str(wrong), *command[2:-1], "table"]) == 1
    assert "`thinking_decision` was chosen" in capsys.readouterr().out
