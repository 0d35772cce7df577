"""A router without Triton, Envoy and backends, for what needs none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for


@contextmanager
def router_alone(directory: Path, config: dict[str, Any], *, token: str | None = None) -> Iterator[str]:
    """Serve ``config`` on free ports; returns the address of its REST service, which asks for ``token``."""
    port = free_port()
    api = {"port": port} | ({"token_env": "PAGE_TOKEN"} if token else {})
    own = {
        "inference": {"endpoint": f"127.0.0.1:{free_port()}"},
        "router": {"adapter_discovery": {"enabled": False}},
        "services": {
            "extproc": {"port": free_port()},
            "observability": {"metrics": {"enabled": False}},
            "envoy": {"port": free_port()},
            **config.get("global", {}).get("services", {}),
        },
    }
    own |= {name: section for name, section in config.get("global", {}).items() if name != "services"}
    own["services"]["api"] = api | own["services"].get("api", {})
    file = directory / "router.yaml"
    file.write_text(yaml.safe_dump({**config, "global": own}))
    command = [sys.executable, "-m", "triton_router.cli", "serve", "--config", str(file)]
    with (directory / "router.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=REPOSITORY, env={**os.environ, "PAGE_TOKEN": token or ""}
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: httpx.get(f"{url}/health").status_code == 200, "router")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE)
