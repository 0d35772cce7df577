"""The external processor: the filter that asks the router, and the cluster of its workers."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    BackoffStrategy,
    DataSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HealthCheck,
    HealthCheckTcpHealthCheck,
    Http2ProtocolOptions,
    TransportSocket,
)
from envoy_data_plane.envoy.config.core.v3 import RetryPolicy as GrpcRetryPolicy
from envoy_data_plane.envoy.config.core.v3 import RetryPolicyRetryHostPredicate as GrpcRetryHostPredicate
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    ProcessingMode,
    ProcessingModeBodySendMode,
    ProcessingModeHeaderSendMode,
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
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any as Packed

from triton_router.config.schema import Config
from triton_router.config.services import EnvoySettings, RouterTls
from triton_router.stack.envoy.names import EXT_PROC_CLUSTER, UNLIMITED
from triton_router.stack.envoy.values import (
    HOST_DRAWS,
    discovery_type,
    load_assignment,
    no_circuit_breaker,
    seconds,
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
        message_timeout=seconds(deadlines + 4),
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        allow_mode_override=True,
        processing_mode=_processing_mode(config.global_.services.envoy),
        grpc_service=GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=EXT_PROC_CLUSTER),
            retry_policy=GrpcRetryPolicy(
                num_retries=3,
                retry_on="connect-failure,reset,refused-stream,unavailable,cancelled",
                retry_back_off=BackoffStrategy(base_interval=seconds(0.01), max_interval=seconds(0.05)),
                host_selection_retry_max_attempts=HOST_DRAWS,
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


def ext_proc_cluster(
    workers: Sequence[tuple[str, int]], tls: RouterTls | None = None, max_streams: int = UNLIMITED
) -> Cluster:
    """The router's workers, each under its own address: Envoy balances streams, the kernel would not.

    ``max_streams`` times their number is how many they may have open together.
    """
    ejection = OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=1,
        interval=seconds(0.2),
        base_ejection_time=seconds(3),
        max_ejection_percent=70,
    )
    return Cluster(
        name=EXT_PROC_CLUSTER,
        type=discovery_type(host for host, _ in workers),
        connect_timeout=seconds(1),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        # Envoy gathers what it learns of hosts for a second before its threads hear of it: they would go on asking the
        # worker that has just gone, and not the one that has just come back.
        common_lb_config=ClusterCommonLbConfig(update_merge_window=seconds(0)),
        circuit_breakers=no_circuit_breaker(max_streams * len(workers)),
        # A single worker has nobody to take over: ejecting it would only lengthen its absence.
        outlier_detection=ejection if len(workers) > 1 else None,
        health_checks=[
            HealthCheck(
                timeout=seconds(0.5),
                interval=seconds(0.2),
                no_traffic_interval=seconds(0.2),
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
        load_assignment=load_assignment(EXT_PROC_CLUSTER, [(host, port, 1) for host, port in workers]),
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
