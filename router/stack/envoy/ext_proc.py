"""The external processor: the filter that asks the router, and the cluster of its workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triton_router.config.schema import Config
from triton_router.config.services import EnvoySettings, RouterTls
from triton_router.extproc.messages import METADATA
from triton_router.stack.envoy import fallback, one_message
from triton_router.stack.envoy.names import EXT_PROC_CLUSTER, EXT_PROC_FILTER
from triton_router.stack.envoy.values import (
    OTHER_HOST,
    UNLIMITED,
    Json,
    discovery_type,
    extension,
    http_options,
    load_assignment,
    no_circuit_breaker,
    seconds,
    typed,
)


def ext_proc_filter(config: Config) -> Json:
    """The whole request goes to the router; of the answer only the headers, unless it asks for more.

    Envoy waits longer for a message than the router's own deadlines, so that in the ordinary case the router decides
    what happens when time runs out.
    """
    inference, cache = config.global_.inference, config.global_.stores.semantic_cache
    deadlines = inference.deadline_ms / 1000 if inference.deadline_ms is not None else 1.0
    deadlines += cache.coalesce_ms / 1000
    return extension(
        EXT_PROC_FILTER,
        "filters.http.ext_proc.v3.ExternalProcessor",
        failure_mode_allow=config.global_.services.envoy.failure_mode_allow,
        message_timeout=seconds(deadlines + 4),
        status_on_error={"code": "ServiceUnavailable"},
        allow_mode_override=True,
        # Its own retries, which clients cannot set, are bounded for each request.
        mutation_rules={"allow_envoy": True},
        # Envoy closes a connection on which it refuses a request, and does not wait for a processor first: such a
        # response would be lost on the way to the router. It asks for those of its own requests.
        processing_mode={**_processing_mode(config.global_.services.envoy), **_NO_RESPONSES},
        **(one_message.attributes() if one_message.possible(config.global_.services.envoy) else {}),
        metadata_options={"receiving_namespaces": {"untyped": [METADATA]}},
        grpc_service={
            "envoy_grpc": {"cluster_name": EXT_PROC_CLUSTER},
            "initial_metadata": fallback.announcement(),
            "retry_policy": {
                "num_retries": 3,
                "retry_on": "connect-failure,reset,refused-stream,unavailable,cancelled",
                "retry_back_off": {"base_interval": seconds(0.01), "max_interval": seconds(0.05)},
                **OTHER_HOST,
            },
        },
    )


def overriding(route: Json, **overrides: Any) -> Json:
    """``route`` with settings of its own for the filter."""
    settings = route.get("typed_per_filter_config", {})
    overrides = {**settings.get(EXT_PROC_FILTER, {}).get("overrides", {}), **overrides}
    override = typed("filters.http.ext_proc.v3.ExtProcPerRoute", overrides=overrides)
    return {**route, "typed_per_filter_config": {**settings, EXT_PROC_FILTER: override}}


def full_duplex(settings: EnvoySettings) -> bool:
    """Whether the router has to send bodies back. Envoy takes no other mode from it then."""
    return "FULL_DUPLEX_STREAMED" in (settings.request_body_mode, settings.response_body_mode)


def with_and_without_body(route: Json, settings: EnvoySettings) -> list[Json]:
    """``route`` for requests whose body is one message, and for all others: their headers come first.

    The router refuses large bodies by their headers, before Envoy holds them.
    """
    if one_message.possible(settings):
        mode, length = one_message.MODE, one_message.LENGTH
    elif full_duplex(settings):
        mode, length = _processing_mode(settings), "0*[1-9][0-9]*"
    else:
        return [route]
    match = route["match"]
    has_body = {"name": "content-length", "string_match": {"safe_regex": {"regex": length}}}
    narrower = {**route, "match": {**match, "headers": [*match.get("headers", []), has_body]}}
    return [overriding(narrower, processing_mode=mode), route]


_NO_RESPONSES = {"response_header_mode": "SKIP", "response_body_mode": "NONE", "response_trailer_mode": "SKIP"}


def _processing_mode(settings: EnvoySettings) -> Json:
    def trailers(mode: str) -> str:
        # Envoy takes a full duplex body only with its trailers.
        return "SEND" if mode == "FULL_DUPLEX_STREAMED" else "DEFAULT"

    return {
        "request_header_mode": "SEND",
        "request_body_mode": settings.request_body_mode,
        "request_trailer_mode": trailers(settings.request_body_mode),
        "response_header_mode": "SEND",
        "response_body_mode": settings.response_body_mode,
        "response_trailer_mode": trailers(settings.response_body_mode),
    }


def ext_proc_cluster(
    workers: Sequence[tuple[str, int]], tls: RouterTls | None = None, max_streams: int = UNLIMITED
) -> Json:
    """The router's workers, each under its own address: Envoy balances streams, the kernel would not.

    ``max_streams`` times their number is how many they may have open together.
    """
    cluster: Json = {
        "name": EXT_PROC_CLUSTER,
        "type": discovery_type(host for host, _ in workers),
        "connect_timeout": seconds(1),
        "lb_policy": "LEAST_REQUEST",
        # Envoy gathers what it learns of hosts for a second before its threads hear of it: they would go on asking the
        # worker that has just gone, and not the one that has just come back.
        "common_lb_config": {"update_merge_window": seconds(0)},
        "circuit_breakers": no_circuit_breaker(max_streams * len(workers)),
        "health_checks": [
            {
                "timeout": seconds(0.5),
                # A worker that is gone shows at once, by its connections; one that is back has to be looked for.
                "interval": seconds(1),
                "no_traffic_interval": seconds(1),
                "unhealthy_interval": seconds(0.2),
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "tcp_health_check": {},
            }
        ],
        **http_options(explicit_http_config={"http2_protocol_options": {}}),
        "load_assignment": load_assignment(EXT_PROC_CLUSTER, [(host, port, 1) for host, port in workers]),
    }
    # A single worker has nobody to take over: ejecting it would only lengthen its absence.
    if len(workers) > 1:
        cluster["outlier_detection"] = {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 1,
            "interval": seconds(0.2),
            "base_ejection_time": seconds(3),
            "max_ejection_percent": 70,
        }
    if tls is not None:
        cluster["transport_socket"] = _tls_socket(tls)
    return cluster


def _tls_socket(tls: RouterTls) -> Json:
    context: Json = {
        "alpn_protocols": ["h2"],
        "validation_context": {"trusted_ca": {"filename": tls.ca_file}},
    }
    if tls.cert_file and tls.key_file:
        own = {"certificate_chain": {"filename": tls.cert_file}, "private_key": {"filename": tls.key_file}}
        context["tls_certificates"] = [own]
    name = tls.server_name
    if name:
        matcher = {"san_type": "DNS", "matcher": {"exact": name}}
        context["validation_context"]["match_typed_subject_alt_names"] = [matcher]
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=context,
        **({"sni": name} if name else {}),
    )
