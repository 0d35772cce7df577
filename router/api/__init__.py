"""REST: classify, explain, embeddings, models, health."""

from triton_router.api.app import create_app

__all__ = ["create_app"]
