"""Metrics, logs, audit, traces. Prompt text reaches none of them but the audit log, and that only if configured."""

from triton_router.telemetry.audit import AuditLog
from triton_router.telemetry.logs import RateLimitedLog, configure_logging
from triton_router.telemetry.metrics import Metrics, share_metrics

__all__ = ["AuditLog", "Metrics", "RateLimitedLog", "configure_logging", "share_metrics"]
