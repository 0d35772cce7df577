"""Half an hour of load, a reload each 20 s and a fault each minute: memory, descriptors and threads stay level."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perf.faults import FAULTS, Fault
from perf.load import Samples, arrivals, chat_bodies, open_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.testbed import command, machine
from perf.victim import MODEL, Victim

RELOAD_EVERY, FAULT_AT = 20.0, 5.0
# The rise from the first third, after the warm-up, to the last that is no leak, as a share.
LEVEL = 0.03
# A fault of these leaves time for all to be whole again within the minute.
FAULTS_USED = [fault for fault in FAULTS if fault.seconds <= 12 and fault.name != "nothing"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--rate", type=float, default=30, help="requests a second")
    parser.add_argument("--warm-up", type=int, default=5, help="minutes of warm-up, which are not judged")
    parser.add_argument("--round", type=float, default=60, help="seconds from a fault to the next")


def run(arguments: argparse.Namespace) -> int:
    document = measure(arguments.minutes, arguments.rate, arguments.warm_up, arguments.round)
    write_results(arguments.out, "endurance", document)
    print(table(document))
    return 1 if document["rising"] or document["failed"] else 0


def measure(minutes: int, rate: float, warm_up: int, round_seconds: float) -> dict[str, Any]:
    """``rising`` names what has risen by more than :data:`LEVEL` since the warm-up."""
    drawn, rounds, failed, requests = random.Random(7), [], Counter[int](), 0
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        victim = Victim(Path(directory), stack)
        victim.start()
        hand = stack.enter_context(ThreadPoolExecutor(1))
        for number in range(int(minutes * 60 / round_seconds)):
            fault = drawn.choice(FAULTS_USED)
            samples = run_precisely(_round(victim, hand, fault, rate, round_seconds, number))
            # Between faults, when the processes are those that stay.
            victim.wait_for_spare()
            requests += len(samples.ms)
            failed += Counter({status: count for status, count in samples.statuses.items() if status != 200
                               and fault.answerable})  # fmt: skip
            rounds.append({"fault": fault.name, "degraded": samples.degraded, "mib": victim.mib(),
                           "descriptors": victim.descriptors(), "threads": victim.threads()})  # fmt: skip
            print(f"{number + 1}: {json.dumps(rounds[-1])}", flush=True)
    judged = rounds[int(warm_up * 60 / round_seconds) :]
    return {
        "machine": machine(), "command": command(), "requests": requests, "rounds": rounds,
        "failed": {str(status): count for status, count in failed.items()},
        "rising": {name: share for name, share in rises(judged) if share > LEVEL},
    }  # fmt: skip


async def _round(
    victim: Victim, hand: ThreadPoolExecutor, fault: Fault, rate: float, seconds: float, number: int
) -> Samples:
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def at(moment: float, work: Callable[[Victim], object]) -> None:
        await asyncio.sleep(began + moment - loop.time())
        await loop.run_in_executor(hand, work, victim)

    moments = [m for m in arrivals(rate, int(rate * seconds * 1.5), seed=number) if m < seconds]
    bodies = chat_bodies(PROMPTS, MODEL) + chat_bodies(PROMPTS[:5], "thinker")
    mend = [at(FAULT_AT + fault.seconds, fault.mend)] if fault.mend is not None else []
    reloads = [at(moment, lambda victim: victim.reload()) for moment in _every(RELOAD_EVERY, seconds)]
    load = asyncio.create_task(open_loop(victim.gateway, bodies, moments))
    await asyncio.gather(at(FAULT_AT, fault.strike), *mend, *reloads)
    return await load


def _every(pause: float, seconds: float) -> Iterator[float]:
    """Moments apart from those of the fault, which may write the configuration too."""
    moment = pause
    while moment < seconds:
        yield moment
        moment += pause


def rises(rounds: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """How much larger the last third is than the first, as a share, of everything that was counted."""
    third = max(1, len(rounds) // 3)
    for kind in ("mib", "descriptors", "threads"):
        for part in rounds[0][kind] if rounds else ():
            first, last = (
                statistics.median(each[kind].get(part, 0) for each in some)
                for some in (rounds[:third], rounds[-third:])
            )
            yield f"{kind} of {part}", last / first - 1 if first else 0.0


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    first, last = document["rounds"][0], document["rounds"][-1]
    lines = [f"{document['machine']}; `{document['command']}`", ""]
    lines.append(
        f"{document['requests']} requests in {len(document['rounds'])} rounds; failed that a healthy part could "
        f"answer: {document['failed'] or 'none'}."
    )
    for kind in ("mib", "descriptors", "threads"):
        course = ", ".join(f"{part} {first[kind][part]:.0f} → {last[kind].get(part, 0):.0f}" for part in first[kind])
        lines.append(f"{kind}: {course}")
    risen = ", ".join(f"{name} by {share:.1%}" for name, share in document["rising"].items())
    lines.append(f"Risen by more than {LEVEL:.0%} since the warm-up: {risen or 'nothing'}.")
    return "\n".join(lines)
