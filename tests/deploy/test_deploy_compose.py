"""The compose file: read by a strict parser of its format, held against the configurations beside it, and its routers
and Envoys run as it starts them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_stack import wait_for
from whole_system import BIN, Site, running

from deploy.checks import compose

pytestmark = pytest.mark.deploy


def test_nothing_is_wrong() -> None:
    assert compose.problems(compose.FILE.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("  shm_size: 512m\n", "  shm_sise: 512m\n", "shm_sise"),
        ("127.0.0.1:8080:10080", "127.0.0.1:8080:8080", "10080 is not published"),
        ('"127.0.0.1:9090:9090"', '"9090:9090"', "beyond this machine"),
        ("--grpc-port=8001", "--grpc-port=8000", "gRPC on 8001"),
        ("--served-model-name=qwen3-8b", "--served-model-name=qwen3", "does not serve qwen3-8b"),
        ("law-expert=/models", "law=/models", "does not serve llama3-8b-instruct with ['law-expert']"),
        ("depends_on: {triton-cpu:", "depends_on: {triton:", "there is no service triton"),
        ("network_mode: service:pod-gpu", "network_mode: service:pod-cpu", "not in all of its profiles"),
        ('["/tmp:exec"]', "[/tmp]", "forbids without exec"),
        ("./router-cpu:/etc", "./router:/etc", "there is no ./router"),
        ("envoyproxy/envoy:v1.40.0", "envoyproxy/envoy:latest", "is not pinned"),
        ("  demo-backends:\n", "  demo-backend:\n", "there is no service demo-backends"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, word: str) -> None:
    text = compose.FILE.read_text()
    if old not in text:
        pytest.fail(f"nothing to plant in: {old}")
    problems = compose.problems(text.replace(old, new))
    assert any(word in flaw for flaw in problems), problems


@pytest.mark.parametrize(("registry", "start"), [("", ""), ("registry.example.com/llm", "registry.example.com/llm/")])
def test_images_are_those_that_bake_makes(registry: str, start: str) -> None:
    services = services_of({"REGISTRY": registry, "VERSION": "9"})
    own = {each["image"] for each in services.values() if "triton-router" in each["image"]}
    assert own == {f"{start}triton-router:9", f"{start}triton-router-triton:9", f"{start}triton-router-triton:9-cpu"}


def services_of(environment: dict[str, str]) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(compose.interpolated(compose.FILE.read_text(), environment))["services"]
    return services


# --- run -----------------------------------------------------------------------------------------------------------

LOOPBACK = {"host": "127.0.0.1"}
# No Jaeger here.
LOCAL = {
    "global": {
        "services": {"envoy": LOOPBACK, "observability": {"metrics": LOOPBACK, "tracing": {"enabled": False}}},
    }
}


class Profile(Site):
    """Router and Envoy of a profile with the file's own commands; only ports and paths are this machine's."""

    def __init__(self, directory: Path, name: str) -> None:
        services = services_of({})
        self.router, self.envoy = services[f"router-{name}"], services[f"envoy-{name}"]
        super().__init__(directory, compose.FILE.parent / f"router-{name}" / "config.yaml", LOCAL)

    def _here(self, words: list[str]) -> list[str]:
        places = {
            "/etc/triton-router/config.yaml": str(self.config_file),
            "/tmp/state": str(self.directory / "state"),
            "/envoy": str(self.directory / "envoy"),
        }
        for there, here in places.items():
            words = [word.replace(there, here, 1) if word.partition("=")[2].startswith(there) or word.startswith(there)
                     else word for word in words]  # fmt: skip
        return words

    def start_router(self) -> None:
        self._spawn("router", [sys.executable, "-m", "triton_router.cli", *self._here(self.router["command"])])

    def start_envoy(self) -> None:
        # In the file this order is the health check's.
        health = [sys.executable, "-m", "triton_router.cli", "health", "--config", str(self.config_file)]
        wait_for(lambda: subprocess.run(health, check=False, capture_output=True).returncode == 0, "the router")
        [program] = self.envoy["entrypoint"]
        self._spawn("envoy", [str(BIN / program), *self._here(self.envoy["command"]), "--concurrency", "1"])


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def profile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    yield from running(Profile(tmp_path_factory.mktemp("compose"), request.param))


# The three questions of the guides: thinker or math-expert, the quick one, the thinker for its words.
ANSWERED_BY = {
    "What is the derivative of x^3 + 2x?": {"thinker", "math-expert"},
    "What are the key factors to consider when entering a new market?": {"quick", "llama3-8b-instruct"},
    "Walk me through how to structure a business merger proposal.": {"thinker", "qwen3-8b"},
}


@pytest.mark.parametrize("prompt", ANSWERED_BY)
def test_the_profiles_route(profile: Profile, prompt: str) -> None:
    answer = profile.ask(prompt)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-vsr-selected-model"]
    assert answer.json()["model"] in ANSWERED_BY[prompt]
