"""LoRA adapters through real Envoy: the right base, the right backend, and what happens when one is not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from local_stack import wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  defaults:
    default_model: zebra
    default_reasoning_effort: low
    reasoning_families:
      gpt: {type: reasoning_effort, parameter: reasoning_effort}
  models:
    - {name: zebra, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: apple, reasoning_family: gpt, backend_refs: [{endpoint: "127.0.0.1:2"}]}
    - {name: lazy, backend_refs: [{endpoint: "127.0.0.1:3", adapters_on_demand: true}]}
routing:
  modelCards:
    - {name: zebra, loras: [{name: shared}, {name: striped}]}
    - {name: apple, loras: [{name: shared}, {name: red}, {name: secret, hidden: true}]}
    - {name: lazy, loras: [{name: slow}]}
  signals:
    keywords:
      - {name: on_zebra, keywords: [savanna]}
      - {name: on_apple, keywords: [orchard]}
      - {name: effort, keywords: [think hard]}
      - {name: trial, keywords: [experiment]}
      - {name: best, keywords: [best of]}
      - {name: on_demand, keywords: [someday]}
  decisions:
    - name: on_zebra
      priority: 1
      rules: {type: keyword, name: on_zebra}
      modelRefs: [{model: zebra, lora_name: shared}]
    - name: on_apple
      priority: 1
      rules: {type: keyword, name: on_apple}
      modelRefs: [{model: apple, lora_name: shared}]
    - name: effort
      priority: 2
      rules: {type: keyword, name: effort}
      modelRefs: [{model: apple, lora_name: red, use_reasoning: true, reasoning_effort: high}]
    - name: trial
      rules: {type: keyword, name: trial}
      modelRefs: [{model: zebra, lora_name: striped, weight: 1}, {model: apple, lora_name: red, weight: 3}]
    - name: best
      rules: {type: keyword, name: best}
      modelRefs:
        - {model: zebra, score: 0.5}
        - {model: zebra, lora_name: striped, score: 0.9}
        - {model: apple, lora_name: red, score: 0.9}
    - name: on_demand
      rules: {type: keyword, name: on_demand}
      modelRefs: [{model: lazy, lora_name: slow}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("adapters")
    (directory / "adapters.yaml").write_text(CONFIG)
    yield from running(Adapters(directory, directory / "adapters.yaml", grpc=triton_port))


class Adapters(Site):
    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")


def served(answer: httpx.Response) -> tuple[str, str]:
    """The model that answered, and the backend it did so on."""
    assert answer.status_code == 200, answer.text
    return answer.json()["model"], answer.json()["demo"]["headers"]["x-gateway-base-model-name"]


def test_one_name_under_two_bases_is_the_modelrefs(site: Site) -> None:
    assert served(site.ask("out on the savanna")) == ("shared", "zebra")
    assert served(site.ask("in the orchard")) == ("shared", "apple")


def test_an_adapter_has_its_refs_effort(site: Site) -> None:
    answer = site.ask("think hard")
    assert served(answer) == ("red", "apple")
    assert answer.json()["demo"]["received"]["fields"]["reasoning_effort"] == "high"


def test_a_client_may_name_what_is_not_hidden(site: Site) -> None:
    assert served(site.ask("x", model="red")) == ("red", "apple")
    assert served(site.ask("x", model="shared")) == ("shared", "zebra"), "the first that declares it"
    assert site.ask("x", model="secret").status_code == 404
    listed = {model.id: model.to_dict().get("parent") for model in site.openai.models.list()}
    assert listed == {
        "MoM": None, "auto": None, "zebra": None, "apple": None, "lazy": None,
        "shared": "zebra", "striped": "zebra", "red": "apple", "slow": "lazy",
    }  # fmt: skip


def test_weights_split_requests_and_a_conversation_stays(site: Site) -> None:
    share = [served(site.ask("an experiment"))[0] for _ in range(80)].count("red") / 80
    assert 0.55 < share < 0.92
    for session in range(12):
        headers = {"x-session-id": f"conversation-{session}"}
        assert len({served(site.ask("an experiment", headers=headers)) for _ in range(5)}) == 1
    models = [served(site.ask("an experiment", headers={"x-session-id": str(n)}))[0] for n in range(80)]
    assert 0.55 < models.count("red") / 80 < 0.92


def test_the_best_score_wins_and_equal_ones_share(site: Site) -> None:
    models = [served(site.ask("the best of all"))[0] for _ in range(40)]
    assert set(models) == {"striped", "red"}


def test_an_adapter_that_is_not_loaded_falls_back_and_comes_back(site: Site) -> None:
    site.kill("backend-apple")
    site.start_backend("apple", loras=["shared"])

    def fallen() -> bool:
        return "x-vsr-adapter-fallback" in site.ask("think hard").headers

    wait_for(fallen, "the router knows that the adapter is gone")
    answer = site.ask("think hard")
    assert served(answer) == ("apple", "apple")
    assert answer.headers["x-vsr-adapter-fallback"] == "red"
    assert answer.headers["x-vsr-degraded"] == "adapter"
    assert answer.headers["x-vsr-selected-model"] == "apple"
    assert answer.json()["demo"]["received"]["fields"]["reasoning_effort"] == "high"
    assert served(site.ask("in the orchard")) == ("shared", "apple"), "others are not concerned"
    assert site.metric("router_adapter_fallbacks_total", adapter="red") >= 1
    assert site.metric("router_adapters_loaded", model="apple") == 1
    site.kill("backend-apple")
    site.start_backend("apple")
    wait_for(lambda: site.ask("think hard").json().get("model") == "red", "the adapter is back")


def test_an_adapter_loaded_on_demand_is_not_missed(site: Site) -> None:
    site.kill("backend-lazy")
    # Its list is empty, and yet it serves whatever is asked for.
    site.start_backend_of_anything("lazy")
    wait_for(lambda: site.ask("x", model="lazy").status_code == 200, "backend")
    answer = site.ask("someday")
    assert served(answer) == ("slow", "lazy")
    assert "x-vsr-degraded" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
def test_clients_cannot_load_adapters(site: Site, path: str) -> None:
    answer = site.client.post(path, json={"lora_name": "evil", "lora_path": "/tmp/evil"})
    assert answer.status_code == 404


def test_requests_and_latency_are_kept_by_adapter(site: Site) -> None:
    before = site.metric("router_upstream_seconds_count", model="shared")
    site.ask("in the orchard")
    wait_for(lambda: site.metric("router_upstream_seconds_count", model="shared") == before + 1, "counted")
    assert site.metric("router_requests_total", model="shared", decision="on_apple") >= 1


def test_another_file_of_adapters_needs_no_restart(site: Site, tmp_path: Path) -> None:
    text = site.config_file.read_text()
    assert site.ask("x", model="green").status_code == 404
    site.kill("backend-zebra")
    site.start_backend("zebra", loras=["shared", "striped", "green"])
    site.config_file.write_text(text.replace("- name: striped", "- name: striped\n    - name: green"))
    wait_for(lambda: site.ask("x", model="green").status_code == 200, "the new adapter")
    site.config_file.write_text(text)
    wait_for(lambda: site.ask("x", model="green").status_code == 404, "it is gone again")
