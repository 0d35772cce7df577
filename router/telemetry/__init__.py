"""Metrics, logs, audit, traces. Prompt text reaches none of them but the audit log, and that only if configured."""

from triton_router.telemetry.audit import AuditLog
from triton_router.telemetry.logs import RateLimitedLog, configure_logging
from triton_router.telemetry.metrics import Metrics
from triton_router.telemetry.sums import Samples, SummedMetrics, samples

__all__ = ["AuditLog", "Metrics", "RateLimitedLog", "Samples", "SummedMetrics", "configure_logging", "samples"]
