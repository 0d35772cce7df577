"""Nobody waits for a batch to fill, and no test's log depends on the one before."""

from __future__ import annotations

import logging

import pytest

from triton_router.telemetry import traces


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "PAUSE", 0.05)


@pytest.fixture(autouse=True)
def every_message() -> None:
    """The exporter over gRPC leaves out a message that is alike to its last within twenty seconds."""
    for each in logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").filters:
        vars(each).pop("last_log", None)
