"""The chart for every values file: rendered by Helm, held against schemas, against itself and against the router."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy_gateway import quantity
from test_observability import exposed, promtool

from deploy.checks import fragments, helm, manifests
from deploy.checks.helm import ChartFails, Manifest
from triton_router.config import Config, loads

pytestmark = pytest.mark.deploy

VALUES = [path.name for path in helm.values_files()]
TLS = 'router.tls={"secretName": "router-tls", "clientAuthentication": true}'
VLLM = 'vllm.servers=[{"name": "qwen3-8b", "model": "org/m", "resources": {"limits": {"memory": "48Gi"}}}]'
API = 'router.api.tokenSecret={"name": "api", "key": "token"}'


def values(name: str) -> list[Path]:
    return [helm.CHART / "values" / name]


@pytest.fixture(scope="module")
def rendered() -> Callable[..., list[Manifest]]:
    """Manifests by values file (none: the chart's own) and settings; each is rendered once."""
    made: dict[tuple[str, ...], list[Manifest]] = {}

    def render(name: str = "", *settings: str) -> list[Manifest]:
        key = (name, *settings)
        if key not in made:
            made[key] = helm.render(values(name) if name else [], settings)
        return copy.deepcopy(made[key])

    return render


def find(documents: list[Manifest], kind: str, end: str = "") -> Manifest:
    name = f"router-triton-router{end}"
    [match] = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    return match


def flaws(documents: list[Manifest]) -> list[str]:
    return manifests.problems(documents) + [flaw for each in documents for flaw in fragments.problems(each)]


# --- what the values files make ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *VALUES])
def test_nothing_is_wrong(name: str, rendered: Callable[..., list[Manifest]]) -> None:
    assert flaws(rendered(name)) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("aibrix.yaml", [TLS, API]),
        ("aibrix.yaml", ["gateway.filterIndex=1", "gateway.routes=true"]),
        ("aibrix.yaml", ['gateway.filterChain="filter_chains/0"']),
        ("envoy-gateway.yaml", [VLLM]),
        ("istio.yaml", ["gateway.filterIndex=0"]),
        ("cpu.yaml", [API, 'router.autoscaling={"kind": "hpa", "inFlight": 20}']),
        ("cpu.yaml", ['gateway.kind="none"', TLS, "networkPolicy.enabled=false"]),
        (
            "gpu.yaml",
            [
                'triton.modelRepository={"kind": "persistentVolumeClaim", "claimName": "plans"}',
                'cache={"backend": "redis", "url": "redis://redis:6379", "passwordSecret": {"name": "redis"}}',
                'cache.hmacSecret={"name": "cache"}',
                "triton.engineBuild.enabled=false",
            ],
        ),
        ("gpu.yaml", ['cache={"backend": "milvus", "url": "http://milvus:19530"}']),
        ("openshift.yaml", ['triton={"enabled": false, "endpoint": "triton.models.svc:8001"}', "ui.enabled=true"]),
    ],
)  # fmt: skip
def test_nothing_is_wrong_with_more_switched_on(
    name: str, settings: list[str], rendered: Callable[..., list[Manifest]]
) -> None:
    assert flaws(rendered(name, *settings)) == []


@pytest.mark.parametrize("name", ["", *VALUES])
def test_helm_finds_nothing_to_mend(name: str) -> None:
    assert helm.lint(values(name) if name else []) == ""


