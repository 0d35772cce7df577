"""Schemas of the resources that are not Kubernetes' own, for the fields that this project writes.

Written by hand from the documented interfaces (prometheus-operator v1, KEDA 2, Gateway API 1.3 and its Inference
Extension 1, Envoy Gateway 1.5 and newer, Istio 1.2x, OpenShift's Route), because no package index has the definitions
as data. They are strict: a field that is not here is an error, whether it is mistyped or only new. So passing means "as
documented", not "as the cluster says"; the cluster's own word is `kubectl apply --dry-run=server`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
ANY: Schema = {}
BOOLEAN: Schema = {"type": "boolean"}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
PERCENT: Schema = {"type": "integer", "minimum": 0, "maximum": 100}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
# Gateway API's form, GEP-2257.
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
HEADER: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9!#$%&'*+\-.^_|~]+$"}
PATH: Schema = {"type": "string", "pattern": "^/"}
STATUS: Schema = {"type": "integer", "minimum": 100, "maximum": 599}
QUANTITY: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"}]
}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def many(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least, **({"maxItems": most} if most else {})}


def thing(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def resource(api_version: str, kind: str, body: dict[str, Schema]) -> Schema:
    metadata = thing({"name": NAME}, {"namespace": NAME, "labels": LABELS, "annotations": LABELS})
    return thing({"apiVersion": one_of(api_version), "kind": one_of(kind), "metadata": metadata, **body})


# --- Prometheus, KEDA, OpenShift -----------------------------------------------------------------------------------

_SELECTOR = thing({"matchLabels": {**LABELS, "minProperties": 1}})

_SERVICE_MONITOR = resource(
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    {
        "spec": thing(
            {
                "selector": _SELECTOR,
                "endpoints": many(
                    thing(
                        {"port": TEXT},
                        {
                            "path": PATH,
                            "interval": {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"},
                            "scheme": one_of("http", "https"),
                        },
                    ),
                    least=1,
                ),
            },
            {"namespaceSelector": thing({}, {"matchNames": many(NAME), "any": BOOLEAN}), "jobLabel": TEXT},
        )
    },
)

_SPAN: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h|d|w|y))+$"}
_PROMETHEUS_RULE = resource(
    "monitoring.coreos.com/v1",
    "PrometheusRule",
    {
        "spec": thing({
            "groups": many(
                thing(
                    {
                        "name": TEXT,
                        "rules": many(
                            thing(
                                {"alert": TEXT, "expr": TEXT},
                                {"for": _SPAN, "keep_firing_for": _SPAN, "labels": LABELS, "annotations": LABELS},
                            ),
                            least=1,
                        ),
                    },
                    {"interval": _SPAN},
                ),
                least=1,
            )
        })
    },
)  # fmt: skip

_PROMETHEUS_TRIGGER = thing(
    {
        "type": one_of("prometheus"),
        "metadata": thing(
            {"serverAddress": {"type": "string", "pattern": "^https?://"}, "query": TEXT,
             "threshold": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}},
            {"activationThreshold": TEXT, "namespace": NAME, "ignoreNullValues": one_of("true", "false")},
        ),
    },
    {"name": TEXT, "metricType": one_of("AverageValue", "Value")},
)  # fmt: skip

_SCALED_OBJECT = resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    {
        "spec": thing(
            {"scaleTargetRef": thing({"name": NAME}, {"kind": TEXT, "apiVersion": TEXT}),
             "triggers": many(_PROMETHEUS_TRIGGER, least=1)},
            {"minReplicaCount": COUNT, "maxReplicaCount": COUNT, "cooldownPeriod": COUNT, "pollingInterval": COUNT},
        )
    },
)  # fmt: skip

_ROUTE = resource(
    "route.openshift.io/v1",
    "Route",
    {
        "spec": thing(
            {
                "to": thing({"kind": one_of("Service"), "name": NAME}, {"weight": {"type": "integer", "maximum": 256}}),
                "port": thing({"targetPort": {"anyOf": [TEXT, PORT]}}),
            },
            {
                "host": NAME,
                "path": TEXT,
                "tls": thing(
                    {"termination": one_of("edge", "passthrough", "reencrypt")},
                    {"insecureEdgeTerminationPolicy": one_of("None", "Allow", "Redirect")},
                ),
            },
        )
    },
)

# --- Gateway API ---------------------------------------------------------------------------------------------------

_GATEWAY_GROUP = "gateway.networking.k8s.io"
_INFERENCE_GROUP = "inference.networking.k8s.io"
_PARENT = thing({"name": NAME}, {"group": one_of(_GATEWAY_GROUP), "kind": one_of("Gateway"), "namespace": NAME,
                                 "sectionName": NAME, "port": PORT})  # fmt: skip
_MATCH = thing(
    {},
    {
        "method": one_of("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"),
        "path": thing({"type": one_of("Exact", "PathPrefix", "RegularExpression"), "value": PATH}),
        "headers": many(
            thing({"name": HEADER, "value": TEXT}, {"type": one_of("Exact", "RegularExpression")}), most=16
        ),
    },
)
_ROUTE_FILTER = thing(
    {"type": one_of("ExtensionRef"), "extensionRef": thing({"group": TEXT, "kind": TEXT, "name": NAME})}
)
_BACKEND: Schema = {
    "oneOf": [
        thing({"name": NAME, "port": PORT}, {"namespace": NAME, "weight": COUNT}),
        thing({"group": one_of(_INFERENCE_GROUP), "kind": one_of("InferencePool"), "name": NAME},
              {"namespace": NAME, "weight": COUNT}),
    ]
}  # fmt: skip
_RULE = {
    **thing(
        {"matches": many(_MATCH, least=1, most=64)},
        {
            "backendRefs": many(_BACKEND, least=1, most=16),
            "filters": many(_ROUTE_FILTER, least=1),
            "timeouts": thing({}, {"request": DURATION, "backendRequest": DURATION}),
        },
    ),
    # A rule with neither answers 500.
    "anyOf": [{"required": ["backendRefs"]}, {"required": ["filters"]}],
}

_GATEWAY = resource(
    f"{_GATEWAY_GROUP}/v1",
    "Gateway",
    {
        "spec": thing({
            "gatewayClassName": NAME,
            "listeners": many(thing({"name": NAME, "protocol": one_of("HTTP", "HTTPS"), "port": PORT}), least=1),
        })
    },
)  # fmt: skip

_HTTP_ROUTE = resource(
    f"{_GATEWAY_GROUP}/v1",
    "HTTPRoute",
    {
        "spec": thing(
            {
                "parentRefs": many(_PARENT, least=1),
                "rules": many(_RULE, least=1, most=16),
            },
            {"hostnames": many(TEXT)},
        )
    },
)

_REFERENCE_GRANT = resource(
    f"{_GATEWAY_GROUP}/v1beta1",
    "ReferenceGrant",
    {
        "spec": thing({
            "from": many(thing({"group": TEXT, "kind": TEXT, "namespace": NAME}), least=1),
            "to": many(thing({"group": {"type": "string"}, "kind": TEXT}, {"name": NAME}), least=1),
        })
    },
)  # fmt: skip

_NUMBER = thing({"number": PORT})
_INFERENCE_POOL = resource(
    f"{_INFERENCE_GROUP}/v1",
    "InferencePool",
    {
        "spec": thing({
            "selector": _SELECTOR,
            "targetPorts": many(_NUMBER, least=1, most=8),
            "endpointPickerRef": thing(
                {"name": NAME, "port": _NUMBER}, {"failureMode": one_of("FailOpen", "FailClose")}
            ),
        })
    },
)  # fmt: skip

# --- Envoy Gateway -------------------------------------------------------------------------------------------------

_ENVOY_GATEWAY = "gateway.envoyproxy.io/v1alpha1"
_TARGET = thing(
    {"group": one_of(_GATEWAY_GROUP), "kind": one_of("Gateway", "HTTPRoute"), "name": NAME}, {"sectionName": NAME}
)
_ENVOY_TYPES = one_of(*(
    f"type.googleapis.com/{name}"
    for name in (
        "envoy.config.listener.v3.Listener",
        "envoy.config.route.v3.RouteConfiguration",
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.extensions.transport_sockets.tls.v3.Secret",
    )
))  # fmt: skip

_ENVOY_PATCH_POLICY = resource(
    _ENVOY_GATEWAY,
    "EnvoyPatchPolicy",
    {
        "spec": thing(
            {
                # A patch policy is for a whole Gateway.
                "targetRef": thing(
                    {"group": one_of(_GATEWAY_GROUP), "kind": one_of("Gateway", "GatewayClass"), "name": NAME}
                ),
                "type": one_of("JSONPatch"),
                "jsonPatches": many(
                    thing({
                        "type": _ENVOY_TYPES,
                        "name": TEXT,
                        "operation": thing(
                            {"op": one_of("add", "remove", "replace", "move", "copy", "test"),
                             "path": {"type": "string", "pattern": "^(/.*)?$"}},
                            {"value": ANY, "from": TEXT, "jsonPath": TEXT},
                        ),
                    }),
                    least=1,
                ),
            },
            {"priority": {"type": "integer"}},
        )
    },
)  # fmt: skip

_BODY = thing({}, {"body": one_of("Streamed", "Buffered", "BufferedPartial", "FullDuplexStreamed"),
                   "attributes": many(TEXT)})  # fmt: skip
_LIMITS = ("maxConnections", "maxPendingRequests", "maxParallelRequests", "maxParallelRetries")
_CIRCUIT_BREAKER = thing({}, dict.fromkeys(_LIMITS, COUNT))
_TRIGGERS = one_of(
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
)  # fmt: skip
_RETRY = thing(
    {"numRetries": COUNT, "retryOn": thing({"triggers": many(_TRIGGERS, least=1)})},
    {"perRetry": thing({}, {"timeout": DURATION, "backOff": thing({}, {"baseInterval": DURATION,
                                                                        "maxInterval": DURATION})})},
)  # fmt: skip
_ACTIVE = thing(
    {"type": one_of("HTTP", "TCP", "GRPC")},
    {
        "timeout": DURATION,
        "interval": DURATION,
        "unhealthyThreshold": COUNT,
        "healthyThreshold": COUNT,
        "grpc": thing({}, {"service": TEXT}),
        "http": thing({"path": PATH}, {"method": TEXT, "expectedStatuses": many(STATUS)}),
    },
)
_PASSIVE = thing(
    {},
    {
        "splitExternalLocalOriginErrors": BOOLEAN,
        "consecutiveLocalOriginFailures": COUNT,
        "interval": DURATION,
        "baseEjectionTime": DURATION,
        "maxEjectionPercent": PERCENT,
    },
)
_HEALTH_CHECK = thing({}, {"active": _ACTIVE, "passive": _PASSIVE})

_ENVOY_EXTENSION_POLICY = resource(
    _ENVOY_GATEWAY,
    "EnvoyExtensionPolicy",
    {
        "spec": thing({
            "targetRefs": many(_TARGET, least=1),
            "extProc": many(
                thing(
                    {"backendRefs": many(thing({"name": NAME, "port": PORT}, {"namespace": NAME}), least=1)},
                    {
                        "messageTimeout": DURATION,
                        "failOpen": BOOLEAN,
                        "processingMode": thing(
                            {}, {"allowModeOverride": BOOLEAN, "request": _BODY, "response": _BODY}
                        ),
                        "backendSettings": thing(
                            {},
                            {"retry": _RETRY, "circuitBreaker": _CIRCUIT_BREAKER,
                             "healthCheck": _HEALTH_CHECK},
                        ),
                    },
                ),
                least=1,
                most=16,
            ),
        })
    },
)  # fmt: skip

_BACKEND_TRAFFIC_POLICY = resource(
    _ENVOY_GATEWAY,
    "BackendTrafficPolicy",
    {
        "spec": thing(
            {"targetRefs": many(_TARGET, least=1, most=16)},
            {
                "timeout": thing({}, {"http": thing({}, {"requestTimeout": DURATION})}),
                "retry": _RETRY,
                "circuitBreaker": _CIRCUIT_BREAKER,
                "healthCheck": _HEALTH_CHECK,
            },
        )
    },
)

_CLIENT_TRAFFIC_POLICY = resource(
    _ENVOY_GATEWAY,
    "ClientTrafficPolicy",
    {
        "spec": thing(
            {"targetRefs": many(_TARGET, least=1)},
            {
                "connection": thing({}, {"bufferLimit": QUANTITY}),
                "headers": thing(
                    {},
                    {
                        "earlyRequestHeaders": thing({}, {"remove": {**many(HEADER, most=64), "uniqueItems": True}}),
                        "withUnderscoresAction": one_of("Allow", "RejectRequest", "DropHeader"),
                    },
                ),
                "path": thing(
                    {},
                    {"escapedSlashesAction": one_of("KeepUnchanged", "RejectRequest", "UnescapeAndForward",
                                                    "UnescapeAndRedirect"), "disableMergeSlashes": BOOLEAN},
                ),
                "timeout": thing({}, {"http": thing({}, dict.fromkeys(
                    ("requestReceivedTimeout", "idleTimeout", "streamIdleTimeout"), DURATION
                ))}),
            },
        )
    },
)  # fmt: skip

_TOKEN_ISSUER = thing(
    {"name": NAME, "remoteJWKS": thing({"uri": {"type": "string", "pattern": "^https://"}})},
    {"issuer": TEXT, "audiences": many(TEXT), "claimToHeaders": many(thing({"claim": TEXT, "header": HEADER}))},
)
_SECURITY_POLICY = resource(
    _ENVOY_GATEWAY,
    "SecurityPolicy",
    {
        "spec": thing({
            "targetRefs": many(_TARGET, least=1),
            "jwt": thing({"providers": many(_TOKEN_ISSUER, least=1, most=4)}),
        })
    },
)  # fmt: skip

_HTTP_ROUTE_FILTER = resource(
    _ENVOY_GATEWAY,
    "HTTPRouteFilter",
    {
        "spec": thing({
            "directResponse": thing({
                "statusCode": {"type": "integer", "minimum": 200, "maximum": 599},
                "contentType": TEXT,
                "body": thing({"type": one_of("Inline"), "inline": TEXT}),
            })
        })
    },
)  # fmt: skip

# --- Istio ---------------------------------------------------------------------------------------------------------

_ENVOY_FILTER_MATCH = thing(
    {"context": one_of("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY")},
    {
        "listener": thing(
            {},
            {
                "name": TEXT,
                "portNumber": PORT,
                "filterChain": thing(
                    {}, {"name": TEXT, "filter": thing({"name": TEXT}, {"subFilter": thing({"name": TEXT})})}
                ),
            },
        ),
        "cluster": thing({}, {"name": TEXT, "service": TEXT, "portNumber": PORT}),
    },
)

_ENVOY_FILTER = resource(
    "networking.istio.io/v1alpha3",
    "EnvoyFilter",
    {
        "spec": thing(
            {
                "configPatches": many(
                    thing({
                        "applyTo": one_of(
                            "LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "ROUTE_CONFIGURATION",
                            "VIRTUAL_HOST", "HTTP_ROUTE", "CLUSTER", "EXTENSION_CONFIG", "BOOTSTRAP",
                            "LISTENER_FILTER",
                        ),
                        "match": _ENVOY_FILTER_MATCH,
                        "patch": thing({
                            "operation": one_of("MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER",
                                                "INSERT_FIRST", "REPLACE"),
                            "value": {"type": "object"},
                        }),
                    }),
                    least=1,
                )
            },
            {"workloadSelector": thing({"labels": {**LABELS, "minProperties": 1}}), "priority": {"type": "integer"}},
        )
    },
)  # fmt: skip

SCHEMAS: dict[tuple[str, str], Schema] = {
    (schema["properties"]["apiVersion"]["enum"][0], schema["properties"]["kind"]["enum"][0]): schema
    for schema in (
        _SERVICE_MONITOR,
        _PROMETHEUS_RULE,
        _SCALED_OBJECT,
        _ROUTE,
        _GATEWAY,
        _HTTP_ROUTE,
        _REFERENCE_GRANT,
        _INFERENCE_POOL,
        _ENVOY_PATCH_POLICY,
        _ENVOY_EXTENSION_POLICY,
        _BACKEND_TRAFFIC_POLICY,
        _CLIENT_TRAFFIC_POLICY,
        _SECURITY_POLICY,
        _HTTP_ROUTE_FILTER,
        _ENVOY_FILTER,
    )
}
