"""Responses of the REST service: JSON, and errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from triton_router.errors import error_body
from triton_router.jsontext import json_bytes


def json_response(content: Any, status: int = 200) -> Response:
    """``content``, NumPy's arrays included, as JSON."""
    return Response(json_bytes(content), status_code=status, media_type="application/json")


def error_response(status: int, message: str, code: str | None = None) -> Response:
    """An error; ``code`` names the single error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return Response(error_body(message, type=kind, code=code), status_code=status, media_type="application/json")
