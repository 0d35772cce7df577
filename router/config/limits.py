"""Settings of limits and budgets: requests, tokens and money, by caller, tenant, decision and model."""

import importlib.util
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from triton_router.config.document import Path
from triton_router.config.plain import CARDS, MODELS, at, decisions, items, names
from triton_router.config.report import Report, nearest
from triton_router.config.section import Address, Milliseconds, Name, Section, TokenCount

PROVIDERS = ("global", "services", "ratelimit", "providers")

Unit = Literal["second", "minute", "hour", "day", "month"]


class LimitMatch(Section):
    """Requests that a rule covers, by names or shell patterns; a missing key matches all."""

    user: Name | None = Field(None, description="The user, from a source that `authz.identity` trusts.")
    group: Name | None = Field(None, description="One of the user's groups.")
    tenant: Name | None = Field(None, description="The tenant.")
    decision: Name | None = Field(None, description="The decision; a request that names its model has none.")
    model: Name | None = Field(None, description="The model or adapter; a model stands for its adapters too.")


class LimitRule(Section):
    """The maximum of requests, tokens or money in a calendar unit (UTC)."""

    name: Name = Field(description="Name in headers, metrics and errors.")
    match: LimitMatch = Field(default_factory=LimitMatch, description="Requests that the rule covers.")
    per: tuple[Literal["user", "tenant", "decision", "model"], ...] = Field(
        ("user",),
        description="What gets a separate count. Without a trusted user, the caller's credential identifies users. "
        "Empty: all requests share one count.",
    )
    unit: Unit = Field("minute", description="The unit of time.")
    requests_per_unit: int | None = Field(None, ge=0, description="Most requests.")
    tokens_per_unit: TokenCount = Field(None, description="Most tokens, input and output (`200K` is 200,000).")
    cost_per_unit: float | None = Field(None, ge=0, description="Most money, by the prices of the models.")
    on_exceeded: Literal["refuse", "cheaper", "report"] = Field(
        "refuse",
        description="Action beyond the limit: `refuse` returns 429, `cheaper` takes the decision's cheapest "
        "candidate, `report` only reports it.",
    )
    expected_output_tokens: int = Field(
        512, ge=0, description="Output tokens that a request without `max_tokens` reserves."
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests_per_unit is None and self.tokens_per_unit is None and self.cost_per_unit is None:
            raise ValueError("give one of `requests_per_unit`, `tokens_per_unit` and `cost_per_unit`")
        return self


class LimitStore(Section):
    """A Redis that all routers share; no module is needed."""

    url: Annotated[Address, StringConstraints(pattern=r"^(rediss?|unix)://")] | None = Field(
        None, description="`redis://`, `rediss://` or `unix://` address; default: the cache's, with its credentials."
    )
    username: Name | None = Field(None, description="User name.")
    password: SecretStr | None = Field(None, description="Password; name a variable: `${REDIS_PASSWORD}`.")
    prefix: Name = Field("triton-router:limits", description="Prefix of the keys.")
    deadline_ms: Milliseconds = Field(50, description="Timeout of one call.")


class LimitProvider(Section):
    """Rules, and the store of their counts."""

    NOT_ACTIVE = frozenset({"address", "domain"})
    INSTEAD: ClassVar[dict[str, str]] = {"address": "`redis.url` is the address of the counts"}

    type: Literal["local-limiter", "redis"] = Field(
        description="`local-limiter` counts in memory, for all workers of a host; `redis` for all routers."
    )
    redis: LimitStore = Field(default_factory=LimitStore, description="For `type: redis`.")
    rules: tuple[LimitRule, ...] = Field((), description="The rules; a request must satisfy all that cover it.")


class RateLimit(Section):
    """Limits and budgets. Answers from the cache and from `fast_response` use nothing."""

    fail_open: bool = Field(
        True, description="Let requests through while Redis does not answer; otherwise they get 503."
    )
    providers: tuple[LimitProvider, ...] = Field((), description="Rules, grouped by the store of their counts.")


# --- checks --------------------------------------------------------------------------------------------------------


def check(data: Any, report: Report) -> None:
    """Limits can act: what they name exists, and somebody vouches for the callers that they tell apart."""
    earlier: set[str] = set()
    for path, rule in _rules(data):
        if (name := str(rule.get("name"))) in earlier:
            report.error((*path, "name"), f"`{name}` is declared twice")
        earlier.add(name)
        _check_callers(data, rule, path, report)
        _check_names(data, rule, path, report)
    _check_prices(data, report)
    for path, provider in items(data, PROVIDERS):
        if provider.get("type") == "redis" and importlib.util.find_spec("redis") is None:
            report.error((*path, "type"), 'counts in redis need: pip install "triton-router[redis]"')


def _rules(data: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path, provider in items(data, PROVIDERS):
        yield from items(provider, ("rules",), below=path)


def _check_callers(data: Any, rule: dict[str, Any], path: Path, report: Report) -> None:
    if at(data, "global", "services", "authz", "identity", "set_by") not in (None, "nobody"):
        return
    per = rule.get("per")
    claims: list[Path] = [("match", key) for key in ("user", "group", "tenant") if at(rule, "match", key) is not None]
    claims += [("per",)] if isinstance(per, list) and "tenant" in per else []
    for claim in claims:
        message = "no trusted source names users, groups and tenants, so this rule applies to every caller: set "
        report.warning(
            (*path, *claim), message + "`global.services.authz.identity.set_by` to the filter that sets them"
        )


def _check_names(data: Any, rule: dict[str, Any], path: Path, report: Report) -> None:
    models = [*names(data, *MODELS), *(name for _, card in items(data, CARDS) for name in names(card, "loras"))]
    # Adapters that nobody declares come from backends, or from an MCP server.
    if at(data, "global", "router", "adapter_discovery", "expose") is True:
        models.append("*")
    tables = [str(decision.get("name")) for _, decision in decisions(data)]
    tenants = [str(name) for _, each in decisions(data) for name in at(each, "hints", "adapters") or ()]
    for key, candidates in (("model", [*models, *tenants]), ("decision", tables)):
        pattern = at(rule, "match", key)
        if (
            isinstance(pattern, str)
            and "*" not in candidates
            and not any(fnmatchcase(name, pattern) for name in candidates)
        ):
            message = f"`{pattern}` is no {key}, so this rule limits nothing"
            report.error((*path, "match", key), message, nearest(pattern, candidates))


def _check_prices(data: Any, report: Report) -> None:
    costly = [path for path, rule in _rules(data) if rule.get("cost_per_unit") is not None]
    prices = {str(model.get("name")): model.get("pricing") for _, model in items(data, MODELS)}
    currencies = {str(at(price, "currency") or "USD") for price in prices.values() if price}
    unpriced = [name for name, price in prices.items() if not price]
    for path in costly:
        if len(currencies) > 1:
            report.error((*path, "cost_per_unit"), f"prices in {' and '.join(sorted(currencies))} cannot be added up")
        elif len(unpriced) == len(prices):
            report.error((*path, "cost_per_unit"), "no model has `pricing`, so this rule limits nothing")
        elif unpriced:
            report.warning((*path, "cost_per_unit"), f"without `pricing`, {', '.join(unpriced)} cost nothing")
