"""REST: classify, explain, embeddings, models, health, and the page."""
