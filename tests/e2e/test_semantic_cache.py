"""The semantic cache through real Envoy and Triton: hits without a backend, and nobody gets another's answer."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from local_stack import wait_for
from tritonclient.grpc import InferenceServerClient
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  models:
    - {name: talker, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: sharer, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    keywords:
      - {name: shared, keywords: [everybody]}
      - {name: uncached, keywords: [dice]}
  decisions:
    - name: uncached
      priority: 3
      rules: {type: keyword, name: uncached}
      modelRefs: [{model: talker}]
    - name: shared
      priority: 2
      rules: {type: keyword, name: shared}
      modelRefs: [{model: sharer}]
      plugins: [{type: response_cache, configuration: {scope: global}}]
    - name: own
      modelRefs: [{model: talker}]
      plugins: [{type: semantic-cache, configuration: {similarity_threshold: 0.8}}]
"""
ADA, BOB = {"authorization": "Bearer ada"}, {"authorization": "Bearer bob"}


class Caching(Site):
    def wait_until_normal(self) -> None:
        wait_for(
            lambda: (
                "x-vsr-degraded" not in self.ask("hello", headers={"cache-control": "no-store"}).headers
                and self.ask("hello").status_code == 200
            ),
            "routing",
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("cache")
    (directory / "cache.yaml").write_text(CONFIG)
    changes = {"global": {"stores": {"semantic_cache": {"ttl_seconds": 600, "coalesce_ms": 3000}}}}
    yield from running(Caching(directory, directory / "cache.yaml", changes, grpc=triton_port))


def path_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-vsr-response-path"]


def wait_until_stored(site: Site, prompt: str, headers: dict[str, str] = ADA, **fields: Any) -> httpx.Response:
    """Ask until the answer is in the cache; what came the first time."""
    first = site.ask(prompt, headers=headers, **fields)
    assert (path_of(first), first.headers["x-vsr-cache-hit"]) == ("upstream", "miss")
    wait_for(lambda: path_of(site.ask(prompt, headers=headers, **fields)) == "cache", "the answer is kept")
    return first


def test_a_repeat_is_answered_without_a_backend(site: Site) -> None:
    first = wait_until_stored(site, "What is the tallest mountain of Peru?")
    again = site.ask("What is the tallest mountain of Peru?", headers=ADA)
    assert again.headers["x-vsr-cache-hit"] == "exact"
    assert int(again.headers["age"]) >= 0 and again.headers["x-vsr-selected-decision"] == "own"
    original, repeated = (answer.json()["choices"][0]["message"]["content"] for answer in (first, again))
    assert original == repeated
    assert "demo" not in again.json(), "no backend had a part in it"
    assert again.json()["usage"] == first.json()["usage"]


def test_what_was_streamed_is_answered_whole_and_the_other_way_round(site: Site) -> None:
    def streamed(prompt: str) -> tuple[str, str]:
        made = site.openai.with_options(api_key="ada").chat.completions.with_raw_response.create(
            model="MoM", messages=[{"role": "user", "content": prompt}], stream=True,
            extra_headers={"x-demo-script": "chunks=25;seconds=0.3"},
        )  # fmt: skip
        text = "".join(chunk.choices[0].delta.content or "" for chunk in made.parse() if chunk.choices)
        return made.headers["x-vsr-response-path"], text

    path, text = streamed("Name a river in Chile")
    assert path == "upstream"
    time.sleep(0.5)  # asked again too soon, the backend would be asked, and its answer kept in this one's place
    whole = site.ask("Name a river in Chile", headers=ADA).json()["choices"][0]["message"]["content"]
    assert whole == text
    assert streamed("Name a river in Chile") == ("cache", text)


def test_an_alike_question_is_answered_and_another_one_is_not(site: Site) -> None:
    wait_until_stored(site, "How do I boil an egg?")
    alike = site.ask("how do i boil an egg", headers=ADA)
    assert (path_of(alike), alike.headers["x-vsr-cache-hit"]) == ("cache", "semantic")
    assert float(alike.headers["x-vsr-cache-similarity"]) > 0.8
    for other in ("How do I not boil an egg?", "How do I boil 12 eggs?", "How do I boil an ostrich egg in oil?"):
        assert path_of(site.ask(other, headers=ADA)) == "upstream", other


def test_callers_do_not_get_each_others_answers(site: Site) -> None:
    wait_until_stored(site, "What is my favourite colour?", ADA)
    assert path_of(site.ask("What is my favourite colour?", headers=BOB)) == "upstream"
    assert path_of(site.ask("What is my favourite colour?")) == "upstream"
    forged = {**BOB, "x-authz-user-id": "ada", "x-vsr-user": "ada", "x-tenant-id": "ada"}
    assert path_of(site.ask("What is my favourite colour?", headers=forged)) == "cache", "bob's own, kept just now"
    mallory = {"authorization": "Bearer mallory", "x-authz-user-id": "ada"}
    assert path_of(site.ask("What is my favourite colour?", headers=mallory)) == "upstream"


def test_sharing_is_a_choice(site: Site) -> None:
    wait_until_stored(site, "Tell everybody what a haiku is", ADA)
    assert path_of(site.ask("Tell everybody what a haiku is", headers=BOB)) == "cache"


def test_a_decision_without_the_plugin_is_never_cached(site: Site) -> None:
    for _ in range(3):
        answer = site.ask("Roll a dice", headers=ADA)
        assert path_of(answer) == "upstream" and "x-vsr-cache-hit" not in answer.headers


@pytest.mark.parametrize("header", ["cache-control", "x-vsr-cache-control"])
def test_a_client_can_ask_for_a_fresh_answer(site: Site, header: str) -> None:
    prompt = f"What is a {header}?"
    wait_until_stored(site, prompt)
    assert path_of(site.ask(prompt, headers={**ADA, header: "no-cache"})) == "upstream"
    other = f"What is not a {header} at all?"
    for _ in range(3):
        assert path_of(site.ask(other, headers={**ADA, header: "no-store"})) == "upstream"
    assert path_of(site.ask(other, headers=ADA)) == "upstream"


def test_answers_that_broke_off_or_call_tools_are_not_kept(site: Site) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    for script, fields in (("tools=1", {"tools": tools}), ("status=500", {})):
        for _ in range(2):
            answer = site.ask("Look it up", headers={**ADA, "x-demo-script": script}, **fields)
            assert answer.headers.get("x-vsr-response-path") == "upstream"
            time.sleep(0.2)


def test_an_exact_repeat_asks_no_signal(site: Site) -> None:
    prompt = "What is the smallest ocean?"
    wait_until_stored(site, prompt)
    client = InferenceServerClient(site.config.global_.inference.endpoint)

    def calls() -> int:
        statistics = client.get_inference_statistics("minilm", as_json=True)["model_stats"][0]
        return int(statistics["inference_stats"]["success"]["count"])

    time.sleep(0.5)
    before = calls()
    for _ in range(10):
        assert path_of(site.ask(prompt, headers=ADA)) == "cache"
    time.sleep(0.5)
    assert calls() == before
    assert site.metric("router_cache_lookups_total", result="repeat") >= 10
    client.close()


def at_once(site: Site, prompt: str, script: str, callers: list[dict[str, str]], **fields: Any) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(callers)) as pool:
        return list(
            pool.map(lambda caller: site.ask(prompt, headers={**caller, "x-demo-script": script}, **fields), callers)
        )


