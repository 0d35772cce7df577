"""Which headers of clients Envoy strips before anything reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from triton_router.names import BASE_MODEL, CLIENT_HEADERS, INTERNAL_PREFIX, SELECTED_MODEL
from triton_router.stack.envoy.values import Json, extension


def stripped_headers() -> Json:
    """Removes what only the gateway may set, before the first route is picked.

    ``x-envoy-*`` goes too: with it a client could make Envoy retry a generation that already ran.
    """
    return extension(
        "strip-internal-headers",
        "http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove": SELECTED_MODEL},
            {"remove": BASE_MODEL},
            {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
            {
                "remove_on_match": {
                    "key_matcher": {"safe_regex": {"regex": all_but(INTERNAL_PREFIX, sorted(CLIENT_HEADERS))}}
                }
            },
        ],
    )


def all_but(prefix: str, spared: Iterable[str]) -> str:
    """An RE2 expression for every string that starts with ``prefix``, except those in ``spared``.

    RE2 has no negative lookahead, so the exception is spelt out character by character: a string differs from all
    spared ones if, at the first place where it leaves them, it goes on otherwise or ends early.
    """
    tails = [word.removeprefix(prefix) for word in spared if word.startswith(prefix)]
    return re.escape(prefix) + _unlike(tails)


def _unlike(tails: Sequence[str]) -> str:
    if not tails:
        return ".*"
    heads = sorted({tail[0] for tail in tails if tail})
    branches = [rf"[^{''.join(map(re.escape, heads))}].*"] if heads else [".+"]
    branches += [re.escape(head) + _unlike([tail[1:] for tail in tails if tail[:1] == head]) for head in heads]
    early_end = "" if "" in tails else "|"
    return f"(?:{'|'.join(branches)}{early_end})"
