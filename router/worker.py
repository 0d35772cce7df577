"""One of several processes that serve ext_proc, under a supervisor that owns everything else.

They talk in JSON lines over the worker's standard input and output. The supervisor says ``start``, ``prepare``,
``commit``, ``adapters``; the worker answers each but the last with ``{"done": …}`` or ``{"failed": why}``. When its
standard input ends, so does the worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import triton_router.threads  # noqa: F401
from triton_router.config import ConfigError, Loaded, loads
from triton_router.errors import BundleError, Rejected, Unavailable
from triton_router.extproc.server import ExtProcServer
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.pipeline import Pipeline
from triton_router.selection import LoadedAdapters
from triton_router.telemetry import Metrics, configure_logging, share_metrics

log = logging.getLogger(__name__)

# A message is a configuration file at most, and its name.
LONGEST_LINE = 64 * 1024 * 1024
ANSWER_WITHIN = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


# --- the worker's side ---------------------------------------------------------------------------------------------


async def work() -> None:
    """Serve until standard input ends or SIGTERM comes, then drain."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    start = json.loads(await lines.readline())
    configure_logging(start["log_level"])
    loaded = loads(start["text"], file=start["file"])
    bundle, tokenizers = load_bundle(Path(start["bundle"]))
    directory = Path(start["directory"]) if start["directory"] else None
    metrics = Metrics()
    generations = Generations(loaded, bundle, tokenizers, metrics, directory)
    generations.know(_adapters(start["adapters"]))
    config = loaded.config.global_
    watch = asyncio.create_task(generations.run())
    # Standard output belongs to the talk with the supervisor.
    async with generations.routing(out=sys.stderr) as route:
        server = ExtProcServer.of(route, config, start["port"] - config.services.extproc.port, metrics)
        await server.start()
        _answer({"done": "start"})
        talk = asyncio.create_task(_obey(lines, generations))
        done = asyncio.create_task(stop.wait())
        await asyncio.wait({talk, done}, return_when=asyncio.FIRST_COMPLETED)
        await server.drain(config.router.drain_seconds)
    for task in (talk, done, watch):
        task.cancel()
    await asyncio.gather(talk, done, watch, return_exceptions=True)


async def _obey(lines: asyncio.StreamReader, generations: Generations) -> None:
    prepared: Pipeline | None = None
    before: Pipeline | None = None
    while line := await lines.readline():
        message: dict[str, Any] = json.loads(line)
        match message["do"]:
            case "prepare":
                try:
                    prepared = await generations.prepare(loads(message["text"], file=message["file"]))
                    _answer({"done": "prepare"})
                except (ConfigError, BundleError, RuntimeError, ValueError) as error:
                    _answer({"failed": str(error)})
            case "commit" if prepared is not None:
                before = generations.current
                generations.commit(prepared)
                prepared = None
                _answer({"done": "commit"})
            case "drained":
                if before is not None:
                    await before.drained()
                before = None
                await generations.forget_unused()
                _answer({"done": "drained"})
            case "replay":
                _answer({"done": "replay", "record": await generations.replay(message["id"])})
            case "purge":
                try:
                    _answer({"done": "purge", "count": await generations.purge(message["key"], message["decision"])})
                except Unavailable as unavailable:
                    _answer({"done": "purge", "unavailable": unavailable.reason})
            case "adapters":
                generations.know(_adapters(message["adapters"]))
            case _:
                _answer({"failed": "nothing is prepared"})


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _adapters(by_base: dict[str, list[str]]) -> LoadedAdapters:
    return LoadedAdapters({base: frozenset(names) for base, names in by_base.items()})


# --- the supervisor's side -----------------------------------------------------------------------------------------


