"""What a request may still ask for: reserved before it goes to a model, settled when its answer has ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from triton_router.answers import Usage
from triton_router.cache.scope import scope_of
from triton_router.config import Config
from triton_router.config.limits import LimitProvider, LimitRule, Unit
from triton_router.config.schema import Decision
from triton_router.dialects import ModelRequest
from triton_router.errors import Refusal, Unavailable
from triton_router.exchange import Request
from triton_router.identity import Identity, identify
from triton_router.limits.allowance import Allowance, Measure, allowance_headers
from triton_router.limits.counters import Ask, Counters, SharedCounters
from triton_router.selection import Selection
from triton_router.signals.context import CHARACTERS_A_TOKEN, estimated_tokens
from triton_router.telemetry import Metrics, RateLimitedLog
from triton_router.usage import AnswerSummary, cost

log = logging.getLogger(__name__)

# Money is counted in whole billionths: a token may cost less than a millionth.
UNITS_OF_MONEY = 1_000_000_000
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
# Identity by credential where no secret is set: it is the same in all routers, and keys are too long to be guessed.
_SECRET = b"triton-router:limits"


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that is about to go to a model.

    ``path`` has no query, and ``headers`` have lower-case names. ``prompt`` and ``output`` are tokens, the second the
    most that it asks for, if it says so. ``before`` could not answer it: what limited that counts it as a request
    already, and lets it through.
    """

    path: str
    headers: Mapping[str, str]
    decision: str | None
    selection: Selection
    prompt: int
    output: int | None = None
    before: Selection | None = None

    @classmethod
    def of(
        cls, request: Request, payload: ModelRequest | None, decision: Decision | None, selection: Selection
    ) -> Wish:
        """That of ``request``, whose body is ``payload``."""
        name, path = decision.name if decision is not None else None, request.path.partition("?")[0]
        if payload is None:
            return cls(path, request.headers, name, selection, len(request.body) // CHARACTERS_A_TOKEN, 0)
        limits = (payload.get(member) for member in payload.TOKEN_LIMITS)
        output = next((each for each in limits if isinstance(each, int) and each > 0), None)
        return cls(path, request.headers, name, selection, estimated_tokens(payload.turns()), output)


@dataclass(slots=True)
class _Share:
    """What was reserved in one place of counts."""

    store: Counters
    asks: list[tuple[LimitRule, Measure, Ask]]


@dataclass(slots=True)
class Admission:
    """A request that may go to ``selection``. ``notes`` says what became of rules that do not hold, by their names:
    `cheaper`, `reported` or `unavailable`, ``headers`` what remains of those that refuse."""

    selection: Selection
    notes: dict[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    shares: list[_Share] = field(default_factory=list)
    settle: Callable[[AnswerSummary], None] | None = None
    release: Callable[[], None] = lambda: None


class Stores:
    """The places of counts, which outlive generations of the configuration."""

    def __init__(self, shared: SharedCounters | None = None) -> None:
        self._shared = shared or SharedCounters()
        self._servers: dict[str, Counters] = {}

    def of(self, provider: LimitProvider, config: Config) -> Counters:
        """Raises RuntimeError if a package is not installed."""
        if provider.type == "local-limiter":
            return self._shared
        from triton_router.limits.redis import RedisCounters

        own, cache = provider.redis, config.global_.stores.semantic_cache.redis
        source = cache if own.url is None else own
        password = source.password.get_secret_value() if source.password else None
        key = json.dumps([source.url, source.username, password, own.prefix, own.deadline_ms])
        if key not in self._servers:
            self._servers[key] = RedisCounters(own, source.url or cache.url, source.username, password)
        return self._servers[key]

    async def close(self) -> None:
        for server in self._servers.values():
            with contextlib.suppress(Exception):
                await server.close()


class Limits:
    """The rules of one configuration. ``clock`` is the epoch's. Use it inside one event loop."""

    def __init__(
        self, config: Config, stores: Stores, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        settings = config.global_.services.ratelimit
        self._fail_open, self._clock = settings.fail_open, clock
        self._identity = config.global_.services.authz.identity
        secret = config.global_.stores.semantic_cache.secret
        self._secret = secret.get_secret_value().encode() if secret else _SECRET
        vouched = self._identity.set_by != "nobody"
        self._places = [
            (stores.of(each, config), each.rules if vouched else _for_every_caller(each.rules))
            for each in settings.providers
            if each.rules
        ]
        self._prices = {model.name: model.pricing for model in config.providers.models}
        self._metrics = metrics
        self._unavailable = RateLimitedLog(log, "limits are not checked")

    def __bool__(self) -> bool:
        return bool(self._places)

    async def admit(self, wish: Wish, cheapest: Callable[[], Selection | None] = lambda: None) -> Admission:
        """Reserve what ``wish`` asks for. ``cheapest`` is the decision's cheapest candidate, for rules that say so.

        Raises:
            Refusal: 429 where a rule refuses; 503 where the counts cannot be had and the configuration says so.
        """
        admission = await self._reserve(wish)
        if "cheaper" in admission.notes.values():
            other = cheapest()
            if other is None or (other.base, other.adapter) == (wish.selection.base, wish.selection.adapter):
                admission.notes = {rule: "reported" if note == "cheaper" else note
                                   for rule, note in admission.notes.items()}  # fmt: skip
            else:
                admission.release()
                again = await self._reserve(replace(wish, selection=other))
                again.notes = admission.notes | again.notes
                admission = again
        for rule, note in admission.notes.items():
            self._metrics.limits.labels(rule, note).inc()
        return admission

    async def _reserve(self, wish: Wish) -> Admission:
        admission, now = Admission(wish.selection), self._clock()
        caller = identify(self._identity, wish.headers)
        allowances: list[Allowance] = []
        for store, rules in self._places:
            asks = self._asks(rules, wish, caller, now)
            covering = {rule.name: rule for rule, _, _ in asks}.values()
            if not asks:
                continue
            try:
                counts = await store.reserve([ask for _, _, ask in asks])
            except Unavailable as unavailable:
                self._unavailable.warn(reason=unavailable.reason)
                if not self._fail_open:
                    self._release(admission)
                    self._count(covering, "unavailable")
                    message = "The limits cannot be checked at the moment; please try again."
                    raise Refusal(503, message, code="limits_unavailable", retry_after=1) from unavailable
                admission.notes |= {rule.name: "unavailable" for rule in covering}
                continue
            exceeded = [each for each, count in zip(asks, counts, strict=True) if each[2].exceeds(count)]
            hard = [each for each in exceeded if each[2].hard]
            allowances += _allowances(asks, counts, added=not hard)
            admission.headers = allowance_headers(wish.path, allowances, now)
            if hard:
                self._release(admission)
                self._count({rule.name: rule for rule, _, _ in hard}.values(), "refused")
                raise _refusal(hard, now, admission.headers)
            admission.notes |= {
                rule.name: "cheaper" if rule.on_exceeded == "cheaper" else "reported" for rule, _, _ in exceeded
            }
            admission.shares.append(_Share(store, asks))
        if any(measure != "requests" for share in admission.shares for _, measure, _ in share.asks):
            admission.settle = lambda summary: self._settle(admission, summary)
        admission.release = lambda: self._release(admission)
        return admission

    def _asks(
        self, rules: Sequence[LimitRule], wish: Wish, caller: Identity | None, now: float
    ) -> list[tuple[LimitRule, Measure, Ask]]:
        """What ``wish`` asks of ``rules``."""
        asks = [ask for rule in rules if _covers(rule, wish, caller) for ask in self._asks_of(rule, wish, caller, now)]
        if wish.before is None:
            return asks
        earlier = self._asks(rules, replace(wish, selection=wish.before, before=None), caller, now)
        keys = {ask.key for _, _, ask in earlier}
        return [
            (rule, measure, replace(ask, hard=False, amount=0 if measure == "requests" else ask.amount))
            if ask.key in keys else (rule, measure, ask)
            for rule, measure, ask in asks
        ]  # fmt: skip

    def _asks_of(
        self, rule: LimitRule, wish: Wish, caller: Identity | None, now: float
    ) -> Iterator[tuple[LimitRule, Measure, Ask]]:
        began, ends = window(rule.unit, now)
        output = wish.output if wish.output is not None else rule.expected_output_tokens
        limits: tuple[tuple[Measure, float | None, int], ...] = (
            ("requests", rule.requests_per_unit, 1),
            ("tokens", rule.tokens_per_unit, wish.prompt + output),
            ("cost", rule.cost_per_unit, self._most(wish, output)),
        )
        whose = _digest(self._counted_by(rule, wish, caller))
        for measure, limit, amount in limits:
            if limit is not None:
                most = math.floor(limit * UNITS_OF_MONEY) if measure == "cost" else int(limit)
                key = f"{_digest([rule.name])}:{rule.unit}:{began}:{measure}:{whose}"
                yield rule, measure, Ask(key, amount, most, ends, hard=rule.on_exceeded == "refuse")

    def _counted_by(self, rule: LimitRule, wish: Wish, caller: Identity | None) -> list[str]:
        """What tells this count from others of the rule."""
        parts: dict[str, Callable[[], str | None]] = {
            "user": lambda: scope_of("user", self._identity, wish.headers, self._secret, anonymous=True),
            "tenant": lambda: caller.tenant if caller is not None else None,
            "decision": lambda: wish.decision,
            "model": lambda: wish.selection.model,
        }
        return [f"{each}={parts[each]() or ''}" for each in rule.per]

    def _most(self, wish: Wish, output: int) -> int:
        """What ``wish`` costs at the most: a provider may ask more for a prompt that it caches."""
        usages = Usage(wish.prompt, output, 0), Usage(wish.prompt, output, 0, written=wish.prompt)
        return max(self._cost(wish.selection.base, usage) for usage in usages)

    def _cost(self, base: str, usage: Usage) -> int:
        price = self._prices.get(base)
        return round(cost(usage, price) * UNITS_OF_MONEY) if price is not None else 0

    def _settle(self, admission: Admission, summary: AnswerSummary) -> None:
        """Count what an answer really took: nothing but the request where it is an error, and what was reserved where
        the answer does not say."""
        usage = summary.answer.usage if summary.answer is not None else None
        if summary.status == 200 and usage is None:
            return
        usage = usage if summary.status == 200 and usage is not None else Usage(0, 0, 0)
        actual = {"tokens": usage.prompt + usage.completion, "cost": self._cost(admission.selection.base, usage)}
        for share in admission.shares:
            changes = [(ask.key, actual[measure] - ask.amount, ask.ends)
                       for _, measure, ask in share.asks if measure in actual]  # fmt: skip
            if changes := [change for change in changes if change[1]]:
                share.store.change(changes)

    def _release(self, admission: Admission) -> None:
        """Give back all that was reserved: no model is asked."""
        for share in admission.shares:
            share.store.change([(ask.key, -ask.amount, ask.ends) for _, _, ask in share.asks])

    def _count(self, rules: Any, outcome: str) -> None:
        for rule in rules:
            self._metrics.limits.labels(rule.name, outcome).inc()


def window(unit: Unit, now: float) -> tuple[int, float]:
    """When the calendar unit began in which ``now`` is, and when it ends, in seconds of the epoch, by UTC."""
    if unit != "month":
        began = int(now // _SECONDS[unit]) * _SECONDS[unit]
        return began, began + _SECONDS[unit]
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(first.month, 12)
    following = first.replace(year=first.year + year, month=month + 1)
    return int(first.timestamp()), following.timestamp()


def _for_every_caller(rules: Sequence[LimitRule]) -> tuple[LimitRule, ...]:
    """``rules`` where nobody vouches for callers: leaving a header out must not free anybody of a limit."""
    nobody = dict.fromkeys(("user", "group", "tenant"))
    return tuple(rule.model_copy(update={"match": rule.match.model_copy(update=nobody)}) for rule in rules)


def _covers(rule: LimitRule, wish: Wish, caller: Identity | None) -> bool:
    match = rule.match
    groups = sorted(caller.groups) if caller is not None else []
    names = (
        (match.user, [caller.user] if caller is not None else []),
        (match.group, groups),
        (match.tenant, [caller.tenant] if caller is not None and caller.tenant else []),
        (match.decision, [wish.decision] if wish.decision is not None else []),
        (match.model, [wish.selection.model, wish.selection.base]),
    )
    return all(
        pattern is None or any(fnmatchcase(name, pattern) for name in candidates) for pattern, candidates in names
    )


def _allowances(
    asks: Sequence[tuple[LimitRule, Measure, Ask]], counts: Sequence[int], *, added: bool
) -> Iterator[Allowance]:
    """What remains of rules that refuse; ``added``: it was reserved."""
    for (rule, measure, ask), count in zip(asks, counts, strict=True):
        if rule.on_exceeded == "refuse":
            remaining = max(ask.limit - count - (ask.amount if added else 0), 0)
            yield Allowance(measure, ask.limit, remaining, ask.ends)


def _refusal(hard: list[tuple[LimitRule, Measure, Ask]], now: float, headers: Mapping[str, str]) -> Refusal:
    rule, measure, ask = max(hard, key=lambda each: each[2].ends)
    limits = {"requests": rule.requests_per_unit, "tokens": rule.tokens_per_unit, "cost": rule.cost_per_unit}
    wait = max(math.ceil(ask.ends - now), 1)
    what = {"requests": "requests", "tokens": "tokens", "cost": "money"}[measure]
    message = f"Limit `{rule.name}` is reached: {limits[measure]} per {rule.unit} ({what}). Try again in {wait} s."
    return Refusal(429, message, code="rate_limit_exceeded", retry_after=wait, headers=headers)


def _digest(parts: list[str]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()
