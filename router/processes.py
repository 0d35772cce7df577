"""Child processes: started so that none is left behind, kept running as one, ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from triton_router.supervision import keep_running

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_SECONDS = 0.05
_LAST_LINES = 20
# A child that is ready is asked for its health so often, and sooner after a failure; so many in a row make it ill.
_CHECK_SECONDS, _DOUBTFUL_SECONDS = 1.0, 0.5
_FAILURES_IN_A_ROW = 3

Say = Callable[[str], None]
Question = Callable[[], Awaitable[bool]]


class Process:
    """A running child process. Its output goes to ``log``, or with ``log=None`` its input and output are pipes.

    With ``own_group`` it leads a session of its own, so that Ctrl-C reaches only this process and its descendants can
    be ended together; and the kernel kills it should this process die.

    Raises:
        OSError: it could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        own_group: bool = True,
    ) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with contextlib.ExitStack() as files:
            output: int | IO[bytes] = subprocess.PIPE
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                output = files.enter_context(log.open("wb"))
            self._popen = subprocess.Popen(
                command,
                env=environment,
                cwd=directory,
                stdin=subprocess.PIPE if log is None else subprocess.DEVNULL,
                stdout=output,
                stderr=None if log is None else output,
                start_new_session=own_group,
                preexec_fn=die_with_parent if own_group else None,
            )
        self._own_group = own_group
        self._ended = False
        self.pid = self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit status, the signal's number below zero; ``None`` while the process runs."""
        return self._popen.poll()

    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """The process's input and output."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        return self._popen.stdin, self._popen.stdout

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill the process and, where it has a group of its own, what it has started."""
        if not self._own_group:
            return self._popen.kill()
        if self._ended:
            # Its number may be another's by now.
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return the exit status once the process has ended."""
        if self.code is None:
            ended, descriptor = asyncio.Event(), os.pidfd_open(self.pid)
            asyncio.get_running_loop().add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)
        return self._popen.wait()

    def end(self, grace: float) -> None:
        """SIGTERM, after ``grace`` seconds SIGKILL, for callers without an event loop; descendants are killed too."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace)
        self.kill()
        self._popen.wait()
        self._ended = True

    async def descendants_ended(self) -> None:
        """Wait until no process of the group is left; after SIGKILL that takes moments."""
        for _ in range(100):
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                self._ended = True
                return
            await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the stack. Times are in seconds.

    ``ready`` is asked again and again until it answers True; an exception from it counts as False. ``healthy`` is asked
    each second from then on, after a failure sooner; after three failures in a row the process is killed.
    ``before_stop`` may take its time over work in flight; it is left out after a failure. ``after_stop`` runs when the
    process and all its descendants are gone. One that a signal ends before it was ever ready is started again
    ``retries`` times.
    """

    name: str
    command: Sequence[str]
    ready: Question
    environment: Mapping[str, str] | None = None
    ready_within: float = 60.0
    healthy: Question | None = None
    grace: float = 10.0
    before_stop: Callable[[], Awaitable[None]] | None = None
    after_stop: Callable[[], object] | None = None
    retries: int = 0


class ChildFailed(Exception):
    """A child ended by itself, could not be started, or was not ready in time. ``str()`` is for people."""

    def __init__(self, reason: str, *, by_signal: bool = False) -> None:
        super().__init__(reason)
        self.by_signal = by_signal


async def supervise(
    children: Sequence[Child],
    logs: Path,
    *,
    say: Say,
    on_ready: Callable[[], None],
    stop_within: float = 60.0,
) -> int:
    """Run ``children`` until SIGINT, SIGTERM or SIGHUP, or until one of them fails before it was ever ready.

    All start at once; each writes to ``logs/NAME.log``. A child that ends after it was ready is started again, with
    growing pauses. At the end they are stopped one after the other, the last of the list first: SIGTERM, and SIGKILL
    after the child's ``grace``. A second signal, or ``stop_within`` seconds, makes it SIGKILL for all. Should this
    process itself die, the kernel kills the children.

    Must run in the main thread. Returns 0 after a signal and 1 after a failure, which ``say`` explains.
    """
    signals = _Signals()
    lives = [_Life(child, logs / f"{child.name}.log", say) for child in children]
    code = 1
    with signals.caught():
        try:
            for life in lives:
                life.start()
            await _until_stopped(lives, signals, say, on_ready)
            code = 0
        except ChildFailed as failure:
            say(f"{failure}")
        finally:
            await _stop_all([life for life in lives if life.process], signals, say, stop_within, gently=code == 0)
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


# --- running -------------------------------------------------------------------------------------------------------


class _Life:
    """A child from its first start on, through all its processes."""

    def __init__(self, child: Child, log: Path, say: Say) -> None:
        self.child = child
        self.process: Process | None = None
        self.first_ready = asyncio.Event()
        self.began = time.monotonic()
        self._log, self._say, self._retries = log, say, child.retries

    def start(self) -> None:
        try:
            self.process = Process(self.child.command, self._log, environment=self.child.environment)
        except OSError as error:
            raise ChildFailed(f"{self.child.name} could not be started: {error}") from error
        self.began = time.monotonic()

    async def keep(self) -> None:
        """Keep the child running until cancelled.

        Raises:
            ChildFailed: it failed before it was ever ready.
        """
        await keep_running(self._once, self._ended)

    async def _once(self) -> None:
        if self.process is None or self.process.code is not None:
            self.start()
        assert self.process is not None
        end = asyncio.create_task(self.process.wait())
        trouble = asyncio.create_task(self._trouble())
        try:
            await asyncio.wait({end, trouble}, return_when=asyncio.FIRST_COMPLETED)
            # An end explains a missing readiness, never the other way round.
            reason = None if end.done() else await trouble
            if reason is not None and not self.first_ready.is_set():
                raise ChildFailed(f"{self.child.name} {reason}")
            self.process.kill()
            code = await end
        finally:
            for task in (end, trouble):
                task.cancel()
            await asyncio.gather(end, trouble, return_exceptions=True)
        await self.clear_away()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ChildFailed(f"{self.child.name} {reason or how}", by_signal=code < 0)

    async def _trouble(self) -> str:
        """Return what is wrong once the process is not ready in time, or no longer does its work."""
        if not await self._ready():
            return f"was not ready within {self.child.ready_within:g} s"
        if self.first_ready.is_set():
            self._say(f"{self.child.name} is back after {time.monotonic() - self.began:.1f} s")
        self.first_ready.set()
        failures = 0
        while failures < _FAILURES_IN_A_ROW:
            await asyncio.sleep(_DOUBTFUL_SECONDS if failures else _CHECK_SECONDS)
            healthy = self.child.healthy is None or await _true(self.child.healthy)
            failures = 0 if healthy else failures + 1
        return "runs, but does not answer"

    async def _ready(self) -> bool:
        deadline = self.began + self.child.ready_within
        while (remaining := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(remaining, 0.1)):
                    if await _true(self.child.ready):
                        return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    def _ended(self, failure: Exception | None, pause: float) -> None:
        assert isinstance(failure, ChildFailed)
        if self.first_ready.is_set():
            self._say(f"{failure}; it is started again in {pause:g} s.{self._last_lines()}")
        elif failure.by_signal and self._retries:
            self._retries -= 1
            self._say(f"{failure} before it was ready, and is started again.{self._last_lines()}")
        else:
            raise ChildFailed(f"{failure}; everything is being stopped.{self._last_lines()}")

    def _last_lines(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            shown = "".join(f"\n  {self.child.name} | {line}" for line in lines[-_LAST_LINES:])
            return f" Its last words, from {self._log}:{shown}" if shown else f" Its log, {self._log}, is empty."
        return ""

    async def clear_away(self) -> None:
        if self.process is not None:
            await self.process.descendants_ended()
        if self.child.after_stop is not None:
            self.child.after_stop()


async def _true(question: Question) -> bool:
    try:
        return await question()
    except Exception:
        return False


async def _until_stopped(lives: Sequence[_Life], signals: _Signals, say: Say, on_ready: Callable[[], None]) -> None:
    """Return after the first signal.

    Raises:
        ChildFailed: a child failed before it was ever ready.
    """
    stop = asyncio.create_task(signals.first.wait())
    keeps = [asyncio.create_task(life.keep()) for life in lives]
    waits = {asyncio.create_task(life.first_ready.wait()): life for life in lives}
    tasks: set[asyncio.Task[Any]] = {stop, *keeps, *waits}
    pending, count = set(tasks), 0
    try:
        while not stop.done():
            finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                await task
            for task in waits.keys() & finished:
                count += 1
                seconds = time.monotonic() - waits[task].began
                say(f"[{count}/{len(lives)}] {waits[task].child.name} ready in {seconds:.1f} s")
            if count == len(lives) and finished & waits.keys():
                on_ready()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- stopping ------------------------------------------------------------------------------------------------------


async def _stop_all(lives: Sequence[_Life], signals: _Signals, say: Say, within: float, *, gently: bool) -> None:
    if not lives:
        return
    began = time.monotonic()
    in_order = asyncio.create_task(_stop_in_order(lives, gently))
    hurry = asyncio.create_task(signals.second.wait())
    await asyncio.wait({in_order, hurry}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in (in_order, hurry):
        task.cancel()
    await asyncio.gather(in_order, hurry, return_exceptions=True)
    for life in reversed(lives):
        assert life.process is not None
        life.process.kill()
    for life in reversed(lives):
        assert life.process is not None
        await life.process.wait()
        await life.clear_away()
    # Whoever read what this says may be gone, and perhaps is why everything stops.
    with contextlib.suppress(BrokenPipeError):
        say(f"stopped in {time.monotonic() - began:.1f} s")


async def _stop_in_order(lives: Sequence[_Life], gently: bool) -> None:
    for life in reversed(lives):
        process, child = life.process, life.child
        assert process is not None
        if gently and process.code is None and child.before_stop is not None:
            with contextlib.suppress(Exception):
                await child.before_stop()
        process.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(child.grace):
                await process.wait()
        process.kill()
