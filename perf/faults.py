"""What can go wrong, one fault at a time."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perf.victim import Victim

# A slow part stands still for so long, then runs for so long.
_STILL_SECONDS, _RUNNING_SECONDS = 0.4, 0.1


@dataclass(frozen=True)
class Fault:
    """``strike`` begins it, and ``mend`` ends it after ``seconds``; without ``mend`` the system recovers by itself.

    Where ``answerable`` is false no part is left that could answer.
    """

    name: str
    strike: Callable[[Victim], object]
    mend: Callable[[Victim], object] | None = None
    seconds: float = 6.0
    answerable: bool = True


def _nothing(victim: Victim) -> None:
    pass


def _send(part: str, number: signal.Signals, count: int | None = None) -> Callable[[Victim], None]:
    return lambda victim: victim.signal(victim.pids(part)[:count], number)


def _slow(name: str, part: str, seconds: float = 6.0) -> Fault:
    def hold_up(victim: Victim) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            pids = victim.pids(part)
            victim.signal(pids, signal.SIGSTOP)
            time.sleep(_STILL_SECONDS)
            victim.signal(pids, signal.SIGCONT)
            time.sleep(_RUNNING_SECONDS)

    return Fault(name, hold_up, _nothing, seconds)


def _ill(illness: str) -> Fault:
    name = {"close": "closes", "reset": "resets", "hang": "hangs"}.get(illness, f"answers {illness}")
    return Fault(f"one replica {name}", lambda victim: victim.make_ill(illness), lambda victim: victim.make_ill(""))


def _corrupt(text: str) -> Callable[[Victim], None]:
    return lambda victim: victim.write(text)


def _bomb(victim: Victim) -> None:
    victim.write("x: " + "[" * 30_000)
    time.sleep(2)
    aliases = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    victim.write(f"a0: &a0 [x]\n{aliases}")


def _impossible(victim: Victim) -> None:
    """A port that Envoy does not take."""
    document = victim.document
    first, *others = document["providers"]["models"]
    first = first | {"backend_refs": [{"endpoint": "127.0.0.1:99999"}]}
    victim.reload(providers=document["providers"] | {"models": [first, *others]})


def _fill_disk(victim: Victim) -> None:
    """No file of the router may grow by a byte; then it has to write Envoy's, and a worker to start."""
    victim.limit(resource.RLIMIT_FSIZE, 0)
    victim.reload()
    victim.signal(victim.workers()[:1], signal.SIGKILL)


def _few_descriptors(victim: Victim) -> None:
    """Each process of the router may open two more files than it has open now."""
    for pid in victim.pids("router") + victim.pids("worker"):
        highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 3, hard))
    victim.reload()


FAULTS = (
    Fault("nothing", _nothing),
    Fault("Triton killed", _send("triton", signal.SIGKILL), seconds=12),
    Fault("Triton stopped", _send("triton", signal.SIGSTOP), seconds=20),
    Fault("Triton's stub killed", _send("stub", signal.SIGKILL), seconds=12),
    _slow("Triton slow", "triton"),
    Fault("worker killed", lambda victim: victim.signal(victim.workers()[:1], signal.SIGKILL)),
    Fault("worker stopped", lambda victim: victim.signal(victim.workers()[:1], signal.SIGSTOP)),
    Fault("all workers killed", lambda victim: victim.signal(victim.workers(), signal.SIGKILL), answerable=False),
    *map(_ill, ("500", "429", "close", "reset", "hang")),
    Fault("Redis killed", _send("redis", signal.SIGKILL), lambda victim: victim.start_redis()),
    _slow("Redis slow", "redis"),
    Fault("MCP server killed", _send("mcp", signal.SIGKILL), lambda victim: victim.start_mcp()),
    _slow("MCP server slow", "mcp"),
    Fault("configuration corrupted", _corrupt("providers: {models: [{name"), lambda victim: victim.reload()),
    Fault("configuration bombed", _bomb, lambda victim: victim.reload()),
    Fault("configuration refused by Envoy", _impossible, lambda victim: victim.reload()),
    Fault("disk full", _fill_disk, lambda victim: victim.limit(resource.RLIMIT_FSIZE, None)),
    Fault("file descriptors low", _few_descriptors, lambda victim: victim.limit(resource.RLIMIT_NOFILE, None)),
)
