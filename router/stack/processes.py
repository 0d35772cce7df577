"""Several child processes as one: started together, watched, ended in order, none left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.05
_LAST_LINES = 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the stack. Times are in seconds.

    ``ready`` is asked again and again until it answers True; an exception from it counts as False. ``before_stop`` may
    take its time over work in flight; it is left out after a failure. ``after_stop`` runs when the process and all its
    descendants are gone. One that a signal ends before it was ready is started again ``retries`` times.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] | None = None
    ready_within: float = 60.0
    grace: float = 10.0
    before_stop: Callable[[], Awaitable[None]] | None = None
    after_stop: Callable[[], object] | None = None
    retries: int = 0


@dataclass(slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    log: Path
    started: float = field(default_factory=time.monotonic)


class ChildFailed(Exception):
    """A child ended by itself, could not be started, or was not ready in time. ``str()`` is for people."""


async def supervise(
    children: Sequence[Child],
    logs: Path,
    *,
    say: Say,
    on_ready: Callable[[], None],
    stop_within: float = 60.0,
) -> int:
    """Run ``children`` until SIGINT, SIGTERM or SIGHUP, or until one of them ends.

    All start at once; each writes to ``logs/NAME.log``. At the end they are stopped one after the other, the last of
    the list first: SIGTERM, and SIGKILL after the child's ``grace``. A second signal, or ``stop_within`` seconds, makes
    it SIGKILL for all. Should this process itself die, the kernel kills the children.

    Must run in the main thread. Returns 0 after a signal and 1 after a child's failure, which ``say`` explains.
    """
    signals = _Signals()
    running: list[_Running] = []
    code = 0
    with signals.caught():
        try:
            for child in children:
                log = logs / f"{child.name}.log"
                running.append(_Running(child, await _start(child, log), log))
            await _until_stopped(running, signals, say, on_ready)
        except ChildFailed as failure:
            say(str(failure))
            code = 1
        finally:
            await _stop_all(running, signals, say, stop_within, gently=code == 0)
    return code


class _Signals:
    """How often the user has asked to stop."""

    _CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()

    def _arrived(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in self._CAUGHT:
            loop.add_signal_handler(number, self._arrived)
        try:
            yield
        finally:
            for number in self._CAUGHT:
                loop.remove_signal_handler(number)


# --- starting ------------------------------------------------------------------------------------------------------


async def _start(child: Child, log: Path) -> asyncio.subprocess.Process:
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    with _open_log(log) as output:
        try:
            return await asyncio.create_subprocess_exec(
                *child.command,
                env=child.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C reaches only the supervisor, and descendants can be ended together.
                process_group=0,
                preexec_fn=die_with_supervisor,
            )
        except OSError as error:
            raise ChildFailed(f"{child.name} could not be started: {error}") from error


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


async def _until_stopped(
    running: Sequence[_Running], signals: _Signals, say: Say, on_ready: Callable[[], None]
) -> None:
    """Return after the first signal.

    Raises:
        ChildFailed: a child ended, or was not ready in time.
    """
    count = len(running)
    stop = asyncio.create_task(signals.first.wait())
    waits = {asyncio.create_task(_ready(each)): each for each in running}
    ends = [asyncio.create_task(_ended(each, ready, say)) for ready, each in waits.items()]
    tasks = {stop, *ends, *waits}
    done_waiting = 0
    try:
        pending: set[asyncio.Task[Any]] = set(tasks)
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # An end explains a missing readiness, never the other way round.
            for task in sorted(done, key=lambda task: task in waits):
                if task is stop:
                    return
                await task
                done_waiting += 1
                each = waits[task]
                say(f"[{done_waiting}/{count}] {each.child.name} ready in {time.monotonic() - each.started:.1f} s")
            if done_waiting == count and done & waits.keys():
                on_ready()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(each: _Running, ready: asyncio.Task[None], say: Say) -> None:
    for retries in range(each.child.retries, -1, -1):
        code = await each.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if ready.done() or code >= 0 or not retries:
            break
        say(f"{each.child.name} {how} before it was ready, and is started again.{_last_lines(each)}")
        _kill_group(each, signal.SIGKILL)
        await _clear_away(each)
        each.process = await _start(each.child, each.log)
    raise ChildFailed(f"{each.child.name} {how}; everything is being stopped.{_last_lines(each)}")


async def _ready(each: _Running) -> None:
    deadline = each.started + each.child.ready_within
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if await asyncio.wait_for(each.child.ready(), max(deadline - time.monotonic(), 0.1)):
                return
        await asyncio.sleep(_POLL_SECONDS)
    raise ChildFailed(f"{each.child.name} was not ready within {each.child.ready_within:g} s.{_last_lines(each)}")


def _last_lines(each: _Running) -> str:
    lines = each.log.read_text(errors="replace").splitlines()
    shown = "".join(f"\n  {each.child.name} | {line}" for line in lines[-_LAST_LINES:])
    return f" Its last words, from {each.log}:{shown}" if shown else f" Its log, {each.log}, is empty."


# --- stopping ------------------------------------------------------------------------------------------------------


async def _stop_all(running: Sequence[_Running], signals: _Signals, say: Say, within: float, *, gently: bool) -> None:
    if not running:
        return
    begun = time.monotonic()
    in_order = asyncio.create_task(_stop_in_order(running, gently))
    hurry = asyncio.create_task(signals.second.wait())
    await asyncio.wait({in_order, hurry}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not in_order.done():
        in_order.cancel()
    await asyncio.gather(in_order, hurry, return_exceptions=True)
    for each in reversed(running):
        _kill_group(each, signal.SIGKILL)
    for each in reversed(running):
        await each.process.wait()
        await _clear_away(each)
    say(f"stopped in {time.monotonic() - begun:.1f} s")


async def _stop_in_order(running: Sequence[_Running], gently: bool) -> None:
    for each in reversed(running):
        if gently and each.process.returncode is None and each.child.before_stop is not None:
            with contextlib.suppress(Exception):
                await each.child.before_stop()
        _kill_group(each, signal.SIGTERM, leader_only=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(each.process.wait(), each.child.grace)
        _kill_group(each, signal.SIGKILL)


def _kill_group(each: _Running, number: signal.Signals, *, leader_only: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError):
        if leader_only:
            each.process.send_signal(number)
        else:
            os.killpg(each.process.pid, number)


async def _clear_away(each: _Running) -> None:
    await _group_gone(each)
    if each.child.after_stop is not None:
        each.child.after_stop()


async def _group_gone(each: _Running) -> None:
    """Wait until no process of the group is left; after SIGKILL that takes moments."""
    for _ in range(100):
        try:
            os.killpg(each.process.pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)


# --- ports ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Port:
    """An address that a child will listen on, and the configuration key that names it."""

    host: str
    port: int
    key: str


def taken(ports: Iterable[Port]) -> list[str]:
    """One line for each port that cannot be had: in use, claimed twice, or not allowed."""
    problems: list[str] = []
    owners: dict[int, str] = {}
    for wanted in ports:
        if wanted.port in owners:
            problems.append(f"port {wanted.port} is named twice: by {owners[wanted.port]} and by {wanted.key}")
            continue
        owners[wanted.port] = wanted.key
        try:
            listening = socket.create_server((wanted.host, wanted.port), family=_family(wanted.host))
        except OSError as error:
            reason = "is already in use" if error.errno == 98 else f"cannot be used ({error.strerror or error})"
            problems.append(f"port {wanted.port} on {wanted.host} {reason}; it is set by {wanted.key}")
        else:
            listening.close()
    return problems


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
