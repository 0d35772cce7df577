"""A LiteLLM proxy of its own, with the hook, in front of a site's backends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from environments import executables
from local_stack import REPOSITORY, free_port, wait_for
from whole_system import Site

GUIDE = REPOSITORY / "docs" / "integrations" / "litellm.md"
HOOK = REPOSITORY / "router" / "integrations" / "litellm.py"
MODELS = ("phi2", "doctor", "dcot")


class Proxy:
    """LiteLLM with the configuration of its guide.

    It has the models ``names`` and the callbacks given (default: the guide's); ``settings`` are the hook's, as
    environment variables.
    """

    def __init__(
        self,
        directory: Path,
        site: Site,
        callbacks: list[str] | None = None,
        names: tuple[str, ...] = MODELS,
        settings: dict[str, str] | None = None,
    ) -> None:
        self._directory, self.port = directory, free_port()
        self.log = directory / "litellm.log"
        (written,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        config = yaml.safe_load(written)
        config["model_list"] = [entry for entry in config["model_list"] if entry["model_name"] in ("auto", *names)]
        for entry in config["model_list"]:
            entry["litellm_params"]["api_base"] = f"http://127.0.0.1:{site.backends['phi2']}/v1"
        config["litellm_settings"]["callbacks"] = callbacks or config["litellm_settings"]["callbacks"]
        config["environment_variables"] = {
            "TRITON_ROUTER_URL": f"http://127.0.0.1:{site.rest}",
            **(settings or {}),
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        shutil.copy(HOOK, directory / "triton_router_hook.py")
        shutil.copy(REPOSITORY / "perf" / "loop_watch.py", directory)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def start(self, errors: int | None = None) -> None:
        """``errors`` is a file descriptor that takes the place of the log for what goes to standard error."""
        environment = {
            **os.environ,
            # Prices are not fetched, and nobody signs in.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            # The package lies there; what it depends on is not installed in LiteLLM's environment.
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
        }
        command = [executables("litellm") / "litellm", "--config", self._directory / "config.yaml"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                stdout=log, stderr=log if errors is None else errors, env=environment, cwd=self._directory,
                start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: self.client.get("/health/liveliness").status_code == 200, "LiteLLM")

    def stop(self) -> None:
        self.client.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def ask(self, prompt: str, model: str = "auto", **members: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **members}
        return self.client.post("/v1/chat/completions", json=body)

    def lines(self) -> list[str]:
        """What the hook has logged."""
        return [line for line in self.log.read_text().splitlines() if "triton_router:" in line]


@contextmanager
def running_proxy(proxy: Proxy) -> Iterator[Proxy]:
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()


def model_of(answer: httpx.Response) -> str:
    """The model that the backend was asked for."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["demo"]["received"]["model"])
