"""A router that notes how long its event loop was held: ``python -m perf.steps REPORT serve --config FILE …``

A step is what runs from one turn of the loop to the next, in CPU time of the loop's thread. SIGUSR1 begins anew. At its
end it writes the longest step, in milliseconds, and what ran in it to REPORT.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from triton_router import cli

_run = asyncio.Handle._run


class Steps:
    """The longest step so far."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.longest, self.what = 0.0, ""

    def run(self, handle: asyncio.Handle) -> None:
        """Run ``handle`` as the event loop does."""
        began = time.thread_time()
        _run(handle)
        took = time.thread_time() - began
        if took > self.longest:
            self.longest, self.what = took, repr(handle)[:300]


def main(report: Path, words: list[str]) -> Any:
    steps = Steps()
    signal.signal(signal.SIGUSR1, lambda *_: steps.restart())
    asyncio.Handle._run = lambda handle: steps.run(handle)  # type: ignore[method-assign,assignment]
    try:
        return cli.main(words)
    finally:
        report.write_text(json.dumps({"ms": steps.longest * 1000, "what": steps.what}))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
