"""Errors in OpenAI's shape: what every client library knows how to read."""

from __future__ import annotations

import orjson


def error_body(message: str, *, type: str, code: str | None = None, param: str | None = None) -> bytes:
    """Return ``{"error": {"message", "type", "param", "code"}}`` as JSON; what does not apply is null.

    ``type`` is OpenAI's class of error (``invalid_request_error``, ``server_error``), ``code`` names the single error,
    ``param`` the member of the request that is wrong. Characters that UTF-8 cannot carry become ``?``.
    """
    error = {"message": message, "type": type, "param": param, "code": code}
    try:
        return orjson.dumps({"error": error})
    except orjson.JSONEncodeError:  # a lone surrogate, out of something a client sent and the error repeats
        return orjson.dumps({"error": {name: text and _carried(text) for name, text in error.items()}})


def _carried(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
