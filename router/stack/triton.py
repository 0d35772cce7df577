"""Triton as the nvidia-pytriton wheel brings it: preparing the python backend, the command line, cleaning up."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton_router.config import Config

_INSTALL = 'pip install "triton-router[stack]"   (or: pip install "nvidia-pytriton==0.7.0" "numpy<2")'
_SHARED_MEMORY = Path("/dev/shm")


class TritonMissing(Exception):
    """The wheel with the server is not installed, or not for this Python. ``str()`` says what to do."""


@dataclass(frozen=True, slots=True)
class Triton:
    """How to start one server, and what it leaves behind when it is killed."""

    command: tuple[str, ...]
    environment: dict[str, str]
    shared_memory_prefix: str

    def remove_shared_memory(self) -> int:
        """Remove the segments of this server; it must not be running. Returns how many there were."""
        leaked = list(_SHARED_MEMORY.glob(f"{self.shared_memory_prefix}*"))
        for segment in leaked:
            segment.unlink(missing_ok=True)
        return len(leaked)


class Canary:
    """A real inference of every trunk of the bundle at ``manifest``: a model whose process has died stays "ready".

    Use it inside one event loop. Raises BundleError when the bundle cannot be used.
    """

    # Longer than a request waits: a server that is only busy must not be taken for a broken one. Three of them, and
    # the start of another server, are less than 15 seconds.
    _DEADLINE_MS = 2500
    # Other failures, such as another bundle, are there again after a restart.
    _MENDED_BY_RESTART = frozenset({"error", "deadline"})

    def __init__(self, manifest: Path, config: Config) -> None:
        # The image that only prepares a server has none of what these need.
        from triton_router.inference import Encoder, load_bundle
        from triton_router.telemetry import Metrics

        settings, metrics = config.global_.inference.model_copy(update={"deadline_ms": self._DEADLINE_MS}), Metrics()
        bundle, tokenizers = load_bundle(manifest)
        self._encoders = [
            Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, metrics) for trunk in bundle.trunks
        ]

    async def answers(self) -> bool:
        """Whether each trunk answers, or fails in a way that starting Triton again does not mend."""
        from triton_router.errors import Unavailable

        try:
            for encoder in self._encoders:
                await encoder.encode_each(["canary"])
        except Unavailable as unavailable:
            return unavailable.reason not in self._MENDED_BY_RESTART
        return True


def prepare(
    repository: Path, run_directory: Path, *, host: str = "127.0.0.1", grpc_port: int = 8001, metrics_port: int = 8002
) -> Triton:
    """Lay out the python backend under ``run_directory`` and say how to start the server.

    The shared-memory segments get a name of this run directory's own, so that clearing them up cannot touch those of
    another Triton. Two servers must not share a run directory.

    Raises:
        TritonMissing: the wheel is not there, or has no stub for this version of Python.
    """
    server = _server_directory()
    backends = _lay_out_python_backend(server, run_directory / "backends")
    own = hashlib.sha256(str(run_directory.absolute()).encode()).hexdigest()[:12]
    prefix = f"triton_router_{own}_"
    command = (
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        "--model-config-name=cpu",
        # The configurations are whole; completing them would start every stub twice.
        "--disable-auto-complete-config",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--allow-http=false",
        f"--grpc-address={host}",
        f"--grpc-port={grpc_port}",
        f"--metrics-address={host}",
        f"--metrics-port={metrics_port}",
        "--exit-timeout-secs=3",
    )
    return Triton(command, _environment(server), prefix)


def _server_directory() -> Path:
    # Importing the package would start its own machinery; where it lies is enough.
    spec = importlib.util.find_spec("pytriton")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        server = Path(folder) / "tritonserver"
        if (server / "bin" / "tritonserver").is_file():
            return server
    raise TritonMissing(f"Triton is not installed in this Python environment. Install it with:\n  {_INSTALL}")


def _lay_out_python_backend(server: Path, backends: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        versions = ", ".join(sorted(path.name for path in (server / "python_backend_stubs").iterdir()))
        raise TritonMissing(f"The installed Triton has no stub for Python {version}, only for {versions}.")
    target = backends / "python"
    target.mkdir(parents=True, exist_ok=True)
    library = server / "backends" / "python"
    for source in (library / "libtriton_python.so", library / "triton_python_backend_utils.py", stub):
        copy = target / source.name
        if not copy.is_file() or (copy.stat().st_size, copy.stat().st_mtime) != (
            source.stat().st_size,
            source.stat().st_mtime,
        ):
            shutil.copy2(source, copy)
    return backends.absolute()


def _environment(server: Path) -> dict[str, str]:
    """This process's environment, changed so that the stub finds its libraries and this Python's packages."""
    site_packages = server.parents[1]
    libraries = [str(site_packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR") or "")]
    libraries.append(os.environ.get("LD_LIBRARY_PATH", ""))
    # The stub asks the first `python3` on PATH where its packages are.
    path = [str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]
    return {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
