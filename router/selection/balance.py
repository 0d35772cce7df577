"""Which of a decision's candidates: by score and weight, or by how they do at the moment and what they cost.

Every factor is a ratio to the best candidate's, so 1 is the best; their weighted mean is a candidate's score. Measured
ones are noisy, and all requests at once would make the fastest candidate the slowest: candidates whose score is near
the best one share the requests, the nearer the more. A slow one gets a few, which tell when it recovers.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from triton_router.config.schema import Config, Decision, ModelRef, Pricing
from triton_router.config.selection import Algorithm, Slo
from triton_router.errors import Refusal
from triton_router.selection.objective import rank
from triton_router.vitals import Estimate, Field, Vitals, named

# How far below the best score a candidate has no share any more, where all factors are measured.
TOLERANCE = 0.3
# Seconds without an answer after which nothing is known of a model's latency.
FORGOTTEN = 60.0
# Seconds that make no difference to anybody.
NEGLIGIBLE = {Field.FIRST: 0.01, Field.WHOLE: 0.01, Field.TOKEN: 0.001}
# A backend's answer about its load that is older than that many seconds says nothing.
STALE_POLL = 15.0

LATENCIES = {Field.FIRST: "ttft_ms", Field.WHOLE: "answer_ms", Field.TOKEN: "tpot_ms"}


@dataclass(slots=True)
class Standing:
    """A candidate as the choice saw it.

    ``values`` are what is known of it, by name, and ``ratios`` those of the factors to the best candidate's, in [0, 1].
    ``breaks`` names the bounds that it does not keep. ``share`` is its part of the decision's requests. ``behind`` is
    the factor in which it falls behind, where one is compared after the other.
    """

    ref: ModelRef
    values: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)
    score: float | None = None
    behind: str | None = None
    share: float = 0.0
    updated_at: float = -math.inf
    waits: bool = False

    @property
    def model(self) -> str:
        return self.ref.lora_name or self.ref.model


@dataclass(frozen=True, slots=True)
class Pick:
    """The chosen candidate and the reason in a word; where an algorithm looked at them, all of them, the best first."""

    ref: ModelRef
    reason: str
    standings: Sequence[Standing] = ()


class _Plan:
    """An algorithm, compiled for use."""

    def __init__(self, algorithm: Algorithm | None) -> None:
        # The key of a table by identity, so it must not be freed.
        self.algorithm = algorithm
        factors = algorithm.factors() if algorithm is not None else None
        self.active = algorithm is not None and factors is not None
        if algorithm is None or factors is None:
            return
        self.slo: Slo = factors.slo
        self.if_none = factors.on_no_candidates
        self.output_tokens = factors.expected_output_tokens
        self.priorities = factors.objective.priorities if factors.objective.strategy == "lexicographic" else ()
        weights = {name: float(weight) for name, weight in factors.weights.model_dump().items() if weight}
        if self.priorities:
            weights = {each.factor: 1.0 for each in self.priorities}
        self.weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        self.tolerance = TOLERANCE * (self.weights.get("latency", 0) + self.weights.get("load", 0))
        if self.priorities:
            self.tolerance = 0.0
        first, each, first_counts, each_counts = algorithm.percentiles()
        self.percentile = {Field.FIRST: first, Field.WHOLE: first, Field.TOKEN: each}
        self.counts = {Field.FIRST: first_counts, Field.WHOLE: first_counts, Field.TOKEN: each_counts}


class Balance:
    """Choosing among candidates, for one configuration. ``draw`` is uniform in [0, 1)."""

    def __init__(
        self,
        config: Config,
        vitals: Vitals | None = None,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vitals, self._draw, self._clock = vitals or Vitals(), draw, clock
        self._probing = config.global_.router.probing
        self._cards = {card.name: card for card in config.routing.modelCards}
        self._models = {model.name: model for model in config.providers.models}
        self._plans: dict[int, _Plan] = {}

    def choose(self, decision: Decision, session: str | None = None, tokens: Callable[[], int] = lambda: 0) -> Pick:
        """One of the decision's candidates. ``session`` names the conversation, which keeps its candidate while that
        keeps the bounds; ``tokens`` estimates the length of the prompt.

        Raises:
            Refusal: 503; no candidate keeps the bounds, and the algorithm says `fail`.
        """
        refs, plan = decision.modelRefs, self._plan(decision.algorithm)
        key = f"{decision.name}\n{session}" if session else None
        if len(refs) == 1 or not plan.active:
            return self._by_weight(_best(refs), key)
        now = self._clock()
        standings = self._standings(refs, plan, now, tokens)
        feasible = [each for each in standings if not each.breaks]
        _add_shares(feasible, plan)
        ordered = _best_first(standings)
        if not feasible:
            return self._none_feasible(standings, plan, ordered)
        if key is not None:
            return self._by_weight([each.ref for each in feasible], key, ordered)
        probe = self._probe(standings, plan, now)
        if probe is not None:
            return Pick(probe.ref, "probe", ordered)
        drawn = feasible[_drawn([each.share for each in feasible], self._draw())]
        return Pick(drawn.ref, "weight" if drawn.score is None else "score", ordered)

    def ordered(self, decision: Decision) -> list[ModelRef]:
        """The decision's candidates, the best first: as the algorithm sees them, or else by their scores."""
        refs, plan = decision.modelRefs, self._plan(decision.algorithm)
        if len(refs) == 1 or not plan.active:
            return sorted(refs, key=lambda ref: -(ref.score or 0.0))
        return [each.ref for each in _best_first(self._standings(refs, plan, self._clock(), lambda: 0))]

    def _plan(self, algorithm: Algorithm | None) -> _Plan:
        plan = self._plans.get(id(algorithm))
        if plan is None:
            plan = self._plans[id(algorithm)] = _Plan(algorithm)
        return plan

    def _by_weight(self, refs: Sequence[ModelRef], key: str | None, standings: Sequence[Standing] = ()) -> Pick:
        """One of ``refs``: at random, or always the same one for ``key``."""
        if len(refs) == 1:
            return Pick(refs[0], "only", standings)
        if key is not None:
            return Pick(max(refs, key=lambda ref: _rendezvous(ref, key)), "conversation", standings)
        return Pick(refs[_drawn([ref.weight for ref in refs], self._draw())], "weight", standings)

    def _standings(
        self, refs: Sequence[ModelRef], plan: _Plan, now: float, tokens: Callable[[], int]
    ) -> list[Standing]:
        prompt = tokens() if plan.output_tokens else 0
        output = plan.output_tokens / (prompt + plan.output_tokens) if plan.output_tokens and prompt else 0.5
        standings = [self._standing(ref, plan, now, output) for ref in refs]
        self._add_breaks(standings, plan, tokens)
        self._add_ratios(standings, plan)
        if plan.priorities and any(each.score is not None for each in standings):
            rank([each for each in standings if not each.breaks] or standings, plan.priorities)
        return standings

    def _standing(self, ref: ModelRef, plan: _Plan, now: float, output: float) -> Standing:
        """``output`` is the share of output among the tokens that are priced."""
        standing, name = Standing(ref), named(ref.model, ref.lora_name)
        values, vitals = standing.values, self._vitals
        for measure, label in LATENCIES.items():
            estimate = vitals.estimate(name, measure, now)
            if estimate is not None and now - estimate.at < FORGOTTEN:
                values[label] = 1000 * _seconds(estimate, plan.percentile[measure])
                standing.updated_at = max(standing.updated_at, estimate.at)
        standing.waits = any(row[Field.WAITING_FIRST] + row[Field.WAITING_WHOLE] > 0 for row in vitals.rows(name))
        values["in_flight"] = vitals.total(ref.model, Field.IN_FLIGHT)
        polled = vitals.polled(ref.model)
        if polled is not None and now - polled[Field.POLLED_AT] < STALE_POLL:
            values["queue"], values["kv_cache"] = polled[Field.QUEUE], polled[Field.KV_USAGE]
        model, card = self._models[ref.model], self._cards.get(ref.model)
        endpoints = max(len(model.backend_refs), 1)
        free = max(1.0 - values.get("kv_cache", 0.0), 0.05)
        values["load"] = (values["in_flight"] + values.get("queue", 0.0)) / endpoints / free
        if model.pricing is not None:
            values["cost_per_1m"] = mean_price(model.pricing, output)
        quality = ref.score if ref.score is not None else card.quality_score if card is not None else None
        if quality is not None:
            values["quality"] = quality
        return standing

    def _add_ratios(self, standings: Sequence[Standing], plan: _Plan) -> None:
        """What is not known of a candidate counts as the best that is known of the others; a factor that is known of
        none does not count."""
        factors: dict[str, list[float]] = {}
        latencies = [
            _ratios([_value(each, label) for each in standings], NEGLIGIBLE[measure] * 1000)
            for measure, label in LATENCIES.items()
            if plan.counts[measure]
        ]
        if any(latencies):
            measured = [ratios for ratios in latencies if ratios]
            factors["latency"] = [sum(each) / len(measured) for each in zip(*measured, strict=True)]
        factors["load"] = _ratios([_value(each, "load") for each in standings], 1.0)
        if any("cost_per_1m" in each.values for each in standings):
            factors["cost"] = _ratios([each.values.get("cost_per_1m", 0.0) for each in standings], 1e-6)
        best = max((each.values.get("quality", 0.0) for each in standings), default=0.0)
        if best > 0:
            factors["quality"] = [each.values.get("quality", best) / best for each in standings]
        counted = {name: weight for name, weight in plan.weights.items() if factors.get(name)}
        # Requests in flight alone, of models that nothing else is known of, say nothing.
        if not counted or (set(counted) == {"load"} and not any(each.values["load"] for each in standings)):
            return
        for place, each in enumerate(standings):
            each.ratios = {name: factors[name][place] for name in counted}
            each.score = sum(weight * each.ratios[name] for name, weight in counted.items()) / sum(counted.values())

    def _add_breaks(self, standings: Sequence[Standing], plan: _Plan, tokens: Callable[[], int]) -> None:
        bounds = {"max_ttft_ms": "ttft_ms", "max_tpot_ms": "tpot_ms", "max_cost_per_1m": "cost_per_1m"}
        windows = {each.ref.model: card.context_window_size for each in standings
                   if (card := self._cards.get(each.ref.model)) is not None and card.context_window_size}  # fmt: skip
        prompt = tokens() if windows else 0
        for each in standings:
            for bound, label in bounds.items():
                most = getattr(plan.slo, bound)
                if most is not None and each.values.get(label, 0.0) > most:
                    each.breaks.append(bound)
            if plan.slo.max_inflight is not None and each.values["in_flight"] >= plan.slo.max_inflight:
                each.breaks.append("max_inflight")
            if prompt > windows.get(each.ref.model, prompt):
                each.breaks.append("context_window_size")

    def _none_feasible(self, standings: Sequence[Standing], plan: _Plan, ordered: Sequence[Standing]) -> Pick:
        if plan.if_none == "fail":
            message = "No model keeps the configured bounds at the moment; please try again."
            raise Refusal(503, message, code="no_candidate")
        if plan.if_none == "first":
            return Pick(standings[0].ref, "bounds", ordered)
        cheapest = min(standings, key=lambda each: each.values.get("cost_per_1m", 0.0))
        return Pick(cheapest.ref, "bounds", ordered)

    def _probe(self, standings: Sequence[Standing], plan: _Plan, now: float) -> Standing | None:
        """A candidate without a share that would have one if it were fast, and that it is time to ask again."""
        best = max((each.score for each in standings if each.score is not None), default=0.0)
        slow = [each for each in standings if not each.share and _may_recover(each, plan, best)]
        if not slow:
            return None
        point = self._draw()
        for each in slow:
            if not each.waits and (point < self._probing.share or now - each.updated_at > self._probing.after_seconds):
                return each
            point -= self._probing.share
        return None


