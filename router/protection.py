"""Protection: what must not reach a model, however that is asked for. Before routing, and whatever the priorities."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_router.config import Config, leaves
from triton_router.config.kinds import Key
from triton_router.config.plugins import (
    BlockPlugin,
    BlockSettings,
    ConfinePlugin,
    ConfineSettings,
    FastResponsePlugin,
    HallucinationPlugin,
    HallucinationSettings,
    MaskPlugin,
    MaskSettings,
    ResponseJailbreakPlugin,
    ResponseJailbreakSettings,
    ResponsePiiPlugin,
    ResponsePiiSettings,
)
from triton_router.config.schema import Decision, Rule
from triton_router.decisions import Choosing, Node, Settling, compiled
from triton_router.errors import Refusal
from triton_router.signals import Evaluations
from triton_router.signals.contract import Open

if TYPE_CHECKING:
    from triton_router.personal import Finding

# Types whose decisions protect also where they answer with a `fast_response`, as vLLM Semantic Router's do.
PROTECTIVE = frozenset({"jailbreak", "pii"})

Screening = ResponsePiiSettings | ResponseJailbreakSettings | HallucinationSettings
Settings = BlockSettings | ConfineSettings | MaskSettings | Screening


class Masking(NamedTuple):
    """Personal data of ``types`` is masked for all models that are not ``trusted``, as ``decision`` says.

    ``tagged`` has the names and addresses in each part of the request, if they were asked for.
    """

    decision: str
    types: frozenset[str]
    trusted: tuple[str, ...]
    tagged: Sequence[Sequence[Finding]] | None = None


class Verdict(NamedTuple):
    """What protection says of a request: who ``blocks`` it, or would act in ``shadow``.

    ``refusal`` is what the client gets, ``unknown`` says that it is for want of a signal. ``confined`` has the models
    that may see the request, ``masking`` what is masked for others, ``screening`` what its answer must not have.
    """

    blocks: str | None = None
    refusal: Refusal | None = None
    shadow: tuple[str, ...] = ()
    confined: Decision | None = None
    unknown: bool = False
    masking: tuple[Masking, ...] = ()
    screening: tuple[tuple[str, Screening], ...] = ()

    def also(self, other: Verdict) -> Verdict:
        """Both, of which this one was first."""
        confined, unknown = (self.confined, self.unknown) if self.confined else (other.confined, other.unknown)
        return Verdict(
            other.blocks, other.refusal, self.shadow + other.shadow, confined, unknown, self.masking + other.masking,
            self.screening + other.screening,
        )  # fmt: skip


class Guard(NamedTuple):
    """A decision that acts before routing: ``types`` of personal data its rules count, ``keys`` they read."""

    decision: Decision
    settings: Settings
    types: frozenset[str]
    keys: frozenset[Key]
    verdict: Node


@dataclass(frozen=True, slots=True)
class Protection:
    """The decisions of a configuration that protect.

    ``answering`` have a fixed answer: they stand among the others in routing, and alone where a client names a model.
    """

    guarding: tuple[Guard, ...]
    answering: tuple[Decision, ...]
    answer: Choosing
    keys: frozenset[Key]

    @classmethod
    def of(cls, config: Config) -> Protection:
        decisions = config.routing.decisions
        counted = _counted_types(config)
        guarding = tuple(
            Guard(
                each,
                settings,
                frozenset().union(*(counted.get(str(rule.name), ()) for rule in _pii(each))),
                _keys(each),
                compiled(each.rules),
            )
            for each in decisions
            if (settings := _guard(each)) is not None
        )
        answering = tuple(each for each in decisions if _guard(each) is None and _answers(each))
        keys = frozenset().union(*(guard.keys for guard in guarding), *map(_keys, answering))
        return cls(guarding, answering, Choosing(answering, config.routing.strategy), keys)

    def __bool__(self) -> bool:
        return bool(self.guarding or self.answering)

    def routing(self, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
        """Those of ``decisions`` among which a request is routed."""
        names = {guard.decision.name for guard in self.guarding}
        return tuple(decision for decision in decisions if decision.name not in names)

    def hanging_on(self, evaluations: Evaluations, pending: Collection[Key]) -> Open:
        """What is asked where nothing else is to be decided."""
        return Open(self.keys & frozenset(pending))

    def beside(self, settling: Settling, evaluations: Evaluations, pending: Collection[Key]) -> Open:
        """What is asked where a decision is chosen too."""
        still = settling(evaluations, pending)
        if not self.guarding:
            return still
        guarding = frozenset().union(*(guard.keys for guard in self.guarding))
        return replace(still, signals={*still.signals, *(guarding & frozenset(pending))})

    def judge(self, evaluations: Evaluations) -> Verdict:
        """The first decision that refuses, in the order of the file; a signal that nobody knows counts as it says."""
        verdict = Verdict()
        for decision, settings, types, _, rule in self.guarding:
            matched = rule(evaluations).matched
            if matched is False:
                continue
            if isinstance(settings, Screening):
                # What cannot be told of the request is no reason to let everything be said.
                verdict = verdict._replace(screening=(*verdict.screening, (decision.name, settings)))
            elif matched is None and settings.on_unknown == "ignore":
                continue
            elif settings.shadow:
                verdict = verdict._replace(shadow=(*verdict.shadow, decision.name))
            elif matched is None and settings.on_unknown == "deny":
                message = "The request could not be checked, so it was refused."
                refusal = Refusal(503, message, code="protection_unavailable")
                return verdict._replace(blocks=decision.name, refusal=refusal, unknown=True)
            elif isinstance(settings, MaskSettings):
                masking = Masking(decision.name, types, settings.trusted_models)
                verdict = verdict._replace(masking=(*verdict.masking, masking))
            elif isinstance(settings, BlockSettings) and matched:
                refusal = Refusal(settings.status, settings.message, code="blocked")
                return verdict._replace(blocks=decision.name, refusal=refusal)
            elif verdict.confined is None:
                verdict = verdict._replace(confined=decision, unknown=matched is None)
        return verdict


def _guard(decision: Decision) -> Settings | None:
    kinds: Any = BlockPlugin | ConfinePlugin | MaskPlugin
    if not decision.modelRefs:
        # Nothing is routed by it; it is there for all answers.
        kinds = kinds | ResponsePiiPlugin | ResponseJailbreakPlugin | HallucinationPlugin
    return next(
        (each.configuration for each in decision.plugins if isinstance(each, kinds) and each.configuration.enabled),
        None,
    )


def _keys(decision: Decision) -> frozenset[Key]:
    return frozenset((str(rule.type), str(rule.name)) for rule in leaves(decision))


def _counted_types(config: Config) -> Mapping[str, frozenset[str]]:
    """The types of personal data that each signal counts, by its name."""
    if not config.routing.signals.of("pii"):
        return {}
    # Late: most configurations do without, and their routers start sooner.
    from triton_router.signals.pii import counted_types

    return counted_types(config)


def _pii(decision: Decision) -> Iterator[Rule]:
    return (rule for rule in leaves(decision) if rule.type == "pii")


def _answers(decision: Decision) -> bool:
    fixed = any(isinstance(each, FastResponsePlugin) and each.configuration.enabled for each in decision.plugins)
    return fixed and any(str(rule.type) in PROTECTIVE for rule in leaves(decision))
