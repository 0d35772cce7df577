"""REST: classify, explain, embeddings, models, health."""

from router.api.app import create_app

__all__ = ["create_app"]
