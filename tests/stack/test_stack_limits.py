"""Limits behind the real Envoy: clients see what remains, in the headers of their API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml
from local_stack import Gateway, chat, free_port, running
from replica import Replica

from triton_router.config import load

pytestmark = pytest.mark.e2e


def test_every_api_shows_what_remains_and_when_to_come_again(
    stack: ExitStack, tmp_path: Path, start_envoy: Callable[..., Gateway], start_replica: Callable[..., Replica]
) -> None:
    rule = {"name": "r", "unit": "month", "requests_per_unit": 2, "per": []}
    document = {
        "providers": {"models": [{"name": "m", "backend_refs": [{"endpoint": start_replica().endpoint}]}]},
        "global": {
            "services": {
                "envoy": {"port": free_port(), "admin_port": free_port(), "concurrency": 1},
                "ratelimit": {"providers": [{"type": "local-limiter", "rules": [rule]}]},
            }
        },
    }
    file = tmp_path / "router.yaml"
    file.write_text(yaml.safe_dump(document))
    gateway = start_envoy(load(file).config, stack.enter_context(running("router_of_file.py", str(file))))

    def ask(path: str) -> httpx.Response:
        return gateway.client.post(path, json=chat(max_tokens=5))

    chats = [ask("/v1/chat/completions") for _ in range(3)]
    assert [each.status_code for each in chats] == [200, 200, 429]
    assert [each.headers["x-ratelimit-remaining-requests"] for each in chats] == ["1", "0", "0"]
    assert {each.headers["x-ratelimit-limit-requests"] for each in chats} == {"2"}
    assert chats[2].headers["x-ratelimit-reset-requests"].endswith("s")
    assert int(chats[2].headers["retry-after"]) > 0
    message = ask("/v1/messages")
    assert (message.status_code, message.headers["anthropic-ratelimit-requests-remaining"]) == (429, "0")
    assert message.headers["anthropic-ratelimit-requests-reset"].endswith("-01T00:00:00Z")
    assert int(message.headers["retry-after"]) > 0
