"""Envoy's configuration for one :class:`~.config.schema.Config`: pure functions, and one that writes the files.

``bootstrap.json`` holds what lives as long as the process (listener, filters, the router's own cluster); ``cds.json``
and ``rds.json`` hold the backends and the routes, which Envoy reads again whenever a rename replaces them.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation, HeaderMutationRemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    BackoffStrategy,
    ConfigSource,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    HealthCheck,
    HealthCheckHttpHealthCheck,
    HealthCheckTcpHealthCheck,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    Node,
    PathConfigSource,
    RuntimeUInt32,
    SocketAddress,
    SubstitutionFormatString,
    TransportSocket,
    TypedExtensionConfig,
    WatchedDirectory,
)
from envoy_data_plane.envoy.config.core.v3 import RetryPolicy as GrpcRetryPolicy
from envoy_data_plane.envoy.config.core.v3 import RetryPolicyRetryHostPredicate as GrpcRetryHostPredicate
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ExtProcPerRoute,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    LocalReplyConfig,
    Rds,
    ResponseMapper,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptionsExplicitHttpConfig
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, Percent, StatusCode
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.protobuf import Struct

from triton_router.config.schema import Config, ProviderModel, Reliability
from triton_router.config.services import EnvoySettings, RouterTls
from triton_router.errors import refusal_body
from triton_router.names import (
    BASE_MODEL,
    CHAT_PATH,
    CLIENT_HEADERS,
    COMPLETIONS_PATH,
    EMBEDDINGS_PATH,
    HEALTH_PATH,
    INTERNAL_PREFIX,
    MESSAGES_PATH,
    MODELS_PATH,
    RESPONSES_PATH,
    SELECTED_MODEL,
)

# A host that refuses has the fewest requests, so `LEAST_REQUEST` draws it again and again: five draws for another one
# were seen to be too few.
_DRAWS = 30

MODEL_PATHS = (CHAT_PATH, COMPLETIONS_PATH, RESPONSES_PATH, MESSAGES_PATH, EMBEDDINGS_PATH)

LISTENER_STATS = "gateway"
_EXT_PROC = "envoy.filters.http.ext_proc"
_EXT_PROC_CLUSTER = "extproc"
_ROUTES = "gateway"
_UNLIMITED = 1_000_000


# --- files ---------------------------------------------------------------------------------------------------------


def write(
    config: Config, directory: Path, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None
) -> Path:
    """Write ``cds.json``, ``rds.json`` and ``bootstrap.json`` into ``directory``, each by an atomic rename.

    ``workers`` are the (host, port) addresses of the ext_proc service. Clusters are in place before the routes that
    name them. A running Envoy follows the first two files; ``bootstrap.json`` needs a restart. Returns the path of the
    bootstrap file, to be started with ``--reject-unknown-dynamic-fields``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_clusters(config, directory)
    write_routes(config, directory)
    path = directory / "bootstrap.json"
    _replace(path, _document(bootstrap(config, directory, workers=workers, access_log=access_log)))
    return path


def static(config: Config, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None) -> dict[str, Any]:
    """The same in one document that reads no other file and follows nothing: for an Envoy of one's own."""
    document = bootstrap(config, None, workers=workers, access_log=access_log)
    return _document(document)


def write_clusters(config: Config, directory: Path) -> str:
    """Write ``cds.json``; return its version, which Envoy's statistics name once it is in use."""
    document = _discovery(clusters(config))
    _replace(directory / "cds.json", document)
    return str(document["version_info"])


def write_routes(config: Config, directory: Path) -> str:
    """Write ``rds.json``; return its version, which Envoy's statistics name once it is in use."""
    document = _discovery([routes(config)])
    _replace(directory / "rds.json", document)
    return str(document["version_info"])


