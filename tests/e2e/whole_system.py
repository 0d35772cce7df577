"""The whole system on free loopback ports, each part under the test's own hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for
from openai import OpenAI

from triton_router.config import load
from triton_router.stack import envoy, triton

MODELS = REPOSITORY / "model_repository"
BIN = Path(sys.executable).parent
# Of the system whose Triton is made ill. Elsewhere no test is one of speed.
DEADLINE_MS = 500


class Site:
    """Envoy, router, Triton and demo backends for one configuration file.

    ``grpc`` is the port of a Triton that runs already. ``any_adapter`` makes the backends serve whatever is asked for.
    """

    deadline_ms = 10_000

    def __init__(
        self,
        directory: Path,
        config: Path,
        changes: dict[str, Any] | None = None,
        *,
        grpc: int | None = None,
        any_adapter: bool = False,
    ) -> None:
        self.directory = directory
        self._own_triton, self._any_adapter = grpc is None, any_adapter
        self.grpc, self.metrics_port = grpc or free_port(), free_port()
        self.gateway_port, self.admin, self.rest = (free_port() for _ in range(3))
        # A second worker takes the port after the first one's.
        self.extproc, _ = free_port(), free_port()
        self.backends: dict[str, int] = {}
        self.config_file = self._own_config(config, changes or {})
        self.config = load(self.config_file).config
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.repository = MODELS
        self.url = f"http://127.0.0.1:{self.gateway_port}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def _own_config(self, config: Path, changes: dict[str, Any]) -> Path:
        document = yaml.safe_load(config.read_text())
        for model in document["providers"]["models"]:
            for ref in model["backend_refs"]:
                self.backends[model["name"]] = free_port()
                ref["endpoint"] = f"127.0.0.1:{self.backends[model['name']]}"
            model["reliability"] = {"health_check_interval": 0.5}
        own = {
            "router": {"drain_seconds": 600, "adapter_discovery": {"interval_seconds": 0.3}},
            "inference": {
                "endpoint": f"127.0.0.1:{self.grpc}",
                "deadline_ms": self.deadline_ms,
                "probe_interval_ms": 500,
            },
            "services": {
                "envoy": {"port": self.gateway_port, "admin_port": self.admin, "concurrency": 1},
                "extproc": {"port": self.extproc},
                "api": {"port": self.rest},
                "observability": {
                    "metrics": {"port": self.metrics_port},
                    "audit": {"path": str(self.directory / "audit.jsonl")},
                },
            },
        }
        document["global"] = merged(merged(document.get("global", {}), own), changes.get("global", {}))
        routing = document["routing"]
        routing["signals"]["domains"] = routing["signals"].get("domains", []) + changes.get("domains", [])
        routing["decisions"] += changes.get("decisions", [])
        path = self.directory / "router.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    # --- parts -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for model in self.backends:
            self.start_backend(model)
        if self._own_triton:
            self.start_triton()
        self.start_router()
        for port in self.backends.values():
            url = f"http://127.0.0.1:{port}/health"
            wait_for(lambda url=url: httpx.get(url).status_code == 200, "demo backend")  # type: ignore[misc]
        self.start_envoy()
        self.wait_until_normal()

    def start_backend(self, model: str, loras: list[str] | None = None) -> None:
        """Serve ``model`` with its declared adapters, or with ``loras``."""
        cards = {card.name: [lora.name for lora in card.loras] for card in self.config.routing.modelCards}
        names = [] if self._any_adapter else ["--model", model]
        for lora in [] if self._any_adapter else cards.get(model, []) if loras is None else loras:
            names += ["--lora", lora]
        command = [
            sys.executable,
            "-m",
            "triton_router.stack.demo_backend",
            "--port",
            str(self.backends[model]),
            *names,
        ]
        self._spawn(f"backend-{model}", command)

    def start_backend_of_anything(self, model: str) -> None:
        """Serve whatever is asked for under the address of ``model``, and list nothing."""
        port = str(self.backends[model])
        self._spawn(f"backend-{model}", [sys.executable, "-m", "triton_router.stack.demo_backend", "--port", port])

    def start_triton(self, repository: Path | None = None) -> None:
        self.repository = repository or self.repository
        server = triton.prepare(self.repository, self.directory, grpc_port=self.grpc, metrics_port=free_port())
        self.triton = server
        server.remove_shared_memory()
        self._spawn("triton", server.command, server.environment)

    def start_router(self) -> None:
        command = [sys.executable, "-m", "triton_router.cli", "serve", "--config", str(self.config_file)]
        command += ["--repository", str(MODELS), "--envoy-directory", str(self.directory / "envoy")]
        self._spawn("router", [*command, "--state-directory", str(self.directory / "state")])

    def start_envoy(self) -> None:
        count = self.config.global_.services.extproc.workers
        workers = [("127.0.0.1", self.extproc + index) for index in range(count)]
        bootstrap = envoy.write(self.config, self.directory / "envoy", workers=workers)
        self._spawn("envoy", [str(BIN / "envoy"), "-c", str(bootstrap), "-l", "warning", "--disable-hot-restart"])

    def _spawn(self, name: str, command: Any, environment: dict[str, str] | None = None) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPOSITORY, env=environment, start_new_session=True
            )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a part with all processes that it started, and wait for it."""
        process = self.processes.pop(name)
        os.killpg(process.pid, number)
        process.wait(PATIENCE)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def stop(self) -> None:
        self.client.close()
        self.openai.close()
        for name in list(self.processes):
            with_children = self.processes.pop(name)
            os.killpg(with_children.pid, signal.SIGKILL)
            with_children.wait(10)
        if self._own_triton:
            self.triton.remove_shared_memory()

    # --- questions -------------------------------------------------------------------------------------------------

    def ask(self, prompt: str, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def wait_until_normal(self) -> None:
        def normal() -> bool:
            # Its python backend aborts where the machine stands still for some seconds.
            if (triton := self.processes.get("triton")) and triton.poll() is not None:
                self.start_triton()
            # Each goes to another trunk of the bundle, which becomes ready by itself.
            answer, other = self.ask("What is the derivative of x^3 + 2x?"), self.ask("Was ist die Ableitung von x^3?")
            ready = answer.status_code == other.status_code == 200 and "x-vsr-degraded" not in answer.headers
            return ready and "triton" not in other.headers.get("x-vsr-degraded", "")

        wait_for(normal, "routing is normal")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        pairs = [f'{label}="{value}"' for label, value in labels.items()]
        samples = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for series, value in samples if all(label in series for label in pairs))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two configurations as one; where both say something, ``above`` is right."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = merged(below[key], above[key])
    return both