class Worker:
    """A worker as its supervisor sees it: started again whenever it ends by itself.

    ``metrics_directory`` is shared by all workers; see :func:`triton_router.telemetry.share_metrics`.

    It has 13 attributes: what the process starts with, and where the talk with it stands.
    """

    def __init__(
        self,
        port: int,
        loaded: Loaded,
        *,
        bundle: Path,
        directory: Path | None,
        metrics_directory: Path,
        log_level: str = "INFO",
    ) -> None:
        self.port = port
        self._loaded = loaded
        self._next: Loaded | None = None
        self._offered: Loaded | None = None  # what the running process has prepared
        self._fixed = {
            "port": port,
            "bundle": str(bundle),
            "directory": str(directory) if directory else None,
            "log_level": log_level,
        }
        self._environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
        self._metrics_directory = metrics_directory
        self._adapters: dict[str, list[str]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._one_question = asyncio.Lock()
        # Answers that a process owes: those to questions that were given up come before that to the next one.
        self._asked: asyncio.subprocess.Process | None = None
        self._owed = 0
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Keep a worker process alive until cancelled; then let it drain."""
        pause = FIRST_PAUSE
        while True:
            try:
                began = time.monotonic()
                await self._start()
                assert self._process is not None
                code = await self._process.wait()
                log.error("worker ended", extra={"fields": {"port": self.port, "code": code}})
                pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            except (Rejected, OSError) as error:
                log.error("worker did not start", extra={"fields": {"port": self.port, "reason": str(error)[:300]}})
                pause = min(pause * 2, LONGEST_PAUSE)
            finally:
                self.ready.clear()
                await self._stop()
            await asyncio.sleep(pause)

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "triton_router.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=LONGEST_LINE,
        )
        began_with = self._loaded
        start = {**self._fixed, "text": began_with.text, "file": began_with.file, "adapters": self._adapters}
        self._offered = None
        await self._ask(start)
        if self._loaded is not began_with:
            # Another generation was committed while it started.
            await self._change_over()
        self.ready.set()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            await process.wait()
        _forget_process(process.pid, self._metrics_directory)

    async def prepare(self, loaded: Loaded) -> None:
        """See :class:`.reload.ReloadParticipant`. A worker that is not there starts with what is committed then.

        Raises:
            Rejected: the worker cannot serve it.
        """
        self._next = loaded
        if self.ready.is_set():
            await self._offer(loaded)

    async def commit(self) -> None:
        if self._next is not None:
            self._loaded, self._next = self._next, None
        if self.ready.is_set():
            try:
                await self._change_over()
            except Rejected as rejected:
                log.error("worker is ended", extra={"fields": {"port": self.port, "reason": str(rejected)[:300]}})
                if self._process is not None:
                    self._process.kill()

    async def _offer(self, loaded: Loaded) -> None:
        await self._ask({"do": "prepare", "text": loaded.text, "file": loaded.file})
        self._offered = loaded

    async def _change_over(self) -> None:
        """Have the process serve what is committed; one that has come up since was not there to prepare it."""
        if self._offered is not self._loaded:
            await self._offer(self._loaded)
        await self._ask({"do": "commit"})

    async def replay(self, name: str) -> dict[str, Any] | None:
        """The record of a decision that the worker has made, by its id; ``None`` too of one that does not answer."""
        if not self.ready.is_set():
            return None
        try:
            return (await self._ask({"do": "replay", "id": name})).get("record")
        except Rejected:
            # Another may have it.
            return None

    async def purge(self, key: str | None, decision: str | None) -> int:
        """Empty the worker's cache, or a part of it; returns how many entries there were.

        Raises:
            Unavailable: its store did not do it, or it does not say so.
        """
        if not self.ready.is_set():
            return 0
        try:
            answer = await self._ask({"do": "purge", "key": key, "decision": decision})
        except Rejected as rejected:
            raise Unavailable("deadline", str(rejected)) from rejected
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        return int(answer.get("count", 0))

    async def drained(self) -> None:
        if self.ready.is_set():
            try:
                await self._ask({"do": "drained"})
            except Rejected:
                return

    def know(self, adapters: LoadedAdapters) -> None:
        """Pass on what the backends have loaded."""
        by_base = {base: sorted(names) for base, names in adapters.by_base.items()}
        if by_base == self._adapters:
            return
        self._adapters = by_base
        if self.ready.is_set():
            self._send({"do": "adapters", "adapters": by_base})

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        async with self._one_question:
            process = self._process
            if process is None or process.stdout is None:
                return {}
            if process is not self._asked:
                self._asked, self._owed = process, 0
            self._send(message)
            self._owed += 1
            line = b""
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    while self._owed:
                        line = await process.stdout.readline()
                        self._owed -= 1
            except TimeoutError:
                raise Rejected(f"the worker on port {self.port} does not answer") from None
            if not line:
                raise Rejected(f"the worker on port {self.port} ended")
            answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Rejected(str(answer["failed"]))
        return answer


def _forget_process(pid: int, directory: Path) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]


def main() -> None:
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        share_metrics(Path(directory))
    asyncio.run(work())


if __name__ == "__main__":
    main()
