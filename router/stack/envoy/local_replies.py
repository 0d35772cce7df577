"""Errors that Envoy itself reports, in the shape of the API that was asked."""

from __future__ import annotations

import json

from triton_router.errors import refusal_body
from triton_router.names import MESSAGES_PATH
from triton_router.stack.envoy.values import Json, typed

# Status, message, code of what Envoy itself says.
_ERRORS = (
    (400, "The request is malformed.", "bad_request"),
    (404, "Not found.", "not_found"),
    (408, "The request took too long to arrive.", "request_timeout"),
    (413, "The request body is too large.", "request_too_large"),
    (429, "The gateway holds as many requests as it can; please try again.", "overloaded"),
    (431, "The request headers are too large.", "headers_too_large"),
    (503, "The service is unavailable; please try again.", "service_unavailable"),
    (504, "No answer in time; please try again.", "timeout"),
)


def error_mappers() -> list[Json]:
    # The first that fits is used.
    return [*_mappers_for(MESSAGES_PATH), *_mappers_for("")]


def _mappers_for(path: str) -> list[Json]:
    mappers = [_mapper(path, "EQ", *error) for error in _ERRORS]
    mappers.append(_mapper(path, "GE", 500, "The gateway failed.", "gateway_error"))
    mappers.append(_mapper(path, "GE", 400, "The request was refused.", "bad_request"))
    return mappers


def _mapper(path: str, op: str, status: int, message: str, code: str) -> Json:
    # Replies of the router pass here too; they carry JSON already, which Envoy's own words never do.
    own_words = (
        "!('content-type' in response.headers) || !response.headers['content-type'].startsWith('application/json')"
    )
    if path:
        own_words = f"request.url_path.startsWith('{path}') && ({own_words})"
    compared = {"op": op, "value": {"default_value": status, "runtime_key": f"gateway.local_reply_{status}"}}
    expression = typed("access_loggers.filters.cel.v3.ExpressionFilter", expression=own_words)
    filters = [
        {"status_code_filter": {"comparison": compared}},
        {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": expression}},
    ]
    body = json.loads(refusal_body(path, status, message, code=code))
    return {"filter": {"and_filter": {"filters": filters}}, "body_format_override": {"json_format": body}}
