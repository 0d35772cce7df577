"""One JSON object a line on standard error; fields come from ``extra={"fields": {...}}``."""

from __future__ import annotations

import logging
import math
import sys
from datetime import UTC, datetime
from time import monotonic

import orjson


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str = "INFO") -> None:
    """Send all logging to standard error in that form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class RateLimitedLog:
    """A warning that stands for all of its kind: one line in so many ``seconds``, with how ``often`` it came."""

    def __init__(self, log: logging.Logger, event: str, seconds: float = 10.0) -> None:
        self._log, self._event, self._seconds = log, event, seconds
        self._often, self._said = 0, -math.inf

    def warn(self, **fields: object) -> None:
        self._often += 1
        now = monotonic()
        if now - self._said >= self._seconds:
            self._log.warning(self._event, extra={"fields": fields | {"often": self._often}})
            self._said, self._often = now, 0
