"""What the router replies by itself: its models, its health, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from triton_router import names
from triton_router.access import Access
from triton_router.errors import Refusal, refusal_body
from triton_router.exchange import Reply, Request
from triton_router.jsontext import json_bytes
from triton_router.record import Record
from triton_router.selection import LoadedAdapters, ModelCatalog, unknown_model


def models(
    catalog: ModelCatalog, adapters: LoadedAdapters, access: Access, headers: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The entries of ``GET /v1/models``, virtual names first; with ``headers`` those that their sender may ask."""
    return [
        {"id": entry.name, "object": "model", "created": 0, "owned_by": "triton-router", "parent": entry.parent}
        | ({"description": entry.description} if entry.description else {})
        | ({"max_model_len": entry.max_model_len} if entry.max_model_len else {})
        for entry in catalog.listed(adapters)
        if headers is None or access.may_see(entry.name, entry.parent or entry.name, headers)
    ]


def get(
    path: str, catalog: ModelCatalog, adapters: LoadedAdapters, access: Access, request: Request, record: Record
) -> Reply:
    """Reply to a GET.

    Raises:
        Refusal: 404; there is no such path or model.
    """
    if path == names.HEALTH_PATH:
        return _json(200, b'{"status":"ok"}', record)
    listed = models(catalog, adapters, access, request.headers)
    if path == names.MODELS_PATH:
        return _json(200, json_bytes({"object": "list", "data": listed}), record)
    if path.startswith(names.MODELS_PATH + "/"):
        name = unquote(path.removeprefix(names.MODELS_PATH + "/"))
        entry = next((entry for entry in listed if entry["id"] == name), None)
        if entry is None:
            raise unknown_model(catalog, adapters, name)
        return _json(200, json_bytes(entry), record)
    raise Refusal(404, f"no such path: GET {path}")


def refusal(path: str, error: Refusal, record: Record) -> Reply:
    """``error`` in the shape of the path's API."""
    body = refusal_body(path, error.status, str(error), code=error.code, param=error.param)
    reply = _json(error.status, body, record)
    again = {"retry-after": str(error.retry_after)} if error.retry_after else {}
    return replace(reply, headers={**reply.headers, **error.headers, **again})


def _json(status: int, body: bytes, record: Record) -> Reply:
    return Reply(status, body, {"content-type": "application/json", **record.headers()})
