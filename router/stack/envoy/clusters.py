"""The clusters of the models: replicas, health checks, ejection."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckHttpHealthCheck,
)
from envoy_data_plane.envoy.type.v3 import Percent

from triton_router.config.schema import Config, ProviderModel, Reliability
from triton_router.stack.envoy.names import cluster_name
from triton_router.stack.envoy.values import (
    discovery_type,
    load_assignment,
    no_circuit_breaker,
    seconds,
    split_endpoint,
)


def clusters(config: Config) -> list[Cluster]:
    """One cluster a model; models without ``backend_refs`` have none."""
    return [_model_cluster(model) for model in config.providers.models if model.backend_refs]


def _model_cluster(model: ProviderModel) -> Cluster:
    reliability = model.reliability
    addresses = [(*split_endpoint(ref.endpoint), ref.weight) for ref in model.backend_refs]
    policies = {"round_robin": ClusterLbPolicy.ROUND_ROBIN, "least_request": ClusterLbPolicy.LEAST_REQUEST}
    return Cluster(
        name=cluster_name(model.name),
        type=discovery_type(host for host, _, _ in addresses),
        connect_timeout=seconds(2),
        lb_policy=policies[reliability.lb_policy],
        circuit_breakers=no_circuit_breaker(),
        outlier_detection=_ejection(reliability),
        health_checks=_health_checks(reliability),
        # Never fall back on endpoints known to be dead: an honest 503 at once is better than a hanging request.
        common_lb_config=ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=0.0), update_merge_window=seconds(0)
        ),
        load_assignment=load_assignment(cluster_name(model.name), addresses),
    )


def _ejection(reliability: Reliability) -> OutlierDetection:
    # Envoy ejects on gateway errors (502-504) and on its own connect failures apart from other 5xx.
    threshold = reliability.consecutive_5xx
    enforced = 100 if threshold else 0
    return OutlierDetection(
        consecutive_5xx=threshold or None,
        enforcing_consecutive_5xx=enforced,
        consecutive_gateway_failure=threshold or None,
        enforcing_consecutive_gateway_failure=enforced,
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=threshold or None,
        enforcing_consecutive_local_origin_failure=enforced,
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=seconds(1),
        base_ejection_time=seconds(reliability.base_ejection_time),
        # Envoy refuses a longest ejection (300 s unless told) below the first one.
        max_ejection_time=seconds(max(300.0, reliability.base_ejection_time)),
        max_ejection_percent=reliability.max_ejection_percent,
    )


def _health_checks(reliability: Reliability) -> list[HealthCheck]:
    if reliability.health_check_path is None:
        return []
    interval = seconds(reliability.health_check_interval)
    # One that is down, or not up yet, is back in use soon after it comes up.
    soon = min(interval, seconds(1))
    check = HealthCheck(
        timeout=seconds(reliability.health_check_timeout),
        interval=interval,
        unhealthy_interval=soon,
        # Without these a cluster that has had no traffic is looked at once a minute.
        no_traffic_interval=soon,
        no_traffic_healthy_interval=interval,
        unhealthy_threshold=2,
        healthy_threshold=1,
        http_health_check=HealthCheckHttpHealthCheck(path=reliability.health_check_path),
    )
    return [check]
