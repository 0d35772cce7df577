"""Names that more than one part of Envoy's configuration uses."""

from __future__ import annotations

BASE_MODEL_HEADER = "x-gateway-base-model-name"
SELECTED_MODEL_HEADER = "x-selected-model"
INTERNAL_PREFIX = "x-vsr-"
CLIENT_CONTROLS = ("x-vsr-cache-control", "x-vsr-debug")

MODEL_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings")

LISTENER_STATS = "gateway"
EXT_PROC_FILTER = "envoy.filters.http.ext_proc"
EXT_PROC_CLUSTER = "extproc"
CORS_FILTER = "envoy.filters.http.cors"
ROUTE_TABLE = "gateway"


def cluster_name(model: str) -> str:
    """Name of the cluster of ``model``; the prefix keeps it apart from the router's own."""
    return f"model/{model}"