def test_the_same_question_at_once_goes_to_the_backend_once_a_caller(site: Site) -> None:
    answers = at_once(site, "How far is the moon?", "delay=1.5", [ADA] * 6 + [BOB] * 2)
    texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    outcomes = Counter((path_of(answer), answer.headers["x-vsr-cache-hit"]) for answer in answers)
    assert outcomes == {("upstream", "miss"): 2, ("cache", "coalesced"): 6}
    assert len(texts) == 1
    assert site.metric("router_cache_lookups_total", result="coalesced") == 6


def test_who_waited_for_an_answer_that_failed_or_is_late_asks_for_itself(site: Site) -> None:
    failed = at_once(site, "How far is the sun?", "delay=0.5;status=500", [ADA] * 3)
    assert [answer.status_code for answer in failed] == [500] * 3
    late = at_once(site, "How far is Mars?", "delay=4", [ADA] * 2)
    assert [path_of(answer) for answer in late] == ["upstream"] * 2


def test_streams_do_not_wait_for_each_other(site: Site) -> None:
    streams = at_once(site, "How far is Venus?", "chunks=25;seconds=0.5", [ADA] * 2, stream=True)
    assert [answer.headers["x-vsr-cache-hit"] for answer in streams] == ["miss"] * 2


def test_purging(site: Site) -> None:
    def purge(**what: Any) -> int:
        answer = httpx.post(f"http://127.0.0.1:{site.rest}/api/v1/cache/purge", json=what)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["removed"])

    wait_until_stored(site, "What is a quokka, everybody?")
    wait_until_stored(site, "What is a wombat?")
    assert purge(decision="shared") >= 1
    assert path_of(site.ask("What is a wombat?", headers=ADA)) == "cache"
    assert path_of(site.ask("What is a quokka, everybody?", headers=ADA)) == "upstream"
    assert purge(all=True) >= 1
    assert path_of(site.ask("What is a wombat?", headers=ADA)) == "upstream"
    assert httpx.post(f"http://127.0.0.1:{site.rest}/api/v1/cache/purge", json={}).status_code == 400


def test_prompts_and_credentials_stay_out_of_logs_and_metrics(site: Site) -> None:
    wait_until_stored(site, "Xylophone-4712 is what?", {"authorization": "Bearer s3cr3t-4713"})
    log = (site.directory / "router.log").read_text()
    metrics = httpx.get(f"http://127.0.0.1:{site.metrics_port}/metrics").text
    assert not any(secret in log + metrics for secret in ("Xylophone", "s3cr3t"))
    assert json.loads(log.splitlines()[-1])
