"""For gateways of others: each module stands alone, needs nothing else of this package, and may be copied."""