def _best_first(standings: Sequence[Standing]) -> list[Standing]:
    return sorted(standings, key=lambda each: (bool(each.breaks), -(each.score or 0.0)))


def mean_price(price: Pricing | None, output: float = 0.5) -> float:
    """Of a million tokens, of which ``output`` is the share of those that come out."""
    return price.prompt_per_1m * (1 - output) + price.completion_per_1m * output if price is not None else 0.0


def _may_recover(standing: Standing, plan: _Plan, best: float) -> bool:
    if set(standing.breaks) - {"max_ttft_ms", "max_tpot_ms"} or standing.updated_at == -math.inf:
        return False
    if standing.breaks:
        return True
    if plan.priorities:
        return standing.behind == "latency"
    latency = standing.ratios.get("latency")
    if latency is None or standing.score is None:
        return False
    return standing.score + plan.weights["latency"] * (1.0 - latency) > best - plan.tolerance


def _add_shares(feasible: Sequence[Standing], plan: _Plan) -> None:
    """By weight, and where they have scores, by how near the best one each is."""
    best = max((each.score for each in feasible if each.score is not None), default=None)
    for each in feasible:
        below = best - each.score if best is not None and each.score is not None else 0.0
        near = 1.0 if below < 1e-9 else max(1.0 - below / plan.tolerance, 0.0) if plan.tolerance else 0.0
        each.share = each.ref.weight * near
    total = sum(each.share for each in feasible)
    for each in feasible:
        each.share /= total


