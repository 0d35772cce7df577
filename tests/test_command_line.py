"""Commands whose reader goes away, and commands that are called from another folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = REPOSITORY / "config" / "quickstart.yaml"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "triton_router.cli", *arguments]


@pytest.mark.parametrize("arguments", [
    ("explain", "--config", str(QUICKSTART), "hello"), ("check", "--config", str(QUICKSTART)),
    ("envoy", "--config", str(QUICKSTART)), ("config-schema",),
], ids=lambda arguments: arguments[0])  # fmt: skip
def test_a_command_whose_reader_is_gone_ends_quietly(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(command(*arguments), stdout=writer, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False)
    os.close(writer)
    assert result.returncode == -signal.SIGPIPE
    assert b"Traceback" not in result.stderr and b"BrokenPipe" not in result.stderr


def test_the_bundle_is_there_from_another_folder_too(tmp_path: Path) -> None:
    explain = command("explain", "--config", str(QUICKSTART), "hello")
    result = subprocess.run(explain, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert '"decision"' in result.stdout


def test_a_bundle_named_in_the_configuration_counts_from_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(REPOSITORY / "model_repository", home / "models", copy_function=os.link)
    text = QUICKSTART.read_text() + "\nglobal: {inference: {bundle: models/bundle.json}}\n"
    (home / "router.yaml").write_text(text)
    explain = command("explain", "--config", "home/router.yaml", "hello")
    result = subprocess.run(explain, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    shutil.rmtree(home / "models")
    result = subprocess.run(explain, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stdout == ""
    assert str(tmp_path / "models" / "bundle.json") in result.stderr and "--repository" in result.stderr


def test_a_configuration_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("check", "migrate", "envoy"):
        result = subprocess.run(
            command(name, "--config", "nope.yaml"), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 1 and result.stdout == ""
        assert str(tmp_path / "nope.yaml") in result.stderr and "--config" in result.stderr
        assert "Errno" not in result.stderr
