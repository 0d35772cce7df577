"""JSON of anything, also of text from outside that UTF-8 cannot carry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

# Numbers of fewer digits name nobody.
LONG_NUMBER = 10**8

_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """``text`` with U+FFFD for lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def json_bytes(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """``value`` as JSON on one line. ``default`` makes something else of an object that JSON does not have.

    Lone surrogates become escapes, integers of any size stay.
    """
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        return json.dumps(value, default=default, separators=(",", ":")).encode()
