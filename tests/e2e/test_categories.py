"""A flat configuration of four categories that the classifier's head does not know, through Envoy and Triton."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_system import BIN, MODELS, Site, running

from triton_router.config import load, loads, migrate

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
FLAT = HERE / "lora_by_category.yaml"
BASE = "mistral-small"
ADAPTERS = {"technical": "code-adapter", "medical": "clinic-adapter", "legal": "court-adapter", "general": BASE}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("categories")
    canonical = migrate(FLAT.read_text(), file=FLAT.name)
    assert loads(canonical).config == load(FLAT).config
    (directory / "canonical.yaml").write_text(canonical)
    yield from running(Site(directory, directory / "canonical.yaml", grpc=triton_port))


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("Explain async/await in JavaScript", "technical"),
        ("What causes high blood pressure?", "medical"),
        ("Is a verbal agreement binding?", "legal"),
        ("Good morning, how are you?", "general"),
    ],
)
def test_the_category_picks_adapter_and_persona(site: Site, prompt: str, category: str) -> None:
    answer = site.ask(prompt)
    assert answer.json()["model"] == answer.headers["x-vsr-selected-model"] == ADAPTERS[category]
    assert answer.headers["x-vsr-selected-decision"] == answer.headers["x-vsr-selected-category"] == category
    assert len(answer.json()["demo"]["received"]["system"]) == 1
    # The family is defined nowhere, so nothing is said about reasoning.
    assert "chat_template_kwargs" not in answer.json()["demo"]["received"]["fields"]


def test_prompts_written_for_this_reach_their_category(site: Site) -> None:
    rows = [json.loads(line) for line in (HERE / "four_topics.jsonl").read_text().splitlines()]
    assert Counter(row["category"] for row in rows) == dict.fromkeys(ADAPTERS, 30)
    answered = [(row["category"], site.ask(row["text"]).json()["model"]) for row in rows]
    right = Counter(category for category, model in answered if model == ADAPTERS[category])
    print({category: f"{count}/30" for category, count in right.items()}, f"{right.total() / len(rows):.1%}")
    assert right.total() / len(rows) >= 0.85


def test_a_prompt_in_a_script_that_the_encoder_cannot_read_is_not_guessed_at(site: Site) -> None:
    for prompt in ("解释一下快速排序", "血圧が高いのはなぜですか", "Что делать при простуде?"):
        answer = site.ask(prompt)
        assert (answer.status_code, answer.json()["model"]) == (200, BASE)
        assert answer.headers["x-vsr-degraded"] == "language"
        assert "x-vsr-selected-decision" not in answer.headers
    assert site.metric("router_degraded_requests_total", part="language") == 3


def test_a_description_in_such_a_script_is_warned_of(site: Site, tmp_path: Path) -> None:
    text = site.config_file.read_text().replace("Law, contracts and rights", "法律问题和合同")
    (tmp_path / "router.yaml").write_text(text)
    command = [str(BIN / "triton-router"), "explain", "--config", str(tmp_path / "router.yaml")]
    done = subprocess.run([*command, "--repository", str(MODELS), "解释"], capture_output=True, text=True, check=True)
    assert "does not read the script" in done.stderr
    assert json.loads(done.stdout)["degraded"] == {"language": "script"}