def _discovery(resources: Sequence[Any]) -> dict[str, Any]:
    packed = [_document(Packed.pack(resource)) for resource in resources]
    version = hashlib.sha256(json.dumps(packed, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": packed}


def _document(message: Any) -> dict[str, Any]:
    # Names as they are: the library's own casings turn `consecutive_5xx` into a field that Envoy does not know.
    document: dict[str, Any] = message.to_dict(casing=str)
    return document


def _replace(path: Path, document: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    fresh.rename(path)


# --- bootstrap -----------------------------------------------------------------------------------------------------


def bootstrap(
    config: Config, directory: Path | None, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None
) -> Bootstrap:
    """The part that a running Envoy cannot change: admin, listener and filters, the router's own cluster.

    Without a ``directory`` for the rest, that is in it too.

    Raises:
        RuntimeError: the router speaks TLS, and Envoy is not told how.
    """
    envoy = config.global_.services.envoy
    own = ext_proc_cluster(workers, _router_tls(config), config.global_.services.extproc.max_streams)
    followed = BootstrapDynamicResources(cds_config=_file_source(directory, "cds.json")) if directory else None
    table: ConfigSource | RouteConfiguration = _file_source(directory, "rds.json") if directory else routes(config)
    return Bootstrap(
        node=Node(id="triton-router", cluster="triton-router"),
        admin=Admin(address=_address("127.0.0.1", envoy.admin_port)),
        dynamic_resources=followed,
        static_resources=BootstrapStaticResources(
            listeners=[listener(config, table, access_log=access_log)],
            clusters=[own] if directory else [own, *clusters(config)],
        ),
        layered_runtime=LayeredRuntime(
            layers=[
                # The expression of the headers to strip is longer than Envoy's cautious default (100) allows.
                RuntimeLayer(name="limits", static_layer=Struct.from_dict({"re2.max_program_size.error_level": 1000}))
            ]
        ),
    )


def listener(config: Config, table: ConfigSource | RouteConfiguration, *, access_log: Path | None = None) -> Listener:
    """The one HTTP listener; its buffer limit is the largest request body."""
    envoy = config.global_.services.envoy
    manager = HttpConnectionManager(
        stat_prefix=LISTENER_STATS,
        rds=Rds(route_config_name=_ROUTES, config_source=table) if isinstance(table, ConfigSource) else None,
        route_config=table if isinstance(table, RouteConfiguration) else None,
        http_filters=[
            HttpFilter(name=_EXT_PROC, typed_config=Packed.pack(ext_proc_filter(config))),
            HttpFilter(name="envoy.filters.http.router", typed_config=Packed.pack(Router())),
        ],
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.REJECT_REQUEST,
        # Dropped, not refused: `x_vsr_…` must not pass for `x-vsr-…`, yet a client may have an odd header of its own.
        common_http_protocol_options=HttpProtocolOptions(
            headers_with_underscores_action=HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER
        ),
        early_header_mutation_extensions=[
            TypedExtensionConfig(name="strip-internal-headers", typed_config=Packed.pack(stripped_headers()))
        ],
        stream_idle_timeout=_seconds(envoy.idle_timeout_seconds),
        request_headers_timeout=_seconds(30),
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        local_reply_config=LocalReplyConfig(mappers=_error_mappers()),
        access_log=[_access_log(access_log)] if access_log is not None else [],
    )
    return Listener(
        name="gateway",
        address=_address(envoy.host, envoy.port),
        per_connection_buffer_limit_bytes=config.global_.router.max_body_bytes,
        filter_chains=[
            FilterChain(
                filters=[
                    Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=Packed.pack(manager),
                    )
                ]
            )
        ],
    )


def ext_proc_filter(config: Config) -> ExternalProcessor:
    """The whole request goes to the router; of the answer only the headers, unless it asks for more.

    Envoy waits longer for a message than the router's own deadlines, so that in the ordinary case the router decides
    what happens when time runs out.
    """
    inference, cache = config.global_.inference, config.global_.stores.semantic_cache
    deadlines = inference.deadline_ms / 1000 if inference.deadline_ms is not None else 1.0
    deadlines += cache.coalesce_ms / 1000
    return ExternalProcessor(
        failure_mode_allow=config.global_.services.envoy.failure_mode_allow,
        message_timeout=_seconds(deadlines + 4),
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        allow_mode_override=True,
        processing_mode=_processing_mode(config.global_.services.envoy),
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=_EXT_PROC_CLUSTER),
            retry_policy=GrpcRetryPolicy(
                num_retries=3,
                retry_on="connect-failure,reset,refused-stream,unavailable,cancelled",
                retry_back_off=BackoffStrategy(base_interval=_seconds(0.01), max_interval=_seconds(0.05)),
                host_selection_retry_max_attempts=_DRAWS,
                retry_host_predicate=[
                    GrpcRetryHostPredicate(
                        name="envoy.retry_host_predicates.previous_hosts",
                        typed_config=Packed.pack(PreviousHostsPredicate()),
                    )
                ],
            ),
        ),
    )


