"""The chart's router pod as processes on this machine: its configuration, its Envoy, the way it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_stack import wait_for
from whole_system import BIN, Site, running

from deploy.checks import helm, manifests

pytestmark = pytest.mark.deploy

LOCAL = {"global": {"services": {"extproc": {"host": "127.0.0.1"}, "envoy": {"host": "127.0.0.1"}}}}


class Pod(Site):
    """The containers of the rendered Deployment with their own commands; only ports and paths are this machine's."""

    def __init__(self, directory: Path) -> None:
        documents = helm.render([], ['configFile="aibrix.yaml"'])
        [config] = [each["data"]["config.yaml"] for each in documents if "config.yaml" in each.get("data", {})]
        [pod] = [
            each for each in documents
            if each["kind"] == "Deployment" and each["metadata"]["labels"]["app.kubernetes.io/component"] == "router"
        ]  # fmt: skip
        self.router, self.envoy = manifests.containers(pod)
        written = directory / "config.yaml"
        written.write_text(config)
        super().__init__(directory, written, LOCAL)

    def _here(self, word: str) -> str:
        places = {
            "/etc/triton-router/config.yaml": str(self.config_file),
            "/var/lib/triton-router": str(self.directory / "state"),
            "/envoy": str(self.directory / "envoy"),
        }
        for there, here in places.items():
            word = word.replace(there, here)
        return word.replace("/dev/tcp/127.0.0.1/9901", f"/dev/tcp/127.0.0.1/{self.admin}")

    def start_router(self) -> None:
        words = [self._here(word) for word in self.router["args"]]
        self._spawn("router", [sys.executable, "-m", "triton_router.cli", *words])

    def start_envoy(self) -> None:
        # In the pod this order is the startup probe's.
        health = [sys.executable, "-m", "triton_router.cli", "health", "--config", str(self.config_file)]
        wait_for(lambda: subprocess.run(health, check=False, capture_output=True).returncode == 0, "the router")
        words = [self._here(word) for word in self.envoy["args"]]
        self._spawn("envoy", [str(BIN / self.envoy["command"][0]), *words])

    def leave(self, drain: int) -> subprocess.Popen[bytes]:
        """What the kubelet runs before it ends Envoy."""
        *script, _, _ = (self._here(word) for word in self.envoy["lifecycle"]["preStop"]["exec"]["command"])
        return subprocess.Popen([*script, "1", str(drain)], env={"PATH": os.environ["PATH"]})


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    yield from running(Pod(tmp_path_factory.mktemp("pod")))


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        ("What is the derivative of x^3 + 2x?", "qwen3-8b"),
        ("What are the key factors to consider when entering a new market?", "llama3-8b-instruct"),
        ("Walk me through how to structure a business merger proposal.", "qwen3-8b"),
    ],
)
def test_the_pod_routes(pod: Pod, prompt: str, model: str) -> None:
    answer = pod.ask(prompt)
    assert (answer.status_code, answer.headers["x-vsr-selected-model"]) == (200, model)
    assert answer.json()["model"] == model


def test_the_readiness_probe_goes_through_both(pod: Pod) -> None:
    assert pod.client.get(pod.envoy["readinessProbe"]["httpGet"]["path"]).status_code == 200


def test_nothing_is_lost_when_the_pod_leaves(pod: Pod) -> None:
    """An answer that runs ends; until then requests that still come are answered."""
    pieces: list[str] = []

    def read() -> None:
        stream = pod.openai.chat.completions.create(
            model="MoM",
            messages=[{"role": "user", "content": "Prove that 2 is prime, step by step"}],
            stream=True,
            extra_headers={"x-demo-script": "slow-stream;chunks=20;seconds=4"},
        )
        pieces.extend(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        pieces.append("end")

    reader = threading.Thread(target=read)
    reader.start()
    while not pieces:
        reader.join(0.05)
        assert reader.is_alive() or pieces
    leaving = pod.leave(drain=20)
    late = pod.ask("What is the derivative of x^3 + 2x?")
    assert late.status_code == 200
    assert leaving.wait(30) == 0
    # It waited for the stream; only then is Envoy told to end, and the router after it.
    reader.join(2)
    assert pieces[-1] == "end"
    assert pod.processes["envoy"].poll() is None
