"""Answers judged by a head of the signal bundle, as they pass: windows of many answers together, in few calls.

A stream goes on while a window of it is judged. It waits only where a second window is full before that is done, so no
more than one window has gone out unjudged, and the first piece never waits. A whole answer waits for its verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triton_router.answers import LARGEST, Answer, Piece
from triton_router.config import Config
from triton_router.config.plugins import ResponseJailbreakPlugin, ResponseJailbreakSettings
from triton_router.disguises import plain
from triton_router.edits import BodyFilter, EditedAnswer, EditedEvents
from triton_router.errors import BundleError, Unavailable
from triton_router.inference import Encoder, Encoders
from triton_router.inference.encoder import PASSAGES_IN_A_CALL
from triton_router.inference.language import identify
from triton_router.signals.passages import LENGTH, OVERLAP, pieces

Verdicts = Mapping[str, NDArray[np.float32]]


class Queue:
    """Texts that wait for one trunk; all that came while it was busy are judged next, together."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: list[tuple[str, asyncio.Future[Verdicts]]] = []
        self._running: asyncio.Task[None] | None = None

    async def judge(self, text: str) -> Verdicts:
        """What each head says of ``text``, FP32 [labels]. Raises ``Unavailable``."""
        future: asyncio.Future[Verdicts] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:PASSAGES_IN_A_CALL], self._waiting[PASSAGES_IN_A_CALL:]
            try:
                judged = await self._encoder.judge_each([text for text, _ in batch], background=True)
            except Unavailable as unavailable:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(unavailable)
            else:
                for row, (_, future) in enumerate(batch):
                    if not future.done():
                        future.set_result({head: values[row] for head, values in judged.items()})


class Judges:
    """What judges the answers of one generation."""

    def __init__(self, encoders: Encoders | None) -> None:
        self._encoders = encoders
        self._queues: dict[str, Queue] = {}

    def require(self, settings: ResponseJailbreakSettings) -> None:
        """Raises ``BundleError`` where the bundle lacks the head, or the head all labels."""
        if self._encoders is None or settings.action == "none":
            return
        labels = self._labels(settings)
        if not labels:
            raise BundleError(f"the signal bundle has no head `{settings.head}`, which `response_jailbreak` needs")
        if not set(labels) & set(settings.labels):
            required = ", ".join(settings.labels)
            raise BundleError(f"the head `{settings.head}` has no label {required}; it has {', '.join(labels)}")

    async def probability(self, settings: ResponseJailbreakSettings, text: str) -> float:
        """How sure the head is of its labels. Raises ``Unavailable``."""
        language = identify(text)
        readers = self._encoders.readers(settings.head) if self._encoders is not None else None
        encoder = next(iter(readers.reading(language)), None) if readers is not None else None
        if encoder is None or not encoder.trunk.reads(language):
            raise Unavailable("language")
        queue = self._queues.setdefault(encoder.trunk.name, Queue(encoder))
        labels = self._labels(settings)
        values = (await queue.judge(text))[settings.head]
        return float(sum(values[labels.index(label)] for label in settings.labels if label in labels))

    def _labels(self, settings: ResponseJailbreakSettings) -> tuple[str, ...]:
        assert self._encoders is not None
        head = next((each.trunk.head(settings.head) for each in self._encoders.readers(settings.head)), None)
        return head.labels if head is not None and not head.per_token else ()


def judges_of(configs: Iterable[Config], encoders: Encoders | None) -> Judges:
    """The judges for all routing tables. Raises ``BundleError`` where one of their plugins could not act."""
    judges = Judges(encoders)
    for config in configs:
        for plugin in (plugin for decision in config.routing.decisions for plugin in decision.plugins):
            if isinstance(plugin, ResponseJailbreakPlugin) and plugin.configuration.enabled:
                judges.require(plugin.configuration)
    return judges


def withholds(settings: ResponseJailbreakSettings) -> bool:
    """Whether an answer that cannot be judged is not for the client."""
    return settings.action == "block" and settings.on_unknown == "deny"


class Judged:
    """One answer on its way. ``on_match`` is called once, with what was done."""

    def __init__(
        self, judges: Judges, settings: ResponseJailbreakSettings, reads: type[Answer], on_match: Callable[[str], None],
        *, streamed: bool,
    ) -> None:  # fmt: skip
        self._judges, self._settings, self._reads, self._on_match = judges, settings, reads, on_match
        self._streamed = streamed
        self._answer = reads(streamed)
        self._offset = 0
        self._verdict: asyncio.Task[bool] | None = None
        self._first: dict[str, Any] | None = None
        self.matched = self._cut_off = False
        unjudged = withholds(settings)
        self._body: BodyFilter = (
            EditedEvents(self, done_line=reads.DONE_LINE, withheld=unjudged)
            if streamed
            else EditedAnswer(self._whole, reads.withheld({}, settings.message) if unjudged else None)
        )

    async def check(self, piece: bytes, *, last: bool) -> None:
        """Look at a piece before :meth:`feed` takes it in."""
        if self.matched:
            return
        self._answer.feed(piece)
        if last:
            self._answer.finish()
        text = self._answer.text
        if len(text) + len(piece) > LARGEST:
            # No more of it is kept, so no more is judged.
            self._note(self._settings.on_unknown == "deny")
        if not self._streamed:
            if last:
                verdicts = await asyncio.gather(*(self._judge(each) for each in pieces(text)))
                self._note(any(verdicts))
            return
        while len(text) - self._offset >= LENGTH:
            await self._settle()
            window = text[max(0, self._offset - OVERLAP) : self._offset + LENGTH]
            self._offset += LENGTH
            self._verdict = asyncio.create_task(self._judge(plain(window)))
        if last and len(text) > self._offset:
            await self._settle()
            self._note(await self._judge(plain(text[max(0, self._offset - OVERLAP) :])))
        elif last or (self._verdict is not None and self._verdict.done()):
            await self._settle()

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`.edits.BodyFilter`."""
        return self._body.feed(piece, last=last)

    @property
    def cut_off(self) -> bool:
        """See :class:`.edits.EventEditor`."""
        return self._cut_off

    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]] | None:
        """See :class:`.edits.EventEditor`."""
        self._first = self._first or event
        piece: Piece | None = next(self._reads.pieces(event), None) if self._blocks else None
        if piece is None:
            return None
        self._cut_off = True
        return self._reads.cut_off(self._first, event, piece.channel, self._answer.text[: self._offset])

    def rest(self) -> list[dict[str, Any]]:
        """See :class:`.edits.EventEditor`."""
        return []

    @property
    def _blocks(self) -> bool:
        return self.matched and self._settings.action == "block"

    def _whole(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        return self._reads.withheld(answer, self._settings.message) if self._blocks else None

    async def _settle(self) -> None:
        if self._verdict is not None:
            verdict, self._verdict = self._verdict, None
            self._note(await verdict)

    async def _judge(self, text: str) -> bool:
        if not text.strip():
            return False
        try:
            return await self._judges.probability(self._settings, text) >= self._settings.threshold
        except Unavailable:
            return self._settings.on_unknown == "deny"

    def _note(self, matched: bool) -> None:
        if matched and not self.matched:
            self.matched = True
            self._on_match({"block": "blocked", "header": "reported"}[self._settings.action])
