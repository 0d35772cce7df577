"""The manifests against schemas, against each other, against the router's configuration; and faults planted in them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from envoy_gateway import quantity, seconds
from local_stack import REPOSITORY
from manifests import DEPLOY, Object, find, rendered

from deploy.checks import fragments
from router.config import load
from router.stack import envoy

KUBERNETES = "1.34"
PLACES = sorted(
    path.parent.name
    for path in DEPLOY.glob("*/kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
)
SCHEMAS = yaml.safe_load((DEPLOY / "checks" / "schemas" / "gateways.yaml").read_text())
CONFIG = load(DEPLOY / "base" / "config.yaml").config


def flaws(objects: list[Object]) -> list[str]:
    """Everything that is wrong with these objects."""
    schemas = (flaw for each in objects for flaw in (*_of_schema(each), *fragments.too_new(each)))
    return [*schemas, *_of_references(objects)]


def _of_schema(each: Object) -> Iterator[str]:
    label = f"{each['kind']} {each['metadata']['name']}"
    schema = SCHEMAS.get(f"{each['apiVersion']} {each['kind']}")
    if schema is None:
        try:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{label}: {'.'.join(map(str, error.path))}: {error.message}"
        return
    validator = jsonschema.Draft202012Validator({"$defs": SCHEMAS["$defs"], **schema})
    for error in validator.iter_errors(each["spec"]):
        yield f"{label}: {'.'.join(map(str, error.path))}: {error.message}"


def _of_references(objects: list[Object]) -> Iterator[str]:
    """Selectors that select nothing, ports that are not there, volumes without a source."""
    pods = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]["template"]
        for each in objects
        if each["kind"] == "Deployment"
    }
    services = {
        f"{each['metadata']['name']}.{each['metadata']['namespace']}": {port["port"] for port in each["spec"]["ports"]}
        for each in objects
        if each["kind"] == "Service"
    }
    for each in objects:
        label = f"{each['kind']} {each['metadata']['name']}"
        spec = each.get("spec", {})
        if each["kind"] == "Deployment":
            yield from (f"{label}: {flaw}" for flaw in _of_pod(spec["template"]["spec"]))
        if selector := _selector(each):
            chosen = [
                pod
                for (namespace, _), pod in pods.items()
                if namespace == each["metadata"]["namespace"] and selector.items() <= pod["metadata"]["labels"].items()
            ]
            if not chosen:
                yield f"{label}: selects no pod"
            wanted = [port.get("targetPort", port["port"]) for port in spec.get("ports", [])]
            wanted += [port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]]
            wanted += [port["number"] for port in spec.get("targetPorts", [])]
            for pod in chosen:
                known = {value for port in pod["spec"]["containers"][0]["ports"] for value in port.values()}
                yield from (f"{label}: no port {port}" for port in wanted if port not in known)
        for host, port in _named(each):
            if port not in services.get(host, set()):
                yield f"{label}: no Service {host} with port {port}"


def _selector(each: Object) -> dict[str, str]:
    spec = each.get("spec", {})
    selector: dict[str, Any] = {
        "Service": lambda: spec.get("selector", {"": "nothing"}),
        "Deployment": lambda: spec["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        "InferencePool": lambda: spec["selector"]["matchLabels"],
    }.get(each["kind"], dict)()
    return selector


def _named(each: Object) -> Iterator[tuple[str, int]]:
    """Services that a gateway's object names, with their ports."""
    here = each["metadata"].get("namespace", "")
    if each["kind"] == "EnvoyPatchPolicy":
        for patch in each["spec"]["jsonPatches"]:
            for address in re.finditer(r"'address': '([^']+)', 'port_value': (\d+)", str(patch["operation"]["value"])):
                yield address[1].removesuffix(".svc.cluster.local"), int(address[2])
    for rule in each.get("spec", {}).get("rules", []) if each["kind"] == "HTTPRoute" else []:
        for ref in rule.get("backendRefs", []):
            if "port" in ref:
                yield f"{ref['name']}.{ref['namespace']}", ref["port"]
    for processor in each.get("spec", {}).get("extProc", []):
        yield from ((f"{ref['name']}.{here}", ref["port"]) for ref in processor["backendRefs"])


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        ports = {value for port in container["ports"] for value in port.values()}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"no volume {mount['name']}"
            if "subPath" in mount:
                yield f"volume {mount['name']}: a subPath never changes"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for how in container[probe].values():
                if isinstance(how, dict) and how["port"] not in ports:
                    yield f"{probe}: no port {how['port']}"
        if ":" not in container["image"]:
            yield f"image {container['image']} has no tag"
        for variable in container.get("env", []):
            if re.search("TOKEN|SECRET|PASSWORD", variable["name"]) and "value" in variable:
                yield f"{variable['name']} is written out"


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_wrong(place: str) -> None:
    objects = rendered(place)
    if place == "inference-extension":
        assert {each["kind"] for each in objects} >= {"InferencePool", "HTTPRoute"}
    assert flaws(objects) == []


