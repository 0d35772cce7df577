"""The route table: which path reaches which model, and what everything else is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from triton_router.config.schema import Config, ProviderModel
from triton_router.config.services import CorsSettings
from triton_router.errors import refusal_body
from triton_router.names import ATTEMPT, BASE_MODEL, FAILURE, HEALTH_PATH, MESSAGES_PATH, MODELS_PATH
from triton_router.stack.envoy import fallback, lost_worker, whole_body
from triton_router.stack.envoy.ext_proc import with_and_without_body
from triton_router.stack.envoy.failing_open import without_hidden_models
from triton_router.stack.envoy.names import (
    CORS_FILTER,
    EXT_PROC_FILTER,
    MODEL_PATHS,
    ROUTE_TABLE,
    cluster_name,
)
from triton_router.stack.envoy.values import (
    OTHER_HOST,
    Json,
    discovery_type,
    seconds,
    split_endpoint,
    typed,
)

_ANY_MODEL_PATH = "|".join(map(re.escape, MODEL_PATHS))

# What the backend has not read; a generation cannot run twice.
_BEFORE_READING = "connect-failure,refused-stream,reset-before-request"
# Also what it has read and closed without a response: a keep-alive connection that ends is such a one.
_WITHOUT_RESPONSE = f"{_BEFORE_READING},reset"
# Also responses that another replica may spare the client: 5xx, and those of a full one.
_ON_ANOTHER_REPLICA = f"{_WITHOUT_RESPONSE},5xx,retriable-status-codes"

# Characters that a path may hide from whoever compares it. A model's name may have an encoded slash.
_BACKSLASH = r".*%5[cC].*"
_DOT_SEGMENT = r".*(?:/|%2[fF])\.{1,2}(?:(?:/|%2[fF]).*)?"
_SLASH = r".*%2[fF].*"


def routes(config: Config) -> Json:
    """The allow-list.

    A path with a model is forwarded only with the header that the router alone sets, whose client copies are gone by
    then; without it the guard behind answers, so an ext_proc stream that ends early cannot let a request through.
    """
    table = [route for model in config.providers.models if model.backend_refs for route in _forwarding(config, model)]
    for guard in lost_worker.with_second_try(config, _guards(config)):
        table += with_and_without_body(guard, config.global_.services.envoy)
    table += [_hidden({"safe_regex": {"regex": f"{_BACKSLASH}|{_DOT_SEGMENT}"}})]
    answered_by_router: list[Json] = [
        {"path": MODELS_PATH},
        {"safe_regex": {"regex": f"{MODELS_PATH}/.+"}},
        {"path": HEALTH_PATH},
    ]
    get = {"headers": [_method("GET")]}
    table += lost_worker.with_second_try(config, [_unavailable(match | get) for match in answered_by_router])
    table += [_hidden({"safe_regex": {"regex": _SLASH}}), *_help(), _no_tunnel()]
    host: Json = {"name": "gateway", "domains": ["*"], "routes": table}
    if (cors := config.global_.services.envoy.cors) is not None:
        host |= _for_browsers(table, cors)
    return {"name": ROUTE_TABLE, "virtual_hosts": [host], **({"validate_clusters": False} if cors else {})}


def default_base_model(config: Config) -> ProviderModel | None:
    """The model for requests that name none: the default model, the base of a default adapter, or else the first."""
    served = {model.name: model for model in config.providers.models if model.backend_refs}
    default = config.providers.defaults.default_model
    if default in served:
        return served[default]
    for card in config.routing.modelCards:
        if card.name in served and any(lora.name == default for lora in card.loras):
            return served[card.name]
    return next(iter(served.values()), None)


# --- models --------------------------------------------------------------------------------------------------------


def _forwarding(config: Config, model: ProviderModel) -> Iterator[Json]:
    plain = _forward(config, model, [_base_model_is(model.name)])
    if fallback.falls_back(config):
        match = {**plain["match"], "dynamic_metadata": [fallback.attempt_follows()]}
        # A redirect that Envoy does not follow is none that a client could.
        yield {
            "match": match,
            "route": fallback.action(config, plain["route"], model),
            "response_headers_to_remove": ["location"],
        }
    yield plain


def _forward(config: Config, model: ProviderModel, headers: Sequence[Json]) -> Json:
    action: Json = {
        "cluster": cluster_name(model.name),
        # An answer may take minutes; what ends it is silence.
        "timeout": seconds(0),
        "idle_timeout": seconds(config.global_.services.envoy.idle_timeout_seconds),
    }
    if discovery_type(split_endpoint(ref.endpoint)[0] for ref in model.backend_refs) == "STRICT_DNS":
        action["auto_host_rewrite"] = True
    if (path := model.backend_refs[0].path) is not None:
        action["regex_rewrite"] = {"pattern": {"regex": "^/v1"}, "substitution": path}
    if model.reliability.retry_count:
        action["retry_policy"] = _retry_policy(model)
    return {"match": _model_path(headers), "route": action}


def _retry_policy(model: ProviderModel) -> Json:
    reliability = model.reliability
    if not reliability.retry_responses:
        kinds = _BEFORE_READING
    else:
        kinds = _ON_ANOTHER_REPLICA if model.replicated else _WITHOUT_RESPONSE
    policy: Json = {
        "retry_on": kinds,
        "num_retries": reliability.retry_count,
        "retriable_status_codes": [429],
        # At once: another replica has no part in the trouble of the first.
        "retry_back_off": {"base_interval": seconds(0.005), "max_interval": seconds(0.05)},
        **OTHER_HOST,
    }
    if reliability.first_byte_timeout is not None:
        # Envoy stops this clock when the response begins.
        policy["per_try_timeout"] = seconds(reliability.first_byte_timeout)
    return policy


def _guards(config: Config) -> list[Json]:
    model = default_base_model(config)
    if config.global_.services.envoy.failure_mode_allow and model is not None:
        open_ = {
            "typed_per_filter_config": without_hidden_models(config),
            # Of a request that came back to a router that is gone.
            "request_headers_to_remove": [ATTEMPT, FAILURE],
        }
        return [_forward(config, model, []) | open_]
    anthropic = {"path": MESSAGES_PATH, "headers": [_method("POST")]}
    return [_unavailable(anthropic, MESSAGES_PATH), _unavailable(_model_path([]))]


def _model_path(headers: Sequence[Json]) -> Json:
    # One route for all the paths of a model: Envoy walks the table from the top.
    return {"safe_regex": {"regex": _ANY_MODEL_PATH}, "headers": [_method("POST"), *headers]}


def _base_model_is(model: str) -> Json:
    """Matches the header as the router sends it: plain, or percent-encoded where the name is not ASCII."""
    encoded = quote(model, safe="".join(map(chr, range(0x20, 0x7F))))
    if encoded == model:
        matcher: Json = {"exact": model}
    else:
        matcher = {"safe_regex": {"regex": f"{re.escape(model)}|{re.escape(encoded)}"}}
    return {"name": BASE_MODEL, "string_match": matcher}


def _method(method: str) -> Json:
    return {"name": ":method", "string_match": {"exact": method}}


# --- everything else -----------------------------------------------------------------------------------------------


def _help() -> list[Json]:
    """Paths that are not served, each told what its sender probably meant."""
    served = "|".join(re.escape(path.removeprefix("/v1")) for path in (*MODEL_PATHS, MODELS_PATH))
    mistakes = [
        (f"(?:/v1)(?:/v1)+(?:{served})/*", "The path has `/v1` twice: let the base URL end in a single `/v1`."),
        (f"(?:{served})/*", "The path lacks `/v1`: let the base URL end in `/v1`."),
        (f"/v1(?:{served})/+", "The path is served without the slash at its end."),
        (_ANY_MODEL_PATH, "The path is served for POST only."),
        (re.escape(MODELS_PATH) + "(?:/.*)?", "The path is served for GET only."),
    ]
    below = {"safe_regex": {"regex": f"{MESSAGES_PATH}(?:/.*)?"}}
    messages = f"Not found: only `POST {MESSAGES_PATH}` of the Messages API is served here."
    return [
        _unasked(_refused(below, 404, messages, "not_found", MESSAGES_PATH)),
        *(_unasked(_refused({"safe_regex": {"regex": path}}, 404, f"Not found: {message}", "not_found"))
          for path, message in mistakes),
        _unasked(_refused({"prefix": "/"}, 404, "Not found: the path is not served here.", "not_found")),
    ]  # fmt: skip


def _hidden(match: Json) -> Json:
    return _unasked(_refused(match, 400, "The path encodes characters that must be plain.", "bad_path"))


def _no_tunnel() -> Json:
    # No other match has CONNECT, and without one the router would be asked for a request that has no end.
    return _unasked(_refused({"connect_matcher": {}}, 403, "CONNECT is not served here.", "method_not_allowed"))


def _unavailable(match: Json, path: str = "") -> Json:
    return _refused(match, 503, "The router did not handle the request.", "service_unavailable", path)


def _unasked(route: Json) -> Json:
    """``route``, and the router is not asked about it."""
    return {**route, "typed_per_filter_config": {EXT_PROC_FILTER: _NOT_PROCESSED, **whole_body.UNREAD}}


_NOT_PROCESSED = typed("filters.http.ext_proc.v3.ExtProcPerRoute", disabled=True)


def _refused(match: Json, status: int, message: str, code: str, path: str = "") -> Json:
    body = refusal_body(path, status, message, code=code).decode()
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


# --- browsers ------------------------------------------------------------------------------------------------------


def _for_browsers(table: Sequence[Json], cors: CorsSettings) -> Json:
    """The CORS filter acts on routes to clusters alone: guards become routes to one that does not exist."""
    preflight = [_method("OPTIONS"), {"name": "access-control-request-method", "present_match": True}]
    guards = [
        {key: route[key] for key in ("match", "typed_per_filter_config") if key in route} | {"route": _NOWHERE}
        if route.get("direct_response", {}).get("status") == 503 else route
        for route in table
    ]  # fmt: skip
    policy = typed(
        "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[
            {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in cors.allow_origins
        ],
        allow_methods="GET, POST",
        allow_headers=", ".join(cors.allow_headers),
        expose_headers="*",
        max_age="600",
    )
    return {
        "routes": [_unasked({"match": {"prefix": "/", "headers": preflight}, "route": _NOWHERE}), *guards],
        "typed_per_filter_config": {CORS_FILTER: policy},
    }


_NOWHERE: Json = {"cluster": "nowhere", "cluster_not_found_response_code": "SERVICE_UNAVAILABLE"}
