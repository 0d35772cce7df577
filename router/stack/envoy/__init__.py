"""Envoy's configuration for one :class:`~.config.schema.Config`: pure functions, and a module that writes files.

``bootstrap.json`` holds what lives as long as the process (listener, filters, the router's own cluster); ``cds.json``
and ``rds.json`` hold the backends and the routes, which Envoy reads again whenever a rename replaces them.
"""

from triton_router.stack.envoy.clusters import clusters
from triton_router.stack.envoy.ext_proc import ext_proc_cluster, ext_proc_filter
from triton_router.stack.envoy.files import static, write, write_clusters, write_routes
from triton_router.stack.envoy.headers import all_but
from triton_router.stack.envoy.names import (
    LISTENER_STATS,
    MODEL_PATHS,
    ROUTE_TABLE,
    cluster_name,
)
from triton_router.stack.envoy.routes import default_base_model, routes
from triton_router.stack.envoy.values import Json, split_endpoint

__all__ = [
    "LISTENER_STATS",
    "MODEL_PATHS",
    "ROUTE_TABLE",
    "Json",
    "all_but",
    "cluster_name",
    "clusters",
    "default_base_model",
    "ext_proc_cluster",
    "ext_proc_filter",
    "routes",
    "split_endpoint",
    "static",
    "write",
    "write_clusters",
    "write_routes",
]
