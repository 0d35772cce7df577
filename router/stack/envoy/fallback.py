"""A request that its model cannot answer comes back to the router: Envoy's part of it.

The last retry of such a request does not go to a backend, but to a listener inside Envoy that redirects it to where it
was. Envoy follows that itself: the request, as it was sent, passes all filters anew, and the router sends it to the
next candidate. Until then nothing is different, but for a filter that a response without an error passes unread.
"""

from __future__ import annotations

from collections.abc import Iterator

from triton_router.config.schema import Config, ProviderModel
from triton_router.extproc.messages import METADATA
from triton_router.names import ATTEMPT, BASE_MODEL, FAILURE, FALLS_BACK, SELECTED_MODEL
from triton_router.stack.envoy.names import cluster_name
from triton_router.stack.envoy.values import Json, extension, http_options, lua, no_circuit_breaker, seconds, typed

_LISTENER = "fallback"
_FAILURES = "triton-router.fallback"
BACK, _NOBODY = "fallback", "fallback/nobody"
# Marks a response as one that a model with a longer context might not give; no backend sends this status.
TOO_LONG = 599
FOLLOWED: Json = {
    "max_internal_redirects": 10,
    "redirect_response_codes": [307],
    "allow_cross_scheme_redirect": True,
}

# Notes why an attempt failed. What a router says of its candidates begins with `longer` where one has a longer context.
_NOTE_FAILURE = rf"""
local function is_too_long(handle)
  local decision = handle:streamInfo():dynamicMetadata():get("{METADATA}")
  if decision == nil or decision.attempt == nil or decision.attempt:sub(1, 7) ~= "longer " then
    return false
  end
  local body = handle:body()
  local text = body and body:getBytes(0, math.min(body:length(), 65536)):lower() or ""
  return text:find("context_length_exceeded", 1, true) ~= nil
    or text:find("maximum context length", 1, true) ~= nil
    or text:find("maximum model length", 1, true) ~= nil
    or text:find("prompt is too long", 1, true) ~= nil
end

function envoy_on_response(handle)
  local status = handle:headers():get(":status")
  local after = handle:headers():get("retry-after") or ""
  if status:sub(1, 1) == "3" then
    -- Envoy is to follow no redirect of a backend's.
    handle:headers():remove("location")
    return
  end
  if status == "400" then
    if not is_too_long(handle) then
      return
    end
    status = "context_length"
    handle:headers():replace(":status", "{TOO_LONG}")
  end
  -- What is no number and no date says nothing, and metadata holds no bytes that are not UTF-8.
  if #after > 512 or not after:find("^[%w ,:.+-]*$") then
    after = ""
  end
  handle:streamInfo():dynamicMetadata():set("{_FAILURES}", "failure", status .. " " .. after)
end
"""
# The route to the model is no longer that of the request, nor is its path. Envoy follows a redirect only where the host
# can be in a URL.
_SEND_BACK = rf"""
function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local decision, noted = metadata:get("{METADATA}"), metadata:get("{_FAILURES}")
  local headers = handle:headers()
  if decision and decision.attempt then
    headers:replace("{ATTEMPT}", decision.attempt)
    headers:replace("{FAILURE}", noted and noted.failure or headers:get("{FAILURE}") or "")
  end
  headers:remove("{BASE_MODEL}")
  headers:remove("{SELECTED_MODEL}")
  local host = headers:get(":authority") or ""
  local port = tonumber(host:match(":(%d+)$") or 1)
  if not host:gsub(":%d+$", ""):find("^[%w.-]+$") or port < 1 or port > 65535 then
    headers:replace(":authority", "gateway")
  end
  local path = headers:get("x-envoy-original-path")
  if path then
    headers:replace(":path", path)
    headers:remove("x-envoy-original-path")
  end
end
"""


def falls_back(config: Config) -> bool:
    """Whether any request may be sent to another candidate."""
    return any(policy.enabled for policy in config.fallbacks())


# --- listener ------------------------------------------------------------------------------------------------------


def announcement() -> list[Json]:
    """What tells the router, in each of Envoy's calls, that requests come back to it."""
    return [{"key": FALLS_BACK, "value": "1"}]


def internal_listeners() -> Json:
    """The extension of Envoy's that :func:`listener` needs."""
    return extension("envoy.bootstrap.internal_listener", "bootstrap.internal_listener.v3.InternalListener")