def _seconds(estimate: Estimate, percentile: int | None) -> float:
    return estimate.mean if percentile is None else estimate.percentile(percentile)


def _value(standing: Standing, name: str) -> float | None:
    return standing.values.get(name)


def _ratios(values: Sequence[float | None], negligible: float) -> list[float]:
    """Each value's relation to the smallest, in [0, 1]; 1 for what is not known, nothing where no value is."""
    measured = [value for value in values if value is not None]
    if not measured:
        return []
    least = min(measured) + negligible
    return [1.0 if value is None else least / (value + negligible) for value in values]


def _drawn(shares: Sequence[float], point: float) -> int:
    """The place of the share in which ``point``, in [0, 1), falls."""
    point *= sum(shares)
    for place, share in enumerate(shares):
        point -= share
        if point < 0:
            return place
    return len(shares) - 1


def _best(refs: Sequence[ModelRef]) -> Sequence[ModelRef]:
    """The candidates with the best score; all of them where none has a score."""
    scores = [ref.score for ref in refs if ref.score is not None]
    if not scores:
        return refs
    return [ref for ref in refs if ref.score == max(scores)]


def _rendezvous(ref: ModelRef, key: str) -> float:
    """Weighted rendezvous hashing: the largest value wins, each with its weight's share of all keys, and a change of
    one candidate moves no key between the others (Schindelhauer and Schomaker, 2005)."""
    name = f"{ref.model}\n{ref.lora_name or ''}\n{key}"
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -ref.weight / math.log(uniform)


def described(standings: Sequence[Standing]) -> list[Mapping[str, object]]:
    """``standings`` as JSON-ready data."""
    return [
        {
            "model": each.model,
            "share": round(each.share, 4),
            "score": None if each.score is None else round(each.score, 4),
            "factors": {name: round(ratio, 4) for name, ratio in each.ratios.items()},
            "values": {name: round(value, 4) for name, value in each.values.items()},
            "breaks": each.breaks,
        }
        | ({"behind": each.behind} if each.behind else {})
        for each in standings
    ]
