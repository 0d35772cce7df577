"""What Envoy Gateway makes of manifests, as Envoy configuration in one static file.

It stands in for Envoy Gateway's translation, written from its documented behaviour: the listener with its defaults, one
route a match, one cluster a rule, ext_proc filters that are off in the chain and on in the routes, JSON patches on the
result. What is replaced is only what cannot be on one machine: addresses, and routes and endpoints that would come by
xDS. Field names are those of the protobuf messages, as in Envoy Gateway's patches.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
from manifests import Object, find

Json = dict[str, Any]
Address = tuple[str, int]

TYPE = "type.googleapis.com/"
MANAGER = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
LISTENER = TYPE + "envoy.config.listener.v3.Listener"
ROUTES = TYPE + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = TYPE + "envoy.config.cluster.v3.Cluster"
EXT_PROC = TYPE + "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
EXT_PROC_ROUTE = TYPE + "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ENVOY = Path(sys.executable).with_name("envoy")


class PatchRefused(Exception):
    """Envoy Gateway would not program the policy; its status would say so."""


@dataclass
class Resources:
    """The configuration of one gateway with one HTTP listener."""

    listener: Json
    routes: list[Json]
    clusters: dict[str, Json] = field(default_factory=dict)

    @property
    def manager(self) -> Json:
        manager: Json = self.listener["default_filter_chain"]["filters"][0]["typed_config"]
        return manager

    @property
    def filters(self) -> list[str]:
        return [each["name"] for each in self.manager["http_filters"]]

    def static(self, port: int, admin: int) -> Json:
        """All of it as a bootstrap that listens on loopback."""
        listener = copy.deepcopy(self.listener)
        listener["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        manager = listener["default_filter_chain"]["filters"][0]["typed_config"]
        table = {"name": "http", "domains": ["*"], "routes": self.routes}
        manager["route_config"] = {"name": manager.pop("rds")["route_config_name"], "virtual_hosts": [table]}
        return {
            "node": {"id": "gateway", "cluster": "gateway"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {"listeners": [listener], "clusters": list(self.clusters.values())},
        }


# --- listener ------------------------------------------------------------------------------------------------------

_UNDERSCORES = {"DropHeader": "DROP_HEADER", "RejectRequest": "REJECT_REQUEST", "Allow": "ALLOW"}
_SLASHES = {"RejectRequest": "REJECT_REQUEST", "UnescapeAndRedirect": "UNESCAPE_AND_REDIRECT"}


def listener(name: str, policy: Json, filters: Sequence[Json] = ()) -> Json:
    """One HTTP listener; ``policy`` is the ``spec`` of a ClientTrafficPolicy."""
    headers, path = policy.get("headers", {}), policy.get("path", {})
    removed = headers.get("earlyRequestHeaders", {}).get("remove", [])
    manager: Json = {
        "@type": MANAGER,
        "stat_prefix": "http-10080",
        "common_http_protocol_options": {
            "headers_with_underscores_action": _UNDERSCORES[headers.get("withUnderscoresAction", "RejectRequest")]
        },
        "http2_protocol_options": {"initial_stream_window_size": 65536, "max_concurrent_streams": 100},
        "http_filters": [
            *filters,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "merge_slashes": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": _SLASHES[path.get("escapedSlashesAction", "UnescapeAndRedirect")],
        "rds": {"config_source": {"ads": {}, "resource_api_version": "V3"}, "route_config_name": name},
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
    }
    if removed:
        manager["early_header_mutation_extensions"] = [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": header} for header in removed],
                },
            }
        ]
    if idle := policy.get("timeout", {}).get("http", {}).get("streamIdleTimeout"):
        manager["stream_idle_timeout"] = idle
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 10080}},
        "default_filter_chain": {
            "name": name,
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        },
        "per_connection_buffer_limit_bytes": quantity(policy.get("connection", {}).get("bufferLimit", 32768)),
    }


def quantity(value: str | int) -> int:
    """``4Mi`` in bytes."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    text = str(value)
    return int(text[:-2]) * units[text[-2:]] if text[-2:] in units else int(text)


# --- ext_proc ------------------------------------------------------------------------------------------------------

_BODY = {None: "NONE", "Buffered": "BUFFERED", "Streamed": "STREAMED", "FullDuplexStreamed": "FULL_DUPLEX_STREAMED"}


