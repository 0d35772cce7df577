"""A router that counts where its CPU time goes: ``python -m perf.sampled REPORT serve --config FILE …``

The kernel's timer of CPU time interrupts it a few hundred times a second of CPU; the innermost module of ours says
which part of the work that was. SIGUSR1 begins anew. At its end it writes the counts by part to REPORT.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import triton_router
from triton_router import cli

INTERVAL = 0.001
LOOP = "event loop"
TRITON_CALL = "call to Triton"
# The first that a module's path begins with.
PARTS = (
    ("HTTP/2 with Envoy", ("http2/",)),
    ("ext_proc messages", ("extproc/",)),
    ("tokens", ("inference/windows", "inference/tokens")),
    (TRITON_CALL, ("inference/",)),
    ("signals", ("signals/", "parts/", "decisions/settle")),
    ("decision and model", ("decisions/", "selection/", "recipes", "protection", "guards", "fallback", "limits/")),
    ("body", ("body", "dialects/", "rewriting", "jsontext", "plugins/")),
    ("log, counts, headers", ("telemetry/", "journal", "record", "vitals")),
    ("response", ("usage", "answers", "edits")),
    ("pipeline", ("",)),
)
NAMES = (LOOP, *(name for name, _ in PARTS))
_PACKAGE = str(Path(triton_router.__file__).parent) + "/"

counts: Counter[str] = Counter()


def part(frame: FrameType | None) -> str:
    """The part of the work in progress."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_PACKAGE):
            # Both sides of HTTP/2 share code; the object says whose it is.
            if type(frame.f_locals.get("self")).__module__ == "triton_router.http2.client":
                return TRITON_CALL
            module = path.removeprefix(_PACKAGE)
            # What runs the loop stands below everything.
            if not module.startswith(("cli", "serve")):
                return next(name for name, starts in PARTS if module.startswith(starts))
        frame = frame.f_back
    return LOOP


def _count(_: int, frame: FrameType | None) -> None:
    counts[part(frame)] += 1


def main(report: Path, words: list[str]) -> Any:
    signal.signal(signal.SIGPROF, _count)
    signal.signal(signal.SIGUSR1, lambda *_: counts.clear())
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        return cli.main(words)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        report.write_text(json.dumps(counts))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