def _processing_mode(settings: EnvoySettings) -> ProcessingMode:
    def trailers(mode: str) -> ProcessingModeHeaderSendMode:
        # Envoy takes a full duplex body only with its trailers.
        duplex = mode == "FULL_DUPLEX_STREAMED"
        return ProcessingModeHeaderSendMode.SEND if duplex else ProcessingModeHeaderSendMode.DEFAULT

    return ProcessingMode(
        request_header_mode=ProcessingModeHeaderSendMode.SEND,
        request_body_mode=ProcessingModeBodySendMode[settings.request_body_mode],
        request_trailer_mode=trailers(settings.request_body_mode),
        response_header_mode=ProcessingModeHeaderSendMode.SEND,
        response_body_mode=ProcessingModeBodySendMode[settings.response_body_mode],
        response_trailer_mode=trailers(settings.response_body_mode),
    )


def _router_tls(config: Config) -> RouterTls | None:
    services = config.global_.services
    if services.extproc.tls is None:
        return None
    if services.envoy.router_tls is None:
        raise RuntimeError("global.services.envoy.router_tls: is needed, because global.services.extproc has `tls`")
    return services.envoy.router_tls


def ext_proc_cluster(
    workers: Sequence[tuple[str, int]], tls: RouterTls | None = None, max_streams: int = _UNLIMITED
) -> Cluster:
    """The router's workers, each under its own address: Envoy balances streams, the kernel would not.

    ``max_streams`` times their number is how many they may have open together.
    """
    ejection = OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1,
        interval=_seconds(0.2),
        base_ejection_time=_seconds(3),
        max_ejection_percent=70,
    )
    return Cluster(
        name=_EXT_PROC_CLUSTER,
        type=_discovery_type(host for host, _ in workers),
        connect_timeout=_seconds(1),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        # Envoy gathers what it learns of hosts for a second before its threads hear of it: they would go on asking the
        # worker that has just gone, and not the one that has just come back.
        common_lb_config=ClusterCommonLbConfig(update_merge_window=_seconds(0)),
        circuit_breakers=_no_circuit_breaker(max_streams * len(workers)),
        # A single worker has nobody to take over: ejecting it would only lengthen its absence.
        outlier_detection=ejection if len(workers) > 1 else None,
        health_checks=[
            HealthCheck(
                timeout=_seconds(0.5),
                interval=_seconds(0.2),
                no_traffic_interval=_seconds(0.2),
                unhealthy_threshold=1,
                healthy_threshold=1,
                tcp_health_check=HealthCheckTcpHealthCheck(),
            )
        ],
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Packed.pack(
                UpstreamHttpProtocolOptions(
                    explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
                        http2_protocol_options=Http2ProtocolOptions()
                    )
                )
            )
        },
        transport_socket=_tls_socket(tls) if tls is not None else None,
        load_assignment=_load_assignment(_EXT_PROC_CLUSTER, [(host, port, 1) for host, port in workers]),
    )


def _tls_socket(tls: RouterTls) -> TransportSocket:
    def file(path: str) -> DataSource:
        return DataSource(filename=path)

    name = tls.server_name
    own = TlsCertificate(certificate_chain=file(tls.cert_file), private_key=file(tls.key_file)) if (
        tls.cert_file and tls.key_file
    ) else None  # fmt: skip
    context = UpstreamTlsContext(
        sni=name or "",
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2"],
            tls_certificates=[own] if own else [],
            validation_context=CertificateValidationContext(
                trusted_ca=file(tls.ca_file),
                match_typed_subject_alt_names=[
                    SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=name))
                ]
                if name
                else [],
            ),
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Packed.pack(context))


