from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_bert import TinyBert

from export import source
from export.checksums import sha256
from export.manifest import SourceSpec

OTHER = "5" * 64


def test_directory_with_the_expected_weights(tiny_bert: TinyBert, tmp_path: Path) -> None:
    digest = sha256(tiny_bert.directory / "model.safetensors")
    files = source.resolve(SourceSpec(directory=tiny_bert.directory, weights_sha256=digest), tmp_path)
    assert (files.directory, files.weights_sha256) == (tiny_bert.directory, digest)
    assert files.model_id == str(tiny_bert.directory)


def test_other_weights_are_refused(tiny_bert: TinyBert, tmp_path: Path) -> None:
    with pytest.raises(source.SourceError, match=rf"has sha256 [0-9a-f]{{64}}, expected {OTHER}"):
        source.resolve(SourceSpec(directory=tiny_bert.directory, weights_sha256=OTHER), tmp_path)


def test_missing_files_are_named(tiny_bert: TinyBert, tmp_path: Path) -> None:
    shutil.copy(tiny_bert.directory / "model.safetensors", tmp_path)
    with pytest.raises(source.SourceError, match=r"has no config\.json, tokenizer\.json"):
        source.resolve(SourceSpec(directory=tmp_path), tmp_path)


def test_package_already_unpacked_is_not_fetched_again(tiny_bert: TinyBert, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert.directory, tmp_path / "some-package-1.0")
    files = source.resolve(SourceSpec(package="some-package==1.0"), tmp_path)
    assert files.directory == tmp_path / "some-package-1.0"


def test_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(source.SourceError, match="pip download some-package==1.0 failed"):
        source.resolve(SourceSpec(package="some-package==1.0"), tmp_path)


def test_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(source.SourceError, match="the hub did not give it"):
        source.resolve(SourceSpec(hub="some-organisation/some-model"), tmp_path)
