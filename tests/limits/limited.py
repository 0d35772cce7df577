"""A router with limits, a clock that tests turn, and answers that have ended."""

from __future__ import annotations

import json
from typing import Any

import yaml

from triton_router.config import loads
from triton_router.exchange import Forward, Reply, Request
from triton_router.limits import Limits, SharedCounters, Stores
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics

# The first second of a month in 2033, a day and an hour.
START = 1_988_150_400.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def document(*rules: dict[str, Any], provider: dict[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
    return {
        "providers": {"models": [
            {"name": "small", "backend_refs": [{"endpoint": "127.0.0.1:1"}],
             "pricing": {"prompt_per_1m": 1, "completion_per_1m": 1}},
            {"name": "big", "backend_refs": [{"endpoint": "127.0.0.1:2"}],
             "pricing": {"prompt_per_1m": 10, "completion_per_1m": 10}},
        ]},
        "routing": {
            "signals": {"keywords": [{"name": "hard", "keywords": ["prove"]}]},
            "decisions": [
                {"name": "hard", "rules": {"type": "keyword", "name": "hard"},
                 "modelRefs": [{"model": "big", "score": 1}, {"model": "small", "score": 0.5}]},
                {"name": "easy", "priority": -1, "modelRefs": [{"model": "small"}]},
            ],
        },
        "global": {"services": {
            "authz": {"identity": {"set_by": "gateway"}},
            "ratelimit": {"providers": [{"type": "local-limiter", **(provider or {}), "rules": list(rules)}], **limits},
        }},
    }  # fmt: skip


def chat(text: str = "hello", *, user: str = "ada", path: str = "/v1/chat/completions", **more: Any) -> Request:
    headers = {"x-authz-user-id": user, "x-tenant-id": more.pop("tenant", "acme")}
    headers |= more.pop("headers", {})
    body = {"model": "MoM", "messages": [{"role": "user", "content": text}], "max_tokens": 10, **more}
    return Request("POST", path, headers, json.dumps(body).encode())


class Limited:
    """One router; ``counters`` are those that workers of a host share."""

    def __init__(
        self, text: dict[str, Any], clock: Clock | None = None, counters: SharedCounters | None = None
    ) -> None:
        self.clock, self.metrics = clock or Clock(), Metrics()
        config = loads(yaml.safe_dump(text))
        self.stores = Stores(counters or SharedCounters(clock=self.clock))
        self.pipeline = Pipeline(compile_runtime(config), None, {}, self.metrics, counts=self.stores)
        self.pipeline.limits = Limits(config.config, self.stores, self.metrics, self.clock)

    async def ask(self, request: Request | None = None) -> Forward | Reply:
        return await self.pipeline.route(request or chat())

    async def statuses(self, number: int, **more: Any) -> list[int]:
        outcomes = [await self.ask(chat(**more)) for _ in range(number)]
        return [each.status if isinstance(each, Reply) else 200 for each in outcomes]

    async def model(self, request: Request) -> str:
        outcome = await self.ask(request)
        assert isinstance(outcome, Forward), outcome
        return outcome.headers["x-selected-model"]

    def counted(self, rule: str, outcome: str) -> float | None:
        labels = {"rule": rule, "outcome": outcome}
        return self.metrics.registry.get_sample_value("router_limits_exceeded_total", labels)


def answered(outcome: Forward | Reply, prompt: int, completion: int, status: int = 200) -> None:
    """Let the answer of a forwarded request end with that usage."""
    assert isinstance(outcome, Forward) and outcome.observer is not None
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    outcome.observer.on_sent()
    if outcome.observer.on_headers(status, {"content-type": "application/json"}):
        outcome.observer.on_body(json.dumps(body).encode(), last=True)
        outcome.observer.on_complete()
    outcome.observer.on_end()