def stripped_headers() -> EarlyHeaderMutation:
    """Removes what only the gateway may set, before the first route is picked.

    ``x-envoy-*`` goes too: with it a client could make Envoy retry a generation that already ran.
    """
    remove = [
        HeaderMutation(remove=SELECTED_MODEL),
        HeaderMutation(remove=BASE_MODEL),
        _remove_matching(StringMatcher(prefix="x-envoy-", ignore_case=True)),
        _remove_matching(
            StringMatcher(safe_regex=RegexMatcher(regex=all_but(INTERNAL_PREFIX, sorted(CLIENT_HEADERS)))),
        ),
    ]
    return EarlyHeaderMutation(mutations=remove)


def _remove_matching(matcher: StringMatcher) -> HeaderMutation:
    return HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher))


def all_but(prefix: str, spared: Iterable[str]) -> str:
    """An RE2 expression for every string that starts with ``prefix``, except those in ``spared``.

    RE2 has no negative lookahead, so the exception is spelt out character by character: a string differs from all
    spared ones if, at the first place where it leaves them, it goes on otherwise or ends early.
    """
    tails = [word.removeprefix(prefix) for word in spared if word.startswith(prefix)]
    return re.escape(prefix) + _unlike(tails)


def _unlike(tails: Sequence[str]) -> str:
    if not tails:
        return ".*"
    heads = sorted({tail[0] for tail in tails if tail})
    branches = [rf"[^{''.join(map(re.escape, heads))}].*"] if heads else [".+"]
    branches += [re.escape(head) + _unlike([tail[1:] for tail in tails if tail[:1] == head]) for head in heads]
    early_end = "" if "" in tails else "|"
    return f"(?:{'|'.join(branches)}{early_end})"


# --- clusters ------------------------------------------------------------------------------------------------------


def cluster_name(model: str) -> str:
    """Name of the cluster of ``model``; the prefix keeps it apart from the router's own."""
    return f"model/{model}"


def clusters(config: Config) -> list[Cluster]:
    """One cluster a model; models without ``backend_refs`` have none."""
    return [_model_cluster(model) for model in config.providers.models if model.backend_refs]


def _model_cluster(model: ProviderModel) -> Cluster:
    reliability = model.reliability
    addresses = [(*split_endpoint(ref.endpoint), ref.weight) for ref in model.backend_refs]
    policies = {"round_robin": ClusterLbPolicy.ROUND_ROBIN, "least_request": ClusterLbPolicy.LEAST_REQUEST}
    return Cluster(
        name=cluster_name(model.name),
        type=_discovery_type(host for host, _, _ in addresses),
        connect_timeout=_seconds(2),
        lb_policy=policies[reliability.lb_policy],
        circuit_breakers=_no_circuit_breaker(),
        outlier_detection=_ejection(reliability),
        health_checks=_health_checks(reliability),
        # Never fall back on endpoints known to be dead: an honest 503 at once is better than a hanging request.
        common_lb_config=ClusterCommonLbConfig(
            healthy_panic_threshold=Percent(value=0.0), update_merge_window=_seconds(0)
        ),
        load_assignment=_load_assignment(cluster_name(model.name), addresses),
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
        interval=_seconds(1),
        base_ejection_time=_seconds(reliability.base_ejection_time),
        # Envoy refuses a longest ejection (300 s unless told) below the first one.
        max_ejection_time=_seconds(max(300.0, reliability.base_ejection_time)),
        max_ejection_percent=reliability.max_ejection_percent,
    )


def _health_checks(reliability: Reliability) -> list[HealthCheck]:
    if reliability.health_check_path is None:
        return []
    interval = _seconds(reliability.health_check_interval)
    # One that is down, or not up yet, is back in use soon after it comes up.
    soon = min(interval, _seconds(1))
    check = HealthCheck(
        timeout=_seconds(reliability.health_check_timeout),
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


def _no_circuit_breaker(requests: int = _UNLIMITED) -> CircuitBreakers:
    # The defaults (1024 requests, 3 retries) suit short requests; generations last, and a dead peer needs retries.
    threshold = CircuitBreakersThresholds(
        max_connections=_UNLIMITED, max_pending_requests=_UNLIMITED, max_requests=requests, max_retries=1000
    )
    return CircuitBreakers(thresholds=[threshold])


def _load_assignment(name: str, addresses: Sequence[tuple[str, int, int]]) -> ClusterLoadAssignment:
    endpoints = [
        LbEndpoint(endpoint=Endpoint(address=_address(host, port)), load_balancing_weight=weight)
        for host, port, weight in addresses
    ]
    return ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)])


