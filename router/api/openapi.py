"""The REST service's OpenAPI document, made from its request models, and a page that shows it without other hosts."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from triton_router import __version__

_SUMMARIES = {
    "/api/v1/classify/intent": "Domain, decision and model for a text",
    "/classify": "The same, under its short name",
    "/classify/{name}": "One head's labels for a text, in the form of vLLM Semantic Router's remote classifiers",
    "/api/v1/classify/batch": "Domain of up to 100 texts",
    "/api/v1/embeddings": "Embeddings of up to 100 texts",
    "/api/v1/similarity": "Cosine similarity of two texts",
    "/api/v1/explain": "The whole decision: signals, rules, outcome",
    "/api/v1/route": "Where a chat request goes and how it changes, for gateways that send it themselves",
    "/": "The page: the reasons for a decision, and the effect of a change",
    "/page/{file}": "Files of the page",
    "/api/v1/examples": "Prompts that the configuration quotes",
    "/api/v1/send": "A request through Envoy, as a client would send it",
    "/api/v1/compare": "The effect of another configuration on recorded or pasted requests",
    "/api/v1/recorded": "Number of recorded requests",
    "/api/v1/live": "Requests as they happen, as server-sent events",
    "/api/v1/status": "State of each part of the router",
    "/api/v1/cache/purge": "Remove answers from the cache: one, those of a decision, or all",
    "/api/v1/replay/{id}": "A recent decision, by the id in `x-vsr-replay-id`",
    "/v1/models": "Models and adapters that clients may name",
    "/health": "Whether the process answers",
    "/ready": "Whether it routes, and what is degraded",
    "/info/models": "Signal models on Triton",
    "/config": "The configuration in force",
}


def document(bodies: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """OpenAPI 3.1 for all routes; ``bodies`` gives the request model of each POST."""
    models = sorted(set(bodies.values()), key=lambda model: model.__name__)
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "triton-router", "version": __version__},
        "paths": {
            path: _post(summary, references[(bodies[path], "validation")]) if path in bodies else _get(summary)
            for path, summary in _SUMMARIES.items()
        },
        "components": {"schemas": definitions.get("$defs", {})},
    }


def _get(summary: str) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "JSON"}}}}


def _post(summary: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    failures = {"400": {"description": "Malformed request"}, "503": {"description": "Encoder not available"}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "JSON"}, **failures},
        }
    }


def page(described: Mapping[str, Any]) -> str:
    """The document as one plain HTML page."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>"
        for path, item in described["paths"].items()
        for method, operation in item.items()
    )
    schemas = html.escape(json.dumps(described["components"]["schemas"], indent=2))
    return (
        "<!doctype html><meta charset=utf-8><title>triton-router</title>"
        "<style>body{font:16px system-ui;margin:2rem auto;max-width:60rem}td{padding:.3rem 1rem .3rem 0}</style>"
        f"<h1>triton-router {html.escape(described['info']['version'])}</h1><table>{rows}</table>"
        f"<h2>Request bodies</h2><pre>{schemas}</pre><p><a href=/openapi.json>openapi.json</a></p>"
    )
