"""A stand-in for a cluster's API server, for what the guides do with kubectl: it keeps objects, and runs nothing.

It knows the kinds that the manifests use; a Deployment counts as rolled out and has one running pod. An object that was
never applied, or goes into a namespace that is not there, is not found.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

# Group and version, kind, plural; namespaced but for the first.
KINDS = [
    ("v1", "Namespace", "namespaces"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Event", "events"),
    ("v1", "Pod", "pods"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("apps/v1", "Deployment", "deployments"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "referencegrants"),
    ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy", "backendtrafficpolicies"),
    ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy", "clienttrafficpolicies"),
    ("gateway.envoyproxy.io/v1alpha1", "EnvoyExtensionPolicy", "envoyextensionpolicies"),
    ("gateway.envoyproxy.io/v1alpha1", "EnvoyPatchPolicy", "envoypatchpolicies"),
    ("gateway.envoyproxy.io/v1alpha1", "HTTPRouteFilter", "httproutefilters"),
    ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy", "securitypolicies"),
    ("inference.networking.k8s.io/v1", "InferencePool", "inferencepools"),
]


class ApiServer:
    """Serves on loopback while it is entered. ``objects`` are by kind, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        for name in ("default", "envoy-gateway-system", "aibrix-system"):
            self.put("Namespace", "", {"apiVersion": "v1", "metadata": {"name": name}})
        # What Envoy Gateway makes for a Gateway; the guides call it so because its real name ends in a hash.
        labels = {
            "gateway.envoyproxy.io/owning-gateway-name": "triton-router",
            "gateway.envoyproxy.io/owning-gateway-namespace": "triton-router",
        }
        service = {"selector": {"app": "envoy"}, "ports": [{"name": "http", "port": 80, "targetPort": 10080}]}
        metadata = {"name": "NAME-OF-THAT", "namespace": "envoy-gateway-system", "labels": labels}
        self.put("Service", "envoy-gateway-system", {"apiVersion": "v1", "metadata": metadata, "spec": service})
        container = {"name": "envoy", "image": "envoy:1", "ports": [{"containerPort": 10080}]}
        template = {"metadata": {"labels": {"app": "envoy"}}, "spec": {"containers": [container]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": "envoy"}}, "template": template}
        envoy = {"apiVersion": "apps/v1", "metadata": {"name": "envoy", "namespace": "envoy-gateway-system"}}
        self.put("Deployment", "envoy-gateway-system", {**envoy, "spec": spec})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, kind: str, namespace: str, each: Json) -> Json:
        each = {**each, "kind": kind}
        name = each["metadata"]["name"]
        each["metadata"] |= {"uid": f"{kind}-{name}", "resourceVersion": "1", "generation": 1}
        if kind == "Deployment":
            count = each["spec"].get("replicas", 1)
            counted = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            each["status"] = {"observedGeneration": 1, **dict.fromkeys(counted, count)}
            template = each["spec"]["template"]
            pod = {"apiVersion": "v1", "status": {"phase": "Running"}, "spec": template["spec"]}
            labels = template["metadata"]["labels"]
            self.put(
                "Pod", namespace, {**pod, "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": labels}}
            )
        self.objects[kind, namespace, name] = each
        return each


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts, query = self._parts()
            if (discovery := _discovered(parts)) is not None:
                return self._answer(200, discovery)
            if parts[0] not in ("api", "apis"):
                return self._fail(404, "NotFound", "no schema here")
            kind, namespace, name, below = _place(parts)
            if below == "log":
                return self._answer(200, {})
            if below:
                return self._fail(400, "BadRequest", "only objects here")
            if name:
                each = server.objects.get((kind, namespace, name))
                return self._answer(200, each) if each else self._fail(404, "NotFound", f"{kind} {name!r} not found")
            selector = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if "=" in pair)
            fields = dict(pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if "=" in pair)
            items = [
                each
                for (of, within, _), each in sorted(server.objects.items())
                if of == kind
                and namespace in ("", within)
                and selector.items() <= each["metadata"].get("labels", {}).items()
                and fields.get("metadata.name", each["metadata"]["name"]) == each["metadata"]["name"]
            ]
            version = next(group for group, resource, _ in KINDS if resource == kind)
            listed = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}}
            return self._answer(200, {**listed, "items": items})

        def do_POST(self) -> None:
            kind, namespace, _, below = _place(self._parts()[0])
            body = self._body()
            if below:
                return self._fail(400, "BadRequest", "only objects here")
            if namespace and ("Namespace", "", namespace) not in server.objects:
                return self._fail(404, "NotFound", f"namespaces {namespace!r} not found")
            if (kind, namespace, body["metadata"]["name"]) in server.objects:
                return self._fail(409, "AlreadyExists", f"{kind} {body['metadata']['name']!r} already exists")
            return self._answer(201, server.put(kind, namespace, body))

        def do_PATCH(self) -> None:
            kind, namespace, name, _ = _place(self._parts()[0])
            each = server.objects.get((kind, namespace, name))
            body = self._body()
            if each is None:
                return self._fail(404, "NotFound", f"{kind} {name!r} not found")
            each["metadata"].setdefault("annotations", {}).update(body.get("metadata", {}).get("annotations", {}))
            return self._answer(200, each)

        def _parts(self) -> tuple[list[str], dict[str, str]]:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            return [part for part in url.path.split("/") if part], query

        def _body(self) -> Json:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if body.startswith(b"k8s\0"):
                # `kubectl create` speaks protobuf: an envelope's second field is the object, its first the metadata.
                name = _field(_field(_field(body[4:], 2), 1), 1).decode()
                return {"apiVersion": "v1", "metadata": {"name": name}}
            document: Json = json.loads(body or b"{}")
            return document

        def _fail(self, code: int, reason: str, message: str) -> None:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
            self._answer(code, {**status, "code": code, "message": message})

        def _answer(self, code: int, document: Json) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _field(message: bytes, number: int) -> bytes:
    """The first field of this number of a protobuf message whose fields up to it are all of variable length."""
    at = 0
    while True:
        tag, at = _varint(message, at)
        length, at = _varint(message, at)
        if tag == number << 3 | 2:
            return message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 0x80:
            return value, at


def _discovered(parts: list[str]) -> Json | None:
    groups = dict.fromkeys(group for group, _, _ in KINDS if "/" in group)
    match parts:
        case ["version"]:
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            listed: dict[str, list[Json]] = {}
            for group in groups:
                name, version = group.split("/")
                listed.setdefault(name, []).append({"groupVersion": group, "version": version})
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {"name": name, "versions": versions, "preferredVersion": versions[0]}
                    for name, versions in listed.items()
                ],
            }
        case ["api", "v1"] | ["apis", _, _]:
            group = "/".join(parts[1:])
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            resources = [
                {"name": plural, "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind,
                 "verbs": verbs, "shortNames": ["svc"] if kind == "Service" else []}
                for version, kind, plural in KINDS
                if version == group
            ]  # fmt: skip
            return {"kind": "APIResourceList", "groupVersion": group, "resources": resources}
    return None


def _place(parts: list[str]) -> tuple[str, str, str, str]:
    """Kind, namespace, name and what follows of ``/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/…``."""
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = next((kind for _, kind, plural in KINDS if plural == rest[0]), rest[0])
    return kind, namespace, rest[1] if len(rest) > 1 else "", "/".join(rest[2:])