def _discovery_type(hosts: Iterable[str]) -> ClusterDiscoveryType:
    return ClusterDiscoveryType.STATIC if all(map(_is_ip, hosts)) else ClusterDiscoveryType.STRICT_DNS


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as (host without brackets, port)."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# --- routes --------------------------------------------------------------------------------------------------------


def routes(config: Config) -> RouteConfiguration:
    """The allow-list.

    A path with a model is forwarded only with the header that the router alone sets, whose client copies are gone by
    then; without it the guard behind answers, so an ext_proc stream that ends early cannot let a request through.
    """
    table = [
        _forward(config, model, [_base_model_is(model.name)]) for model in config.providers.models if model.backend_refs
    ]
    table += _guards(config)
    # Answered by the router itself.
    table += [
        _unavailable(RouteMatch(path=MODELS_PATH, headers=[_method("GET")])),
        _unavailable(RouteMatch(prefix=MODELS_PATH + "/", headers=[_method("GET")])),
        _unavailable(RouteMatch(path=HEALTH_PATH, headers=[_method("GET")])),
        _not_found(),
    ]
    return RouteConfiguration(name=_ROUTES, virtual_hosts=[VirtualHost(name="gateway", domains=["*"], routes=table)])


def default_base_model(config: Config) -> ProviderModel | None:
    """The model for requests that name none: the default model, the base of a default adapter, or else the first."""
    served = {model.name: model for model in config.providers.models if model.backend_refs}
    default = config.providers.defaults.default_model
    if default in served:
        return served[default]
    for card in config.routing.modelCards:
        if card.name in served and any(lora.name == default for lora in card.loras):
            return served[card.name]
    return next(iter(served.values()), None)


def _forward(config: Config, model: ProviderModel, headers: Sequence[HeaderMatcher]) -> Route:
    named = _discovery_type(split_endpoint(ref.endpoint)[0] for ref in model.backend_refs)
    retries = model.reliability.retry_count
    return Route(
        match=_model_path(headers),
        route=RouteAction(
            cluster=cluster_name(model.name),
            auto_host_rewrite=True if named is ClusterDiscoveryType.STRICT_DNS else None,
            # An answer may take minutes; what ends it is silence.
            timeout=_seconds(0),
            idle_timeout=_seconds(config.global_.services.envoy.idle_timeout_seconds),
            retry_policy=RetryPolicy(
                # Never after the backend has read the request: a generation must not run twice.
                retry_on="connect-failure,reset-before-request",
                num_retries=retries,
                host_selection_retry_max_attempts=_DRAWS,
                retry_host_predicate=[
                    RetryPolicyRetryHostPredicate(
                        name="envoy.retry_host_predicates.previous_hosts",
                        typed_config=Packed.pack(PreviousHostsPredicate()),
                    )
                ],
            )
            if retries
            else None,
        ),
    )


def _guards(config: Config) -> list[Route]:
    model = default_base_model(config)
    if config.global_.services.envoy.failure_mode_allow and model is not None:
        return [_forward(config, model, [])]
    anthropic = RouteMatch(path=MESSAGES_PATH, headers=[_method("POST")])
    return [_unavailable(anthropic, MESSAGES_PATH), _unavailable(_model_path([]))]


def _model_path(headers: Sequence[HeaderMatcher]) -> RouteMatch:
    # One route for all the paths of a model: Envoy walks the table from the top.
    paths = RegexMatcher(regex="|".join(map(re.escape, MODEL_PATHS)))
    return RouteMatch(safe_regex=paths, headers=[_method("POST"), *headers])


def _unavailable(match: RouteMatch, path: str = "") -> Route:
    return _direct(match, 503, "The router did not handle the request.", "service_unavailable", path)


def _not_found() -> Route:
    route = _direct(RouteMatch(prefix="/"), 404, "Not found: the path is not served here.", "not_found")
    route.typed_per_filter_config = {_EXT_PROC: Packed.pack(ExtProcPerRoute(disabled=True))}
    return route


