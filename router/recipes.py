"""The recipes of one generation, and which of them a request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triton_router import names
from triton_router.cache.cache import SemanticCache
from triton_router.cache.lookup import Lookup
from triton_router.config.recipes import DEFAULT
from triton_router.config.schema import Decision
from triton_router.errors import Unavailable
from triton_router.inference import Encoder, Encoders, TopicParameters
from triton_router.record import Record
from triton_router.runtime import RecipeRuntime, Runtime
from triton_router.signals.languages import LanguageGatherer
from triton_router.signals.mcp import McpClassifier
from triton_router.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Recipe:
    """One routing table, ready to route. ``lookup`` is ``None`` where it uses no cache."""

    runtime: RecipeRuntime
    gatherer: LanguageGatherer
    lookup: Lookup[Record] | None


class Recipes:
    """All of them share the encoders, the MCP server's client and the cache; ``default`` is that of `routing`."""

    def __init__(
        self,
        runtime: Runtime,
        encoders: Encoders | None,
        topics: Mapping[str, TopicParameters],
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
        cache: SemanticCache | None = None,
    ) -> None:
        self._all: list[Recipe] = []
        for each in runtime.recipes:
            gatherer = LanguageGatherer(each.config, encoders, topics, metrics, classifier=classifier)
            lookup: Lookup[Record] | None = None
            if cache is not None and each.cache is not None:
                lookup = Lookup(cache, each.cache, gatherer.by_body_alone and not runtime.access.rules)
            self._all.append(Recipe(each, gatherer, lookup))
        self.default = self._all[0]
        router = runtime.config.global_.router
        self._by_name = by_name = {each.runtime.name or DEFAULT: each for each in self._all}
        self._entrypoints: dict[str, list[tuple[Mapping[str, str], Recipe]]] = {}
        for entrypoint in runtime.config.entrypoints:
            for name in entrypoint.model_names:
                target = entrypoint.headers, by_name[entrypoint.recipe]
                self._entrypoints.setdefault(name, []).append(target)
        for name in (*router.auto_model_names, *filter(None, [router.auto_model_name]), names.AUTO):
            self._entrypoints.setdefault(name, []).append(({}, self.default))

    def for_request(self, model: str | None, headers: Mapping[str, str]) -> Recipe | None:
        """The recipe of a request that names ``model``; ``None`` if that is no virtual model for it.

        A request that names no model is the default recipe's. ``headers`` have names in lower case.
        """
        if model is None:
            return self.default
        for needed, recipe in self._entrypoints.get(model, ()):
            if all(headers.get(name) == value for name, value in needed.items()):
                return recipe
        return None

    def named(self, name: str) -> RecipeRuntime:
        """The routing table of a recipe; that of `routing` for an empty name, or one that is no longer there."""
        return self._by_name.get(name or DEFAULT, self.default).runtime

    def decisions(self, name: str) -> tuple[Decision, ...]:
        """All that act on requests to the recipe ``name``, those of `routing` first."""
        default, table = self.default.runtime, self.named(name)
        own = table.config.routing.decisions if table is not default else ()
        return (*default.config.routing.decisions, *own)

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """Have every recipe's texts encoded; see :meth:`.signals.languages.LanguageGatherer.prepare`."""
        failure: Unavailable | None = None
        for each in self._all:
            try:
                await each.gatherer.prepare(encoder)
            except Unavailable as unavailable:
                failure = failure or unavailable
        if failure is not None:
            raise failure
