"""The listener and the bootstrap around it: what lives as long as the process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triton_router.config.schema import Config
from triton_router.config.services import RouterTls
from triton_router.stack.envoy import fallback, lost_worker, memory, one_message, whole_body
from triton_router.stack.envoy.clusters import clusters
from triton_router.stack.envoy.ext_proc import ext_proc_cluster, ext_proc_filter
from triton_router.stack.envoy.failing_open import access_filter, model_reader
from triton_router.stack.envoy.headers import stripped_headers
from triton_router.stack.envoy.local_replies import error_mappers
from triton_router.stack.envoy.names import CORS_FILTER, LISTENER_STATS, ROUTE_TABLE
from triton_router.stack.envoy.routes import routes
from triton_router.stack.envoy.values import Json, address, extension, seconds, typed

# Longest that a request's headers may take.
_HEADERS_WITHIN = 30.0
# Largest growth of a compressed body. Text of a chat grows fivefold; what grows a thousandfold is an attack.
_LARGEST_RATIO = 100


def bootstrap(
    config: Config, directory: Path | None, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None
) -> Json:
    """The part that a running Envoy cannot change: admin, listener and filters, the router's own cluster.

    Without a ``directory`` for the rest, that is in it too.

    Raises:
        RuntimeError: the router speaks TLS, and Envoy is not told how.
    """
    envoy = config.global_.services.envoy
    own = ext_proc_cluster(workers, _router_tls(config), config.global_.services.extproc.max_streams)
    document: Json = {
        "node": {"id": "triton-router", "cluster": "triton-router"},
        "admin": {"address": address("127.0.0.1", envoy.admin_port)},
        **memory.bounds(config),
        # The expression of the headers to strip, and those of long names, are longer than Envoy's cautious default
        # (100) allows.
        "layered_runtime": {
            "layers": [{"name": "limits", "static_layer": {"re2.max_program_size.error_level": 20_000}}]
        },
    }
    if directory is None:
        table, static_clusters = {"route_config": routes(config)}, [own, *clusters(config)]
    else:
        source = _file_source(directory, "rds.json")
        table, static_clusters = {"rds": {"route_config_name": ROUTE_TABLE, "config_source": source}}, [own]
        document["dynamic_resources"] = {"cds_config": _file_source(directory, "cds.json")}
    document["bootstrap_extensions"] = [fallback.internal_listeners()]
    listeners = [listener(config, table, access_log=access_log), fallback.listener(lost_worker.pause())]
    return {**document, "static_resources": {"listeners": listeners, "clusters": static_clusters}}


def listener(config: Config, table: Json, *, access_log: Path | None = None) -> Json:
    """The one HTTP listener; its buffer limit is the largest request body. ``table`` is where its routes are."""
    envoy = config.global_.services.envoy
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=LISTENER_STATS,
        **table,
        http_filters=_http_filters(config),
        normalize_path=True,
        merge_slashes=True,
        # The route table refuses those that hide something. Names of models have slashes.
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        # Dropped, not refused: `x_vsr_…` must not pass for `x-vsr-…`, yet a client may have an odd header of its own.
        common_http_protocol_options={"headers_with_underscores_action": "DROP_HEADER"},
        # What nginx's `proxy_pass` speaks unless configured.
        http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "gateway"},
        early_header_mutation_extensions=[stripped_headers()],
        stream_idle_timeout=seconds(envoy.idle_timeout_seconds),
        request_timeout=seconds(envoy.request_timeout_seconds),
        request_headers_timeout=seconds(min(_HEADERS_WITHIN, envoy.request_timeout_seconds)),
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        local_reply_config={"mappers": error_mappers()},
        access_log=[_access_log(access_log)] if access_log is not None else [],
    )
    return {
        "name": "gateway",
        "address": address("127.0.0.1" if envoy.host == "localhost" else envoy.host, envoy.port),
        "per_connection_buffer_limit_bytes": config.global_.router.max_body_bytes,
        "filter_chains": [{"filters": [manager]}],
    }


def _http_filters(config: Config) -> list[Json]:
    envoy = config.global_.services.envoy
    open_ = envoy.failure_mode_allow
    cors = [extension(CORS_FILTER, "filters.http.cors.v3.Cors")] if envoy.cors else []
    router = [whole_body.waiting(config), ext_proc_filter(config)]
    if one_message.possible(envoy):
        router = one_message.around(ext_proc_filter(config), config)
    return [
        *cors,
        _decompressor("gzip", window_bits=15, max_inflate_ratio=_LARGEST_RATIO),
        _decompressor("zstd"),
        *([model_reader()] if open_ else []),
        *router,
        *([access_filter()] if open_ else []),
        extension("envoy.filters.http.router", "filters.http.router.v3.Router"),
    ]


def _decompressor(kind: str, **limits: int) -> Json:
    """Request bodies in the clear for the router; responses pass as they are."""
    library = typed(f"compression.{kind}.decompressor.v3.{kind.title()}", **limits)
    never = {"common_config": {"enabled": {"default_value": False, "runtime_key": f"gateway.decompress_{kind}"}}}
    return extension(
        f"envoy.filters.http.decompressor.{kind}",
        "filters.http.decompressor.v3.Decompressor",
        decompressor_library={"name": kind, "typed_config": library},
        request_direction_config={"advertise_accept_encoding": False},
        response_direction_config=never,
    )


def _router_tls(config: Config) -> RouterTls | None:
    services = config.global_.services
    if services.extproc.tls is None:
        return None
    if services.envoy.router_tls is None:
        raise RuntimeError("global.services.envoy.router_tls: is needed, because global.services.extproc has `tls`")
    return services.envoy.router_tls


def _access_log(path: Path) -> Json:
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
    return extension(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=str(path),
        log_format={"json_format": fields},
    )


def _file_source(directory: Path, name: str) -> Json:
    directory = directory.absolute()
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(directory / name), "watched_directory": {"path": str(directory)}},
    }
