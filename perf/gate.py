"""A guard against getting slower: figures of one short run against those that are committed in `baseline.json`.

Absolute times say nothing on a machine that others share. So there are counts (`counts.py`), which other processes do
not disturb, and ratios: the median of one rung over that of another in interleaved rounds, or its CPU time over the
other's. The gate fails when one is over the baseline's by more than its margin in two tries.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perf import counts
from perf.bare import BareTriton
from perf.ladder import ALONE, BARE, DOMAIN, HIT, KEYWORDS, NOTHING, LadderTestbed, aibrix, keywords_only, part
from perf.load import chat_bodies, closed_loop, run_precisely
from perf.prompts import PROMPTS
from perf.results import write_results
from perf.rounds import Rung, interleaved
from perf.testbed import command, machine

BASELINE = Path(__file__).with_name("baseline.json")
REQUESTS, ROUNDS = 12, 9
TRACED = 200
# Of latencies, of CPU times, which others on the machine hardly change, of system calls, which are fewer where several
# events wait for a process that was held up, and of counts, which nothing changes.
LATENCY, CPU, CALLS, COUNT = 2.0, 1.5, 1.4, 1.1
SYSTEM_CALLS = "system calls of "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="write a new baseline")


def run(arguments: argparse.Namespace) -> int:
    return measure(arguments.out, write=arguments.write)


def measure(out: Path, *, write: bool = False) -> int:
    """Exit status: 0 where all figures keep to the baseline, at the second try at latest. ``write`` makes it anew."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = LadderTestbed(Path(directory), stack, only=(ALONE, NOTHING, KEYWORDS, DOMAIN, HIT))
        baseline = {} if write else json.loads(BASELINE.read_text())
        if shutil.which("strace") is None:
            print("system calls are not counted, because strace is not installed", flush=True)
            baseline = {name: limit for name, limit in baseline.items() if not name.startswith(SYSTEM_CALLS)}
        counted = _counted()
        measured = run_precisely(_measure(testbed, counted))
        failures = _failures(measured, baseline)
        if failures:
            print("once more, as something may have been in the way: " + "; ".join(failures), flush=True)
            again = run_precisely(_measure(testbed, counted))
            lower = {name: min(value, again["figures"][name]) for name, value in measured["figures"].items()}
            measured = {**again, "figures": lower}
            failures = _failures(measured, baseline)
    if write:
        figures = {
            name: {"value": round(value, 2), "margin": margin(name)} for name, value in measured["figures"].items()
        }
        BASELINE.write_text(json.dumps(figures, indent=1) + "\n")
    document = {"machine": machine(), "command": command(), **measured, "baseline": baseline, "failures": failures}
    write_results(out, "gate", document)
    print(table(measured["figures"], baseline))
    print(f"perf-gate: {'; '.join(failures)}" if failures else "perf-gate: as fast as before")
    return 1 if failures else 0


def margin(name: str) -> float:
    """What a figure may be of its baseline."""
    margins = {"p50": LATENCY, "CPU": CPU, SYSTEM_CALLS: CALLS}
    return next((factor for start, factor in margins.items() if name.startswith(start)), COUNT)


def _counted() -> dict[str, float]:
    document = aibrix()
    keywords, models = keywords_only(document), [model["name"] for model in document["providers"]["models"]]
    falls_back = {**keywords, "routing": {**keywords["routing"], "fallback": {"models": models}}}
    return (
        counts.count(keywords, KEYWORDS)
        | counts.count(falls_back, f"{KEYWORDS}, with a fallback")
        | counts.count(document, "all rules, no Triton")
    )


async def _measure(testbed: LadderTestbed, counted: Mapping[str, float]) -> dict[str, Any]:
    bare = await BareTriton.connect(testbed.triton_port, PROMPTS)
    bodies = {rung: chat_bodies(PROMPTS, testbed.model(rung)) for rung in testbed.ports}
    for rung, port in testbed.ports.items():
        await closed_loop(port, bodies[rung], 1, len(PROMPTS) * 2)
    await bare.closed_loop(1, len(PROMPTS))

    def closed(rung: str) -> Rung:
        return Rung(lambda _: closed_loop(testbed.ports[rung], bodies[rung], 1, REQUESTS), part(rung))

    rungs = {**{rung: closed(rung) for rung in testbed.ports}, BARE: Rung(lambda _: bare.closed_loop(1, REQUESTS))}
    rows = {name: series.summary() for name, series in (await interleaved(testbed, rungs, ROUNDS)).items()}
    await bare.close()
    failed = {name: row["errors"] for name, row in rows.items() if row["errors"]}
    calls: dict[str, float] = {}
    for rung in (KEYWORDS, DOMAIN):
        pid, report = testbed.pid(part(rung) or ""), testbed.directory / "system-calls"
        made = await counts.system_calls(pid, testbed.ports[rung], bodies[rung], TRACED, report)
        calls |= {SYSTEM_CALLS + rung: made} if made is not None else {}
    return {"rungs": rows, "errors": failed, "figures": {**counted, **calls, **ratios(rows)}}


def _failures(measured: Mapping[str, Any], baseline: Mapping[str, Mapping[str, float]]) -> list[str]:
    wrong = [f"{count} errors of {name}" for name, count in measured["errors"].items()]
    return wrong + exceeded(measured["figures"], baseline)


def ratios(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The ratios that are guarded, of the rungs' ``p50`` and ``cpu_ms``."""
    latencies = ((NOTHING, ALONE), (KEYWORDS, ALONE), (KEYWORDS, NOTHING), (HIT, ALONE), (DOMAIN, BARE))
    result = {f"p50 of {one} / {other}": rows[one]["p50"] / rows[other]["p50"] for one, other in latencies}
    return result | {
        f"CPU of {rung} / {NOTHING}": rows[rung]["cpu_ms"] / rows[NOTHING]["cpu_ms"] for rung in (KEYWORDS, DOMAIN, HIT)
    }


def exceeded(measured: Mapping[str, float], baseline: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is over its baseline by more than its margin, or was not measured."""
    failures = []
    for name, limit in baseline.items():
        most = limit["value"] * limit["margin"]
        if name not in measured:
            failures.append(f"{name} was not measured")
        elif not measured[name] <= most:
            failures.append(f"{name} is {measured[name]:.2f}, at most {most:.2f} (baseline {limit['value']:.2f})")
    return failures


def table(measured: Mapping[str, float], baseline: Mapping[str, Mapping[str, float]]) -> str:
    """The figures as Markdown."""
    lines = ["| | measured | baseline | at most |", "| --- | ---: | ---: | ---: |"]
    for name, value in measured.items():
        limit = baseline.get(name)
        bounds = f"{limit['value']:.2f} | {limit['value'] * limit['margin']:.2f}" if limit else "- | -"
        lines.append(f"| {name} | {value:.2f} | {bounds} |")
    return "\n".join(lines)
