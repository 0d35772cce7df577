"""Two models with replicas of their own, behind a gateway: a decision names both, the first before the second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import yaml
from local_stack import Gateway, chat, free_port
from replica import Replica

CHECKS = {"health_check_interval": 0.2, "health_check_timeout": 10, "base_ejection_time": 3600}
# Breakers that never open, so that each request meets the failure.
PATIENT = {"circuit_breaker": {"consecutive_failures": 10_000}}


class Chain:
    """A gateway before the models `first` and `second`, and their replicas; ``file`` configures its router."""

    def __init__(self, gateway: Gateway, first: list[Replica], second: list[Replica], file: Path) -> None:
        self.gateway, self.first, self.second, self.file = gateway, first, second, file

    def ask(self, **fields: Any) -> httpx.Response:
        return self.gateway.client.post("/v1/chat/completions", json=chat(**fields))

    def many(self, count: int, **fields: Any) -> Counter[tuple[int, str | None]]:
        """Status and fallback of so many requests, eight at a time."""
        with ThreadPoolExecutor(8) as pool:
            responses = list(pool.map(lambda _: self.ask(**fields), range(count)))
        return Counter((each.status_code, each.headers.get("x-vsr-fallback")) for each in responses)


def document(first: list[Replica], second: list[Replica], /, **settings: Any) -> dict[str, Any]:
    """``settings``: ``fallback``, ``envoy``, and what backend references of a model are, `ENDPOINT` being theirs."""
    refs = {name: settings.get(name, {"endpoint": "ENDPOINT"}) for name in ("first", "second")}
    models: list[dict[str, Any]] = [
        {
            "name": name,
            "backend_refs": [
                {key: value.replace("ENDPOINT", each.endpoint) for key, value in refs[name].items()}
                for each in backends
            ],
            "reliability": CHECKS,
        }
        for name, backends in {"first": first, "second": second}.items()
    ]
    models[0]["reasoning_family"] = "qwen"
    families = {"qwen": {"type": "chat_template_kwargs", "parameter": "enable_thinking"}}
    refs_of_decision = [{"model": "first", "score": 2, "use_reasoning": True}, {"model": "second", "score": 1}]
    return {
        "providers": {"models": models, "defaults": {"reasoning_families": families}},
        "routing": {
            "modelCards": [
                {"name": "first", "context_window_size": "8K", "loras": [{"name": "law"}, {"name": "tax"}]},
                {"name": "second", "context_window_size": "32K"},
            ],
            "decisions": [{"name": "d", "modelRefs": refs_of_decision}],
            "fallback": PATIENT | settings.get("fallback", {}),
        },
        "global": {
            "services": {
                "envoy": {"port": free_port(), "admin_port": free_port(), "concurrency": 1} | settings.get("envoy", {})
            }
        },
    }


def written(file: Path, text: dict[str, Any], change: Callable[[dict[str, Any]], None] | None) -> Path:
    """``text`` as a file, after a ``change``."""
    if change is not None:
        change(text)
    file.write_text(yaml.safe_dump(text))
    return file