def _direct(match: RouteMatch, status: int, message: str, code: str, path: str = "") -> Route:
    body = refusal_body(path, status, message, code=code).decode()
    return Route(
        match=match,
        direct_response=DirectResponseAction(status=status, body=DataSource(inline_string=body)),
        response_headers_to_add=[
            HeaderValueOption(
                header=HeaderValue(key="content-type", value="application/json"),
                append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )


def _base_model_is(model: str) -> HeaderMatcher:
    """Matches the header as the router sends it: plain, or percent-encoded where the name is not ASCII."""
    encoded = quote(model, safe="".join(map(chr, range(0x20, 0x7F))))
    if encoded == model:
        matcher = StringMatcher(exact=model)
    else:
        matcher = StringMatcher(safe_regex=RegexMatcher(regex=f"{re.escape(model)}|{re.escape(encoded)}"))
    return HeaderMatcher(name=BASE_MODEL, string_match=matcher)


def _method(method: str) -> HeaderMatcher:
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact=method))


# --- errors in the API's shape -------------------------------------------------------------------------------------

# Status, message, code of what Envoy itself says.
_ERRORS = (
    (400, "The request is malformed.", "bad_request"),
    (404, "Not found.", "not_found"),
    (408, "The request took too long to arrive.", "request_timeout"),
    (413, "The request body is too large.", "request_too_large"),
    (431, "The request headers are too large.", "headers_too_large"),
    (503, "The service is unavailable; please try again.", "service_unavailable"),
    (504, "No answer in time; please try again.", "timeout"),
)


def _error_mappers() -> list[ResponseMapper]:
    # The first that fits is used.
    return [*_mappers_for(MESSAGES_PATH), *_mappers_for("")]


def _mappers_for(path: str) -> list[ResponseMapper]:
    mappers = [_mapper(path, ComparisonFilterOp.EQ, *error) for error in _ERRORS]
    mappers.append(_mapper(path, ComparisonFilterOp.GE, 500, "The gateway failed.", "gateway_error"))
    mappers.append(_mapper(path, ComparisonFilterOp.GE, 400, "The request was refused.", "bad_request"))
    return mappers


def _mapper(path: str, op: ComparisonFilterOp, status: int, message: str, code: str) -> ResponseMapper:
    # Replies of the router pass here too; they carry JSON already, which Envoy's own words never do.
    own_words = (
        "!('content-type' in response.headers) || !response.headers['content-type'].startsWith('application/json')"
    )
    if path:
        own_words = f"request.url_path == '{path}' && ({own_words})"
    matches = AndFilter(
        filters=[
            AccessLogFilter(
                status_code_filter=StatusCodeFilter(
                    comparison=ComparisonFilter(
                        op=op, value=RuntimeUInt32(default_value=status, runtime_key=f"gateway.local_reply_{status}")
                    )
                )
            ),
            AccessLogFilter(
                extension_filter=ExtensionFilter(
                    name="envoy.access_loggers.extension_filters.cel",
                    typed_config=Packed.pack(ExpressionFilter(expression=own_words)),
                )
            ),
        ]
    )
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=matches),
        body_format_override=SubstitutionFormatString(
            json_format=Struct.from_dict(json.loads(refusal_body(path, status, message, code=code)))
        ),
    )


def _access_log(path: Path) -> AccessLog:
    # Paths without their query, and no bodies: nothing of what people ask.
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "milliseconds": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    log_format = SubstitutionFormatString(json_format=Struct.from_dict(fields))
    return AccessLog(
        name="envoy.access_loggers.file",
        typed_config=Packed.pack(FileAccessLog(path=str(path), log_format=log_format)),
    )


# --- small types ---------------------------------------------------------------------------------------------------


def _address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def _file_source(directory: Path, name: str) -> ConfigSource:
    directory = directory.absolute()
    return ConfigSource(
        resource_api_version=ApiVersion.V3,
        path_config_source=PathConfigSource(
            path=str(directory / name), watched_directory=WatchedDirectory(path=str(directory))
        ),
    )


def _seconds(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)
