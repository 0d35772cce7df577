"""The clusters of the models: replicas, health checks, ejection."""

from __future__ import annotations

from collections.abc import Iterator

from triton_router.config.schema import BackendRef, Config, ProviderModel, Reliability
from triton_router.stack.envoy import fallback
from triton_router.stack.envoy.names import cluster_name
from triton_router.stack.envoy.values import (
    Json,
    discovery_type,
    extension,
    http_options,
    load_assignment,
    no_circuit_breaker,
    seconds,
    split_endpoint,
)

_POLICIES = {"round_robin": "ROUND_ROBIN", "least_request": "LEAST_REQUEST"}
# A replica is ejected that fails this share of its responses, of which there are so many between two looks.
_FAILURE_PERCENT, _FAILURE_VOLUME = 85, 5


def clusters(config: Config) -> Iterator[Json]:
    """One cluster a model, and what falling back needs; models without ``backend_refs`` have none."""
    yield from (_model_cluster(model) for model in config.providers.models if model.backend_refs)
    yield from fallback.clusters(config)


def _model_cluster(model: ProviderModel) -> Json:
    reliability = model.reliability
    addresses = [(*split_endpoint(ref.endpoint), ref.weight) for ref in model.backend_refs]
    cluster: Json = {
        "name": cluster_name(model.name),
        "type": discovery_type(host for host, _, _ in addresses),
        "connect_timeout": seconds(1),
        "lb_policy": _POLICIES[reliability.lb_policy],
        "circuit_breakers": no_circuit_breaker(),
        # Never fall back on endpoints known to be dead: an honest 503 at once is better than a hanging request.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": seconds(0)},
        **http_options(
            explicit_http_config={"http_protocol_options": {}},
            common_http_protocol_options={"idle_timeout": seconds(reliability.keep_alive)},
        ),
        "load_assignment": load_assignment(cluster_name(model.name), addresses),
    }
    # A single replica has nobody to take over: ejecting it would only lengthen its absence.
    if model.replicated:
        cluster["outlier_detection"] = _ejection(reliability)
    first = model.backend_refs[0]
    if first.protocol == "https":
        cluster["transport_socket"] = _tls(first)
        # Not every machine that has IPv6 gets out by it.
        cluster["dns_lookup_family"] = "V4_PREFERRED"
    # A provider's API has no such path, unless somebody says which.
    checked = not first.external or "health_check_path" in reliability.model_fields_set
    if reliability.health_check_path is not None and checked:
        cluster["health_checks"] = [_health_check(reliability, reliability.health_check_path)]
    return cluster


def _tls(ref: BackendRef) -> Json:
    """The certificate must be for the name of the host that is called, and that name is in the handshake (SNI)."""
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        auto_host_sni=True,
        auto_sni_san_validation=True,
        common_tls_context={
            "alpn_protocols": ["http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": {"trusted_ca": {"filename": ref.ca_file}},
        },
    )


def _ejection(reliability: Reliability) -> Json:
    threshold = reliability.consecutive_5xx
    enforced = 100 if threshold else 0
    return {
        # Connections that close without a response count as gateway errors: with the two kinds apart, each new
        # connection would count as a success and take the failure back.
        "split_external_local_origin_errors": False,
        # Responses 502 to 504 and missing ones are the replica's fault.
        **({"consecutive_gateway_failure": threshold} if threshold else {}),
        "enforcing_consecutive_gateway_failure": enforced,
        # A 500 may be the request's fault: some in a row say little, a replica that fails nearly all says more.
        "enforcing_consecutive_5xx": 0,
        "failure_percentage_threshold": _FAILURE_PERCENT,
        "failure_percentage_request_volume": _FAILURE_VOLUME,
        "failure_percentage_minimum_hosts": 2,
        "enforcing_failure_percentage": enforced,
        "enforcing_success_rate": 0,
        "interval": seconds(1),
        "base_ejection_time": seconds(reliability.base_ejection_time),
        # Envoy refuses a longest ejection (300 s unless configured) below the first one.
        "max_ejection_time": seconds(max(300.0, reliability.base_ejection_time)),
        "max_ejection_percent": reliability.max_ejection_percent,
        # A server whose health check is green may fail every request all the same.
        "successful_active_health_check_uneject_host": False,
    }


def _health_check(reliability: Reliability, path: str) -> Json:
    # One that is down, or not up yet, is back in use soon after it comes up.
    soon = min(reliability.health_check_interval, 1.0)
    return {
        "timeout": seconds(reliability.health_check_timeout),
        "interval": seconds(reliability.health_check_interval),
        "unhealthy_interval": seconds(soon),
        # Without these a cluster that has had no traffic is looked at once a minute.
        "no_traffic_interval": seconds(soon),
        "no_traffic_healthy_interval": seconds(reliability.health_check_interval),
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        # A server may close an idle connection at the moment of the next check.
        "reuse_connection": False,
        "http_health_check": {"path": path},
    }