def test_every_place_is_checked() -> None:
    assert set(PLACES) == {
        "aibrix", "aibrix-authenticated", "base", "envoy-gateway", "envoy-gateway-authenticated",
        "envoy-gateway-filter-first", "inference-extension", "models",
    }  # fmt: skip


def test_the_rules_are_those_of_the_sample() -> None:
    """`cat config/aibrix.yaml deploy/base/global.yaml > deploy/base/config.yaml` makes the file."""
    sample = (REPOSITORY / "config" / "aibrix.yaml").read_text()
    assert (DEPLOY / "base" / "config.yaml").read_text() == sample + (DEPLOY / "base" / "global.yaml").read_text()
    assert len(CONFIG.routing.decisions) == 15
    assert find(rendered("base"), "ConfigMap")["data"]["config.yaml"].startswith(sample)


def test_the_configuration_has_no_warnings() -> None:
    assert load(DEPLOY / "base" / "config.yaml").warnings == []


def test_ports_are_those_of_the_configuration() -> None:
    services = CONFIG.global_.services
    [container] = find(rendered("base"), "Deployment", "triton-router")["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "grpc-extproc": services.extproc.port,
        "http-rest": services.api.port,
        "http-metrics": services.observability.metrics.port,
    }
    variable = next(each for each in container["env"] if each["name"] == services.api.token_env)
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert f"{services.extproc.host}|{services.api.host}" == "0.0.0.0|0.0.0.0"


