"""The Dockerfiles: linted, held against the bake file, and their steps done here, where no engine runs.

The router's are run word for word, in a clean folder that stands for the image's root; what comes out is then
started as the image would be: without capabilities, in a tree that may not be written to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hcl2
import httpx
import pytest
import yaml
from local_stack import REPOSITORY, free_port, wait_for

from deploy.checks import helm, manifests
from triton_router.stack import triton

pytestmark = pytest.mark.deploy

IMAGES = REPOSITORY / "deploy" / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
BIN = Path(sys.executable).parent


# --- as text -------------------------------------------------------------------------------------------------------


def lint(path: Path) -> str:
    command = [str(BIN / "hadolint"), "--no-color", "--config", str(IMAGES / ".hadolint.yaml"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    assert lint(path) == ""


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("python:3.11.13-slim-bookworm\nARG", "python:latest\nARG", "DL3007"),
        ("USER 10001:0", "USER root", "DL3002"),
        ('ENTRYPOINT ["triton-router"]', "ENTRYPOINT triton-router", "DL3025"),
    ],
)
def test_hadolint_finds_a_planted_fault(old: str, new: str, rule: str, tmp_path: Path) -> None:
    text = (IMAGES / "router.Dockerfile").read_text()
    assert old in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(old, new))
    assert rule in lint(path)


def bake() -> dict[str, dict[str, object]]:
    blocks = hcl2.loads((IMAGES / "docker-bake.hcl").read_text())["target"]
    return {name.strip('"'): body for block in blocks for name, body in block.items()}


def test_the_bake_file_names_what_is_there() -> None:
    targets = bake()
    built = {str(body["dockerfile"]).strip('"') for body in targets.values() if "dockerfile" in body}
    assert built == {str(path.relative_to(REPOSITORY)) for path in DOCKERFILES}
    named = re.findall(r'"target:([\w-]+)"', (IMAGES / "docker-bake.hcl").read_text())
    assert set(named) <= targets.keys()


def test_the_tags_are_those_of_the_chart() -> None:
    text = (IMAGES / "docker-bake.hcl").read_text()
    tags = {f"{name}:0.1.0{suffix}" for name, suffix in re.findall(r'tags\s*= \[name\("([^"]+)", "([^"]*)"\)\]', text)}
    used = {
        container["image"]
        for values in ("cpu.yaml", "gpu.yaml")
        for each in helm.render([helm.CHART / "values" / values])
        if each["kind"] == "Deployment"
        for container in manifests.containers(each)
        if container["image"].startswith("triton-router")
    }
    assert used == tags


def test_the_gpu_image_has_what_the_python_models_import() -> None:
    """Triton loads every model of the repository, and ends where one cannot be."""
    brought = {"numpy", "triton_python_backend_utils", *sys.stdlib_module_names}
    models = REPOSITORY / "model_repository"
    on_gpu = [each for each in models.glob("*/1/model.py")
              if 'backend: "python"' in (each.parents[1] / "config.pbtxt").read_text()]  # fmt: skip
    assert on_gpu
    imported = {
        name.split(".")[0]
        for path in on_gpu
        for name in re.findall(r"^(?:import|from) ([\w.]+)", path.read_text(), re.MULTILINE)
    }
    installed = " ".join(rest for word, rest in instructions(IMAGES / "triton.Dockerfile") if "pip install" in rest)
    assert imported - brought <= set(re.findall(r"[\w-]+", installed))


# --- the router's steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """A file system of its own under ``root``, and what the Dockerfile says of starting it."""

    root: Path
    entrypoint: list[str]
    command: list[str]
    health: list[str]
    directory: str

    def here(self, words: list[str]) -> list[str]:
        return [re.sub(r"^(--\w[\w-]*=)?/(?=etc|opt|var|envoy)", rf"\1{self.root}/", word) for word in words]


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", path.read_text()))
    for line in text.splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    root = tmp_path_factory.mktemp("image")
    stages: list[list[tuple[str, str]]] = []
    for word, rest in instructions(IMAGES / "router.Dockerfile"):
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    build, final = stages
    source = root / "src"
    source.mkdir()
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(root)}
    for word, rest in build:
        if word == "COPY":
            *files, _ = rest.split()
            for name in files:
                place = source if len(files) > 1 else source / name
                if (REPOSITORY / name).is_dir():
                    shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(REPOSITORY / name, place)
        elif word == "ARG":
            name, _, value = rest.partition("=")
            environment[name] = value
        elif word == "RUN":
            script = re.sub(r"/(?=opt/venv|wheels)", f"{root}/", rest)
            subprocess.run(["bash", "-euc", script], cwd=source, env=environment, check=True, timeout=500)
    lines: dict[str, str] = {}
    for word, rest in final:
        if word == "COPY" and rest.startswith("--from=models"):
            _, there, place = rest.split()
            target = root / "opt" / "triton-router" / place
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / there.removeprefix("/src/"), target)
        lines[word] = rest
    return Image(
        root,
        yaml.safe_load(lines["ENTRYPOINT"]),
        yaml.safe_load(lines["CMD"]),
        yaml.safe_load(lines["HEALTHCHECK"].partition("CMD ")[2]),
        lines["WORKDIR"],
    )


def test_the_image_serves_without_rights(image: Image) -> None:
    etc = image.root / "etc" / "triton-router"
    etc.mkdir(parents=True)
    document = yaml.safe_load((REPOSITORY / "config" / "quickstart.yaml").read_text())
    metrics = free_port()
    services = {
        "extproc": {"port": free_port()},
        "api": {"port": free_port()},
        "observability": {"metrics": {"port": metrics}},
    }
    document["global"] = {"services": services, "inference": {"endpoint": f"127.0.0.1:{free_port()}"}}
    (etc / "config.yaml").write_text(yaml.safe_dump(document))
    writable = image.root / "tmp"
    for place in (writable, image.root / "var", image.root / "envoy"):
        place.mkdir()
    for place in ("src", "opt", "etc"):
        subprocess.run(["chmod", "-R", "a-w", str(image.root / place)], check=True)
    # Root without capabilities is bound by permissions like anybody.
    setpriv = shutil.which("setpriv")
    rights = [setpriv, "--bounding-set=-all", "--inh-caps=-all"] if setpriv and os.geteuid() == 0 else []
    environment = {"PATH": f"{image.root}/opt/venv/bin", "TMPDIR": str(writable), "PYTHONDONTWRITEBYTECODE": "1"}
    directory = image.here([image.directory])[0]

    def run(words: list[str], *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*rights, *image.here(words), *more], cwd=directory, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    entry = [shutil.which(image.entrypoint[0], path=environment["PATH"]) or "", *image.entrypoint[1:]]
    health = [entry[0], *image.health[1:]]
    check = run([*entry, "check", "--config", "/etc/triton-router/config.yaml"])
    assert "2 models" in check.communicate(timeout=60)[0]
    assert run(["/usr/bin/touch", f"{directory}/file"]).wait(20) == 1
    server = run(
        [*entry, *image.command], f"--state-directory={image.root}/var/state", f"--envoy-directory={image.root}/envoy"
    )
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{metrics}/metrics").status_code == 200, "metrics")
        wait_for(lambda: run(health).wait(30) == 0, "health")
        assert (image.root / "envoy" / "bootstrap.json").is_file()
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=60)
    assert server.returncode == 0, output
    assert run(health).wait(30) == 1


# --- Triton without a GPU ------------------------------------------------------------------------------------------


def test_the_wheels_server_takes_the_charts_words(tmp_path: Path) -> None:
    """The script that stands for `tritonserver` in the CPU image, with the arguments of the chart's pod."""
    [pod] = [
        each for each in helm.render() if each["metadata"]["name"].endswith("-triton") and each["kind"] == "Deployment"
    ]
    [container] = manifests.containers(pod)
    ports = {"grpc": free_port(), "http": free_port(), "metrics": free_port()}
    words = [re.sub(r"^--(\w+)-port=\d+$", lambda match: f"--{match[1]}-port={ports[match[1]]}", word)
             for word in container["args"]]  # fmt: skip
    words = [word.replace("/opt/triton-router", str(REPOSITORY)) for word in words]
    local = [f"--{name}-address=127.0.0.1" for name in ports]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    log = (tmp_path / "log").open("wb")
    script = [sys.executable, str(IMAGES / container["command"][0])]
    server = subprocess.Popen(
        [*script, *words, *local], env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        probe = container["readinessProbe"]["httpGet"]["path"]
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{ports['http']}{probe}").status_code == 200, "Triton")
    finally:
        server.terminate()
        server.wait(60)
        triton.prepare(Path(), tmp_path / "tritonserver").remove_shared_memory()
    assert shlex.join(container["command"]) == "tritonserver"


# --- plans that outlive an image -----------------------------------------------------------------------------------


def charts_engine() -> list[str]:
    claim = '{"kind": "persistentVolumeClaim", "claimName": "plans"}'
    documents = helm.render([helm.CHART / "values" / "gpu.yaml"], [f"triton.modelRepository={claim}"])
    [container] = [
        each
        for workload in documents
        if workload["kind"] == "Deployment"
        for each in manifests.containers(workload)
        if each["name"] == "engine-build"
    ]
    return [*container["command"], *container["args"]]


def composes_engine() -> list[str]:
    document = yaml.safe_load((REPOSITORY / "deploy" / "compose" / "compose.yaml").read_text())
    command: list[str] = document["services"]["engine"]["command"]
    return command


def gpu_image(root: Path, models: dict[str, str]) -> Path:
    """The part of an image that plans are built from: a graph with its request for each of ``models``."""
    repository = root / "model_repository"
    for name, graph in models.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "gpu.onnx").write_text(graph)
        request = {"model": name, "onnx": "gpu.onnx", "onnx_sha256": hashlib.sha256(graph.encode()).hexdigest()}
        (version / "gpu.json").write_text(json.dumps(request))
        (repository / name / "config.pbtxt").write_text(f'name: "{name}" # {graph}')
    (repository / "bundle.json").write_text(json.dumps(models))
    (root / "export").symlink_to(REPOSITORY / "export")
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words", [charts_engine, composes_engine], ids=["chart", "compose"])
def test_a_rollback_brings_the_older_files_back(words: Callable[[], list[str]], tmp_path: Path) -> None:
    """Word for word, up to the building: that there is no GPU is said when the files are in their places."""
    old = gpu_image(tmp_path / "old", {"minilm": "a graph"})
    new = gpu_image(tmp_path / "new", {"minilm": "a better graph", "second": "another graph"})
    for path in old.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    volume = tmp_path / "models"
    originals = {
        "minilm/1/model_sm90.plan": b"built here",
        "minilm/1/model_sm90.json": b"{}",
        "theirs/config.pbtxt": b"not ours",
    }

    def start(image: Path) -> dict[str, bytes]:
        here = [word.replace("/opt/triton-router", str(image)).replace("=/models/", f"={volume}/") for word in words()]
        assert here[0] == "python3"
        result = subprocess.run(
            [sys.executable, *here[1:]],
            cwd=image,
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, "no GPU here" in result.stderr) == (1, True), result.stderr
        return {name: data for name, data in content(volume / "repository").items() if not name.startswith(".")}

    assert start(old) == content(old / "model_repository")
    for name, data in originals.items():
        (volume / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        (volume / "repository" / name).write_bytes(data)
    assert start(new) == {**content(new / "model_repository"), **originals}
    (volume / "repository" / "second" / "1" / "model_sm90.plan").write_bytes(b"of a model that the old image lacks")
    assert start(old) == {**content(old / "model_repository"), **originals}
    assert not (volume / "repository" / "second").exists()
    graph = volume / "repository" / "minilm" / "1" / "gpu.onnx"
    before = graph.stat()
    start(old)
    assert graph.stat() == before, "what is right already is left alone"
