"""What makes sense in the settings of Envoy."""

from __future__ import annotations

from typing import Any

from triton_router.config.plain import at
from triton_router.config.report import Report

_ENVOY = ("global", "services", "envoy")


def check(data: Any, report: Report) -> None:
    """Responses must be visible where something reads them, and failing open is no secret."""
    settings = at(data, *_ENVOY)
    if not isinstance(settings, dict):
        return
    if settings.get("failure_mode_allow") is True:
        message = "while the router is down every request reaches the default model's backend: no rule, role or limit "
        message += "holds, and whatever model it names, a hidden one too, is served if that backend has it"
        report.warning((*_ENVOY, "failure_mode_allow"), message)
    if settings.get("request_body_mode") != "FULL_DUPLEX_STREAMED":
        return
    if settings.get("response_body_mode", "NONE") == "NONE":
        message = "with FULL_DUPLEX_STREAMED requests and NONE, Envoy sends no response bodies to the router: "
        message += "nothing is cached and no tokens are counted; set `response_body_mode: STREAMED`"
        report.warning((*_ENVOY, "request_body_mode"), message)
