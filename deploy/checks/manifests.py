"""What is wrong with a set of manifests: against the schemas, among themselves, and with what the router expects."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from deploy.checks.custom_resources import SCHEMAS
from triton_router.config import ConfigError, loads

Manifest = dict[str, Any]

# The oldest that the chart allows, and the newest that the package knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
CLUSTER_SCOPED = frozenset({
    "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PersistentVolume", "PriorityClass",
    "StorageClass", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "GatewayClass",
    "SecurityContextConstraints",
})  # fmt: skip
# Images whose root file system must be written to, as their documentation has it.
WRITE_THEIR_ROOT = frozenset({"vllm", "ui"})
# Words that stand for a secret without being one: the ends of a name.
_SECRET = re.compile(r"(TOKEN|PASSWORD|SECRET|API_KEY)$")
NO_SECRET = "none"


def problems(manifests: Sequence[Manifest], *, granted: Container[str] = ()) -> list[str]:
    """Everything that is wrong, one line each, with the resource that it is about.

    ``granted`` are kinds of the whole cluster that whoever applies these may make. Manifests without a namespace all go
    into the same one.
    """
    found = [f"{called(manifest)}: {flaw}" for manifest in manifests for flaw in _shape(manifest, granted)]
    if found:
        # References in a misshapen resource would only repeat what is wrong with it.
        return found
    whole = _Whole(manifests)
    return [f"{called(manifest)}: {flaw}" for manifest in manifests for flaw in whole.flaws(manifest)] + [
        *whole.duplicates()
    ]


def called(manifest: Manifest) -> str:
    return f"{manifest.get('kind')}/{manifest.get('metadata', {}).get('name')}"


# --- shape ---------------------------------------------------------------------------------------------------------


def _shape(manifest: Manifest, granted: Container[str]) -> Iterator[str]:
    kind, api_version = manifest.get("kind", ""), manifest.get("apiVersion", "")
    if kind in CLUSTER_SCOPED and kind not in granted:
        yield "belongs to the whole cluster: an ordinary project may not make it"
    if kind == "Secret":
        yield "secrets are named, never carried"
    schema = SCHEMAS.get((api_version, kind))
    if schema is not None:
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            yield f"{_path(error.absolute_path)}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            yield f"no schema for {api_version} {kind}"
            return
        except kubernetes_validate.ValidationError as error:
            yield f"{_path(error.path)}: {error.message} (Kubernetes {version})"
            return


def _path(words: Any) -> str:
    return ".".join(map(str, words)) or "."


# --- among themselves ----------------------------------------------------------------------------------------------


class _Whole:
    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._manifests = manifests
        self._workloads = [each for each in manifests if each["kind"] in ("Deployment", "StatefulSet")]
        self._services = [each for each in manifests if each["kind"] == "Service"]
        # Where these manifests have what requests go to. Of other namespaces nothing is known.
        self._namespaces = {namespace(each) for each in manifests if each["kind"] in ("Service", "InferencePool")}

    def duplicates(self) -> Iterator[str]:
        seen = set()
        for each in self._manifests:
            key = (each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            if key in seen:
                yield f"{called(each)}: is there twice"
            seen.add(key)

    def flaws(self, manifest: Manifest) -> Iterator[str]:
        checks = {
            "Deployment": self._workload,
            "StatefulSet": self._workload,
            "Service": self._service,
            "NetworkPolicy": self._network_policy,
            "PodDisruptionBudget": self._selects_pods,
            "HorizontalPodAutoscaler": self._scales,
            "ScaledObject": self._scales,
            "ServiceMonitor": self._monitor,
            "Route": self._route,
            "ConfigMap": self._config_map,
            "HTTPRoute": self._http_route,
            "EnvoyExtensionPolicy": self._extension_policy,
            "BackendTrafficPolicy": self._traffic_policy,
            "EnvoyPatchPolicy": self._patch_policy,
            "EnvoyFilter": self._envoy_filter,
            "InferencePool": self._pool,
        }
        yield from checks.get(manifest["kind"], lambda _: iter(()))(manifest)

    def _names(self, kind: str, place: str | None) -> set[str]:
        return {e["metadata"]["name"] for e in self._manifests if e["kind"] == kind and namespace(e) == place}

    # --- workloads -------------------------------------------------------------------------------------------------

    def _workload(self, workload: Manifest) -> Iterator[str]:
        template = workload["spec"]["template"]
        labels, pod = template["metadata"]["labels"], template["spec"]
        if not matches(workload["spec"]["selector"]["matchLabels"], labels):
            yield "its selector does not match the labels of its pods"
        if pod.get("automountServiceAccountToken") is not False:
            yield "its pods get the token of a service account"
        for spread in pod.get("topologySpreadConstraints", ()):
            if not matches(spread["labelSelector"]["matchLabels"], labels):
                yield "topologySpreadConstraints: counts other pods than its own"
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for container in containers(workload):
            name = container["name"]
            for flaw in (*_container(container, volumes), *_guarded(container)):
                yield f"container {name}: {flaw}"
        names = self._names("ConfigMap", namespace(workload))
        for volume in volumes.values():
            source = volume.get("configMap", {}).get("name")
            if source is not None and source not in names:
                yield f"volume {volume['name']}: there is no ConfigMap {source}"

    # --- what points at workloads ----------------------------------------------------------------------------------

    def _selected(self, by: Manifest, selector: dict[str, str]) -> list[Manifest]:
        return [
            each
            for each in self._workloads
            if namespace(each) == namespace(by) and matches(selector, each["spec"]["template"]["metadata"]["labels"])
        ]

    def _service(self, service: Manifest) -> Iterator[str]:
        pods = self._selected(service, service["spec"].get("selector", {}))
        if len(pods) != 1:
            yield f"its selector matches the pods of {len(pods)} workloads"
        for port in service["spec"]["ports"]:
            if pods and not any(_has_port(pod, port.get("targetPort", port["port"])) for pod in pods):
                yield f"port {port['name']}: its pods have no port {port.get('targetPort', port['port'])}"

    def _network_policy(self, policy: Manifest) -> Iterator[str]:
        yield from self._selects_pods(policy, "podSelector")
        pods = self._selected(policy, policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"]["ingress"]:
            for port in rule.get("ports", ()):
                if pods and not any(_has_port(pod, port["port"]) for pod in pods):
                    yield f"its pods have no port {port['port']}"
            for peer in rule.get("from", ()):
                only_pods = set(peer) == {"podSelector"}
                if only_pods and not self._selected(policy, peer["podSelector"]["matchLabels"]):
                    yield "lets in pods that nothing makes"

    def _selects_pods(self, manifest: Manifest, key: str = "selector") -> Iterator[str]:
        selector = manifest["spec"].get(key, {}).get("matchLabels", {})
        if not selector or not self._selected(manifest, selector):
            yield "selects no pods"

    def _pool(self, pool: Manifest) -> Iterator[str]:
        yield from self._selects_pods(pool)
        for pod in self._selected(pool, pool["spec"]["selector"]["matchLabels"]):
            for port in pool["spec"]["targetPorts"]:
                if not _has_port(pod, port["number"]):
                    yield f"its pods have no port {port['number']}"

    def _scales(self, manifest: Manifest) -> Iterator[str]:
        target = manifest["spec"]["scaleTargetRef"]["name"]
        scaled = next((each for each in self._workloads if each["metadata"]["name"] == target), None)
        if scaled is None:
            yield f"scales {target}, which is not there"
        elif "replicas" in scaled["spec"]:
            yield f"scales {target}, which has a fixed number of replicas: each upgrade would set it back"

    def _monitor(self, monitor: Manifest) -> Iterator[str]:
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [each for each in self._services if matches(selector, each["metadata"].get("labels", {}))]
        for endpoint in monitor["spec"]["endpoints"]:
            ports = {port["name"] for each in found for port in each["spec"]["ports"]}
            if endpoint["port"] not in ports:
                yield f"selects no Service with a port {endpoint['port']}"

    def _route(self, route: Manifest) -> Iterator[str]:
        service = self._called(route["spec"]["to"]["name"], route)
        if service is None:
            yield f"there is no Service {route['spec']['to']['name']}"
            return
        wanted = route["spec"]["port"]["targetPort"]
        if wanted not in {port["name"] for port in service["spec"]["ports"]}:
            yield f"Service {service['metadata']['name']} has no port {wanted}"

    # --- gateways --------------------------------------------------------------------------------------------------

    def _called(self, host: str, by: Manifest) -> Manifest | None:
        """The Service that ``by`` means: NAME of its own namespace, or NAME.NAMESPACE and what may follow."""
        name, _, rest = host.partition(".")
        there = (rest.partition(".")[0] or namespace(by), None)
        return next((s for s in self._services if s["metadata"]["name"] == name and namespace(s) in there), None)

    def _answers(self, host: str, port: int, by: Manifest) -> str | None:
        """Why ``host:port`` is not a Service of these manifests."""
        service = self._called(host, by)
        if service is None:
            return f"there is no Service {host}"
        if port not in {each["port"] for each in service["spec"]["ports"]}:
            return f"Service {host} has no port {port}"
        return None

    def _http_route(self, route: Manifest) -> Iterator[str]:
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", ()):
                place = backend.get("namespace", namespace(route))
                if place not in self._namespaces:
                    continue  # It comes with other manifests.
                if backend.get("kind") == "InferencePool":
                    if backend["name"] not in self._names("InferencePool", place):
                        yield f"there is no InferencePool {backend['name']}"
                    continue
                host = f"{backend['name']}.{place}" if place else backend["name"]
                if flaw := self._answers(host, backend["port"], route):
                    yield flaw
            for each in rule.get("filters", ()):
                if each["extensionRef"]["name"] not in self._names("HTTPRouteFilter", namespace(route)):
                    yield f"there is no HTTPRouteFilter {each['extensionRef']['name']}"

    def _extension_policy(self, policy: Manifest) -> Iterator[str]:
        for processor in policy["spec"]["extProc"]:
            for backend in processor["backendRefs"]:
                if flaw := self._answers(backend["name"], backend["port"], policy):
                    yield flaw

    def _traffic_policy(self, policy: Manifest) -> Iterator[str]:
        routes = self._names("HTTPRoute", namespace(policy))
        for target in policy["spec"]["targetRefs"]:
            if target["kind"] == "HTTPRoute" and target["name"] not in routes:
                yield f"there is no HTTPRoute {target['name']}"

    def _patch_policy(self, policy: Manifest) -> Iterator[str]:
        patches = policy["spec"]["jsonPatches"]
        values = [patch["operation"].get("value") for patch in patches]
        clusters = {patch["name"] for patch in patches if patch["type"].endswith(".Cluster")}
        for value in values:
            for named in _members(value, "cluster_name"):
                if named not in clusters:
                    yield f"cluster {named} is not added"
            for address in _members(value, "socket_address"):
                if flaw := self._answers(address["address"], address["port_value"], policy):
                    yield flaw

    def _envoy_filter(self, manifest: Manifest) -> Iterator[str]:
        for patch in manifest["spec"]["configPatches"]:
            for named in _members(patch["patch"]["value"], "cluster_name"):
                found = re.fullmatch(r"outbound\|(\d+)\|\|(.+)", named)
                flaw = (
                    self._answers(found[2], int(found[1]), manifest) if found else f"{named} is no cluster of Istio's"
                )
                if flaw:
                    yield flaw

    # --- the router's configuration --------------------------------------------------------------------------------

    def _config_map(self, config_map: Manifest) -> Iterator[str]:
        text = config_map["data"].get("config.yaml")
        if text is None:
            return
        # Variables come from Secrets that are not here.
        text = re.sub(r"\$\{[A-Z_]+\}", "from-a-secret", text)
        try:
            loaded = loads(text, file="config.yaml")
        except ConfigError as error:
            yield from str(error).splitlines()
            return
        services = loaded.config.global_.services
        listening = {
            "grpc-extproc": services.extproc.port,
            "grpc-health": services.extproc.health_port,
            "http-rest": services.api.port,
            "http-metrics": services.observability.metrics.port,
            "http-gateway": services.envoy.port,
        }
        name = config_map["metadata"]["name"]
        for workload in self._workloads:
            if not any(volume.get("configMap", {}).get("name") == name for volume in
                       workload["spec"]["template"]["spec"].get("volumes", ())):  # fmt: skip
                continue
            for container in containers(workload):
                for port in container.get("ports", ()):
                    here = listening.get(port["name"])
                    if port["containerPort"] != here:
                        yield f"the router has {port['name']} on {here}, the pod's port is {port['containerPort']}"
        yield from self._endpoint(config_map, "global.inference.endpoint", loaded.config.global_.inference.endpoint)
        for model in loaded.config.providers.models:
            for ref in model.backend_refs:
                yield from self._endpoint(config_map, f"model {model.name}", ref.endpoint)

    def _endpoint(self, config_map: Manifest, key: str, endpoint: str) -> Iterator[str]:
        host, _, port = endpoint.rpartition(":")
        # A name without a dot is a Service beside the router; one in another namespace may come with other manifests.
        here = "." not in host or host.split(".")[1] in self._namespaces
        if here and (flaw := self._answers(host, int(port), config_map)):
            yield f"{key}: {flaw}"


def namespace(manifest: Manifest) -> str | None:
    found: str | None = manifest["metadata"].get("namespace")
    return found


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def containers(workload: Manifest) -> list[Manifest]:
    """All of them: a router beside an Envoy is an init container that stays."""
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _has_port(workload: Manifest, wanted: str | int) -> bool:
    ports = [port for container in containers(workload) for port in container.get("ports", ())]
    return any(wanted in (port.get("name"), port["containerPort"]) for port in ports)


def _container(container: Manifest, volumes: dict[str, Manifest]) -> Iterator[str]:
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
        if "subPath" in mount:
            yield f"volume {mount['name']}: a subPath is never updated"
    known = {value for port in container.get("ports", ()) for value in (port["name"], port["containerPort"])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for how in container.get(probe, {}).values():
            if isinstance(how, dict) and how.get("port") not in known:
                yield f"{probe}: the container has no port {how.get('port')}"
    if "@sha256:" not in container["image"] and (
        ":" not in container["image"] or container["image"].endswith(":latest")
    ):
        yield f"image {container['image']} is not pinned"
    limits = container.get("resources", {}).get("limits", {})
    if "memory" not in limits:
        yield "has no limit of memory"
    for variable in container.get("env", ()):
        if _SECRET.search(variable["name"]) and variable.get("value", NO_SECRET) != NO_SECRET:
            yield f"{variable['name']} is written out: a secret is named"


def _guarded(container: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True and container["name"] not in WRITE_THEIR_ROOT:
        yield "may write to its root file system"


def _members(value: Any, name: str) -> Iterator[Any]:
    """What is called ``name`` anywhere inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from _members(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner, name)


def parse(text: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(text) if each]
