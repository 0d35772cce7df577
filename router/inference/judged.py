"""What was said of texts before: a conversation comes again with every turn, and all but its end is known then."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")

# Some megabytes, and the passages of a few hundred long conversations.
MOST = 16_384


class Judged(Generic[T]):
    """What was said of the texts that were judged last. Texts themselves are not kept."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._values: OrderedDict[bytes, T] = OrderedDict()

    def get(self, text: str) -> T | None:
        """What was said of ``text``; ``None`` if it is not known."""
        key = _key(text)
        if (value := self._values.get(key)) is not None:
            self._values.move_to_end(key)
        return value

    def put(self, text: str, value: T) -> None:
        """Keep ``value`` in the place of the oldest."""
        self._values[_key(text)] = value
        if len(self._values) > self._most:
            self._values.popitem(last=False)


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
