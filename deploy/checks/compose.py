"""What is wrong with the compose file: by the rules of its format, among its services, and with what they are told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from compose_spec import PyCompose

from triton_router.config import load
from triton_router.stack.gateway import served_models

FILE = Path(__file__).resolve().parents[1] / "compose" / "compose.yaml"
# Those without others inside.
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-+])([^{}$]*))?\}")


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """As compose does: ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+instead}``, one in the other too."""

    def value(found: re.Match[str]) -> str:
        given, word = environment.get(found[1], ""), found[3] or ""
        return (word if given else "") if found[2] == "+" else given or word

    while _VARIABLE.search(text):
        text = _VARIABLE.sub(value, text)
    return text


def problems(text: str, directory: Path = FILE.parent) -> list[str]:
    """Everything that is wrong with a compose file whose paths are relative to ``directory``."""
    text = interpolated(text, {})
    # The parser does not merge `<<` by itself.
    document = yaml.safe_load(text)
    try:
        PyCompose.from_yaml(yaml.safe_dump(document))
    except ValueError as error:
        return [str(error)]
    found = list(_among_services(document, directory))
    return found or [flaw for profile in ("cpu", "gpu") for flaw in _router(document, profile, directory)]


def _among_services(document: dict[str, Any], directory: Path) -> Iterator[str]:
    services = document["services"]
    for name, service in services.items():
        profiles = set(service["profiles"])
        for other in [*service.get("depends_on", ()), service.get("network_mode", "service:").partition(":")[2]]:
            if other and other not in services:
                yield f"{name}: there is no service {other}"
            elif other and not profiles <= set(services[other]["profiles"]):
                yield f"{name}: {other} is not in all of its profiles"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(".") and name not in ("qwen3-8b", "llama3-8b-instruct"):
                if not (directory / source).exists():
                    yield f"{name}: there is no {source}"
            elif not source.startswith(".") and source not in document["volumes"]:
                yield f"{name}: volume {source} is not declared"
        for port in service.get("ports", ()):
            if not port.startswith("127.0.0.1:"):
                yield f"{name}: port {port} listens beyond this machine"
        image = service["image"]
        if ":" not in image or image.endswith(":latest"):
            yield f"{name}: image {image} is not pinned"
        lays_out_its_backend = service.get("command", ())[:1] == ["tritonserver"] and image.endswith("-cpu")
        if lays_out_its_backend and "/tmp:exec" not in service.get("tmpfs", ()):
            yield f"{name}: runs its python backend from /tmp, which a tmpfs forbids without exec"
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", ()):
            yield f"{name}: keeps capabilities or may gain privileges"


def _router(document: dict[str, Any], profile: str, directory: Path) -> Iterator[str]:
    """The router's configuration against the services of its profile: names, ports, models and adapters."""
    services = {name: each for name, each in document["services"].items() if profile in each["profiles"]}
    router = services[f"router-{profile}"]
    config = load(directory / f"router-{profile}" / "config.yaml").config
    own = config.global_.services
    network = services[router["network_mode"].partition(":")[2]]
    published = {port.rpartition(":")[2] for port in network["ports"]}
    if str(own.envoy.port) not in published:
        yield f"router-{profile}: Envoy's port {own.envoy.port} is not published"
    names = {alias: each for each in services.values()
             for alias in each.get("networks", {}).get("default", {}).get("aliases", ())} | services  # fmt: skip
    host, _, port = config.global_.inference.endpoint.rpartition(":")
    if f"--grpc-port={port}" not in names.get(host, {}).get("command", ()):
        yield f"router-{profile}: no service {host} with gRPC on {port}"
    for endpoint, served in served_models(config).items():
        host, _, port = endpoint.rpartition(":")
        if host not in services:
            yield f"router-{profile}: there is no service {host}"
            continue
        for model in served:
            has = _serves(services[host], port, directory)
            if (model.name, set(model.loras)) not in has:
                yield f"router-{profile}: {host}:{port} does not serve {model.name} with {sorted(model.loras)}"


def _serves(service: dict[str, Any], port: str, directory: Path) -> list[tuple[str, set[str]]]:
    for volume in service["volumes"]:
        if volume.endswith(":/etc/demo:ro"):
            plan = json.loads((directory / volume.split(":")[0] / "plan.json").read_text())
            return [
                (model["name"], set(model["loras"])) for entry in plan if str(entry["port"]) == port
                for model in entry["models"]
            ]  # fmt: skip
    words = service["command"]
    name = next(word.partition("=")[2] for word in words if word.startswith("--served-model-name="))
    adapters = words[words.index("--lora-modules") + 1 :] if "--lora-modules" in words else []
    return [(name, {word.partition("=")[0] for word in adapters})] if port == "8000" else []
