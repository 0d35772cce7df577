"""The listener and the bootstrap around it: what lives as long as the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
)
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    Node,
    PathConfigSource,
    SubstitutionFormatString,
    TypedExtensionConfig,
    WatchedDirectory,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    RouteConfiguration,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpFilter,
    LocalReplyConfig,
    Rds,
)
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.protobuf import Struct

from triton_router.config.schema import Config
from triton_router.config.services import RouterTls
from triton_router.stack.envoy.clusters import clusters
from triton_router.stack.envoy.ext_proc import ext_proc_cluster, ext_proc_filter
from triton_router.stack.envoy.headers import stripped_headers
from triton_router.stack.envoy.local_replies import error_mappers
from triton_router.stack.envoy.names import EXT_PROC_FILTER, LISTENER_STATS, ROUTE_TABLE
from triton_router.stack.envoy.routes import routes
from triton_router.stack.envoy.values import address, seconds


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
        admin=Admin(address=address("127.0.0.1", envoy.admin_port)),
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
        rds=Rds(route_config_name=ROUTE_TABLE, config_source=table) if isinstance(table, ConfigSource) else None,
        route_config=table if isinstance(table, RouteConfiguration) else None,
        http_filters=[
            HttpFilter(name=EXT_PROC_FILTER, typed_config=Packed.pack(ext_proc_filter(config))),
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
        stream_idle_timeout=seconds(envoy.idle_timeout_seconds),
        request_headers_timeout=seconds(30),
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        local_reply_config=LocalReplyConfig(mappers=error_mappers()),
        access_log=[_access_log(access_log)] if access_log is not None else [],
    )
    return Listener(
        name="gateway",
        address=address(envoy.host, envoy.port),
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


def _router_tls(config: Config) -> RouterTls | None:
    services = config.global_.services
    if services.extproc.tls is None:
        return None
    if services.envoy.router_tls is None:
        raise RuntimeError("global.services.envoy.router_tls: is needed, because global.services.extproc has `tls`")
    return services.envoy.router_tls


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


def _file_source(directory: Path, name: str) -> ConfigSource:
    directory = directory.absolute()
    return ConfigSource(
        resource_api_version=ApiVersion.V3,
        path_config_source=PathConfigSource(
            path=str(directory / name), watched_directory=WatchedDirectory(path=str(directory))
        ),
    )
