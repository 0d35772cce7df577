"""Candidates by latency and limits of requests, through a real Envoy and two workers that know the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest
from local_stack import wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  models:
    - {name: quick, backend_refs: [{endpoint: "127.0.0.1:1"}], pricing: {prompt_per_1m: 2, completion_per_1m: 2}}
    - {name: other, backend_refs: [{endpoint: "127.0.0.1:2"}], pricing: {prompt_per_1m: 1, completion_per_1m: 1}}
routing:
  signals:
    keywords: [{name: few, keywords: [a few]}, {name: soft, keywords: [softly]}]
  decisions:
    - name: few
      priority: 1
      rules: {type: keyword, name: few}
      modelRefs: [{model: quick}]
    - name: soft
      priority: 1
      rules: {type: keyword, name: soft}
      modelRefs: [{model: quick, score: 1}, {model: other, score: 0}]
    - name: fastest
      modelRefs: [{model: quick}, {model: other}]
      algorithm: {type: latency_aware}
global:
  services:
    extproc: {workers: 2}
    ratelimit:
      providers:
        - type: local-limiter
          rules:
            - {name: few-a-month, per: [], match: {decision: few}, unit: month, requests_per_unit: 20}
            - name: soft-tokens
              match: {decision: soft}
              per: []
              unit: month
              tokens_per_unit: 60
              on_exceeded: cheaper
"""


class Choosing(Site):
    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Choosing]:
    directory = tmp_path_factory.mktemp("choice")
    (directory / "choice.yaml").write_text(CONFIG)
    yield from running(Choosing(directory, directory / "choice.yaml", grpc=triton_port))  # type: ignore[misc]


def models(site: Site, number: int) -> Counter[str]:
    """Which models answered so many requests; each has a connection of its own, so both workers see some."""
    body = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}
    answers = [httpx.post(f"{site.url}/v1/chat/completions", json=body, timeout=60) for _ in range(number)]
    return Counter(answer.headers["x-vsr-selected-model"] for answer in answers)


@pytest.mark.slow
def test_a_slow_model_is_left_and_comes_back(site: Site) -> None:
    wait_for(lambda: len(models(site, 10)) == 2, "both models answer")
    for _ in range(3):
        site.ask("x", model="other", headers={"x-demo-script": "delay=1.5"})
    assert models(site, 20)["quick"] >= 18
    explained = httpx.post(f"http://127.0.0.1:{site.rest}/api/v1/explain", json={"text": "hello"}).json()
    slow = next(each for each in explained["outcome"]["candidates"] if each["model"] == "other")
    assert slow["values"]["answer_ms"] > 500 and slow["share"] == 0
    assert site.metric("router_model_seconds", model="other", measure="answer") > 0.5
    wait_for(lambda: models(site, 10)["other"] >= 3, "the slow model answers again")
    assert site.metric("router_selections_total", decision="fastest", model="other", reason="probe") >= 1


def test_a_limit_is_that_of_all_workers_and_reaches_clients_as_their_libraries_expect(site: Site) -> None:
    statuses = [site.ask("a few").status_code for _ in range(24)]
    assert statuses == [200] * 20 + [429] * 4
    with pytest.raises(openai.RateLimitError) as refused:
        site.openai.chat.completions.create(model="MoM", messages=[{"role": "user", "content": "a few"}])
    assert refused.value.code == "rate_limit_exceeded"
    assert int(refused.value.response.headers["retry-after"]) > 1
    client = anthropic.Anthropic(base_url=site.url, api_key="none", max_retries=0)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model="MoM", max_tokens=5, messages=[{"role": "user", "content": "a few"}])


def test_streams_are_counted_and_beyond_the_budget_the_cheaper_model_answers(site: Site) -> None:
    def streamed() -> str:
        chunks = list(
            site.openai.chat.completions.create(
                model="MoM", messages=[{"role": "user", "content": "softly"}], stream=True, max_tokens=10
            )
        )
        assert all(chunk.usage is None for chunk in chunks), "nobody asked for it"
        return chunks[-1].model

    assert streamed() == "quick"
    wait_for(lambda: streamed() == "other", "the budget is used up")
    assert site.metric("router_limits_exceeded_total", rule="soft-tokens", outcome="cheaper") >= 1
