"""What a request leaves behind: counts, a log line, an audit line, a record to look up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from triton_router.config.plugins import RouterReplayPlugin
from triton_router.config.schema import Decision
from triton_router.exchange import Request
from triton_router.live import LiveLog
from triton_router.record import Record
from triton_router.replay import ReplayLog
from triton_router.runtime import JournalRuntime
from triton_router.telemetry import AuditLog, Metrics

log = logging.getLogger(__name__)

# In labels of metrics, for adapters that the configuration does not name: tenants may have thousands.
UNDECLARED = "(undeclared)"


class Journal:
    """Use it inside one event loop. ``declared`` says whether the configuration names a model or adapter."""

    def __init__(
        self,
        runtime: JournalRuntime,
        metrics: Metrics,
        declared: Callable[[str], bool],
        replay: ReplayLog | None = None,
        live: LiveLog | None = None,
    ) -> None:
        self.replay = replay
        self._live = live or LiveLog()
        self._runtime, self._metrics, self._declared = runtime, metrics, declared
        self._audit = AuditLog(Path(runtime.audit.path)) if runtime.audit else None

    def label(self, model: str) -> str:
        """A model's or adapter's name in labels of metrics."""
        return model if self._declared(model) else UNDECLARED

    def count(self, record: Record) -> None:
        """Count a request by how it got its response, and show it to who watches."""
        self._live.note(record)
        if record.failures:
            model, reason = record.failures[-1]
            following = record.selection.model if record.error is None and record.selection is not None else None
            successor = self.label(following) if following is not None else ""
            self._metrics.fallbacks.labels(self.label(model), reason, successor).inc()
            if following is None:
                log.warning("no candidate is left", extra={"fields": record.failure_fields()})
        if record.error is not None or record.selection is None:
            self._metrics.requests.labels("", "", "error", "").inc()
            return
        decision = record.decision.name if record.decision else ""
        recipe = record.recipe.name if record.recipe else ""
        self._metrics.requests.labels(decision, self.label(record.selection.model), str(record.path), recipe).inc()

    def write(self, record: Record, prompt: str, request: Request) -> None:
        """Count and log a routed ``request``, and keep what is to be kept; ``record`` learns its id, if it has one."""
        replay = self.replay if _may_be_looked_up(record.decision) else None
        if self._audit is None and replay is None:
            # A timer comes after all that is ready, so the response goes out first: this takes as long as deciding.
            asyncio.get_running_loop().call_later(0, self._log, record)
            return
        self._log(record)
        fields = record.audit_fields()
        # One that comes back is quoted already, as the client sent it.
        again = bool(record.failures)
        quote = {"prompt": prompt.encode("utf-8", "replace").decode()} if not again else {}
        if self._audit is not None and self._runtime.audit is not None:
            line = fields | quote if self._runtime.audit.include_prompt else fields
            if not self._audit.write(line):
                self._metrics.audit_errors.inc()
        if replay is not None:
            line = fields | quote if replay.settings.include_prompt else fields
            full = request if replay.settings.include_request and not again else None
            record.replay_id = replay.keep(line, full, self._runtime.kept_headers)

    def _log(self, record: Record) -> None:
        self.count(record)
        for stage, (began, ended) in record.stages.items():
            self._metrics.stage_seconds.labels(stage).observe(ended - began)
        degraded = record.degraded
        for part in degraded:
            self._metrics.degraded.labels(part).inc()
        if (selection := record.selection) is not None:
            if selection.reason not in (None, "only") and record.decision is not None:
                self._metrics.selections.labels(
                    record.decision.name, self.label(selection.model), selection.reason
                ).inc()
            for kind in selection.refused_hints:
                self._metrics.refused_hints.labels(kind).inc()
            if selection.missing is not None:
                self._metrics.adapter_fallbacks.labels(self.label(selection.missing)).inc()
        fields = record.log_fields()
        if self._runtime.scores and record.signals is not None:
            fields["scores"] = record.scores()
        log.log(logging.WARNING if degraded else logging.INFO, "routed", extra={"fields": fields})


def _may_be_looked_up(decision: Decision | None) -> bool:
    plugins = decision.plugins if decision is not None else ()
    return all(plugin.configuration.enabled for plugin in plugins if isinstance(plugin, RouterReplayPlugin))
