"""Metrics, logs, audit, traces. No prompt text reaches them, but for the audit log where it is asked for."""

from triton_router.telemetry.audit import AuditLog
from triton_router.telemetry.logs import RateLimitedLog, configure_logging
from triton_router.telemetry.metrics import Metrics, share_metrics

__all__ = ["AuditLog", "Metrics", "RateLimitedLog", "configure_logging", "share_metrics"]
