"""Whether a probe passes, and why it does not: which rule, which signal, which value against which threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from triton_router.config.kinds import SIGNALS
from triton_router.config.schema import Decision
from triton_router.decisions import Verdict
from triton_router.probes.form import Probe
from triton_router.record import Record
from triton_router.signals import UNKNOWN, Evaluations


@dataclass(frozen=True, slots=True)
class Cause:
    """A leaf of the rules that stood in the way. ``signal`` is `TYPE:NAME`, or empty; ``text`` says it in words."""

    text: str
    signal: str = ""
    matched: bool | None = None
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a probe. ``ruleless``: a decision without rules took it, as it takes everything.

    ``missing`` are expected signals that did not match. ``causes`` are empty where the probe passed.
    """

    probe: Probe
    passed: bool
    recipe: str | None
    decision: str | None
    model: str | None
    ruleless: bool = False
    missing: tuple[Cause, ...] = ()
    causes: tuple[Cause, ...] = ()


def of_record(probe: Probe, record: Record) -> Result:
    """The result of a probe that was decided here; all signals have been evaluated."""
    signals, choice, selection = record.routing()
    chosen = choice.decision
    recipe = record.recipe.name or None if record.recipe else None
    missing = tuple(_missing(probe, signals.evaluations))
    causes = [*_elsewhere(probe, recipe, chosen, selection.model)]
    if choice.unsettled is not None:
        causes.append(Cause(f"a signal of `{choice.unsettled.name}` is unknown, so the request fails"))
    if (chosen.name if chosen else None) != probe.decision and not causes:
        causes += _lost(probe, record, signals.evaluations)
        causes += [Cause(f"went without {part}: {reason}") for part, reason in record.degraded.items()]
    ruleless = chosen is not None and chosen.rules is None
    name = chosen.name if chosen else None
    return Result(probe, not causes, recipe, name, selection.model, ruleless, missing, tuple(causes))


def of_headers(probe: Probe, headers: Mapping[str, str], decisions: Mapping[str, Decision]) -> Result:
    """The result of a probe that a gateway answered, by its response's ``headers`` (names in lower case).

    ``decisions`` are those of the recipe that it chose, by name.
    """
    from triton_router import names

    recipe, name, model = (headers.get(each) for each in (names.RECIPE, names.DECISION, names.RESPONSE_MODEL))
    chosen = decisions.get(name or "")
    causes = [*_elsewhere(probe, recipe, chosen, model or "")]
    if name != probe.decision and not causes:
        causes.append(Cause(f"`{name}` was chosen" if name else "no decision matched"))
        if degraded := headers.get(names.DEGRADED):
            causes.append(Cause(f"went without {degraded}"))
    ruleless = chosen is not None and chosen.rules is None
    return Result(probe, not causes, recipe, name, model, ruleless, (), tuple(causes))


def _elsewhere(probe: Probe, recipe: str | None, chosen: Decision | None, model: str) -> Iterator[Cause]:
    """Another recipe, or another model under the right decision."""
    if probe.recipe is not None and recipe != probe.recipe:
        yield Cause(f"the recipe `{recipe or 'default'}` was used instead of `{probe.recipe}`")
    elif chosen is not None and chosen.name == probe.decision and probe.model is not None:
        # Requests are shared among a decision's candidates: any of them is right.
        candidates = {ref.lora_name or ref.model for ref in chosen.modelRefs} | {model}
        if probe.model not in candidates:
            yield Cause(f"`{model}` serves instead of `{probe.model}`")


def _lost(probe: Probe, record: Record, evaluations: Evaluations) -> Iterator[Cause]:
    _, choice, _ = record.routing()
    verdicts = zip(record.decisions, choice.verdicts, strict=True)
    expected = next(((decision, verdict) for decision, verdict in verdicts if decision.name == probe.decision), None)
    if expected is None:
        yield Cause(f"there is no decision `{probe.decision}`")
        return
    decision, verdict = expected
    if not verdict.matched:
        yield from (_cause(leaf, outcome, evaluations) for leaf, outcome in _blocking(verdict, True))
        return
    chosen = choice.decision
    assert chosen is not None
    ranks = f"tier {chosen.tier}, priority {chosen.priority} against tier {decision.tier}, priority {decision.priority}"
    won = next(each for each, other in zip(choice.verdicts, record.decisions, strict=True) if other is chosen)
    causes = [_cause(leaf, outcome, evaluations) for leaf, outcome in _blocking(won, False)]
    signals = ", ".join(cause.signal for cause in causes if cause.signal)
    yield Cause(f"`{chosen.name}` matched too and wins ({ranks})", signal=signals)
    yield from causes


def _blocking(verdict: Verdict, needed: bool) -> list[tuple[Verdict, bool]]:
    """The leaves that keep a node from its ``needed`` outcome, each with its own; the nearest way there."""
    if not verdict.below:
        return [(verdict, needed)]
    assert verdict.rule is not None
    if verdict.rule.operator == "NOT":
        return _blocking(verdict.below[0], not needed)
    ways = [_blocking(below, needed) for below in verdict.below if below.matched is not needed]
    if (verdict.rule.operator == "AND") is needed:
        return [leaf for way in ways for leaf in way]
    return min(ways, key=lambda way: (len(way), -max(leaf.confidence for leaf, _ in way)))


def _cause(leaf: Verdict, needed: bool, evaluations: Evaluations) -> Cause:
    if leaf.rule is None or leaf.rule.type is None:
        return Cause("a decision without rules matches everything")
    of, name = leaf.rule.type, str(leaf.rule.name)
    evaluation = evaluations.get((of, name), UNKNOWN)
    value = evaluation.value if evaluation.measure is None else evaluation.measure
    bound = "" if evaluation.threshold is None else f" of {evaluation.threshold:.4g}"
    if leaf.rule.predicate is not None:
        bound = " of " + ", ".join(
            f"{key} {at}" for key, at in leaf.rule.predicate.model_dump(exclude_none=True).items()
        )
    signal, threshold = f"{of}:{name}", evaluation.threshold
    if leaf.matched is None:
        return Cause(f"{signal} could not be evaluated", signal)
    verb = "does not match" if needed else "matches and must not"
    return Cause(f"{signal} {verb}: {value:.4g}{bound}", signal, leaf.matched, value, threshold)


def _missing(probe: Probe, evaluations: Evaluations) -> Iterator[Cause]:
    types = {settings.LIST: of for of, settings in SIGNALS.items()}
    for of, name in probe.signals:
        kind = types.get(of, of)
        evaluation = evaluations.get((kind, name), UNKNOWN)
        if not evaluation.matched:
            bound = "" if evaluation.threshold is None else f" of {evaluation.threshold:.4g}"
            value = "unknown" if evaluation.matched is None else f"{evaluation.value:.4g}{bound}"
            yield Cause(f"{kind}:{name}: {value}", f"{kind}:{name}", evaluation.matched, evaluation.value,
                        evaluation.threshold)  # fmt: skip