def extension(policy: Object, addresses: Mapping[str, Sequence[Address]]) -> tuple[list[Json], dict[str, Json]]:
    """The filters of an EnvoyExtensionPolicy and their clusters."""
    owner = f"envoyextensionpolicy/{policy['metadata']['namespace']}/{policy['metadata']['name']}"
    filters, made = [], {}
    for index, each in enumerate(policy["spec"]["extProc"]):
        [ref] = each["backendRefs"]
        host = f"{ref['name']}.{ref.get('namespace', policy['metadata']['namespace'])}"
        destination = f"{owner}/{index}"
        settings = each.get("backendSettings", {})
        mode, service = each.get("processingMode", {}), {"cluster_name": destination}
        config: Json = {
            "@type": EXT_PROC,
            "failure_mode_allow": each.get("failOpen", False),
            "grpc_service": {"envoy_grpc": {**service, "authority": f"{host}:{ref['port']}"}, "timeout": "10s"},
            "message_timeout": each.get("messageTimeout", "0.2s"),
            "allow_mode_override": mode.get("allowModeOverride", False),
            "processing_mode": {
                "request_header_mode": "SEND" if "request" in mode else "SKIP",
                "request_body_mode": _BODY[mode.get("request", {}).get("body")],
                "request_trailer_mode": "SKIP",
                "response_header_mode": "SEND" if "response" in mode else "SKIP",
                "response_body_mode": _BODY[mode.get("response", {}).get("body")],
                "response_trailer_mode": "SKIP",
            },
        }
        if "retry" in settings:
            config["grpc_service"]["retry_policy"] = _retry(settings["retry"])
        name = f"envoy.filters.http.ext_proc/{owner}/extproc/{index}"
        filters.append({"name": name, "disabled": True, "typed_config": config})
        made[destination] = cluster(destination, addresses[f"{host}:{ref['port']}"], settings, http2=True)
    return filters, made


def switched_on(*filters: Json) -> Json:
    """``typed_per_filter_config`` of a route that has these filters."""
    return {each["name"]: {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}} for each in filters}


def _retry(settings: Json) -> Json:
    made: Json = {"num_retries": settings.get("numRetries", 2), "retry_on": ",".join(settings["retryOn"]["triggers"])}
    if pause := settings.get("perRetry", {}).get("backOff"):
        made["retry_back_off"] = {
            "base_interval": seconds(pause["baseInterval"]),
            "max_interval": seconds(pause["maxInterval"]),
        }
    return made


def seconds(duration: str) -> str:
    """``10ms`` as Envoy's JSON has it."""
    return f"{int(duration[:-2]) / 1000}s" if duration.endswith("ms") else duration


# --- clusters ------------------------------------------------------------------------------------------------------


