"""Which model or adapter serves a request."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from router.config.schema import Config, Decision, ModelRef, ReasoningFamily


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected.

    ``model`` is the name that goes upstream (the adapter's, if there is one), ``base`` the model whose backends serve
    it. ``use_reasoning`` of ``None`` leaves the client's own switches alone.
    """

    model: str
    base: str
    adapter: str | None = None
    family: ReasoningFamily | None = None
    use_reasoning: bool | None = None
    effort: str = "medium"


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of ``GET /v1/models``; ``parent`` is an adapter's base model."""

    name: str
    parent: str | None = None
    description: str | None = None


class ModelCatalog:
    """The models and adapters of a configuration: looking names up, and choosing among candidates."""

    def __init__(self, config: Config, draw: Callable[[], float] = random.random) -> None:
        defaults = config.providers.defaults
        self._draw = draw
        self._effort = defaults.default_reasoning_effort
        self._models = {model.name: model for model in config.providers.models}
        self._families = defaults.reasoning_families
        self._auto = frozenset(config.global_.router.auto_model_names)
        # An adapter that two bases declare belongs to the first; a modelRef names its base and is never ambiguous.
        self._bases: dict[str, str] = {}
        self._hidden = {model.name for model in config.providers.models if model.hidden}
        cards = {card.name: card for card in config.routing.modelCards}
        self.listed = [Listed(name, None, "Chooses the model for each request") for name in sorted(self._auto)]
        for model in config.providers.models:
            card = cards.get(model.name)
            self._list(Listed(model.name, None, card.description if card else None))
            for lora in card.loras if card else ():
                self._bases.setdefault(lora.name, model.name)
                if lora.hidden or model.hidden:
                    self._hidden.add(lora.name)
                self._list(Listed(lora.name, model.name, lora.description))
        first = config.providers.models[0].name
        self.default = self._named(defaults.default_model or first) or Selection(first, first)

    def _list(self, entry: Listed) -> None:
        if entry.name not in self._hidden and entry.name not in {known.name for known in self.listed}:
            self.listed.append(entry)

    def is_auto(self, name: str) -> bool:
        """Whether ``name`` asks the router to choose."""
        return name in self._auto

    def concrete(self, name: str) -> Selection | None:
        """The model or adapter that a client asked for by name; ``None`` if there is none, or it is hidden."""
        return None if name in self._hidden else self._named(name)

    def _named(self, name: str) -> Selection | None:
        if name in self._models:
            return Selection(name, name)
        base = self._bases.get(name)
        return Selection(name, base, name) if base else None

    def select(self, decision: Decision) -> Selection:
        """One of the decision's candidates, by weight; the default model if it has none."""
        if not decision.modelRefs:
            return self.default
        return self._selection(self._by_weight(decision.modelRefs))

    def _by_weight(self, refs: tuple[ModelRef, ...]) -> ModelRef:
        if len(refs) == 1:
            return refs[0]
        point = self._draw() * sum(ref.weight for ref in refs)
        for ref in refs:
            point -= ref.weight
            if point < 0:
                return ref
        return refs[-1]

    def _selection(self, ref: ModelRef) -> Selection:
        model = self._models[ref.model]
        family = self._families.get(model.reasoning_family) if model.reasoning_family else None
        effort = ref.reasoning_effort or self._effort
        return Selection(ref.lora_name or ref.model, ref.model, ref.lora_name, family, ref.use_reasoning, effort)
