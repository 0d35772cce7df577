"""Errors that Envoy itself reports, in the shape of the API that was asked."""

from __future__ import annotations

import json

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    RuntimeUInt32,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    ResponseMapper,
)
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.protobuf import Struct

from triton_router.errors import ANTHROPIC_PATH, refusal_body

# Status, message, code of what Envoy itself says.
_ERRORS = (
    (400, "The request is malformed.", "bad_request"),
    (404, "Not found.", "not_found"),
    (408, "The request took too long to arrive.", "request_timeout"),
    (413, "The request body is too large.", "request_too_large"),
    (431, "The request headers are too large.", "headers_too_large"),
    (503, "The service is unavailable; please try again.", "service_unavailable"),
    (504, "No answer in time; please try again.", "timeout"),
)


def error_mappers() -> list[ResponseMapper]:
    # The first that fits is used.
    return [*_mappers_for(ANTHROPIC_PATH), *_mappers_for("")]


def _mappers_for(path: str) -> list[ResponseMapper]:
    mappers = [_mapper(path, ComparisonFilterOp.EQ, *error) for error in _ERRORS]
    mappers.append(_mapper(path, ComparisonFilterOp.GE, 500, "The gateway failed.", "gateway_error"))
    mappers.append(_mapper(path, ComparisonFilterOp.GE, 400, "The request was refused.", "bad_request"))
    return mappers


def _mapper(path: str, op: ComparisonFilterOp, status: int, message: str, code: str) -> ResponseMapper:
    # Replies of the router pass here too; they carry JSON already, which Envoy's own words never do.
    own_words = (
        "!('content-type' in response.headers) || !response.headers['content-type'].startsWith('application/json')"
    )
    if path:
        own_words = f"request.url_path == '{path}' && ({own_words})"
    matches = AndFilter(
        filters=[
            AccessLogFilter(
                status_code_filter=StatusCodeFilter(
                    comparison=ComparisonFilter(
                        op=op, value=RuntimeUInt32(default_value=status, runtime_key=f"gateway.local_reply_{status}")
                    )
                )
            ),
            AccessLogFilter(
                extension_filter=ExtensionFilter(
                    name="envoy.access_loggers.extension_filters.cel",
                    typed_config=Packed.pack(ExpressionFilter(expression=own_words)),
                )
            ),
        ]
    )
    return ResponseMapper(
        filter=AccessLogFilter(and_filter=matches),
        body_format_override=SubstitutionFormatString(
            json_format=Struct.from_dict(json.loads(refusal_body(path, status, message, code=code)))
        ),
    )
