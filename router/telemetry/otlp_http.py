"""OpenTelemetry's exporter over HTTP, on a connection that mends two of its habits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter


def exporter(url: str, headers: Mapping[str, str], seconds: float) -> OTLPSpanExporter:
    """Sends to ``url``; each batch has so many ``seconds`` with all its attempts."""
    return OTLPSpanExporter(url, headers=dict(headers), timeout=seconds, session=_Session())


class _Session(requests.Session):
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """Certificates of the exporter's own variables come first; requests prefers `REQUESTS_CA_BUNDLE` to them."""
        verify = self.verify if verify is None else verify
        settings: dict[str, Any] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return settings

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The exporter takes a redirect for success, and does not follow it."""
        response = super().send(request, **options)
        if 300 <= response.status_code < 400:
            raise requests.RequestException(f"HTTP {response.status_code} {response.reason}")
        return response
