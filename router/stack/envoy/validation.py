"""Envoy's own opinion of a configuration, before it is put to use."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import orjson

from triton_router.config.schema import Config
from triton_router.extproc.health import worker_addresses
from triton_router.stack.envoy.files import static

# Envoy validates 500 models in half a second on an idle machine.
_WITHIN = 60.0
_CONSTRAINT = "Proto constraint validation failed"


class EnvoyRefused(RuntimeError):
    """Envoy does not take a configuration. ``str()`` has its words."""


def binary() -> Path | None:
    """The Envoy of this Python environment (extra `stack`), if there is one."""
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        bundled = Path(place) / "_bin" / "envoy"
        if os.access(bundled, os.X_OK):
            return bundled
    return None


def validate(config: Config, program: Path) -> None:
    """Have ``program``, an Envoy, validate what would be written for ``config``. Files of TLS are left out.

    Raises:
        EnvoyRefused: it refuses it.
    """
    services = config.global_.services
    plain = services.model_copy(update={"extproc": services.extproc.model_copy(update={"tls": None})})
    config = config.serving(
        model.model_copy(update={"backend_refs": tuple(ref.model_copy(update={"protocol": "http"})
                                                       for ref in model.backend_refs)})
        for model in config.providers.models
    )  # fmt: skip
    config = config.model_copy(update={"global_": config.global_.model_copy(update={"services": plain})})
    document = static(config, workers=worker_addresses(services.extproc))
    with tempfile.TemporaryDirectory(prefix="triton-router-") as directory:
        path = Path(directory) / "envoy.json"
        path.write_bytes(orjson.dumps(document))
        command = [str(program), "--mode", "validate", "-c", str(path), "-l", "error"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvoyRefused(f"Envoy cannot validate the configuration: {error}") from error
    if run.returncode:
        raise EnvoyRefused(f"Envoy refuses the configuration: {_words(run.stderr)}")


def _words(output: str) -> str:
    """What is wrong, without the whole configuration that Envoy repeats before it."""
    if _CONSTRAINT in output:
        # A chain of causes from the outside in: the last one says it.
        return output.rpartition(_CONSTRAINT)[2].rpartition("caused by ")[2].strip().removesuffix(")")
    _, _, message = output.partition("error initializing configuration ")
    return " ".join((message.partition(": ")[2] or output).split())[:1000]
