"""Headers as Envoy hands them over, and as it takes them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote_from_bytes

from triton_router.names import CLIENT_HEADERS, INTERNAL_HEADERS, INTERNAL_PREFIX

HeaderList = tuple[tuple[str, str], ...]

# The framing of a message belongs to the phase machine and to Envoy.
FRAMING = frozenset({"content-length", "transfer-encoding"})


def clean(value: str) -> str:
    """Return ``value`` as a header value that nothing between here and the client refuses or splits.

    Characters outside printable ASCII (line ends, NUL and other controls included) are percent-encoded as UTF-8;
    lone surrogates become ``?``.
    """
    if value.isascii() and value.isprintable():
        return value
    return quote_from_bytes(value.encode("utf-8", "replace"), safe=_PRINTABLE)


_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def cleaned(headers: Mapping[str, str]) -> HeaderList:
    """``headers`` as they are set: names in lower case, values :func:`clean`, no framing."""
    return tuple(
        [
            (lower, value if value.isascii() and value.isprintable() else clean(value))
            for name, value in headers.items()
            if (lower := name.lower()) not in FRAMING
        ]
    )


def joined(headers: HeaderList) -> dict[str, str]:
    """Headers by name; the values of a repeated one are joined with a comma."""
    joined = dict(headers)
    if len(joined) == len(headers):
        return joined
    joined.clear()
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def internal(name: str) -> bool:
    """Whether only the gateway may set that header."""
    if name.startswith(INTERNAL_PREFIX):
        return name not in CLIENT_HEADERS
    return name in INTERNAL_HEADERS


def declared_length(headers: Mapping[str, str]) -> int:
    """The length of a body that its headers tell, in bytes; 0 where they tell none."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0
