"""One of several processes that serve ext_proc, under a supervisor that owns everything else.

They talk in JSON lines over the worker's standard input and output. The supervisor's first message is ``start``, then
come ``prepare``, ``commit``, ``adapters`` and questions. All have an ``id``, and all but ``adapters`` are answered with
it, in any order; an answer with ``failed`` says why. When its standard input ends, so does the worker.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import triton_router.startup  # noqa: F401
from triton_router.config import Loaded, loads
from triton_router.errors import Rejected, Unavailable
from triton_router.extproc.server import ExtProcServer
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.limits import SharedCounters
from triton_router.pipeline import Pipeline
from triton_router.processes import Process
from triton_router.selection import LoadedAdapters
from triton_router.supervision import keep_running
from triton_router.talk import LONGEST_LINE, Talk, WorkerGone
from triton_router.telemetry import Metrics, SummedMetrics, configure_logging, samples
from triton_router.vitals import Vitals

log = logging.getLogger(__name__)

CHECKS_BETWEEN_METRICS = 16
# Seconds beyond the draining that a worker may take to end.
END_WITHIN = 5.0
# After a worker has started, requests that waited for it need the processor more than the next spare.
CALM_SECONDS = 3.0
# Imported only where a configuration needs them, which takes up to a second: a spare does it ahead.
IMPORTED_LATE = ("mcp.client.streamable_http", "py3langid.langid", "pymilvus", "redis.asyncio", "usearch.index")


# --- the worker's side ---------------------------------------------------------------------------------------------


async def work() -> None:
    """Serve until standard input ends or SIGTERM comes, then drain."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    # A spare waits here, its modules loaded, until it is needed or its supervisor ends.
    first = asyncio.create_task(lines.readline())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({first, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not first.done() or not first.result():
        first.cancel()
        stopping.cancel()
        return
    start = json.loads(first.result())
    configure_logging(start["log_level"])
    loaded = _read(start)
    bundle, tokenizers = load_bundle(Path(start["bundle"]))
    directory = Path(start["directory"]) if start["directory"] else None
    metrics = Metrics()
    vitals = Vitals(start["vitals"], start["seat"], start["seats"])
    counts = SharedCounters(start["counts"], start["seat"], start["seats"])
    generations = Generations(loaded, bundle, tokenizers, metrics, directory, vitals, counts)
    generations.know(_adapters(start["adapters"]))
    config = loaded.config.global_
    # Standard output belongs to the talk with the supervisor.
    async with generations.tasks.running(generations=generations.run), generations.routing(out=sys.stderr) as route:
        server = ExtProcServer.of(route, config, start["port"] - config.services.extproc.port, metrics)
        await server.start()
        _write({"id": start["id"]})
        talk = asyncio.create_task(_Work(generations, metrics).listen(lines))
        await asyncio.wait({talk, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await server.drain(config.router.drain_seconds)
        talk.cancel()
        stopping.cancel()
        await asyncio.gather(talk, stopping, return_exceptions=True)


class _Work:
    """What the supervisor asks of a worker."""

    def __init__(self, generations: Generations, metrics: Metrics) -> None:
        self._generations, self._metrics = generations, metrics
        self._prepared: Pipeline | None = None
        self._before: Pipeline | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def listen(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            message = json.loads(line)
            if message["do"] == "adapters":
                self._generations.know(_adapters(message["adapters"]))
                continue
            task = asyncio.create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, message: dict[str, Any]) -> None:
        try:
            answer = await self._do(message)
        except Exception as error:
            answer = {"failed": str(error) or type(error).__name__}
        _write(answer | {"id": message["id"]})

    async def _do(self, message: dict[str, Any]) -> dict[str, Any]:
        match message["do"]:
            case "health":
                return {"failures": self._generations.tasks.failures}
            case "metrics":
                return {"samples": samples(self._metrics.registry)}
            case "prepare":
                self._prepared = await self._generations.prepare(_read(message))
            case "commit":
                if self._prepared is None:
                    raise Rejected("nothing is prepared")
                self._before, prepared, self._prepared = self._generations.current, self._prepared, None
                self._generations.commit(prepared)
            case "drained":
                before, self._before = self._before, None
                if before is not None:
                    await before.drained()
                await self._generations.forget_unused()
            case "replay":
                return {"record": await self._generations.replay(message["name"])}
            case "recorded":
                return {"records": await self._generations.recorded(message["most"], message["before"])}
            case "count_recorded":
                return {"count": await self._generations.count_recorded()}
            case "live":
                return {"live": await self._generations.live(message["number"])}
            case "purge":
                try:
                    return {"count": await self._generations.purge(message["key"], message["decision"])}
                except Unavailable as unavailable:
                    return {"unavailable": unavailable.reason}
        return {}


def _read(message: dict[str, Any]) -> Loaded:
    return loads(message["text"], file=message["file"], allow_inactive=message["allow_inactive"])


def _source(loaded: Loaded) -> dict[str, Any]:
    """What a worker reads ``loaded`` from."""
    return {"text": loaded.text, "file": loaded.file, "allow_inactive": loaded.allow_inactive}


def _write(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _adapters(by_base: dict[str, list[str]]) -> LoadedAdapters:
    return LoadedAdapters({base: frozenset(names) for base, names in by_base.items()})


# --- the supervisor's side -----------------------------------------------------------------------------------------


class Spare:
    """A process that has loaded its modules and waits to become a worker: loading takes longer than all the rest.

    It loads what this process has loaded too.
    """

    def __init__(self) -> None:
        self._process: Process | None = None
        self._starting = 0
        self._settled_at = time.monotonic()

    def take(self) -> Process:
        """The spare, or a new process; call :meth:`settled` once it serves or has failed."""
        process, self._process = self._process, None
        if process is None or process.code is not None:
            process = self._start()
        self._starting += 1
        return process

    def settled(self) -> None:
        self._starting -= 1
        self._settled_at = time.monotonic()

    def refill(self) -> None:
        """Start the next spare if there is none, unless a worker that starts or has just started needs the CPU."""
        calm = not self._starting and time.monotonic() - self._settled_at >= CALM_SECONDS
        if calm and (self._process is None or self._process.code is not None):
            self._process = self._start()

    async def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    def _start(self) -> Process:
        # In this process's group, and not killed with it: then the worker's input ends, and it drains.
        late = [name for name in IMPORTED_LATE if name in sys.modules]
        return Process((sys.executable, "-m", "triton_router.worker", *late), None, own_group=False)


class Worker:
    """A worker as its supervisor sees it: replaced whenever it ends by itself or answers no health check.

    ``failure`` says why it does not serve, or which of its tasks do not run; ``None`` while all is well.

    It has 18 methods: one for each thing that a worker is asked.
    """

    def __init__(
        self,
        port: int,
        loaded: Loaded,
        *,
        bundle: Path,
        directory: Path | None,
        metrics: Metrics,
        sums: SummedMetrics,
        spare: Spare,
        vitals: str | None = None,
        counts: str | None = None,
        log_level: str = "INFO",
    ) -> None:
        self.port = port
        self.ready = asyncio.Event()
        self.failure: str | None = "starting"
        self._loaded = loaded
        self._next: Loaded | None = None
        self._preparation: Loaded | None = None  # what the running process has prepared
        self._fixed = {
            "do": "start",
            "port": port,
            "bundle": str(bundle),
            "directory": str(directory) if directory else None,
            "log_level": log_level,
            # The supervisor has the first seat.
            "vitals": vitals,
            "counts": counts,
            "seat": port - loaded.config.global_.services.extproc.port + 1 if vitals else 0,
            "seats": loaded.config.global_.services.extproc.workers + 1 if vitals else 1,
        }
        self._metrics, self._sums, self._spare = metrics, sums, spare
        self._adapters: dict[str, list[str]] = {}
        self._talk: Talk | None = None

    async def run(self) -> None:
        """Keep a worker process alive until cancelled; then let it drain."""
        await keep_running(self._once, lambda failure, pause: None)

    async def _once(self) -> None:
        talk = self._talk = Talk(self._spare.take())
        reason = "start"
        try:
            try:
                await talk.open()
                await self._start(talk)
            finally:
                self._spare.settled()
            reason = await talk.until_lost(self._report)
            self.failure = "does not answer" if reason == "silent" else "ended"
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"[:300]
        except asyncio.CancelledError:
            # A stopped process would not end at SIGTERM.
            talk.process.send(signal.SIGTERM)
            within = self._loaded.config.global_.router.drain_seconds + END_WITHIN
            await asyncio.wait({asyncio.create_task(talk.process.wait())}, timeout=within)
            raise
        finally:
            self.ready.clear()
            talk.process.kill()
            code = await talk.process.wait()
            talk.close()
            self._sums.forget(talk.process.pid)
        self._metrics.worker_restarts.labels(reason).inc()
        fields = {"port": self.port, "reason": reason, "code": code, "detail": self.failure}
        log.error("a worker is replaced", extra={"fields": fields})

    async def _start(self, talk: Talk) -> None:
        first = self._loaded
        self._preparation = None
        await talk.ask({**self._fixed, **_source(first), "adapters": self._adapters})
        if self._loaded is not first:
            # Another generation was committed while it started.
            await self._change_over(talk)
        self.failure = None
        self.ready.set()

    async def _report(self, number: int, failures: dict[str, str]) -> None:
        self.failure = "; ".join(f"{name}: {reason}" for name, reason in failures.items()) or None
        self._spare.refill()
        if number % CHECKS_BETWEEN_METRICS == 0:
            # What a worker has counted since is lost if it dies.
            await self.measure()

    async def measure(self) -> None:
        """Take the worker's metrics over into the sums, if it gives them."""
        if (talk := self._talk) is not None and self.ready.is_set():
            try:
                self._sums.update(talk.process.pid, (await talk.ask({"do": "metrics"}))["samples"])
            except Rejected:
                return

    async def prepare(self, loaded: Loaded) -> None:
        """See :class:`.reload.ReloadParticipant`. A worker that is not there starts with what is committed then.

        Raises:
            Rejected: the worker cannot serve it.
        """
        self._next = loaded
        if self._talk is not None and self.ready.is_set():
            try:
                await self._offer(self._talk, loaded)
            except WorkerGone:
                return

    async def commit(self) -> None:
        if self._next is not None:
            self._loaded, self._next = self._next, None
        if self._talk is not None and self.ready.is_set():
            try:
                await self._change_over(self._talk)
            except WorkerGone:
                return
            except Rejected as rejected:
                log.error("worker is ended", extra={"fields": {"port": self.port, "reason": str(rejected)[:300]}})
                self._talk.process.kill()

    async def _offer(self, talk: Talk, loaded: Loaded) -> None:
        await talk.ask({"do": "prepare", **_source(loaded)})
        self._preparation = loaded

    async def _change_over(self, talk: Talk) -> None:
        """Have the process serve what is committed; one that has come up since was not there to prepare it."""
        if self._preparation is not self._loaded:
            await self._offer(talk, self._loaded)
        await talk.ask({"do": "commit"})

    async def replay(self, name: str) -> dict[str, Any] | None:
        """The record of a decision that the worker has made, by its id; ``None`` too of one that does not answer."""
        # Where this one fails, another may have it.
        answer = await self._answer_or_none({"do": "replay", "name": name})
        return answer.get("record") if answer is not None else None

    async def recorded(self, most: int, before: str | None) -> list[dict[str, Any]]:
        """See :meth:`.generations.Generations.recorded`; nothing of a worker that does not answer."""
        answer = await self._answer_or_none({"do": "recorded", "most": most, "before": before})
        return answer["records"] if answer is not None else []

    async def count_recorded(self) -> int:
        """See :meth:`.generations.Generations.count_recorded`; 0 of a worker that does not answer."""
        answer = await self._answer_or_none({"do": "count_recorded"})
        return int(answer["count"]) if answer is not None else 0

    async def live(self, number: int) -> dict[str, Any]:
        """See :meth:`.live.LiveLog.since`; nothing of a worker that does not answer."""
        answer = await self._answer_or_none({"do": "live", "number": number})
        # The one that takes its place counts from the beginning.
        return answer["live"] if answer is not None else {"last": number, "requests": [], "skipped": 0}

    async def drained(self) -> None:
        await self._answer_or_none({"do": "drained"})

    async def _answer_or_none(self, message: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await self._talk.ask(message) if self._talk is not None and self.ready.is_set() else None
        except Rejected:
            return None

    async def purge(self, key: str | None, decision: str | None) -> int:
        """Empty the worker's cache, or a part of it; returns how many entries there were.

        Raises:
            Unavailable: its store did not do it, or it does not say so.
        """
        if self._talk is None or not self.ready.is_set():
            return 0
        try:
            answer = await self._talk.ask({"do": "purge", "key": key, "decision": decision})
        except Rejected as rejected:
            raise Unavailable("deadline", str(rejected)) from rejected
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        return int(answer.get("count", 0))

    def know(self, adapters: LoadedAdapters) -> None:
        """Pass on what the backends have loaded."""
        by_base = {base: sorted(names) for base, names in adapters.by_base.items()}
        if by_base == self._adapters:
            return
        self._adapters = by_base
        if self._talk is not None and self.ready.is_set():
            self._talk.tell({"do": "adapters", "adapters": by_base})


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    asyncio.run(work())


if __name__ == "__main__":
    main()
