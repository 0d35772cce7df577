"""Signals by the language of a prompt: each group of languages that the same trunks read has a gatherer of its own.

Vectors of two trunks say nothing of each other, so prompts, topics, examples and earlier turns meet in one trunk only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from triton_router.config import Config
from triton_router.errors import Unavailable
from triton_router.inference import Encoder, Encoders, TopicParameters
from triton_router.inference.language import identify
from triton_router.signals.contract import HangsOn, SignalInput, SignalResults
from triton_router.signals.gather import Gatherer
from triton_router.signals.mcp import McpClassifier
from triton_router.telemetry import Metrics


class LanguageGatherer:
    """A :class:`Gatherer` for each group of languages; with trunks that read the same there is one.

    ``topics`` are by the name of the trunk that they were fitted for.
    """

    def __init__(
        self,
        config: Config,
        encoders: Encoders | None,
        topics: Mapping[str, TopicParameters],
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
    ) -> None:
        self._languages: frozenset[str] = encoders.languages if encoders else frozenset()
        made: dict[tuple[str, ...], Gatherer] = {}
        self._gatherers: dict[str | None, Gatherer] = {}
        for language in (*sorted(self._languages), None):
            reading = encoders.reading(language) if encoders else None
            names = tuple(each.trunk.name for each in reading or ())
            if names not in made:
                fitted = next((topics[name] for name in names if name in topics), TopicParameters())
                made[names] = Gatherer(config, reading, fitted, metrics, classifier=classifier)
            self._gatherers[language] = made[names]
        self._all = tuple(made.values())

    @property
    def roles_needed(self) -> bool:
        """Whether some decision asks who is calling."""
        return self._all[0].roles_needed

    @property
    def by_body_alone(self) -> bool:
        """Whether a request's body decides about all signals: no header, and nobody else's word."""
        return self._all[0].by_body_alone

    @property
    def embedder(self) -> Encoder | None:
        """The trunk whose embeddings of texts in any language can be compared."""
        return self._of(None).embedder

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """See :meth:`Gatherer.prepare`; every gatherer is prepared, whichever encoder fails."""
        # The classifier of languages loads when it is first asked, and no request is to wait for that.
        await asyncio.to_thread(identify, "")
        failure: Unavailable | None = None
        for gatherer in self._all:
            try:
                await gatherer.prepare(encoder)
            except Unavailable as unavailable:
                failure = failure or unavailable
        if failure is not None:
            raise failure

    async def gather(
        self, query: SignalInput, *, everything: bool = False, hangs_on: HangsOn | None = None
    ) -> SignalResults:
        """See :meth:`Gatherer.gather`."""
        by_language = self._by_language if self._languages else None
        return await self._of(None).gather(query, everything=everything, hangs_on=hangs_on, by_language=by_language)

    def _by_language(self, text: str) -> tuple[Gatherer, bool]:
        language = identify(text)
        return self._of(language), language is not None and language not in self._languages

    def _of(self, language: str | None) -> Gatherer:
        return self._gatherers.get(language, self._gatherers[None])