def listener(*filters: Json) -> Json:
    """Redirects every request to where it was sent, once ``filters`` let it."""
    again = {"match": {"prefix": "/"}, "redirect": {"response_code": "TEMPORARY_REDIRECT"}}
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=_LISTENER,
        route_config={"virtual_hosts": [{"name": _LISTENER, "domains": ["*"], "routes": [again]}]},
        http_filters=[*filters, extension("envoy.filters.http.router", "filters.http.router.v3.Router")],
    )
    return {"name": _LISTENER, "internal_listener": {}, "filter_chains": [{"filters": [manager]}]}


# --- clusters ------------------------------------------------------------------------------------------------------


def clusters(config: Config) -> Iterator[Json]:
    """The way back, and a cluster around that of each model, whose requests fail where no endpoint of it is healthy.

    Envoy does not retry a request for which it finds no endpoint.
    """
    yield _inside(BACK, _LISTENER, lua("send-back", _SEND_BACK))
    if not falls_back(config):
        return
    # No listener has this name: who is connected to it is refused at once.
    yield _inside(_NOBODY, "nobody")
    for model in config.providers.models:
        if model.backend_refs:
            yield {
                "name": _around(model),
                "connect_timeout": seconds(1),
                "lb_policy": "CLUSTER_PROVIDED",
                "circuit_breakers": no_circuit_breaker(),
                "cluster_type": {
                    "name": "envoy.clusters.aggregate",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                        "clusters": [cluster_name(model.name), _NOBODY],
                    },
                },
                **_upstream(_unless_well(lua("note-failure", _NOTE_FAILURE))),
            }


def _inside(name: str, listener: str, *filters: Json) -> Json:
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": listener}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(1),
        "circuit_breakers": no_circuit_breaker(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **_upstream(*filters),
    }


def _upstream(*filters: Json) -> Json:
    codec = extension("envoy.filters.http.upstream_codec", "filters.http.upstream_codec.v3.UpstreamCodec")
    chain = {"http_filters": [*filters, codec]} if filters else {}
    return http_options(explicit_http_config={"http_protocol_options": {}}, **chain)


def _unless_well(inner: Json) -> Json:
    """``inner``, left out of responses that are 2xx."""
    skip = {"name": "skip", "typed_config": typed("filters.common.matcher.action.v3.SkipFilter")}
    status = {
        "name": "status",
        "typed_config": {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput"},
    }
    return extension(
        inner["name"],
        "common.matching.v3.ExtensionWithMatcher",
        extension_config=inner,
        xds_matcher={"matcher_tree": {"input": status, "exact_match_map": {"map": {"2xx": {"action": skip}}}}},
    )


def _around(model: ProviderModel) -> str:
    return f"fallback/{cluster_name(model.name)}"


# --- routes --------------------------------------------------------------------------------------------------------


def attempt_follows() -> Json:
    """Matches requests for which there is another candidate."""
    return {"filter": METADATA, "path": [{"key": "attempt"}], "value": {"present_match": True}}


def action(config: Config, plain: Json, model: ProviderModel) -> Json:
    """The route action ``plain`` of a model for such requests: all its attempts, and then the way back.

    Connections that break, and timeouts, always are retried. Statuses that not every policy names are those of which
    the router says so in a header.
    """
    policy = plain.get("retry_policy", {})
    groups = [_group(_around(model))] * model.attempts + [_group(BACK)]
    return {
        **{key: value for key, value in plain.items() if key != "cluster"},
        "inline_cluster_specifier_plugin": {
            "extension": extension(
                "envoy.router.cluster_specifier_plugin.priority_group",
                "router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier",
                priority_groups=groups,
            )
        },
        "retry_policy": {
            **policy,
            "retry_on": "connect-failure,refused-stream,reset-before-request,reset,retriable-status-codes",
            "retriable_status_codes": [*sorted(config.retried_statuses()), TOO_LONG],
            "num_retries": model.attempts,
            "refresh_cluster_on_retry": True,
            "retry_back_off": {"base_interval": seconds(0.001), "max_interval": seconds(0.002)},
        },
        "internal_redirect_policy": FOLLOWED,
    }


def _group(cluster: str) -> Json:
    return {"name": cluster, "clusters": [{"cluster_name": cluster, "weight": 1}]}