def cluster(name: str, addresses: Sequence[Address], settings: Json, *, http2: bool = False) -> Json:
    """A cluster with the settings of a BackendTrafficPolicy (or of ``backendSettings``)."""
    breaker = settings.get("circuitBreaker", {})
    made: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "ignore_health_on_host_removal": True,
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": breaker.get("maxConnections", 1024),
                    "max_pending_requests": breaker.get("maxPendingRequests", 1024),
                    "max_requests": breaker.get("maxParallelRequests", 1024),
                    "max_retries": breaker.get("maxParallelRetries", 1024),
                }
            ]
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints(addresses)}]},
    }
    check = settings.get("healthCheck", {})
    if active := check.get("active"):
        kind: Json = {"grpc_health_check": {}} if active["type"] == "GRPC" else {}
        if active["type"] == "HTTP":
            expected = [{"start": status, "end": status + 1} for status in active["http"]["expectedStatuses"]]
            kind = {"http_health_check": {"path": active["http"]["path"], "expected_statuses": expected}}
        made["health_checks"] = [
            {
                "timeout": active["timeout"],
                "interval": active["interval"],
                "unhealthy_threshold": active["unhealthyThreshold"],
                "healthy_threshold": active["healthyThreshold"],
                **kind,
            }
        ]
    if passive := check.get("passive"):
        made["outlier_detection"] = {
            "split_external_local_origin_errors": passive["splitExternalLocalOriginErrors"],
            "consecutive_local_origin_failure": passive["consecutiveLocalOriginFailures"],
            "interval": passive["interval"],
            "base_ejection_time": passive["baseEjectionTime"],
            "max_ejection_percent": passive["maxEjectionPercent"],
        }
    if http2:
        made["typed_extension_protocol_options"] = {
            HTTP_OPTIONS: {"@type": TYPE + HTTP_OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        }
    return made


def endpoints(addresses: Sequence[Address]) -> list[Json]:
    return [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in addresses
    ]


def on_loopback(resources: Resources, addresses: Mapping[str, Sequence[Address]]) -> None:
    """Put loopback addresses in the place of the host names that patches brought; nothing else changes.

    Raises ``KeyError`` for a name and port that no Service has.
    """
    for each in resources.clusters.values():
        for locality in each.get("load_assignment", {}).get("endpoints", []):
            replacements: list[Json] = []
            for endpoint in locality["lb_endpoints"]:
                socket = endpoint["endpoint"]["address"]["socket_address"]
                if socket["address"].endswith(".svc.cluster.local"):
                    name = socket["address"].removesuffix(".svc.cluster.local")
                    replacements += endpoints(addresses[f"{name}:{socket['port_value']}"])
                else:
                    replacements.append(endpoint)
            locality["lb_endpoints"] = replacements


# --- routes --------------------------------------------------------------------------------------------------------


def routes(
    objects: list[Object], traffic: Json, extensions: Json, addresses: Mapping[str, Sequence[Address]]
) -> tuple[list[Json], dict[str, Json]]:
    """The HTTPRoutes in the order of Envoy Gateway: the most specific match first. ``traffic``: a policy's ``spec``."""
    table: list[tuple[tuple[int, ...], Json]] = []
    made = {}
    for each in objects:
        if each["kind"] != "HTTPRoute":
            continue
        owner = f"httproute/{each['metadata']['namespace']}/{each['metadata']['name']}"
        for number, rule in enumerate(each["spec"]["rules"]):
            name = f"{owner}/rule/{number}"
            action = _action(objects, each, rule, name, traffic)
            for ref in rule.get("backendRefs", []):
                if ref.get("kind", "Service") == "Service":
                    host = f"{ref['name']}.{ref['namespace']}:{ref['port']}"
                    made[name] = cluster(name, addresses[host], traffic)
            for match in rule["matches"]:
                route = {"match": _match(match), **action}
                if extensions:
                    route["typed_per_filter_config"] = extensions
                path = match["path"]
                exact = path["type"] == "Exact"
                order = (not exact, -len(path["value"]), "method" not in match, -len(match.get("headers", [])))
                table.append((order, route))
    return [route for _, route in sorted(table, key=lambda entry: entry[0])], made


def _match(match: Json) -> Json:
    path = match["path"]
    made: Json = {"path" if path["type"] == "Exact" else "path_separated_prefix": path["value"]}
    headers = [{"name": entry["name"], "string_match": {"exact": entry["value"]}} for entry in match.get("headers", [])]
    if "method" in match:
        headers.append({"name": ":method", "string_match": {"exact": match["method"]}})
    return {**made, "headers": headers} if headers else made


def _action(objects: list[Object], owner: Object, rule: Json, cluster_name: str, traffic: Json) -> Json:
    for each in rule.get("filters", []):
        reference = each["extensionRef"]
        answer = find(objects, reference["kind"], reference["name"])["spec"]["directResponse"]
        content_type = {"key": "content-type", "value": answer["contentType"]}
        return {
            "direct_response": {"status": answer["statusCode"], "body": {"inline_string": answer["body"]["inline"]}},
            "response_headers_to_add": [
                {"header": content_type, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
            ],
        }
    timeout = rule.get("timeouts", {}).get("request", traffic.get("timeout", {}).get("http", {}).get("requestTimeout"))
    action: Json = {"cluster": cluster_name}
    if timeout is not None:
        action["timeout"] = timeout
    if "retry" in traffic:
        action["retry_policy"] = _retry(traffic["retry"])
    return {"route": action}


# --- authentication ------------------------------------------------------------------------------------------------


def tokens(policy: Object, keys: str) -> tuple[Json, Json]:
    """The filter of a SecurityPolicy with JWT, and what its routes carry; ``keys`` replaces the address of the keys."""
    [provider] = policy["spec"]["jwt"]["providers"]
    name = "envoy.filters.http.jwt_authn"
    package = TYPE + "envoy.extensions.filters.http.jwt_authn.v3."
    claims = [
        {"claim_name": entry["claim"], "header_name": entry["header"]} for entry in provider.get("claimToHeaders", [])
    ]
    config = {
        "@type": package + "JwtAuthentication",
        "providers": {
            provider["name"]: {
                "issuer": provider["issuer"],
                "audiences": provider["audiences"],
                "forward": True,
                "claim_to_headers": claims,
                "local_jwks": {"inline_string": keys},
            }
        },
        "requirement_map": {"listener": {"provider_name": provider["name"]}},
    }
    return (
        {"name": name, "typed_config": config},
        {name: {"@type": package + "PerRouteConfig", "requirement_name": "listener"}},
    )


# --- patches -------------------------------------------------------------------------------------------------------


def patch(resources: Resources, policy: Object) -> None:
    """Apply an EnvoyPatchPolicy.

    Raises:
        PatchRefused: a resource is not there, or a path does not fit.
    """
    for each in policy["spec"]["jsonPatches"]:
        operation = {key: copy.deepcopy(each["operation"][key]) for key in ("op", "path", "value")}
        if each["type"] == CLUSTER and operation["path"] == "":
            resources.clusters[operation["value"]["name"]] = operation["value"]
            continue
        if each["type"] != LISTENER or each["name"] != resources.listener["name"]:
            raise PatchRefused(f"unable to find xds resource {each['type']}: {each['name']}")
        try:
            resources.listener = jsonpatch.apply_patch(resources.listener, [operation])
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise PatchRefused(f"{operation['op']} {operation['path']}: {error}") from None


# --- Envoy ---------------------------------------------------------------------------------------------------------


def validate(document: Json, directory: Path) -> subprocess.CompletedProcess[str]:
    """Ask the real Envoy whether it would take this configuration."""
    path = directory / "validate.json"
    path.write_text(json.dumps(document))
    command = [str(ENVOY), "--mode", "validate", "-c", str(path), "-l", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
