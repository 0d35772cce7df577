"""What makes sense in the settings of Envoy."""

from __future__ import annotations

from typing import Any

from triton_router.config.plain import MODELS, at, items
from triton_router.config.report import Report

_ENVOY = ("global", "services", "envoy")


def check(data: Any, report: Report) -> None:
    """Responses must be visible where something reads them, and failing open is no secret."""
    settings = at(data, *_ENVOY)
    if not isinstance(settings, dict):
        return
    if settings.get("failure_mode_allow") is True:
        message = "while the router is down, every request reaches the default model's backend: no rule, role or limit "
        message += "applies, and clients can name any model that this backend has. The Envoy of `up` and `envoy` "
        message += "refuses models that the configuration hides; other gateways serve them too"
        report.warning((*_ENVOY, "failure_mode_allow"), message)
        _no_credential_leaks(data, report)
    if settings.get("request_body_mode") != "FULL_DUPLEX_STREAMED":
        return
    if settings.get("response_body_mode", "NONE") == "NONE":
        message = "with FULL_DUPLEX_STREAMED requests and NONE, Envoy sends no response bodies to the router: "
        message += "nothing is cached and no tokens are counted; set `response_body_mode: STREAMED`"
        report.warning((*_ENVOY, "request_body_mode"), message)


def _no_credential_leaks(data: Any, report: Report) -> None:
    """What takes a client's credentials out of a request is the router, which is not there when Envoy fails open."""
    default = at(data, "providers", "defaults", "default_model")
    models = list(items(data, MODELS))
    for index, (path, model) in enumerate(models):
        if model.get("name") == default or (default is None and index == 0):
            for where, ref in items(model, ("backend_refs",), below=path):
                if ref.get("base_url") and ref.get("forward_credentials") is not True:
                    message = "while the router is down, `failure_mode_allow` would send clients' credentials there; "
                    message += "choose another default model, or fail closed"
                    report.error((*where, "base_url"), message)
