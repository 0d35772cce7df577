"""Following the configuration file: read, check, prepare everywhere, then swap everywhere.

The file is looked at, not listened to: that also sees a ConfigMap's links swapped, on any file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from triton_router.config import Config, ConfigError, Loaded, load
from triton_router.errors import BundleError, Rejected
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

# Settings that a running process cannot change: sections of `global`.
FIXED = ("inference", "services.envoy", "services.extproc", "services.api", "services.observability.metrics",
         "services.observability.tracing")  # fmt: skip
# How long requests that the last generation routed may take to reach their backend before its routes are taken away.
SETTLE_SECONDS = 1.0
# Seconds until a generation is tried again that failed for another reason than its own text.
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0


class Gateway(Protocol):
    """What stands before the router and has to know its models."""

    async def widen(self, config: Config) -> None:
        """Serve the models of ``config`` too."""

    async def narrow(self, config: Config) -> None:
        """Serve the models of ``config`` only."""


class ReloadParticipant(Protocol):
    """A process that routes."""

    async def prepare(self, loaded: Loaded) -> None:
        """Get ready for a generation. Raises what makes it impossible."""

    async def commit(self) -> None:
        """Route with what was prepared last."""

    async def drained(self) -> None:
        """Return when no request of an earlier generation is being routed any more."""


class Reloader:
    """Watches ``path`` and brings what is in it to every share, all of them together.

    ``rejected`` holds what is wrong with the file on disk while an earlier one is served; ``since`` is when the current
    one came into force.
    """

    def __init__(
        self,
        path: Path,
        first: Loaded,
        shares: Callable[[], list[ReloadParticipant]],
        metrics: Metrics,
        gateway: Gateway | None,
    ) -> None:
        self.rejected: list[str] = []
        self.current, self.since = first, time.time()
        self._path, self._shares, self._metrics, self._gateway = path, shares, metrics, gateway
        self._digest = _fingerprint(path)
        self._look = asyncio.Event()
        self._narrowing: asyncio.Task[None] | None = None
        self._retry_at = math.inf
        self._retry_pause = RETRY_SECONDS

    def look(self) -> None:
        """Look at the file now."""
        self._digest = ""
        self._look.set()

    async def run(self) -> None:
        """Follow the file until cancelled."""
        try:
            while True:
                settings = self.current.config.global_.router.reload
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.interval_seconds):
                        await self._look.wait()
                requested, digest = self._look.is_set(), await asyncio.to_thread(_fingerprint, self._path)
                self._look.clear()
                changed = settings.enabled and digest != self._digest
                if requested or changed:
                    self._retry_pause = RETRY_SECONDS
                if requested or changed or time.monotonic() >= self._retry_at:
                    self._digest, self._retry_at = digest, math.inf
                    await self._follow()
        finally:
            if self._narrowing is not None:
                self._narrowing.cancel()

    async def _follow(self) -> None:
        try:
            loaded = await asyncio.to_thread(load, self._path, allow_inactive=self.current.allow_inactive)
            if loaded.digest == self.current.digest:
                self._accept()
                return
            await self._swap(loaded)
        except ConfigError as error:
            self._reject([str(problem) for problem in error.problems if problem.severity == "error"])
        except (BundleError, RuntimeError, ValueError, Rejected) as error:
            self._reject_for_now(str(error))
        except Exception as error:
            log.exception("a reload failed")
            self._reject_for_now(f"{type(error).__name__}: {error}")

    async def _swap(self, loaded: Loaded) -> None:
        started = time.perf_counter()
        shares = self._shares()
        await asyncio.gather(*(share.prepare(loaded) for share in shares))
        prepared = time.perf_counter()
        if self._gateway is not None:
            await self._unhurried()
            await self._gateway.widen(loaded.config)
        widened = time.perf_counter()
        await asyncio.gather(*(share.commit() for share in shares))
        swapped = time.perf_counter()
        before, self.current, self.since = self.current, loaded, time.time()
        self._metrics.reloads.labels("accepted").inc()
        self._accept()
        fields = {
            "generation": loaded.digest[:12],
            "prepare_ms": round((prepared - started) * 1000, 1),
            "gateway_ms": round((widened - prepared) * 1000, 1),
            "swap_ms": round((swapped - widened) * 1000, 1),
            "warnings": len(loaded.warnings),
        }
        log.info("reloaded", extra={"fields": fields})
        if changed := _fixed_changes(before.config, loaded.config):
            log.warning("these settings need a restart", extra={"fields": {"settings": changed}})
        self._narrowing = asyncio.create_task(self._narrow(loaded.config, shares))

    async def _unhurried(self) -> None:
        """Let the last generation's leftovers be cleared away first: the gateway holds two generations at most."""
        if self._narrowing is not None:
            await asyncio.gather(self._narrowing, return_exceptions=True)

    async def _narrow(self, config: Config, shares: list[ReloadParticipant]) -> None:
        await asyncio.gather(*(share.drained() for share in shares))
        if self._gateway is not None:
            await asyncio.sleep(SETTLE_SECONDS)
            try:
                await self._gateway.narrow(config)
            except Exception:
                # They do no harm, and the next generation's end takes them away too.
                log.exception("routes of an earlier generation stay")

    def _accept(self) -> None:
        self.rejected = []
        self._metrics.rejected.set(0)

    def _reject_for_now(self, problem: str) -> None:
        self._retry_at = time.monotonic() + self._retry_pause
        self._retry_pause = min(2 * self._retry_pause, LONGEST_RETRY_SECONDS)
        if self.rejected != [problem]:
            self._reject([problem])

    def _reject(self, problems: list[str]) -> None:
        self.rejected = problems
        self._metrics.reloads.labels("rejected").inc()
        self._metrics.rejected.set(1)
        fields = {"generation": self.current.digest[:12], "problems": problems[:20]}
        log.error("configuration is rejected, the last one goes on", extra={"fields": fields})


def _fingerprint(path: Path) -> str:
    """Changes with the content of the file; empty while it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _fixed_changes(before: Config, after: Config) -> list[str]:
    def at(config: Config, dotted: str) -> object:
        section: object = config.global_
        for name in dotted.split("."):
            section = getattr(section, name)
        return section

    return [f"global.{name}" for name in FIXED if at(before, name) != at(after, name)]
