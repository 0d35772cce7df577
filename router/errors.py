"""The package's exceptions, and the bodies of error responses in the shape that each API's client libraries read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from triton_router.names import MESSAGES_PATH


class Refusal(Exception):
    """A request that gets an error response.

    ``code`` names the error, ``param`` the member that is wrong. ``retry_after`` is in seconds; 0 says nothing of it.
    ``headers`` are those of the response besides.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers or {}
        self.retry_after = retry_after or (1 if status == 429 else 0)


class MalformedRequest(Refusal):
    """The body is not what its path takes. ``param`` names the member at fault, if one is."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(400, message, param=param)


class Unavailable(Exception):
    """A part that requests can do without did not answer: an encoder, an MCP server, the cache's store.

    ``reason`` is one of a fixed list of words, fit for a metric's label; ``detail`` is for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class BundleError(Exception):
    """The signal bundle cannot be used; the message says why and what to run."""


class Rejected(Exception):
    """A generation of the configuration that some process cannot serve. ``str()`` says why."""


# --- error bodies --------------------------------------------------------------------------------------------------

# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}

_TYPES = {403: "permission_error", 429: "rate_limit_error"}


def error_body(message: str, *, type: str, code: str | None = None, param: str | None = None) -> bytes:
    """Return ``{"error": {"message", "type", "param", "code"}}`` as JSON; what does not apply is null.

    ``type`` is OpenAI's class of error (``invalid_request_error``, ``server_error``), ``code`` names the single error,
    ``param`` the member of the request that is wrong. Characters that UTF-8 cannot carry become ``?``.
    """
    return _json({"error": {"message": message, "type": type, "param": param, "code": code}})


def refusal_body(path: str, status: int, message: str, *, code: str | None = None, param: str | None = None) -> bytes:
    """The error as JSON, in the shape of the API at ``path`` (with or without a query)."""
    path = path.partition("?")[0]
    if path == MESSAGES_PATH or path.startswith(f"{MESSAGES_PATH}/"):
        kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return _json({"type": "error", "error": {"type": kind, "message": message}})
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return error_body(message, type=kind, code=code, param=param)


def _json(error: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(error)
    except orjson.JSONEncodeError:  # a lone surrogate, out of something a client sent and the error repeats
        return orjson.dumps({name: _replace_surrogates(value) for name, value in error.items()})


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_surrogates(text) for name, text in value.items()}
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
