"""One JSON object a line on standard error; fields come from ``extra={"fields": {...}}``."""

from __future__ import annotations

import logging
import math
import sys
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic

from triton_router.jsontext import json_bytes


@lru_cache(1)
def _second(time: int) -> str:
    # Once for all lines of a second: it takes a third of a line's formatting.
    return f"{datetime.fromtimestamp(time, UTC):%FT%T}"


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03}+00:00",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json_bytes(line, str).decode()


def configure_logging(level: str = "INFO") -> None:
    """Send all logging to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # No line has a place in the code, a thread or a process, and finding these out takes half of a line's time
    # (docs.python.org/3/howto/logging.html, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class RateLimitedLog:
    """Logs one warning for all of a kind in so many ``seconds``; its field ``often`` counts them."""

    def __init__(self, log: logging.Logger, event: str, seconds: float = 10.0) -> None:
        self._log, self._event, self._seconds = log, event, seconds
        self._often, self._logged = 0, -math.inf

    def warn(self, detail: str = "", **fields: object) -> None:
        """Log the event, ``detail`` behind it, unless that was done a short while ago."""
        self._often += 1
        now = monotonic()
        if now - self._logged >= self._seconds:
            self._log.warning(
                f"{self._event}: {detail}" if detail else self._event, extra={"fields": fields | {"often": self._often}}
            )
            self._logged, self._often = now, 0
