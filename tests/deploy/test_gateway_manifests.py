"""The manifests against schemas, against each other, against the router's configuration; and faults planted in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from envoy_gateway import quantity, seconds
from local_stack import REPOSITORY
from manifests import DEPLOY, Object, find, rendered

from deploy.checks import fragments, manifests
from triton_router import names
from triton_router.config import load
from triton_router.stack import envoy

PLACES = sorted(
    path.parent.name
    for path in DEPLOY.glob("*/kustomization.yaml")
    if yaml.safe_load(path.read_text())["kind"] == "Kustomization"
)
CONFIG = load(DEPLOY / "base" / "config.yaml").config


def flaws(objects: list[Object]) -> list[str]:
    """Everything that is wrong with these objects, which an administrator applies: the namespace is among them."""
    problems = manifests.problems(objects, granted={"Namespace"})
    return problems or [flaw for each in objects for flaw in fragments.problems(each)]


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
        assert headers == [[{"name": names.BASE_MODEL, "value": model.name}]] * len(headers)
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


def mistaken(objects: list[Object], right: str, wrong: str) -> str:
    text: str = find(objects, "ConfigMap")["data"]["config.yaml"]
    assert right in text
    return text.replace(right, wrong)


# Directory, what is done to its objects, a word of what the checks say.
FAULTS: dict[str, tuple[str, Callable[[list[Object]], Any], str]] = {
    "a mistyped field": ("envoy-gateway", lambda o: container_of(o).update(imagePullPolcy="Always"), "imagePullPolcy"),
    "a selector is missing": (
        "envoy-gateway",
        lambda o: spec_of(o, "Service", "triton").pop("selector"),
        "matches the pods of 0",
    ),
    "a selector selects nothing": (
        "envoy-gateway",
        lambda o: spec_of(o, "NetworkPolicy", "triton")["podSelector"].update(matchLabels={"app": "tritn"}),
        "selects no pods",
    ),
    "a Service's port is not the pod's": (
        "aibrix",
        lambda o: spec_of(o, "Service", "triton-router")["ports"][0].update(targetPort="extproc"),
        "no port extproc",
    ),
    "a probe's port is not the pod's": (
        "aibrix",
        lambda o: container_of(o)["readinessProbe"]["grpc"].update(port=5051),
        "no port 5051",
    ),
    "an image without a tag": ("aibrix", lambda o: container_of(o).update(image="triton-router"), "is not pinned"),
    "a secret that is written out": (
        "aibrix",
        lambda o: container_of(o)["env"].append({"name": "HF_TOKEN", "value": "hf_abc"}),
        "HF_TOKEN is written out",
    ),
    "a volume that is not there": (
        "aibrix",
        lambda o: container_of(o, "qwen3-8b")["volumeMounts"][0].update(name="m"),
        "no volume m",
    ),
    "a patch that names another port": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][1]["operation"]["value"]["load_assignment"][
            "endpoints"
        ][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"].update(port_value=50052),
        "has no port 50052",
    ),
    "an operation that is none": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"].update(op="insert"),
        "'insert' is not one of",
    ),
    "a policy for a path without its slash": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"].update(path="http_filters/0"),
        "'http_filters/0' does not match",
    ),
    "a field that Envoy has had since yesterday": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"]["value"]["typed_config"].update(
            status_on_error={"code": "ServiceUnavailable"}
        ),
        "status_on_error is too new",
    ),
    "a field of a filter that Envoy does not know": (
        "aibrix",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"]["value"]["typed_config"].update(
            failure_mode_alow=False
        ),
        "failure_mode_alow",
    ),
    "a filter first that is not there": (
        "aibrix-authenticated",
        lambda o: spec_of(o, "EnvoyPatchPolicy")["jsonPatches"][0]["operation"].update(value="envoy.filters.http.rbac"),
        "not envoy.filters.http.rbac",
    ),
    "a mistyped mode": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0]["processingMode"]["request"].update(body="BUFFERED"),
        "'BUFFERED' is not one of",
    ),
    "a mistyped policy field": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0].update(message_timeout="5s"),
        "message_timeout",
    ),
    "a policy for another port": (
        "envoy-gateway",
        lambda o: spec_of(o, "EnvoyExtensionPolicy")["extProc"][0]["backendRefs"][0].update(port=50052),
        "has no port 50052",
    ),
    "a route to another port": (
        "envoy-gateway",
        lambda o: spec_of(o, "HTTPRoute", "qwen3-8b")["rules"][0]["backendRefs"][0].update(port=80),
        "has no port 80",
    ),
    "a route without a target": (
        "envoy-gateway",
        lambda o: spec_of(o, "HTTPRoute", "qwen3-8b")["rules"][0].pop("backendRefs"),
        "spec.rules.0",
    ),
    "a pool that is not there": (
        "inference-extension",
        lambda o: spec_of(o, "HTTPRoute", "qwen3-8b")["rules"][0]["backendRefs"][0].update(name="qwen3"),
        "there is no InferencePool qwen3",
    ),
    "a Service of another namespace": (
        "aibrix",
        lambda o: find(o, "Service", "triton-router")["metadata"].update(namespace="router"),
        "there is no Service triton-router.triton-router",
    ),
    "a model where no Service is": (
        "aibrix",
        lambda o: find(o, "ConfigMap")["data"].update(
            {"config.yaml": mistaken(o, "qwen3-8b.default", "qwen3.default")}
        ),
        "there is no Service qwen3.default",
    ),
    "a pool of no pods": (
        "inference-extension",
        lambda o: spec_of(o, "InferencePool", "qwen3-8b")["selector"]["matchLabels"].update(app="vllm"),
        "selects no pods",
    ),
    "a pool with another port": (
        "inference-extension",
        lambda o: spec_of(o, "InferencePool", "qwen3-8b")["targetPorts"][0].update(number=8080),
        "no port 8080",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    place, plant, word = FAULTS[fault]
    objects = copy.deepcopy(rendered(place))
    plant(objects)
    problems = flaws(objects)
    assert any(word in flaw for flaw in problems), problems
