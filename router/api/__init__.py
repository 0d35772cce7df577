"""REST: classify, explain, embeddings, models, health."""

from router.api.app import Purge, create_app

__all__ = ["Purge", "create_app"]
