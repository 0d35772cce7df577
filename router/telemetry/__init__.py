"""Metrics, logs, audit, traces. No prompt text reaches them, but for the audit log where it is asked for."""

from router.telemetry.audit import AuditLog
from router.telemetry.logs import Seldom, configure_logging
from router.telemetry.metrics import Metrics, share_metrics

__all__ = ["AuditLog", "Metrics", "Seldom", "configure_logging", "share_metrics"]
