"""What a supervisor and its worker say to each other: questions, answers and health checks in JSON lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

from triton_router.errors import Rejected
from triton_router.processes import Process

# A message is a configuration file at most, and its name.
LONGEST_LINE = 64 * 1024 * 1024
ANSWER_WITHIN = 60.0
# Seconds between health checks. One that is not answered is looked for again and again: six looks are 1.2 s,
# but a machine that stands still meanwhile costs one of them only.
HEALTH_SECONDS, LOOKS, LOOK_SECONDS = 0.3, 6, 0.2

Report = Callable[[int, dict[str, str]], Awaitable[None]]


class WorkerGone(Rejected):
    """The worker's process has ended."""


class Talk:
    """Questions to a process and its answers."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._input: asyncio.WriteTransport | None = None
        self._numbers = count()
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        loop, lines = asyncio.get_running_loop(), asyncio.StreamReader(limit=LONGEST_LINE)
        into, out = self.process.pipes()
        self._input, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, into)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), out)
        self._reading = asyncio.create_task(self._read(lines))

    def close(self) -> None:
        """End the process's input, and all questions."""
        if self._input is not None:
            self._input.close()
        if self._reading is not None:
            self._reading.cancel()
        self._give_up()

    def tell(self, message: Mapping[str, Any]) -> int:
        """Send a message; returns its number."""
        number = next(self._numbers)
        if self._input is not None:
            self._input.write(json.dumps({**message, "id": number}).encode() + b"\n")
        return number

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a message and return the answer.

        Raises:
            WorkerGone: the process ended.
            Rejected: it says that it cannot, or nothing in time.
        """
        if self._reading is None or self._reading.done():
            raise WorkerGone("the worker ended")
        number = self.tell(message)
        self._questions[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await self._questions[number]
        except TimeoutError:
            raise Rejected("the worker does not answer") from None
        finally:
            del self._questions[number]
        if "failed" in answer:
            raise Rejected(str(answer["failed"]))
        return answer

    async def until_lost(self, report: Report) -> str:
        """Return why the process has to be replaced: it has ``ended``, or is ``silent``.

        ``report`` gets each health check's number, from 1, and the failures of the process's tasks.
        """
        end = asyncio.create_task(self.process.wait())
        silence = asyncio.create_task(self._until_silent(report))
        try:
            await asyncio.wait({end, silence}, return_when=asyncio.FIRST_COMPLETED)
            # A question to a process that has just ended fails.
            return "silent" if not end.done() and silence.exception() is None else "ended"
        finally:
            for task in (end, silence):
                task.cancel()
            await asyncio.gather(end, silence, return_exceptions=True)

    async def _until_silent(self, report: Report) -> None:
        for number in count(1):
            answer = asyncio.create_task(self.ask({"do": "health"}))
            try:
                for _ in range(LOOKS):
                    await asyncio.wait({answer}, timeout=LOOK_SECONDS)
                    if answer.done():
                        break
                else:
                    return
                await report(number, (await answer)["failures"])
            finally:
                answer.cancel()
            await asyncio.sleep(HEALTH_SECONDS)

    async def _read(self, lines: asyncio.StreamReader) -> None:
        try:
            while line := await lines.readline():
                answer = json.loads(line)
                question = self._questions.get(answer.pop("id"))
                if question is not None and not question.done():
                    question.set_result(answer)
        finally:
            self._give_up()

    def _give_up(self) -> None:
        for question in self._questions.values():
            if not question.done():
                question.set_exception(WorkerGone("the worker ended"))
