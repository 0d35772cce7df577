"""Faults under load: which requests fail that a healthy part could answer, and how long until all is well again."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from export import page
from perf.faults import FAULTS, Fault
from perf.load import Samples, arrivals, chat_bodies, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import command, machine
from perf.victim import MODEL, Victim

TEMPLATE = Path(__file__).parent / "templates" / "chaos.md.j2"
RATES = (20.0, 100.0)
# Seconds of load before a fault, and at least after it has been mended.
BEFORE, AFTER = 2.0, 3.0
# Seconds until a part that is not back counts as lost; the promise, and that of an answer.
LOST_AFTER, BACK_WITHIN, ANSWERED_WITHIN = 40.0, 15.0, 2.0
# A short form for every commit, of faults that do not last.
SHORT = ("Triton killed", "one replica closes", "one replica answers 429", "configuration bombed")
SHORT_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="requests a second")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="faults whose name has one of these words")
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}, at the first rate")


def run(arguments: argparse.Namespace) -> int:
    rates = arguments.rates[:1] if arguments.short else arguments.rates
    words = SHORT if arguments.short else arguments.only
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    if arguments.short:
        faults = [replace(fault, seconds=SHORT_SECONDS) for fault in faults]
    if not faults:
        raise SystemExit(f"no fault has that in its name; there are: {', '.join(fault.name for fault in FAULTS)}")
    document = measure(faults, rates, arguments.out / "chaos-logs", timed=not arguments.short)
    write_results(arguments.out, "chaos", document, page.render(TEMPLATE, **document))
    return 1 if document["broken"] or document["tracebacks"] else 0


def measure(faults: Sequence[Fault], rates: Sequence[float], logs: Path, *, timed: bool = True) -> dict[str, Any]:
    """Each fault at each rate; what the parts have written goes to ``logs``.

    ``broken`` names the cells that break a promise, those about times only if ``timed``; tracebacks are those of the
    product, not of the parts around it.
    """
    began, cells = time.monotonic(), []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        victim = Victim(Path(directory), stack)
        stack.callback(lambda: shutil.copytree(directory, logs, ignore=_no_logs, dirs_exist_ok=True))
        victim.start()
        # The kernel ends a process with the thread that started it: this one lives as long as all of them.
        hand = stack.enter_context(ThreadPoolExecutor(1))
        for fault in faults:
            for rate in rates:
                victim.wait_for_spare()
                cells.append(run_precisely(_cell(victim, hand, fault, rate)))
                print(_line(cells[-1]), flush=True)
        tracebacks = sum(text.count("Traceback (most recent call last)") for text in victim.logs().values())
    failing = [f"{cell['fault']} at {cell['rate']:g}/s" for cell in cells if broken(cell, timed=timed)]
    return {
        "machine": machine(),
        "command": command(),
        "minutes": (time.monotonic() - began) / 60,
        "cells": cells,
        "tracebacks": tracebacks,
        "broken": failing,
        "back_within": BACK_WITHIN,
        "answered_within": ANSWERED_WITHIN,
    }


def _no_logs(folder: str, names: list[str]) -> list[str]:
    """Names that are not to be copied, as ``shutil.copytree`` asks for them."""
    return [name for name in names if not name.endswith((".log", ".yaml")) and name not in ("run", "logs")]


class _Watch:
    """Asks again and again whether all is as it should be."""

    def __init__(self, victim: Victim) -> None:
        self.trouble: str | None = None
        self.history: list[tuple[float, str | None]] = []
        self.last_trouble_at = 0.0
        self._victim = victim
        self._looks = 0

    async def run(self) -> None:
        while True:
            trouble = await asyncio.to_thread(self._victim.trouble)
            if trouble is not None:
                self.last_trouble_at = time.monotonic()
            if trouble != self.trouble:
                self.history.append((time.monotonic(), trouble))
            self.trouble, self._looks = trouble, self._looks + 1
            await asyncio.sleep(0.1)

    async def whole(self, deadline: float) -> bool:
        """Whether two looks from now on in a row see no trouble, by ``deadline`` of the monotonic clock."""
        good, looks = 0, self._looks + 1
        while good < 2 and time.monotonic() < deadline:
            if self._looks > looks:
                good, looks = good + 1 if self.trouble is None else 0, self._looks
            await asyncio.sleep(0.05)
        return good == 2


async def _cell(victim: Victim, hand: Executor, fault: Fault, rate: float) -> dict[str, Any]:
    seconds, watch = BEFORE + fault.seconds + AFTER, _Watch(victim)
    moments = [moment for moment in arrivals(rate, int(rate * seconds * 1.5)) if moment < seconds]
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(watch.run())
    began = time.monotonic()
    load = asyncio.create_task(open_loop(victim.gateway, chat_bodies(PROMPTS, MODEL), moments))
    await asyncio.sleep(BEFORE)
    struck = mended = time.monotonic()
    await loop.run_in_executor(hand, fault.strike, victim)
    await asyncio.sleep(max(0.0, struck + fault.seconds - time.monotonic()))
    if fault.mend is not None:
        mended = time.monotonic()
        await loop.run_in_executor(hand, fault.mend, victim)
    samples = await load
    whole = await watch.whole(mended + LOST_AFTER)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    back = max(0.0, watch.last_trouble_at - mended) if whole else None
    return judged(samples, struck - began) | {
        "fault": fault.name, "rate": rate, "answerable": fault.answerable, "back": back,
        "trouble": watch.trouble, "mib": victim.mib(),
        "history": [(round(moment - struck, 1), trouble) for moment, trouble in watch.history],
    }  # fmt: skip


def judged(samples: Samples, struck: float) -> dict[str, Any]:
    """What became of the requests sent from ``struck`` on, in seconds of the run's own time."""
    rows = list(zip(samples.at, samples.ms, samples.status_of, samples.degraded_of, strict=True))
    failed = Counter(status for _, _, status, _ in rows if status != 200)
    after = [(at + ms / 1000 - struck, ms) for at, ms, _, _ in rows if at + ms / 1000 >= struck]
    return {
        "requests": len(rows), "failed": sum(failed.values()),
        "statuses": {str(status): count for status, count in sorted(failed.items())},
        "degraded": samples.degraded, "slowest": max((ms for _, ms in after), default=0.0) / 1000,
    }  # fmt: skip


def broken(cell: dict[str, Any], *, timed: bool = True) -> bool:
    """Whether a part did not come back, or a request failed that a part could answer; if ``timed``, in time."""
    if cell["back"] is None or (cell["answerable"] and cell["failed"]):
        return True
    return timed and (cell["back"] > BACK_WITHIN or (cell["answerable"] and cell["slowest"] > ANSWERED_WITHIN))


def _line(cell: dict[str, Any]) -> str:
    back = "not back: " + str(cell["trouble"]) if cell["back"] is None else f"back after {cell['back']:.1f} s"
    failed = "".join(f", {count} times {status}" for status, count in cell["statuses"].items())
    memory = ", ".join(f"{part} {mib:.0f}" for part, mib in cell["mib"].items())
    return (
        f"{cell['fault']} at {cell['rate']:g}/s: {cell['failed']} of {cell['requests']} failed{failed}; "
        f"{cell['degraded']} degraded, slowest {cell['slowest']:.1f} s, {back}; MiB: {memory}"
    )
