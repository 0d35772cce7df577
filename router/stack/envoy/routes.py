"""The route table: which path reaches which model, and what everything else is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from envoy_data_plane.envoy.config.cluster.v3 import (
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExtProcPerRoute,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any as Packed

from triton_router.config.schema import Config, ProviderModel
from triton_router.errors import ANTHROPIC_PATH, refusal_body
from triton_router.stack.envoy.names import BASE_MODEL_HEADER, EXT_PROC_FILTER, MODEL_PATHS, ROUTE_TABLE, cluster_name
from triton_router.stack.envoy.values import HOST_DRAWS, discovery_type, seconds, split_endpoint


def routes(config: Config) -> RouteConfiguration:
    """The allow-list.

    A path with a model is forwarded only with the header that the router alone sets, whose client copies are gone by
    then; without it the guard behind answers, so an ext_proc stream that ends early cannot let a request through.
    """
    table = [
        _forward(config, model, [_base_model_is(model.name)]) for model in config.providers.models if model.backend_refs
    ]
    table += _guards(config)
    # Answered by the router itself.
    table += [
        _unavailable(RouteMatch(path="/v1/models", headers=[method_is("GET")])),
        _unavailable(RouteMatch(prefix="/v1/models/", headers=[method_is("GET")])),
        _unavailable(RouteMatch(path="/health", headers=[method_is("GET")])),
        _not_found(),
    ]
    return RouteConfiguration(
        name=ROUTE_TABLE, virtual_hosts=[VirtualHost(name="gateway", domains=["*"], routes=table)]
    )


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


def _forward(config: Config, model: ProviderModel, headers: Sequence[HeaderMatcher]) -> Route:
    named = discovery_type(split_endpoint(ref.endpoint)[0] for ref in model.backend_refs)
    retries = model.reliability.retry_count
    return Route(
        match=_model_path(headers),
        route=RouteAction(
            cluster=cluster_name(model.name),
            auto_host_rewrite=True if named is ClusterDiscoveryType.STRICT_DNS else None,
            # An answer may take minutes; what ends it is silence.
            timeout=seconds(0),
            idle_timeout=seconds(config.global_.services.envoy.idle_timeout_seconds),
            retry_policy=RetryPolicy(
                # Never after the backend has read the request: a generation must not run twice.
                retry_on="connect-failure,reset-before-request",
                num_retries=retries,
                host_selection_retry_max_attempts=HOST_DRAWS,
                retry_host_predicate=[
                    RetryPolicyRetryHostPredicate(
                        name="envoy.retry_host_predicates.previous_hosts",
                        typed_config=Packed.pack(PreviousHostsPredicate()),
                    )
                ],
            )
            if retries
            else None,
        ),
    )


def _guards(config: Config) -> list[Route]:
    model = default_base_model(config)
    if config.global_.services.envoy.failure_mode_allow and model is not None:
        return [_forward(config, model, [])]
    anthropic = RouteMatch(path=ANTHROPIC_PATH, headers=[method_is("POST")])
    return [_unavailable(anthropic, ANTHROPIC_PATH), _unavailable(_model_path([]))]


def _model_path(headers: Sequence[HeaderMatcher]) -> RouteMatch:
    # One route for all the paths of a model: Envoy walks the table from the top.
    paths = RegexMatcher(regex="|".join(map(re.escape, MODEL_PATHS)))
    return RouteMatch(safe_regex=paths, headers=[method_is("POST"), *headers])


def _unavailable(match: RouteMatch, path: str = "") -> Route:
    return _direct(match, 503, "The router did not handle the request.", "service_unavailable", path)


def _not_found() -> Route:
    route = _direct(RouteMatch(prefix="/"), 404, "Not found: the path is not served here.", "not_found")
    route.typed_per_filter_config = {EXT_PROC_FILTER: Packed.pack(ExtProcPerRoute(disabled=True))}
    return route


def _direct(match: RouteMatch, status: int, message: str, code: str, path: str = "") -> Route:
    body = refusal_body(path, status, message, code=code).decode()
    return Route(
        match=match,
        direct_response=DirectResponseAction(status=status, body=DataSource(inline_string=body)),
        response_headers_to_add=[
            HeaderValueOption(
                header=HeaderValue(key="content-type", value="application/json"),
                append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
    )


def _base_model_is(model: str) -> HeaderMatcher:
    """Matches the header as the router sends it: plain, or percent-encoded where the name is not ASCII."""
    encoded = quote(model, safe="".join(map(chr, range(0x20, 0x7F))))
    if encoded == model:
        matcher = StringMatcher(exact=model)
    else:
        matcher = StringMatcher(safe_regex=RegexMatcher(regex=f"{re.escape(model)}|{re.escape(encoded)}"))
    return HeaderMatcher(name=BASE_MODEL_HEADER, string_match=matcher)


def method_is(method: str) -> HeaderMatcher:
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact=method))
