"""The manifests of ``deploy/`` as objects, put together as ``kubectl kustomize`` does.

Only what these directories use of kustomize is done here, so that most tests need no binary; `make check-deploy` holds
the result against the real one.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonpatch
import yaml
from local_stack import REPOSITORY

DEPLOY = REPOSITORY / "deploy"

Object = dict[str, Any]


def rendered(directory: str | Path) -> list[Object]:
    """Every object of a directory with a ``kustomization.yaml``, patched."""
    directory = DEPLOY / directory
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    objects: list[Object] = []
    for resource in kustomization.get("resources", []):
        path = directory / resource
        objects += rendered(path.resolve()) if path.is_dir() else in_file(path)
    objects += [_config_map(directory, entry) for entry in kustomization.get("configMapGenerator", [])]
    for patch in kustomization.get("patches", []):
        _patch(objects, patch)
    tags = {image["name"]: f"{image['name']}:{image['newTag']}" for image in kustomization.get("images", [])}
    for each in objects:
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            container["image"] = tags.get(container["image"], container["image"])
        for labels in kustomization.get("labels", []):
            each["metadata"].setdefault("labels", {}).update(labels["pairs"])
    return objects


def in_file(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def find(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The one object of this kind (and name)."""
    [match] = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return match


def identity(each: Object) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


def _config_map(directory: Path, entry: dict[str, Any]) -> Object:
    metadata = {"name": entry["name"], "namespace": entry["namespace"]}
    data = {file: (directory / file).read_text() for file in entry["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _patch(objects: list[Object], patch: dict[str, Any]) -> None:
    content = yaml.safe_load(patch["patch"])
    if isinstance(content, dict):
        assert content.pop("$patch") == "delete", "only deletions are written this way here"
        [at] = [index for index, each in enumerate(objects) if identity(each) == identity(content)]
        del objects[at]
        return
    target = patch["target"]
    hit = False
    for index, each in enumerate(objects):
        if each["kind"] == target["kind"] and re.fullmatch(target.get("name", ".*"), each["metadata"]["name"]):
            objects[index] = jsonpatch.apply_patch(copy.deepcopy(each), content)
            hit = True
    assert hit, f"nothing to patch: {target}"