def test_envoy_refuses_before_the_kernel_kills_it(rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered()
    [config] = [each["data"]["config.yaml"] for each in documents if "config.yaml" in each.get("data", {})]
    [envoy] = [
        container
        for workload in documents
        if workload["kind"] == "Deployment"
        for container in manifests.containers(workload)
        if container["name"] == "envoy"
    ]
    bound = loads(config).config.global_.services.envoy.max_heap_bytes
    assert bound is not None and bound <= 0.8 * quantity(envoy["resources"]["limits"]["memory"])


def test_a_values_file_for_each_kind_of_cluster() -> None:
    assert {Path(name).stem for name in VALUES} == {
        "cpu", "gpu", "multi-gpu", "aibrix", "envoy-gateway", "istio", "openshift", "kickstart",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["openshift.yaml", "kickstart.yaml"])
def test_openshift_picks_the_users(name: str, rendered: Callable[..., list[Manifest]]) -> None:
    for workload in rendered(name):
        if workload["kind"] == "Deployment":
            pod = workload["spec"]["template"]["spec"]
            contexts = [pod.get("securityContext", {})]
            contexts += [each["securityContext"] for each in manifests.containers(workload)]
            assert not any({"runAsUser", "runAsGroup", "fsGroup"} & context.keys() for context in contexts)


def test_the_kickstart_takes_one_gpu(rendered: Callable[..., list[Manifest]]) -> None:
    limits = [
        container["resources"]["limits"]["nvidia.com/gpu"]
        for workload in rendered("kickstart.yaml")
        if workload["kind"] == "Deployment"
        for container in manifests.containers(workload)
        if "nvidia.com/gpu" in container["resources"]["limits"]
    ]
    assert limits == ["1"]


def test_the_kickstarts_base_has_a_template_and_two_adapters(rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered("kickstart.yaml")
    vllm = find(documents, "Deployment", "-phi2")["spec"]["template"]["spec"]["containers"][0]
    assert {"--lora-modules", "--chat-template=/etc/chat-template/template.jinja"} <= set(vllm["args"])
    assert [word.partition("=")[0] for word in vllm["args"] if "/" in word and word[0] != "-"] == ["doctor", "dcot"]
    assert find(documents, "ConfigMap", "-phi2")["data"]["template.jinja"].count("'Instruct: '") == 1


@pytest.mark.parametrize("name", ["", "kickstart.yaml"])
def test_the_notes_have_a_curl_that_fits(name: str) -> None:
    text = helm.notes(values(name) if name else [])
    [body] = [line.split("-d '")[1].rstrip("'") for line in text.splitlines() if "-d '" in line]
    assert json.loads(body)["model"] == "MoM"
    assert "service/router-triton-router 8080:80" in text


GUIDES = sorted((helm.ROOT / "docs" / "deploy").glob("*.md"))


def helm_lines() -> list[str]:
    """What the guides have typed, in one line each."""
    blocks = [
        block for guide in GUIDES for block in re.findall(r"^```(?:ba)?sh\n(.*?)^```", guide.read_text(), re.M | re.S)
    ]
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line for line in text.splitlines() if re.match(r"helm (install|upgrade) ", line)]


@pytest.mark.parametrize("line", helm_lines())
def test_the_guides_lines_of_helm_render(line: str) -> None:
    _, _, release, chart, *words = shlex.split(line)
    options = dict(itertools.pairwise(words))
    assert helm.ROOT / chart == helm.CHART
    pairs = [words[index + 1].partition("=") for index, word in enumerate(words) if word == "--set"]
    files = [helm.ROOT / options["--values"]] if "--values" in options else []
    made = helm.render(files, [f'{key}="{value}"' for key, _, value in pairs], release=release)
    assert flaws(made) == []


# --- the router's configuration ------------------------------------------------------------------------------------


def configuration(documents: list[Manifest]) -> Config:
    return loads(find(documents, "ConfigMap")["data"]["config.yaml"]).config


def test_demo_backends_serve_what_the_configuration_names(rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered("", 'configFile="tenants.yaml"')
    config = configuration(documents)
    plan = json.loads(find(documents, "ConfigMap", "-demo")["data"]["plan.json"])
    loras = {card.name: [lora.name for lora in card.loras] for card in config.routing.modelCards}
    served = {f"router-triton-router-demo:{each['port']}": each["models"] for each in plan}
    for model in config.providers.models:
        [ref] = model.backend_refs
        assert served[ref.endpoint] == [{"name": model.name, "loras": loras.get(model.name, [])}]


def test_values_lie_over_the_file(rendered: Callable[..., list[Manifest]]) -> None:
    over = 'config.global={"inference": {"deadline_ms": 77}, "router": {"drain_seconds": 1}}'
    config = configuration(rendered("", over))
    assert config.global_.inference.deadline_ms == 77
    assert config.global_.router.drain_seconds == 30
    assert config.routing.decisions[0].name == "careful_work"


def test_the_api_is_inside_the_pod_until_a_token_is_named(rendered: Callable[..., list[Manifest]]) -> None:
    assert configuration(rendered()).global_.services.api.host == "127.0.0.1"
    assert configuration(rendered("", API)).global_.services.api.token_env == "ROUTER_API_TOKEN"


def test_envoy_waits_longer_than_the_router(rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered("aibrix.yaml", 'config.global={"inference": {"deadline_ms": 2500}}')
    value = find(documents, "EnvoyPatchPolicy")["spec"]["jsonPatches"][0]["operation"]["value"]
    assert value["typed_config"]["message_timeout"] == "7s"


@pytest.mark.parametrize("name", ["envoy-gateway.yaml", "istio.yaml"])
def test_each_model_has_a_route_that_only_the_router_can_open(
    name: str, rendered: Callable[..., list[Manifest]]
) -> None:
    documents = rendered(name)
    opened = {}
    for route in documents:
        if route["kind"] != "HTTPRoute" or route["metadata"]["name"].endswith("guard"):
            continue
        [rule] = route["spec"]["rules"]
        [key] = {
            header["value"] for match in rule["matches"] for header in match["headers"]
            if header["name"] == "x-gateway-base-model-name"
        }  # fmt: skip
        opened[key] = [(each["name"], each["namespace"], each["port"]) for each in rule["backendRefs"]]
    assert opened == {
        model.name: [(model.name, "default", 8000)] for model in configuration(documents).providers.models
    }


def test_who_builds_plans_may_write_the_claim(rendered: Callable[..., list[Manifest]]) -> None:
    """A claim without a group is root's on most storage, and no container of the chart's is root."""

    def group(name: str, repository: str) -> int | None:
        pod = find(
            rendered(name, f"triton.modelRepository={repository}", 'triton.profile="gpu"'), "Deployment", "-triton"
        )
        context: dict[str, Any] = pod["spec"]["template"]["spec"]["securityContext"]
        return context.get("fsGroup")

    claim = '{"kind": "persistentVolumeClaim", "claimName": "plans"}'
    assert group("gpu.yaml", claim) == 10001
    assert group("openshift.yaml", claim) is None, "OpenShift gives one, and refuses others"
    assert group("gpu.yaml", '{"kind": "emptyDir"}') is None, "everybody may write there anyway"


@pytest.mark.parametrize("name", ["multi-gpu.yaml", "kickstart.yaml"])
def test_vllm_is_asked_by_nobody_past_the_router(name: str, rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered(name)
    guarded = [each["spec"]["podSelector"]["matchLabels"] for each in documents if each["kind"] == "NetworkPolicy"]
    for workload in documents:
        if workload["kind"] == "Deployment" and any(
            container["name"] == "vllm" for container in manifests.containers(workload)
        ):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            assert sum(manifests.matches(selector, labels) for selector in guarded) == 1


def test_keda_asks_for_metrics_that_exist_and_gets_a_number(
    rendered: Callable[..., list[Manifest]], tmp_path: Path
) -> None:
    """With no traffic too: a quantile of nothing is NaN, by which KEDA would scale anywhere."""
    triggers = find(rendered("multi-gpu.yaml"), "ScaledObject")["spec"]["triggers"]
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in triggers}
    names = {name for query in queries.values() for name in re.findall(r"router_\w+", query)}
    assert names <= exposed().keys()
    pods = 'namespace="triton-router", service="router-triton-router-metrics"'
    series = [f'router_stage_seconds_bucket{{stage="total", le="{le}", {pods}}}' for le in ("0.05", "0.1", "+Inf")]
    tests = [
        {
            "input_series": [{"series": name, "values": values} for name in series],
            "promql_expr_test": [
                {"expr": queries["p99"], "eval_time": "3m", "exp_samples": [{"labels": "{}", "value": value}]}
            ],
        }
        for values, value in (("7x20", 0), ("0+60x20", 0.0495))
    ]
    (tmp_path / "rules.yaml").write_text("groups: []\n")
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests}
    for test in tests:
        test["interval"] = "15s"
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    result = promtool("test", "rules", "tests.yaml", directory=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


# --- values that cannot be meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("router.replica=2", "replica"),
        ("router.podDisruptionBudget.enabled=true", "drained"),
        ('gateway.filterChain="filters"', "filterChain"),
        ('gateway.kind="envoy"', "kind"),
        ('triton.profile="tpu"', "profile"),
        ('router.resources={"limits": {"memory": "lots"}}', "memory"),
        ('gateway.kind="envoyGatewayPatch"', "gateway.name"),
        ('cache.backend="redis"', "cache.url"),
        ("triton.enabled=false", "triton.endpoint"),
        ('configFile="none.yaml"', "configs/none.yaml"),
        ('router.tls.secretName="x"', "loopback"),
        ('triton={"profile": "gpu", "modelRepository": {"kind": "persistentVolumeClaim"}}', "claimName"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(setting: str, word: str) -> None:
    with pytest.raises(ChartFails, match=word):
        helm.render((), [setting])


# --- planted faults ------------------------------------------------------------------------------------------------


MISSING = object()
CONTAINER = "spec.template.spec.initContainers.0"
FILTER = "spec.jsonPatches.0.operation.value.typed_config"
ENDPOINT = "spec.jsonPatches.1.operation.value.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address"
ISTIO = "spec.configPatches.0.patch.value.typed_config"
COMPONENT = {"app.kubernetes.io/component": "other"}

# Values file, resource, where in it, what is put there (GONE: nothing is left), a word of what the checks say.
PLANTED: list[tuple[str, str, str, Any, str]] = [
    ("", "Service", "spec.ports.0.targetPort", "http-gatway", "no port http-gatway"),
    ("", "Service", "spec.selector", COMPONENT, "matches the pods of 0"),
    ("", "Deployment", f"{CONTAINER}.ports.0.containerPort", 50052, "has grpc-extproc on 50051"),
    ("", "Deployment", f"{CONTAINER}.readinessProbe.grpc.port", 50050, "no port 50050"),
    ("", "Deployment", f"{CONTAINER}.volumeMounts.0.subPath", "config.yaml", "never updated"),
    ("", "Deployment", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", MISSING, "root file system"),
    ("", "Deployment", f"{CONTAINER}.image", "triton-router:latest", "is not pinned"),
    ("", "Deployment", f"{CONTAINER}.env.0", {"name": "API_TOKEN", "value": "x"}, "is written out"),
    ("", "Deployment", "spec.selector", MISSING, "'selector' is a required property"),
    ("", "Deployment", "spec.template.metadata.labels", COMPONENT, "does not match the labels"),
    ("", "Deployment", "spec.template.spec.terminationGracePeriod", 5, "terminationGracePeriod"),
    ("", "Deployment", "spec.template.spec.volumes.0.configMap.name", "other", "no ConfigMap other"),
    ("", "Deployment", "spec.template.spec.volumes.0.name", "other", "there is no volume config"),
    ("", "Deployment", "spec.replicas", "two", "replicas"),
    ("", "NetworkPolicy-triton", "spec.podSelector.matchLabels", COMPONENT, "selects no pods"),
    ("", "NetworkPolicy", "spec.ingress.0.ports.0.port", "gateway", "no port gateway"),
    ("", "ServiceAccount", "kind", "ClusterRole", "whole cluster"),
    ("gpu.yaml", "Deployment-triton", "spec.template.spec.containers.0.resources.limit", {}, "limit"),
    ("gpu.yaml", "ServiceMonitor-metrics", "spec.endpoints.0.port", "metrics", "no Service with a port metrics"),
    ("gpu.yaml", "ServiceMonitor-metrics", "spec.endpoints.0.intervall", "5s", "intervall"),
    ("gpu.yaml", "PodDisruptionBudget", "spec.selector.matchLabels", COMPONENT, "selects no pods"),
    ("multi-gpu.yaml", "Deployment", "spec.replicas", 2, "fixed number of replicas"),
    ("multi-gpu.yaml", "ScaledObject", "spec.scaleTargetRef.name", "router", "which is not there"),
    ("multi-gpu.yaml", "ScaledObject", "spec.triggers.0.metadata.serverAddress", MISSING, "serverAddress"),
    ("openshift.yaml", "Route", "spec.port.targetPort", "grpc", "has no port grpc"),
    ("openshift.yaml", "Route", "spec.tls.termination", "egde", "egde"),
    ("aibrix.yaml", "EnvoyPatchPolicy", f"{FILTER}.failure_mode", True, "failure_mode"),
    ("aibrix.yaml", "EnvoyPatchPolicy", f"{FILTER}.status_on_error", {"code": "ServiceUnavailable"}, "too new"),
    ("aibrix.yaml", "EnvoyPatchPolicy", f"{FILTER}.processing_mode.request_body_mode", "BUFERED", "BUFERED"),
    (
        "aibrix.yaml",
        "EnvoyPatchPolicy",
        f"{FILTER}.grpc_service.envoy_grpc.cluster_name",
        "x",
        "cluster x is not added",
    ),
    ("aibrix.yaml", "EnvoyPatchPolicy", "spec.jsonPatches.0.operation.path", "/filters/0", "there is no filters"),
    ("envoy-gateway.yaml", "BackendTrafficPolicy-qwen3-8b", "spec.targetRefs.0.name", "other", "no HTTPRoute other"),
    ("multi-gpu.yaml", "NetworkPolicy-qwen3-8b", "spec.ingress.0.ports.0.port", "http", "no port http"),
    ("aibrix.yaml", "EnvoyPatchPolicy", f"{ENDPOINT}.socket_address.port_value", 50052, "has no port 50052"),
    ("aibrix.yaml", "EnvoyPatchPolicy", "spec.targetRefs", [], "targetRefs"),
    ("envoy-gateway.yaml", "EnvoyExtensionPolicy", "spec.extProc.0.failopen", True, "failopen"),
    ("envoy-gateway.yaml", "EnvoyExtensionPolicy", "spec.extProc.0.backendRefs.0.port", 50052, "has no port 50052"),
    ("envoy-gateway.yaml", "EnvoyExtensionPolicy", "spec.extProc.0.messageTimeout", "5", "messageTimeout"),
    ("envoy-gateway.yaml", "HTTPRouteFilter-guard", "metadata.name", "other", "no HTTPRouteFilter"),
    ("envoy-gateway.yaml", "HTTPRoute-guard", "spec.rules.0.matches.0.header", [], "header"),
    ("istio.yaml", "EnvoyFilter", f"{ISTIO}.mesage_timeout", "1s", "mesage_timeout"),
    ("istio.yaml", "EnvoyFilter", f"{ISTIO}.grpc_service.envoy_grpc.cluster_name", "router", "no cluster of Istio"),
    ("istio.yaml", "EnvoyFilter", "spec.configPatches.0.patch.operation", "INSERT", "INSERT"),
]
# The same in the text of the router's configuration.
MISWRITTEN = [
    ("port: 9190", "port: 9191", "has http-metrics on 9191"),
    ("decisions:", "decisons:", "did you mean `decisions`"),
    ("demo:8101", "demo:8109", "no port 8109"),
    ("triton:8001", "triton:8000", "no port 8000"),
]


def plant(manifest: Manifest, path: str, value: Any) -> None:
    *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    place: Any = manifest
    for word in way:
        place = place[word]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize(("name", "resource", "path", "value", "word"), PLANTED)
def test_a_planted_fault_is_found(
    name: str, resource: str, path: str, value: Any, word: str, rendered: Callable[..., list[Manifest]]
) -> None:
    documents = rendered(name)
    kind, dash, end = resource.partition("-")
    plant(find(documents, kind, dash + end), path, value)
    problems = flaws(documents)
    assert any(word in flaw for flaw in problems), problems


@pytest.mark.parametrize(("old", "new", "word"), MISWRITTEN)
def test_a_miswritten_configuration_is_found(
    old: str, new: str, word: str, rendered: Callable[..., list[Manifest]]
) -> None:
    documents = rendered()
    data = find(documents, "ConfigMap")["data"]
    assert old in data["config.yaml"]
    data["config.yaml"] = data["config.yaml"].replace(old, new)
    problems = flaws(documents)
    assert any(word in flaw for flaw in problems), problems


def test_a_resource_that_is_there_twice_is_found(rendered: Callable[..., list[Manifest]]) -> None:
    documents = rendered()
    problems = flaws([*documents, find(documents, "Service")])
    assert problems == ["Service/router-triton-router: is there twice"]
