"""Names that more than one part of Envoy's configuration uses."""

from __future__ import annotations

from triton_router.names import CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH, MESSAGES_PATH, RESPONSES_PATH

MODEL_PATHS = (CHAT_PATH, COMPLETIONS_PATH, RESPONSES_PATH, MESSAGES_PATH, EMBEDDINGS_PATH)

LISTENER_STATS = "gateway"
EXT_PROC_FILTER = "envoy.filters.http.ext_proc"
EXT_PROC_CLUSTER = "extproc"
CORS_FILTER = "envoy.filters.http.cors"
ROUTE_TABLE = "gateway"


def cluster_name(model: str) -> str:
    """Name of the cluster of ``model``; the prefix keeps it apart from the router's own."""
    return f"model/{model}"