def test_a_pod_has_time_to_leave() -> None:
    pod = find(rendered("base"), "Deployment", "triton-router")["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    # CoreDNS's default of 30 s, and Envoy's of 5 s.
    assert pause >= 30 + 5
    assert pod["terminationGracePeriodSeconds"] >= pause + CONFIG.global_.router.drain_seconds + 5


def test_envoy_waits_longer_than_the_router() -> None:
    settings = CONFIG.global_
    assert settings.inference.deadline_ms is not None
    deadlines = settings.inference.deadline_ms / 1000
    deadlines += settings.stores.semantic_cache.redis.deadline_ms / 1000
    patches = find(rendered("aibrix"), "EnvoyPatchPolicy")["spec"]["jsonPatches"]
    processor = patches[0]["operation"]["value"]["typed_config"]
    [extension] = find(rendered("envoy-gateway"), "EnvoyExtensionPolicy")["spec"]["extProc"]
    for timeout in (processor["message_timeout"], seconds(extension["messageTimeout"])):
        assert float(timeout.removesuffix("s")) >= 4 * deadlines


def test_every_limit_of_a_body_is_the_same() -> None:
    policy = find(rendered("envoy-gateway"), "ClientTrafficPolicy")["spec"]
    assert quantity(policy["connection"]["bufferLimit"]) == CONFIG.global_.router.max_body_bytes


def test_routes_are_the_allow_list() -> None:
    objects = rendered("envoy-gateway")
    for model in CONFIG.providers.models:
        [rule] = find(objects, "HTTPRoute", model.name)["spec"]["rules"]
        assert tuple(match["path"]["value"] for match in rule["matches"]) == envoy.MODEL_PATHS
        headers = [match["headers"] for match in rule["matches"]]
        assert headers == [[{"name": envoy.BASE_MODEL_HEADER, "value": model.name}]] * len(headers)
        [ref], [backend] = rule["backendRefs"], model.backend_refs
        assert f"{ref['name']}.{ref['namespace']}.svc.cluster.local:{ref['port']}" == backend.endpoint
        assert rule["timeouts"] == {"request": "0s"}, "a stream may take minutes"
    guard = find(objects, "HTTPRoute", "guard")["spec"]["rules"][0]
    assert tuple(match["path"]["value"] for match in guard["matches"]) == envoy.MODEL_PATHS
    assert all("headers" not in match for match in guard["matches"])


def test_models_are_those_of_the_configuration() -> None:
    objects = rendered("models")
    for model in CONFIG.providers.models:
        [container] = find(objects, "Deployment", model.name)["spec"]["template"]["spec"]["containers"]
        assert f"--served-model-name={model.name}" in container["args"]
        assert "--enable-lora" in container["args"]
        thinks = any(argument.startswith("--reasoning-parser=") for argument in container["args"])
        assert thinks == (model.reasoning_family is not None)


# --- planted faults ------------------------------------------------------------------------------------------------


def container_of(objects: list[Object], name: str = "triton-router") -> dict[str, Any]:
    container: dict[str, Any] = find(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    return container


def spec_of(objects: list[Object], kind: str, name: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = find(objects, kind, name)["spec"]
    return spec


FAULTS: dict[str, tuple[str, Callable[[list[Object]], Any]]] = {
    "a mistyped field": ("envoy-gateway", lambda o: container_of(o).update(imagePullPolcy="Always")),
    "a selector is missing": ("envoy-gateway", lambda o: spec_of(o, "Service", "triton").pop("selector")),
    "a selector selects nothing": (
        "envoy-gateway",
        lambda o: spec_of(o, "NetworkPolicy", "triton")["podSelector"].update(matchLabels={"app": "tritn"}),
    ),
    "a Service's port is not the pod's": (
        "aibrix",
        lambda o: spec_of(o, "Service", "triton-router")["ports"][0].update(targetPort="extproc"),
    ),
    "a probe's port is not the pod's": (
        "aibrix",
        lambda o: container_of(o)["readinessProbe"]["grpc"].update(port=5051),
    ),
    "an image without a tag": ("aibrix", lambda o: container_of(o).update(image="triton-router")),
    "a secret that is written out": (
        "aibrix",
        lambda o: container_of(o)["env"].append({"name": "HF_TOKEN", "value": "hf_abc"}),
    ),
    "a volume that is not there": ("aibrix", lambda o: container_of(o, "qwen3-8b")["volumeMounts"][0].update(name="m")),
    "a patch that names another port": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][1]["operation"]["value"]["load_assignment"][
            "endpoints"
        ][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"].update(port_value=50052),
    ),
    "an operation that is none": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"].update(op="insert"),
    ),
    "a policy for a path without its slash": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"].update(path="http_filters/0"),
    ),
    "a field that Envoy has had since yesterday": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"]["value"]["typed_config"].update(
            status_on_error={"code": "ServiceUnavailable"}
        ),
    ),
    "a mistyped mode": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0]["processingMode"]["request"].update(body="BUFFERED"),
    ),
    "a mistyped policy field": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0].update(message_timeout="5s"),
    ),
    "a policy for another port": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0]["backendRefs"][0].update(port=50052),
    ),
    "a route to another port": (
        "envoy-gateway",
        lambda o: spec_of(o, "HTTPRoute", "qwen3-8b")["rules"][0]["backendRefs"][0].update(port=80),
    ),
    "a route without a target": (
        "envoy-gateway",
        lambda o: spec_of(o, "HTTPRoute", "qwen3-8b")["rules"][0].pop("backendRefs"),
    ),
    "a pool of no pods": (
        "inference-extension",
        lambda o: spec_of(o, "InferencePool", "qwen3-8b")["selector"]["matchLabels"].update(app="vllm"),
    ),
    "a pool with another port": (
        "inference-extension",
        lambda o: spec_of(o, "InferencePool", "qwen3-8b")["targetPorts"][0].update(number=8080),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    place, plant = FAULTS[fault]
    objects = copy.deepcopy(rendered(place))
    plant(objects)
    assert flaws(objects) != []
