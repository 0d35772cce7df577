"""Nobody waits for a batch to fill."""

from __future__ import annotations

import pytest

from triton_router.telemetry import traces


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "PAUSE", 0.05)
