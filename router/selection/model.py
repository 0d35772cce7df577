"""Which model or adapter serves a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from triton_router import names
from triton_router.config.schema import (
    Config,
    Decision,
    Hints,
    ModelRef,
    Persona,
    Pricing,
    ProviderModel,
    ReasoningFamily,
)
from triton_router.errors import Refusal
from triton_router.selection.adapters import LoadedAdapters
from triton_router.selection.balance import Balance, Standing, mean_price


class Selection(NamedTuple):
    """What was selected.

    ``model`` is the name that clients, headers and metrics see (the adapter's, if there is one), ``upstream`` the name
    that the backend knows it by, ``base`` the model whose backends serve it. ``use_reasoning`` of ``None`` leaves the
    client's own switches alone; ``persona`` is its own system prompt. ``missing`` names the adapter that should have
    served and is not loaded; ``refused_hints`` what an MCP server asked for and the decision does not allow. ``reason``
    says in a word why it was chosen among ``standings``, the decision's candidates.
    """

    model: str
    base: str
    adapter: str | None = None
    family: ReasoningFamily | None = None
    use_reasoning: bool | None = None
    effort: str = "medium"
    upstream: str = ""
    persona: Persona | None = None
    missing: str | None = None
    refused_hints: tuple[str, ...] = ()
    reason: str | None = None
    standings: tuple[Standing, ...] = ()


@dataclass(frozen=True, slots=True)
class Hint:
    """What an MCP server asks for, beside a class."""

    model: str | None = None
    adapter: str | None = None
    use_reasoning: bool | None = None


@dataclass(frozen=True, slots=True)
class ListedModel:
    """An entry of ``GET /v1/models``; ``parent`` is an adapter's base model."""

    name: str
    parent: str | None = None
    description: str | None = None
    max_model_len: int | None = None


NOTHING_KNOWN = LoadedAdapters()


@dataclass(slots=True)
class KnownName:
    """Names of one configuration."""

    hidden: set[str] = field(default_factory=set)
    bases: dict[str, str] = field(default_factory=dict)
    # By model, and by model and adapter.
    personas: dict[tuple[str, str | None], Persona] = field(default_factory=dict)


class ModelCatalog:
    """The models and adapters of a configuration: looking names up, and choosing among candidates.

    It has 21 methods, because both work on the same tables of names.
    """

    def __init__(self, config: Config, balance: Balance | None = None) -> None:
        defaults, router = config.providers.defaults, config.global_.router
        self._balance = balance or Balance(config)
        self._effort = defaults.default_reasoning_effort
        self._models = {model.name: model for model in config.providers.models}
        self._families = defaults.reasoning_families
        recipes = {recipe.name: recipe.description for recipe in config.recipes}
        auto = (*router.auto_model_names, *filter(None, [router.auto_model_name]))
        self._auto: dict[str, str | None] = dict.fromkeys(sorted(auto), "Chooses the model for each request")
        for entrypoint in config.entrypoints:
            for name in entrypoint.model_names:
                self._auto.setdefault(name, recipes.get(entrypoint.recipe) or "Chooses the model for each request")
        self._expose = router.adapter_discovery.expose
        # What only an MCP server names belongs to tenants: no client sees it, listed by a backend or not.
        self._tenants = [pattern for decision in config.decisions() for pattern in decision.hints.adapters]
        self._names, self._listed = (
            KnownName(),
            [ListedModel(name, None, description) for name, description in self._auto.items()],
        )
        self._read(config)
        first = next((model.name for model in config.providers.models), None)
        chosen = defaults.default_model or first
        plain = self._plain(self._models[first]) if first is not None else None
        self._default = (self._named(chosen) if chosen is not None else None) or plain
        self.embedder = self._named(defaults.embedding_model) if defaults.embedding_model else None

    def _read(self, config: Config) -> None:
        cards = {card.name: card for card in config.routing.modelCards}
        self._names.hidden = {model.name for model in config.providers.models if model.hidden}
        for model in config.providers.models:
            card = cards.get(model.name)
            longest = card.context_window_size if card else None
            if card and card.persona:
                self._names.personas[model.name, None] = card.persona
            self._list(ListedModel(model.name, None, card.description if card else None, longest))
            for lora in card.loras if card else ():
                # Two bases may declare one adapter: to clients it is the first one's. A modelRef names its base.
                self._names.bases.setdefault(lora.name, model.name)
                if lora.persona:
                    self._names.personas[model.name, lora.name] = lora.persona
                if lora.hidden or model.hidden:
                    self._names.hidden.add(lora.name)
                self._list(ListedModel(lora.name, model.name, lora.description, longest))

    def _list(self, entry: ListedModel) -> None:
        if entry.name not in self._names.hidden and entry.name not in {other.name for other in self._listed}:
            self._listed.append(entry)

    @property
    def default(self) -> Selection:
        """The model of requests that no decision sends anywhere. Raises ``Refusal`` where there is no model at all."""
        if self._default is None:
            raise Refusal(503, "No model is configured.", code="no_model")
        return self._default

    # --- names -----------------------------------------------------------------------------------------------------

    def listed(self, loaded: LoadedAdapters = NOTHING_KNOWN) -> list[ListedModel]:
        """The entries of ``GET /v1/models``, virtual names first."""
        if not self._expose:
            return self._listed
        matches = [
            ListedModel(name, base)
            for base, names in loaded.by_base.items()
            for name in sorted(names)
            if self._may_be_exposed(name) and base not in self._names.hidden
        ]
        return [*self._listed, *matches]

    def is_auto(self, name: str) -> bool:
        """Whether ``name`` asks the router to choose."""
        return name in self._auto or name == names.AUTO

    def is_declared(self, name: str) -> bool:
        """Whether the configuration names this model or adapter: what it does not name is without number."""
        return name in self._models or name in self._names.bases

    def price(self, base: str) -> Pricing | None:
        """What tokens of a base model cost, if the configuration says so."""
        return self._models[base].pricing

    def concrete(self, name: str, loaded: LoadedAdapters = NOTHING_KNOWN) -> Selection | None:
        """The model or adapter that a client asked for by name; ``None`` if there is none, or it is hidden."""
        if name in self._names.hidden:
            return None
        entry = self._named(name)
        if entry is None and self._expose and self._may_be_exposed(name):
            base = loaded.base_of(name)
            if base is not None and base not in self._names.hidden:
                return Selection(name, base, name, upstream=name)
        return entry

    def _may_be_exposed(self, name: str) -> bool:
        return not self.is_declared(name) and not any(fnmatchcase(name, pattern) for pattern in self._tenants)

    def _named(self, name: str) -> Selection | None:
        if name in self._models:
            return self._plain(self._models[name])
        base = self._names.bases.get(name)
        return self._with_adapter(self._plain(self._models[base]), name) if base else None

    def _plain(self, model: ProviderModel) -> Selection:
        persona = self._names.personas.get((model.name, None))
        return Selection(model.name, model.name, upstream=model.provider_model_id or model.name, persona=persona)

    def _with_adapter(self, selection: Selection, adapter: str) -> Selection:
        persona = self._names.personas.get((selection.base, adapter), selection.persona)
        return selection._replace(model=adapter, upstream=adapter, adapter=adapter, persona=persona)

    # --- choosing --------------------------------------------------------------------------------------------------

    def select(
        self,
        decision: Decision | None,
        loaded: LoadedAdapters = NOTHING_KNOWN,
        *,
        session: str | None = None,
        hint: Hint | None = None,
        tokens: Callable[[], int] = lambda: 0,
    ) -> Selection:
        """One of the decision's candidates, as :class:`Balance` chooses; the default model if it has none, or there is
        no decision. ``hint`` is followed as far as the decision allows.

        Raises:
            Refusal: no candidate keeps the bounds of the decision's algorithm, which says `fail`.
        """
        refs = decision.modelRefs if decision is not None else ()
        if refs:
            assert decision is not None
            pick = self._balance.choose(decision, session, tokens)
            selection = self._selection(pick.ref)._replace(reason=pick.reason, standings=tuple(pick.standings))
        else:
            selection = self.default
        if decision is not None and hint is not None:
            selection = self._hinted(selection, hint, decision.hints)
        return self._loaded(selection, loaded)

    def cheapest(self, decision: Decision | None, loaded: LoadedAdapters = NOTHING_KNOWN) -> Selection | None:
        """The decision's candidate with the lowest price, which is 0 where there is none; the first of equal ones."""
        if decision is None or not decision.modelRefs:
            return None
        refs = sorted(decision.modelRefs, key=lambda ref: mean_price(self._models[ref.model].pricing))
        return self._loaded(self._selection(refs[0])._replace(reason="limit"), loaded)

    def candidates(self, decision: Decision | None, loaded: LoadedAdapters = NOTHING_KNOWN) -> list[Selection]:
        """All candidates, the best first; the default model where there are none."""
        refs = self._balance.ordered(decision) if decision is not None else ()
        return [self._loaded(self._selection(ref), loaded) for ref in refs] or [self._loaded(self.default, loaded)]

    def declared(self, name: str, loaded: LoadedAdapters = NOTHING_KNOWN) -> Selection | None:
        """The model or adapter that the configuration names so, hidden or not."""
        selection = self._named(name)
        return self._loaded(selection, loaded) if selection is not None else None

    def _selection(self, ref: ModelRef) -> Selection:
        model = self._models[ref.model]
        selection = self._plain(model)._replace(
            family=self._families.get(model.reasoning_family) if model.reasoning_family else None,
            use_reasoning=ref.use_reasoning,
            effort=ref.reasoning_effort or self._effort,
        )
        if ref.lora_name:
            selection = self._with_adapter(selection, ref.lora_name)
        return selection._replace(persona=ref.persona) if ref.persona else selection

    def _hinted(self, selection: Selection, hint: Hint, allowed: Hints) -> Selection:
        refused: list[str] = []
        if hint.model is not None and hint.model != selection.base:
            if hint.model in allowed.models and hint.model in self._models:
                selection = self._on_model(selection, self._models[hint.model])
            else:
                refused.append("model")
        if hint.adapter is not None and hint.adapter != selection.adapter:
            # An adapter is meant for the model it was hinted with, never for another one.
            if "model" not in refused and any(fnmatchcase(hint.adapter, pattern) for pattern in allowed.adapters):
                selection = self._with_adapter(selection, hint.adapter)
            else:
                refused.append("adapter")
        if hint.use_reasoning is not None and hint.use_reasoning != selection.use_reasoning:
            if allowed.reasoning:
                selection = selection._replace(use_reasoning=hint.use_reasoning)
            else:
                refused.append("reasoning")
        return selection._replace(refused_hints=tuple(refused))

    def _on_model(self, selection: Selection, model: ProviderModel) -> Selection:
        family = self._families.get(model.reasoning_family) if model.reasoning_family else None
        return self._plain(model)._replace(
            family=family, use_reasoning=selection.use_reasoning, effort=selection.effort
        )

    def _loaded(self, selection: Selection, loaded: LoadedAdapters) -> Selection:
        """The base model in the place of an adapter that its backends do not have."""
        if selection.adapter is None or not loaded.missing(selection.base, selection.adapter):
            return selection
        base, missing = self._plain(self._models[selection.base]), selection.adapter
        own = self._names.personas.get((selection.base, missing))
        persona = base.persona if own is not None and selection.persona is own else selection.persona
        return selection._replace(
            model=base.model, upstream=base.upstream, adapter=None, persona=persona, missing=missing
        )
