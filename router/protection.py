"""Protection: what must not reach a model, however that is asked for. Before routing, and whatever the priorities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from triton_router.config import leaves
from triton_router.config.kinds import Key
from triton_router.config.plugins import BlockPlugin, BlockSettings, FastResponsePlugin
from triton_router.config.schema import Decision
from triton_router.decisions import Settling, evaluate
from triton_router.errors import Refusal
from triton_router.signals import Evaluations
from triton_router.signals.contract import Open

# Types whose decisions protect also where they answer with a `fast_response`, as vLLM Semantic Router's do.
PROTECTIVE = frozenset({"jailbreak", "pii"})


class Verdict(NamedTuple):
    """What protection says of a request: who ``blocks`` it, or would in ``shadow``; who takes what is ``unknown``.

    ``refusal`` is what the client gets.
    """

    blocks: str | None = None
    refusal: Refusal | None = None
    shadow: tuple[str, ...] = ()
    unknown: Decision | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """The decisions of a configuration that protect.

    ``blocking`` refuse. ``answering`` have a fixed answer: they stand among the others in routing, and alone where a
    client names a model.
    """

    blocking: tuple[tuple[Decision, BlockSettings], ...]
    answering: tuple[Decision, ...]
    keys: frozenset[Key]

    @classmethod
    def of(cls, decisions: Sequence[Decision]) -> Protection:
        blocking = tuple((each, settings) for each in decisions if (settings := _block(each)) is not None)
        answering = tuple(each for each in decisions if _block(each) is None and _answers(each))
        protecting = (*(decision for decision, _ in blocking), *answering)
        keys = frozenset((str(rule.type), str(rule.name)) for decision in protecting for rule in leaves(decision))
        return cls(blocking, answering, keys)

    def __bool__(self) -> bool:
        return bool(self.blocking or self.answering)

    def routing(self, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
        """Those of ``decisions`` among which a request is routed."""
        names = {decision.name for decision, _ in self.blocking}
        return tuple(decision for decision in decisions if decision.name not in names)

    def hanging_on(self, evaluations: Evaluations, pending: Collection[Key]) -> Open:
        """What is asked where nothing else is to be decided."""
        return Open(self.keys & frozenset(pending))

    def beside(self, settling: Settling, evaluations: Evaluations, pending: Collection[Key]) -> Open:
        """What is asked where a decision is chosen too."""
        still = settling(evaluations, pending)
        blocking = {(str(rule.type), str(rule.name)) for decision, _ in self.blocking for rule in leaves(decision)}
        return replace(still, signals={*still.signals, *(blocking & frozenset(pending))}) if blocking else still

    def judge(self, evaluations: Evaluations) -> Verdict:
        """The first decision that blocks, in the order of the file; a signal that nobody knows counts as it says."""
        shadow: list[str] = []
        unknown: Decision | None = None
        for decision, settings in self.blocking:
            matched = evaluate(decision.rules, evaluations).matched
            if matched is False or (matched is None and settings.on_unknown == "ignore"):
                continue
            if settings.shadow:
                shadow.append(decision.name)
            elif matched is None and settings.on_unknown == "route":
                unknown = unknown or decision
            else:
                code = "blocked" if matched else "protection_unavailable"
                status = settings.status if matched else 503
                message = settings.message if matched else "The request could not be checked, so it was not sent on."
                return Verdict(decision.name, Refusal(status, message, code=code), tuple(shadow))
        return Verdict(None, None, tuple(shadow), unknown)


def _block(decision: Decision) -> BlockSettings | None:
    plugins = (plugin.configuration for plugin in decision.plugins if isinstance(plugin, BlockPlugin))
    return next((settings for settings in plugins if settings.enabled), None)


def _answers(decision: Decision) -> bool:
    fixed = any(isinstance(each, FastResponsePlugin) and each.configuration.enabled for each in decision.plugins)
    return fixed and any(str(rule.type) in PROTECTIVE for rule in leaves(decision))