class Fragile(Site):
    """A site whose Triton serves the real model through one that can answer late or wrong."""

    deadline_ms = DEADLINE_MS

    def __init__(self, directory: Path, config: Path) -> None:
        super().__init__(directory, config)
        self._mood = directory / "mood"
        self.behave("well")
        self.real = self._copy("repository")
        self.other_bundle = self._copy("other", checksum="0" * 64)
        self.repository = self.real

    def behave(self, mood: str) -> None:
        self._mood.write_text(mood)

    def _copy(self, name: str, checksum: str | None = None) -> Path:
        copy = self.directory / name
        shutil.copytree(MODELS, copy, copy_function=os.link, ignore=shutil.ignore_patterns("__pycache__"))
        model = copy / "minilm" / "1" / "model.py"
        model.rename(model.with_name("real.py"))
        model.write_text(_MOODY.format(mood=self._mood))
        if checksum is not None:
            config = copy / "minilm" / "configs" / "cpu.pbtxt"
            text = re.sub(
                r'(bundle_checksum" value: \{ string_value: ")[0-9a-f]+', rf"\g<1>{checksum}", config.read_text()
            )
            config.unlink()
            config.write_text(text)
        return copy

    def stubs(self) -> list[int]:
        """Process ids of the python stubs of the encoder."""
        server = self.processes["triton"].pid
        children = Path(f"/proc/{server}/task").glob("*/children")
        ids = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in ids if b"minilm/1/model.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def restart_triton(self, repository: Path) -> None:
        self.kill("triton")
        self.start_triton(repository)
        wait_for(lambda: self._triton_answers(), "Triton")

    def _triton_answers(self) -> bool:
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        client = InferenceServerClient(f"127.0.0.1:{self.grpc}")
        try:
            return bool(client.is_model_ready("minilm", client_timeout=5))
        except InferenceServerException:
            time.sleep(0.1)
            return False
        finally:
            client.close()


AnySite = TypeVar("AnySite", bound=Site)


def running(site: AnySite) -> Iterator[AnySite]:
    """``site`` while it is needed, for a fixture."""
    try:
        site.start()
        yield site
    finally:
        site.stop()


_MOODY = textwrap.dedent(
    '''
    """The real model behind a mood: well, late, shape or nan."""
    import importlib.util
    import time
    from pathlib import Path

    import numpy as np
    import triton_python_backend_utils as pb_utils

    spec = importlib.util.spec_from_file_location("real", Path(__file__).with_name("real.py"))
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)


    class TritonPythonModel(real.TritonPythonModel):
        def execute(self, requests):
            mood = Path("{mood}").read_text()
            if mood == "late":
                time.sleep(2)
            responses = super().execute(requests)
            return responses if mood in ("well", "late") else [_spoilt(r, mood) for r in responses]


    def _spoilt(response, mood):
        tensors = []
        for tensor in response.output_tensors():
            values = tensor.as_numpy().copy()
            values = values[:, :-1] if mood == "shape" else np.full_like(values, np.nan)
            tensors.append(pb_utils.Tensor(tensor.name(), np.ascontiguousarray(values)))
        return pb_utils.InferenceResponse(tensors)
    '''
)
