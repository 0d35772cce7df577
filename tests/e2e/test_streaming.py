"""Streams through the whole system, with the official client."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import openai
import pytest
from local_stack import wait_for
from whole_system import BIN, MODELS, Site

pytestmark = pytest.mark.e2e

QUESTION = [{"role": "user", "content": "What is the derivative of x^3 + 2x?"}]
TOOL = {"type": "function", "function": {"name": "differentiate", "parameters": {"type": "object", "properties": {}}}}


def script(**values: object) -> dict[str, str]:
    return {"x-demo-script": ";".join(f"{key}={value}" for key, value in values.items())}


def open_requests(site: Site) -> int:
    stats = httpx.get(f"http://127.0.0.1:{site.admin}/stats?filter=(rq_active|streams_active)&format=json").json()
    return sum(int(stat["value"]) for stat in stats["stats"] if "value" in stat and "admin" not in stat["name"])


def nothing_left(site: Site) -> bool:
    return open_requests(site) == 0 and site.metric("router_in_flight_requests") == 0


def test_the_openai_client_works(aibrix: Site) -> None:
    answer = aibrix.openai.chat.completions.create(model="MoM", messages=QUESTION)  # type: ignore[call-overload]
    assert answer.model == "qwen3-8b"
    assert answer.choices[0].message.content


def test_the_first_chunk_arrives_while_the_backend_is_still_sending(aibrix: Site) -> None:
    stream = aibrix.openai.chat.completions.create(  # type: ignore[call-overload]
        model="MoM", messages=QUESTION, stream=True, extra_headers=script(chunks=10, seconds=3)
    )
    arrivals = [time.monotonic() for _ in stream]
    assert arrivals[-1] - arrivals[0] > 1


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_long_stream_with_tool_calls_and_usage_survives(aibrix: Site, seconds: int) -> None:
    started = time.monotonic()
    stream = aibrix.openai.chat.completions.create(  # type: ignore[call-overload]
        model="MoM", messages=QUESTION, stream=True, tools=[TOOL], stream_options={"include_usage": True},
        extra_headers=script(chunks=500, seconds=seconds, tools=1),
    )  # fmt: skip
    chunks = list(stream)
    assert time.monotonic() - started > seconds - 1
    assert len(chunks) >= 500
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert calls[0].function.name == "differentiate"
    assert chunks[-1].usage.completion_tokens > 0
    wait_for(lambda: nothing_left(aibrix), "every stream closed")


def test_a_client_that_leaves_leaves_nothing_behind(aibrix: Site) -> None:
    body = {"model": "MoM", "messages": QUESTION, "stream": True}
    headers = script(chunks=100, seconds=20)
    with aibrix.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert open_requests(aibrix) > 0
    wait_for(lambda: nothing_left(aibrix), "every stream closed")


def test_a_backend_that_breaks_off_leaves_nothing_behind(aibrix: Site) -> None:
    stream = aibrix.openai.chat.completions.create(  # type: ignore[call-overload]
        model="MoM", messages=QUESTION, stream=True, extra_headers=script(chunks=20, seconds=1, reset=5)
    )
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        list(stream)
    wait_for(lambda: nothing_left(aibrix), "every stream closed")
    assert aibrix.ask("What is 2 + 2?").status_code == 200


def test_the_router_stays_small(aibrix: Site) -> None:
    status = Path(f"/proc/{aibrix.processes['router'].pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    # With the tokenizers of two encoders and the classifier of languages; those take about 40 MiB.
    assert int(resident.split()[1]) < 190 * 1024


def test_no_prompt_reaches_log_or_metrics(aibrix: Site) -> None:
    aibrix.ask("Xylophone-zebra-4711: what is the derivative of x^3?")
    assert b"Xylophone" not in (aibrix.directory / "router.log").read_bytes()
    assert "Xylophone" not in httpx.get(f"http://127.0.0.1:{aibrix.metrics_port}/metrics").text


def test_explain_shows_the_whole_decision(aibrix: Site) -> None:
    command = [str(BIN / "triton-router"), "explain", "--config", str(aibrix.config_file), "--repository", str(MODELS)]
    command.append("What is the derivative of x^3 + 2x?")
    explained = httpx.Response(200, content=subprocess.run(command, capture_output=True, check=True).stdout).json()
    assert explained["outcome"]["model"] == "qwen3-8b"
    assert {"type", "name", "matched", "value", "threshold", "measure", "ms", "fired_by"} == set(
        explained["signals"][0]
    )
    assert [decision["name"] for decision in explained["decisions"] if decision["chosen"]] == ["math_decision"]
    tree = subprocess.run([*command[:-1], "--text", command[-1]], capture_output=True, check=True, text=True).stdout
    assert "→ ✓ math_decision" in tree
