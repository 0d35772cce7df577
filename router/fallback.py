"""The next candidate of a request whose model could not answer it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from triton_router import names
from triton_router.attempt import LONGEST, UNGUARDED, Attempt, Failure, Texts, encode
from triton_router.body import Undo
from triton_router.breakers import HALF_OPEN, Breaker, Breakers, retry_after
from triton_router.config.fallback import FallbackPolicy
from triton_router.config.schema import Decision, ModelRef
from triton_router.errors import Refusal
from triton_router.exchange import Request
from triton_router.record import Record
from triton_router.runtime import RecipeRuntime, Runtime
from triton_router.selection import LoadedAdapters, ModelCatalog, Selection
from triton_router.vitals import named

# Why an attempt failed, where no response says it.
NO_RESPONSE, TIMEOUT, TOO_LONG = "no_response", "timeout", "context_length"
# Why nobody else is asked, where the configuration names others: what the request refers to is at its model; there is
# too much to keep.
STORED, SIZE = "stored", "size"


@dataclass(slots=True)
class Plan:
    """What becomes of a request if the candidate ``name`` cannot answer it: ``others`` can, in no order.

    ``before`` is the attempt that failed before this one. ``began``, ``sent`` and ``within`` are as in
    :class:`.attempt.Attempt`. ``troubled``: this candidate, or another one before, has failed lately. ``stored``:
    others could, but for what the request refers to.
    """

    policy: FallbackPolicy
    name: str
    before: Attempt
    others: Sequence[Selection]
    began: float
    sent: float
    within: float | None
    troubled: bool
    stored: bool


class Fallback:
    """The fallback chains of one generation. ``clock`` is the time of day, which all processes share.

    It has 17 methods: half of them are what the pipeline asks, and half say who is a candidate.
    """

    def __init__(
        self,
        runtime: Runtime,
        catalog: ModelCatalog,
        breakers: Breakers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        config, self._access = runtime.config, runtime.access
        self._default = config.global_.router.fallback
        self._catalog, self._breakers, self._clock = catalog, breakers, clock
        self._attempts = {model.name: model.attempts for model in config.providers.models if model.backend_refs}
        # By decision and policy, with the adapters that were loaded then: building selections takes a while.
        self._chains: dict[tuple[int, int], tuple[LoadedAdapters, list[tuple[str, Selection]]]] = {}
        self._retried = config.retried_statuses()
        self._windows = {card.name: card.context_window_size or 0 for card in config.routing.modelCards}

    def policy(self, recipe: RecipeRuntime, decision: Decision | None) -> FallbackPolicy | None:
        """The policy of a request that ``decision`` routes; ``None`` where nothing falls back."""
        own = decision.fallback if decision is not None else None
        policy = own or recipe.config.routing.fallback or self._default
        return policy if policy is not None and policy.enabled else None

    def select(
        self,
        choose: Callable[[Decision | None], Selection],
        recipe: RecipeRuntime,
        decision: Decision | None,
        loaded: LoadedAdapters,
        stored: Callable[[], bool],
    ) -> Selection:
        """What ``choose`` selects of ``decision``, whose candidates with an open breaker are left out.

        Where none is left it is one of the policy's models, or else the one that only fails and rests for the shortest.
        A request that refers to what is ``stored`` goes to no other model because of a breaker.

        Raises:
            Refusal: 429; all that may be asked want to be left alone.
        """
        policy = self.policy(recipe, decision)
        if policy is None:
            return choose(decision)
        selection = choose(decision)
        breaker = self._judge(named(selection.base, selection.adapter), policy)
        if breaker.lets_pass:
            return selection
        if stored():
            if breaker.state == "waiting":
                raise _all_wait(breaker.seconds)
            return selection
        # It may also be the default model, or one that an MCP server asks for.
        resting, refs = [(breaker, selection)], _refs(decision)
        if decision is not None and any(
            (ref.model, ref.lora_name) == (selection.base, selection.adapter) for ref in refs
        ):
            judged = [(self._judge(named(ref.model, ref.lora_name), policy), ref) for ref in refs]
            if usable := tuple(ref for breaker, ref in judged if breaker.lets_pass):
                return choose(decision.model_copy(update={"modelRefs": usable}))
            resting = [(breaker, choose(decision.model_copy(update={"modelRefs": (ref,)}))) for breaker, ref in judged]
        for other in self._further(policy, loaded):
            if self._passes(other, policy):
                return other
        failing = [each for each in resting if each[0].state == "open"]
        if not failing:
            raise _all_wait(min(breaker.seconds for breaker, _ in resting))
        return min(failing, key=lambda each: each[0].seconds)[1]

    # --- each attempt ----------------------------------------------------------------------------------------------

    def plan(
        self,
        attempt: Attempt,
        record: Record,
        request: Request,
        loaded: LoadedAdapters,
        stored: Callable[[], bool],
    ) -> Plan | None:
        """Who answers if the candidate that ``record`` selected cannot; ``None`` without a policy.

        ``attempt`` is the one before, or the beginning. Not every gateway brings requests back. ``stored``: whether the
        request refers to what a backend has stored.
        """
        recipe, decision, selection = record.recipe, record.decision, record.selection
        assert recipe is not None and selection is not None
        if (policy := self.policy(recipe, decision)) is None:
            return None
        name, now = named(selection.base, selection.adapter), self._clock()
        candidates: list[Selection] = []
        comes_back = request.falls_back and selection.base in self._attempts
        if comes_back and len(attempt.failures) + 1 < policy.max_attempts:
            candidates = self._others(policy, decision, attempt, request, loaded, besides=name)
        if stays := bool(candidates) and stored():
            candidates = []
        if (troubled := self._breakers.troubled(name)) and self._judge(name, policy) is HALF_OPEN:
            self._breakers.probe(name, policy.circuit_breaker)
        began = attempt.began or now
        within = self._within(policy, began + (policy.total_timeout or 0) - now, attempt, selection, candidates)
        troubled = troubled or bool(attempt.failures)
        return Plan(policy, name, attempt, candidates, began, now, within, troubled, stays)

    def note(self, plan: Plan, record: Record, members: dict[str, Undo], before: Texts, *, conceal: bool) -> str:
        """What Envoy is to keep of an attempt, which changes ``members`` of the body and headers that were ``before``.

        Empty where nobody else is asked.
        """
        if not plan.others:
            return ""
        assert record.selection is not None
        text, window = _noted(plan, record, members, before, conceal=conceal), self._window(record.selection)
        if len(text) >= LONGEST:
            return ""
        longer = window and any([self._window(other) > window for other in plan.others])
        return f"longer {text}" if longer else text

    def headers(self, plan: Plan, selection: Selection, *, comes_back: bool) -> dict[str, str]:
        """What Envoy is told of an attempt besides; ``comes_back``: it has something to keep."""
        result: dict[str, str] = {}
        if plan.within is not None:
            result[names.TRY_TIMEOUT] = str(max(math.ceil(plan.within * 1000), 1))
        if comes_back:
            if statuses := _listed(plan.policy.retryable_status_codes, self._retried):
                result[names.RETRIED_STATUSES] = statuses
        elif plan.within is not None:
            result[names.MOST_RETRIES] = str(self._attempts.get(selection.base, 1) - 1)
        return result

    def settle(self, plan: Plan, status: int, headers: Mapping[str, str]) -> None:
        """The response to an attempt has begun."""
        if status in plan.policy.retryable_status_codes:
            after = headers.get("retry-after", "")
            self._breakers.failed(plan.name, retry_after=retry_after(status, after))
        else:
            self._breakers.succeeded(plan.name)

    # --- after a failure -------------------------------------------------------------------------------------------

    def returned(self, request: Request) -> Attempt | None:
        """The attempt that has failed, where ``request`` has come back; the breaker hears of it.

        Raises:
            Refusal: 500; the header is none of ours.
        """
        text = request.headers.get(names.ATTEMPT) if request.falls_back else None
        if text is None:
            return None
        try:
            attempt = Attempt.decode(text)
        except (ValueError, TypeError, KeyError) as error:
            raise Refusal(500, "The gateway has lost the list of failed attempts.", code="fallback_failed") from error
        status, _, after = request.headers.get(names.FAILURE, "").partition(" ")
        if status != TOO_LONG:
            self._breakers.failed(attempt.name, retry_after=retry_after(int(status or 0), after))
        return replace(attempt, failures=(*attempt.failures, Failure(attempt.name, status or self._silence(attempt))))

    def next(self, attempt: Attempt, record: Record, request: Request, loaded: LoadedAdapters) -> Selection:
        """The candidate that is asked now.

        Raises:
            Refusal: 502 or 429; there is none any more. 504: nor is time.
        """
        *_, failure = attempt.failures
        assert record.recipe is not None
        policy = self.policy(record.recipe, record.decision) or FallbackPolicy(max_attempts=1)
        if policy.total_timeout is not None and self._clock() >= attempt.began + policy.total_timeout:
            raise Refusal(504, f"No candidate answered within {policy.total_timeout:g} s.", code="timeout")
        longest = 0
        if failure.reason == TOO_LONG:
            longest = max(self._windows.get(each.name.partition("\n")[0], 0) for each in attempt.failures)
        for other in self._others(policy, record.decision, attempt, request, loaded, in_order=True):
            if self._window(other) >= longest + bool(longest):
                return other
        raise self._nobody(failure, policy, record, loaded)

    def _nobody(self, failure: Failure, policy: FallbackPolicy, record: Record, loaded: LoadedAdapters) -> Refusal:
        message = f"`{failure.model}` could not answer ({failure.reason}), and no other candidate can now."
        judged = (self._judge(name, policy) for name, _ in self._chain(policy, record.decision, loaded))
        rests = [breaker.seconds for breaker in judged if not breaker.lets_pass]
        status = 429 if failure.reason == "429" else 502
        return Refusal(status, message, code="no_candidate", retry_after=math.ceil(min(rests, default=0)))

    def _silence(self, attempt: Attempt) -> str:
        # A clock of milliseconds in Envoy, and another one here.
        late = attempt.within is not None and self._clock() - attempt.sent >= 0.99 * attempt.within
        return TIMEOUT if late else NO_RESPONSE

    # --- candidates ------------------------------------------------------------------------------------------------

    def _others(
        self,
        policy: FallbackPolicy,
        decision: Decision | None,
        attempt: Attempt,
        request: Request,
        loaded: LoadedAdapters,
        *,
        besides: str = "",
        in_order: bool = False,
    ) -> list[Selection]:
        """The candidates that may be asked now, but those that failed, and ``besides``."""
        excluded = {besides, *[failure.name for failure in attempt.failures]}
        return [
            other
            for name, other in self._chain(policy, decision, loaded, in_order=in_order)
            if name not in excluded and self._judge(name, policy).lets_pass and self._allowed(other, attempt, request)
        ]

    def _chain(
        self, policy: FallbackPolicy, decision: Decision | None, loaded: LoadedAdapters, *, in_order: bool = False
    ) -> list[tuple[str, Selection]]:
        """All candidates of ``decision`` that have backends, each once, by name."""
        key = id(decision), id(policy)
        # An algorithm orders them by what they do at the moment.
        ordered_anew = in_order and decision is not None and decision.algorithm is not None
        memo = None if ordered_anew else self._chains.get(key)
        if memo is None or memo[0] is not loaded:
            chain: dict[str, Selection] = {}
            for other in (*self._catalog.candidates(decision, loaded), *self._further(policy, loaded)):
                if other.base in self._attempts:
                    chain.setdefault(named(other.base, other.adapter), other)
            memo = self._chains[key] = loaded, list(chain.items())
        return memo[1]

    def _allowed(self, selection: Selection, attempt: Attempt, request: Request) -> bool:
        """Whether the sender of ``request`` may ask a candidate, which may see it."""
        if not attempt.guarded.allows(selection.model):
            return False
        if not self._access.rules:
            return True
        try:
            self._access.require(request.path.partition("?")[0], selection.model, selection.base, request.headers)
        except Refusal:
            return False
        return True

    def _further(self, policy: FallbackPolicy, loaded: LoadedAdapters) -> Iterator[Selection]:
        return filter(None, (self._catalog.declared(name, loaded) for name in policy.models))

    def _passes(self, selection: Selection, policy: FallbackPolicy) -> bool:
        return self._judge(named(selection.base, selection.adapter), policy).lets_pass

    def _judge(self, name: str, policy: FallbackPolicy) -> Breaker:
        return self._breakers.judge(name, policy.circuit_breaker)

    def _window(self, selection: Selection) -> int:
        return self._windows.get(selection.base, 0)

    def _within(
        self,
        policy: FallbackPolicy,
        remaining: float,
        attempt: Attempt,
        selection: Selection,
        others: Sequence[Selection],
    ) -> float | None:
        """Seconds until an endpoint's response has to begin, so that all attempts together keep the time that is
        ``remaining``."""
        if policy.total_timeout is None:
            return policy.per_attempt_timeout
        remaining, tries = max(remaining, 0.001), self._attempts.get(selection.base, 1)
        if policy.per_attempt_timeout is not None:
            return min(policy.per_attempt_timeout, remaining / tries)
        return remaining / (tries + min(len(others), policy.max_attempts - len(attempt.failures) - 1))


def last_candidate(attempt: Attempt) -> Selection:
    """The candidate that was asked in ``attempt``, by its names alone."""
    base, _, adapter = attempt.name.partition("\n")
    return Selection(adapter or base, base, adapter or None)


def _noted(plan: Plan, record: Record, members: dict[str, Undo], before: Texts, *, conceal: bool) -> str:
    earlier, choice = plan.before, record.choice
    assert record.recipe is not None
    # Nearly all requests are answered: only what is not as usual is written.
    fields: dict[str, Any] = {"name": plan.name, "recipe": record.recipe.name, "began": plan.began}
    if choice is not None:
        fields["confidence"] = choice.confidence
        if choice.decision is not None:
            fields["decision"] = choice.decision.name
    if record.category is not None:
        fields["category"] = record.category
    if plan.within is not None:
        fields["sent"], fields["within"] = plan.sent, plan.within
    if earlier.failures:
        fields["failures"] = [(failure.name, failure.reason) for failure in earlier.failures]
    if members:
        fields["members"] = members
    if before:
        fields["headers"] = before
    if conceal:
        fields["conceal"] = conceal
    if earlier.guarded is not UNGUARDED:
        fields["guarded"] = asdict(earlier.guarded)
    return encode(fields)


@lru_cache(maxsize=64)
def _listed(statuses: tuple[int, ...], defaults: frozenset[int]) -> str:
    return ",".join(str(status) for status in statuses if status not in defaults)


def _refs(decision: Decision | None) -> Sequence[ModelRef]:
    return decision.modelRefs if decision is not None else ()


def _all_wait(seconds: float) -> Refusal:
    message = "All models that could answer are overloaded; please try again later."
    return Refusal(429, message, code="rate_limited", retry_after=math.ceil(seconds))
