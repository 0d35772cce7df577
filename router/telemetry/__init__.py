"""Metrics and logs. No prompt text reaches either."""

from router.telemetry.logs import configure_logging
from router.telemetry.metrics import Metrics

__all__ = ["Metrics", "configure_logging"]
