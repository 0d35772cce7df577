def difference(earlier: str, now: str) -> str | None:
    return None if earlier.split() == now.split() else "content"
