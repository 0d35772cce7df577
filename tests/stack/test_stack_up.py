"""``triton-router up`` whole: the committed model repository, real Triton, router and Envoy, demo backends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from local_stack import PATIENCE, REPOSITORY, chat, free_port, wait_for

from triton_router.config import Config
from triton_router.stack.demo_turn import DemoModel
from triton_router.stack.up import demo_endpoints, served_models, with_endpoints

CONFIGURATION = """
version: v0.3
providers:
  defaults: {default_model: general}
  models:
    - {name: general, backend_refs: [{endpoint: "127.0.0.1:8000"}]}
    - {name: org/base, backend_refs: [{endpoint: vllm.example.svc.cluster.local:8000}]}
routing:
  modelCards:
    - {name: org/base, loras: [{name: haiku}]}
  signals:
    keywords:
      - {name: poem, keywords: [poem]}
  decisions:
    - name: poems
      rules: {operator: OR, conditions: [{type: keyword, name: poem}]}
      modelRefs: [{model: org/base, lora_name: haiku}]
"""


def configuration() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CONFIGURATION)
    grpc = free_port()
    while free_port() != grpc + 1:  # Triton's metrics take the next one
        grpc = free_port()
    document["global"] = {
        "router": {"drain_seconds": 600},
        "inference": {"endpoint": f"127.0.0.1:{grpc}"},
        "services": {
            "api": {"port": free_port()},
            "extproc": {"port": free_port()},
            "envoy": {"port": free_port(), "admin_port": free_port()},
            "observability": {"metrics": {"port": free_port()}},
        },
    }
    return document


class Up:
    def __init__(self, directory: Path, document: dict[str, Any]) -> None:
        self.output, self.run = directory / "output", directory / "run"
        path = directory / "config.yaml"
        path.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "triton_router.cli", "up", "--config", str(path), "--demo-backends"]
        command += ["--repository", str(REPOSITORY / "model_repository"), "--run-directory", str(self.run)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=directory, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=output, stderr=output
            )
        self.gateway = f"http://127.0.0.1:{document['global']['services']['envoy']['port']}"

    def read_output(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.read_output()
            return "ready: http://" in self.read_output()

        wait_for(ready, "ready")

    def pids(self, word: str) -> list[int]:
        """Descendants whose command line holds ``word``."""
        descendants = [self.process.pid]
        for pid in descendants:
            for file in Path(f"/proc/{pid}/task").glob("*/children"):
                descendants += [int(child) for child in file.read_text().split()]
        return [pid for pid in descendants if word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")]

    def remains(self) -> list[str]:
        """Command lines of processes that name the run directory, and shared memory of its Triton."""
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(self.run) in line and int(path.parent.name) != os.getpid():
                lines.append(line)
        prefix = re.search(r"shm-region-prefix-name=(\S+)", " ".join(lines))
        self.prefix = prefix[1] if prefix else getattr(self, "prefix", "")
        return lines + [str(path) for path in Path("/dev/shm").glob(f"{self.prefix}*") if self.prefix]


@pytest.fixture
def ups(tmp_path: Path) -> Iterator[list[Up]]:
    started: list[Up] = []
    yield started
    for each in started:
        # Of a Triton that is killed a python stub may live on.
        each.process.terminate()
        each.process.wait(PATIENCE)


@pytest.mark.e2e
def test_up_routes_waits_for_an_open_stream_and_leaves_nothing_behind(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path, configuration())
    ups.append(up)
    up.wait_ready()
    assert [line.split()[0] for line in up.read_output().splitlines() if line.startswith("[")] == [
        "[1/4]",
        "[2/4]",
        "[3/4]",
        "[4/4]",
    ]
    messages = [{"role": "user", "content": "write a poem"}]
    answer = httpx.post(
        f"{up.gateway}/v1/chat/completions", json={"model": "MoM", "messages": messages}, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "haiku"
    assert answer.json()["demo"]["headers"]["x-gateway-base-model-name"] == "org/base"
    other = httpx.post(f"{up.gateway}/v1/chat/completions", json=chat("general"), timeout=PATIENCE)
    assert other.json()["demo"]["port"] != answer.json()["demo"]["port"]
    assert "triton" in " ".join(up.remains())
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    second = subprocess.run(
        up.process.args, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert second.returncode == 1 and "another `triton-router up` is using" in second.stdout
    slowly = {"x-demo-script": "chunks=20;seconds=2"}
    with httpx.stream(
        "POST", f"{up.gateway}/v1/chat/completions", json=chat("general", stream=True), headers=slowly, timeout=PATIENCE
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        up.process.send_signal(signal.SIGINT)
        assert "data: [DONE]" in list(lines)
    assert up.process.wait(PATIENCE) == 0, up.read_output()
    assert "waiting for 1 open request" in up.read_output()
    assert up.remains() == []


@pytest.mark.e2e
def test_triton_ends_in_order_also_while_it_starts(tmp_path: Path, ups: list[Up]) -> None:
    """A Triton that is killed leaves a directory in /tmp, whose name nobody else knows."""
    up = Up(tmp_path, configuration())
    ups.append(up)
    log = up.run / "logs" / "triton.log"
    wait_for(lambda: "TRITONBACKEND_ModelInstanceInitialize" in log.read_text(), "Triton starts")
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(PATIENCE) == 0, up.read_output()
    assert "successfully unloaded 'minilm'" in log.read_text()
    assert up.remains() == []


@pytest.mark.e2e
def test_up_answers_the_three_questions_of_the_guides(tmp_path: Path, ups: list[Up]) -> None:
    document = yaml.safe_load((REPOSITORY / "config" / "aibrix.yaml").read_text())
    up = Up(tmp_path, document | {"global": configuration()["global"]})
    ups.append(up)
    up.wait_ready()

    def answered_by(prompt: str) -> str:
        body = {"model": "MoM", "max_tokens": 200, "messages": [{"role": "user", "content": prompt}]}
        answer = httpx.post(f"{up.gateway}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["model"])

    # The first answers may come before the first look at Triton.
    wait_for(lambda: answered_by("What is the derivative of x^3 + 2x?") == "qwen3-8b", "routed by topic")
    assert answered_by("What are the key factors to consider when entering a new market?") == "llama3-8b-instruct"
    assert answered_by("Walk me through how to structure a business merger proposal.") == "qwen3-8b"


@pytest.mark.e2e
def test_a_crash_of_up_itself_leaves_nothing_behind(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path, configuration())
    ups.append(up)
    up.wait_ready()
    assert up.remains()
    up.process.kill()
    wait_for(lambda: up.process.poll() is not None and not up.remains(), "everything gone")


@pytest.mark.e2e
def test_what_dies_comes_back_while_routing_goes_on_without_it(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path, configuration())
    ups.append(up)
    up.wait_ready()

    def answered(prompt: str = "Write a poem") -> httpx.Response:
        body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}]}
        answer = httpx.post(f"{up.gateway}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer

    def without_failure(line: str) -> None:
        """The rule on words goes on, whatever becomes of Triton."""

        def there() -> bool:
            assert answered().json()["model"] == "haiku"
            return line in up.read_output()

        wait_for(there, line)

    [server] = up.pids("tritonserver")
    os.kill(server, signal.SIGKILL)
    without_failure("triton was ended by SIGKILL; it is started again")
    without_failure("triton is back after")
    for stub in up.pids("triton_python_backend_stub"):
        os.kill(stub, signal.SIGKILL)
    # The server lives and says that it is ready.
    without_failure("triton runs, but does not answer; it is started again")
    wait_for(lambda: up.read_output().count("triton is back after") == 2, "triton is back")
    [envoy] = up.pids("bootstrap.json")
    os.kill(envoy, signal.SIGKILL)
    wait_for(lambda: "envoy is back after" in up.read_output(), "envoy is back")
    assert answered().json()["model"] == "haiku"
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(PATIENCE) == 0, up.read_output()
    assert up.remains() == []


def run(directory: Path, document: dict[str, Any]) -> tuple[int, str]:
    up = Up(directory, document)
    try:
        return up.process.wait(PATIENCE), up.read_output()
    finally:
        up.process.kill()


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    document = configuration()
    port = document["global"]["services"]["api"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        code, output = run(tmp_path, document)
    assert code == 1
    assert f"port {port} on 127.0.0.1 is already in use; it is set by global.services.api.port" in output
    assert not (tmp_path / "run" / "logs").exists()


def test_identity_that_every_client_could_claim_is_refused(tmp_path: Path) -> None:
    document = configuration()
    document["global"]["services"]["authz"] = {"identity": {"set_by": "gateway"}}
    document["global"]["services"]["envoy"]["host"] = "0.0.0.0"
    code, output = run(tmp_path, document)
    assert code == 1
    assert "global.services.authz.identity.set_by: gateway" in output and "global.services.envoy.host" in output
    assert not (tmp_path / "run" / "logs").exists()


def test_a_faulty_configuration_is_reported(tmp_path: Path) -> None:
    code, output = run(tmp_path, configuration() | {"providesr": {}})
    assert code == 1
    assert "config.yaml" in output and "providesr" in output


# --- demo backends -------------------------------------------------------------------------------------------------


def test_every_endpoint_gets_a_port_and_its_models() -> None:
    document = yaml.safe_load(CONFIGURATION)
    document["providers"]["models"].append({"name": "twin", "backend_refs": [{"endpoint": "127.0.0.1:8000"}]})
    config = Config.model_validate(document)
    ports = demo_endpoints(config, avoid={18000})
    # The last one is for endpoints that a later configuration names.
    assert list(ports) == ["127.0.0.1:8000", "vllm.example.svc.cluster.local:8000", ""]
    assert len(set(ports.values())) == 3 and 18000 not in ports.values()
    first, second, _ = ports.values()
    assert served_models(config) == {
        "127.0.0.1:8000": [DemoModel("general"), DemoModel("twin")],
        "vllm.example.svc.cluster.local:8000": [DemoModel("org/base", ("haiku",))],
    }
    lazy = yaml.safe_load(CONFIGURATION)
    lazy["providers"]["models"][0]["backend_refs"][0]["adapters_on_demand"] = True
    assert served_models(Config.model_validate(lazy))["127.0.0.1:8000"] == [], "whatever is asked for"
    replaced = with_endpoints(config, {name: f"127.0.0.1:{port}" for name, port in ports.items()})
    endpoints = [ref.endpoint for model in replaced.providers.models for ref in model.backend_refs]
    assert endpoints == [f"127.0.0.1:{first}", f"127.0.0.1:{second}", f"127.0.0.1:{first}"]
    assert replaced.routing is config.routing
