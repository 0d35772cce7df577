"""A part that is down degrades routing; it never fails a request."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from local_stack import PATIENCE, wait_for
from whole_system import DEADLINE_MS, Fragile, Site

pytestmark = pytest.mark.e2e

RATE = 20
KEYWORD = "Walk me through how to structure a business merger proposal."
DOMAIN = "What is the derivative of x^3 + 2x?"


@dataclass
class Answer:
    at: float
    prompt: str
    response: httpx.Response

    @property
    def degraded(self) -> str | None:
        return self.response.headers.get("x-vsr-degraded")

    @property
    def router_ms(self) -> float:
        match = re.search(r"total;dur=([0-9.]+)", self.response.headers["server-timing"])
        assert match is not None
        return float(match[1])


async def load(site: Site, seconds: float) -> list[Answer]:
    """Send both prompts in turn at a fixed rate, whatever becomes of them."""
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE) as client:

        async def ask(number: int) -> Answer:
            await asyncio.sleep(number / RATE)
            prompt = (KEYWORD, DOMAIN)[number % 2]
            body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}]}
            return Answer(time.monotonic(), prompt, await client.post("/v1/chat/completions", json=body))

        return await asyncio.gather(*(ask(number) for number in range(int(seconds * RATE))))


def kill(site: Fragile) -> None:
    site.kill("triton")


def stop(site: Fragile) -> None:
    site.signal("triton", signal.SIGSTOP)


def go_on(site: Fragile) -> None:
    site.signal("triton", signal.SIGCONT)


def kill_stubs(site: Fragile) -> None:
    import os

    stubs = site.stubs()
    assert stubs
    for pid in stubs:
        os.kill(pid, signal.SIGKILL)


def restart(site: Fragile) -> None:
    if "triton" in site.processes:
        site.kill("triton")
    site.start_triton(site.real)


def behave(mood: str) -> Callable[[Fragile], None]:
    return lambda site: site.behave(mood)


def serve_another_bundle(site: Fragile) -> None:
    site.restart_triton(site.other_bundle)


def serve_the_right_bundle(site: Fragile) -> None:
    site.restart_triton(site.real)


FAULTS: dict[str, tuple[Callable[[Fragile], None], Callable[[Fragile], None], set[str]]] = {
    "killed": (kill, restart, {"unreachable", "error"}),
    "stopped": (stop, go_on, {"deadline"}),
    "stub killed while ready": (kill_stubs, restart, {"error", "deadline"}),
    "answers two seconds late": (behave("late"), behave("well"), {"deadline"}),
    "answers in another shape": (behave("shape"), behave("well"), {"shape", "error"}),
    "answers NaN": (behave("nan"), behave("well"), {"not_finite"}),
    "serves another bundle": (serve_another_bundle, serve_the_right_bundle, {"bundle"}),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_request_fails_and_keywords_still_fire(fragile: Fragile, fault: str) -> None:
    break_it, mend_it, reasons = FAULTS[fault]
    fragile.wait_until_normal()
    degraded = fragile.metric("router_degraded_requests_total", part="triton")
    errors = {reason: fragile.metric("router_signal_errors_total", reason=reason) for reason in reasons}

    loading = asyncio.create_task(load(fragile, 4))
    await asyncio.sleep(1)
    breaking = time.monotonic()
    await asyncio.to_thread(break_it, fragile)
    answers = await loading
    await asyncio.to_thread(mend_it, fragile)
    mended = time.monotonic()
    # Triton's own start is not the router's recovery.
    await asyncio.to_thread(fragile.wait_until_normal)
    recovered = time.monotonic() - mended

    assert {answer.response.status_code for answer in answers} == {200}
    # A busy machine may miss the deadline now and then.
    before = [answer for answer in answers if answer.at < breaking]
    assert sum(answer.degraded is None for answer in before) >= len(before) / 2
    affected = [answer for answer in answers if answer.degraded]
    assert len(affected) >= 20
    for answer in answers:
        headers = answer.response.headers
        if answer.prompt == KEYWORD:
            assert headers["x-vsr-selected-decision"] == "thinking_decision"
            assert headers["x-vsr-selected-model"] == "qwen3-8b"
        elif answer.degraded:
            assert answer.degraded == "triton"
            assert "x-vsr-selected-decision" not in headers
            assert headers["x-vsr-selected-model"] == "llama3-8b-instruct"
        else:
            assert headers["x-vsr-selected-decision"] == "math_decision"
    slowest = sorted(answer.router_ms for answer in answers)
    p75, p99 = slowest[len(slowest) * 3 // 4], slowest[int(len(slowest) * 0.99)]
    print(f"{fault}: {len(affected)} of {len(answers)} degraded, p99 {p99:.1f} ms, recovered in {recovered:.1f} s")
    # A request waits for its deadline and for nothing else. A machine at rest for a second stops every fourth.
    assert p75 <= 2 * DEADLINE_MS
    assert fragile.metric("router_degraded_requests_total", part="triton") >= degraded + len(affected)
    assert any(fragile.metric("router_signal_errors_total", reason=reason) > errors[reason] for reason in reasons)


def test_the_router_is_ready_without_triton(fragile: Fragile) -> None:
    fragile.kill("triton")
    fragile.kill("router")
    fragile.start_router()
    ready = f"http://127.0.0.1:{fragile.rest}/ready"

    def details() -> Any:
        return httpx.get(ready).json()

    wait_for(lambda: bool(details()["ready"]), "the router is ready")
    assert "triton" in details()["degraded"]
    wait_for(lambda: fragile.ask(KEYWORD).status_code == 200, "Envoy has found the router again")
    assert fragile.ask(KEYWORD).headers["x-vsr-selected-decision"] == "thinking_decision"
    fragile.start_triton(fragile.real)
    fragile.wait_until_normal()
    assert details()["degraded"] == {}


def test_sigterm_drains(fragile: Fragile) -> None:
    """A stream that runs goes on to its end, whatever happens to the router."""
    body = {"model": "MoM", "messages": [{"role": "user", "content": DOMAIN}], "stream": True}
    headers = {"x-demo-script": "chunks=20;seconds=3"}
    with fragile.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        next(lines)
        router = fragile.processes["router"]
        router.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert rest[-2:] == ["data: [DONE]", ""] or "data: [DONE]" in rest
    assert router.wait(PATIENCE) == 0
    fragile.processes.pop("router")
    answer = fragile.ask(DOMAIN)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
    fragile.start_router()
    fragile.wait_until_normal()
