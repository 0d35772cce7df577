"""The pre-call hook in a real LiteLLM proxy, against the real router."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from litellm_proxy import Proxy, model_of, running_proxy
from local_stack import REPOSITORY, free_port, wait_for
from whole_system import MODELS, Site, running

pytestmark = pytest.mark.deploy

PROMPTS = {
    "doctor": "Is there medication for my symptoms?",
    "dcot": "A farmer has 17 sheep and all but 9 run away. How many are left?",
    "phi2": "Write a limerick about a bicycle",
}
# The demo backend counts words.
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "AAAA " * 100_000}}


def with_words(directory: Path) -> Path:
    """The kickstart's configuration, with words that decide before its sentences do, and what decisions may change."""
    document = yaml.safe_load((REPOSITORY / "config" / "kickstart.yaml").read_text())
    document["providers"]["defaults"]["reasoning_families"] = {
        "qwen3": {"type": "chat_template_kwargs", "parameter": "enable_thinking"}
    }
    document["providers"]["models"][0]["reasoning_family"] = "qwen3"
    routing = document["routing"]
    routing["signals"]["keywords"] = [{"name": word, "keywords": [word]} for word in ("briefly", "closed")]
    for decision in routing["decisions"]:
        decision["tier"] = 1
    plugins = {
        "briefly": {"type": "system_prompt", "configuration": {"mode": "prepend", "system_prompt": "Be brief."}},
        "closed": {"type": "fast_response", "configuration": {"message": "We are closed."}},
    }
    routing["decisions"] += [
        {"name": word, "rules": {"type": "keyword", "name": word}, "plugins": [plugin],
         "modelRefs": [{"model": "phi2", "lora_name": "dcot", "use_reasoning": True}]}
        for word, plugin in plugins.items()
    ]  # fmt: skip
    path = directory / "kickstart.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("litellm")
    (directory / "given").mkdir()
    # Twenty requests at once take their time where a test shares the machine.
    patient = {
        "global": {
            "inference": {"deadline_ms": 5000, "adaptive_limit": False},
            "router": {"max_body_bytes": 400_000},
            "services": {"extproc": {"overload": {"shed_after_ms": 10_000, "refuse_after_ms": 20_000}}},
        }
    }
    yield from running(Site(directory, with_words(directory / "given"), patient))


@pytest.fixture(scope="module")
def proxy(site: Site) -> Iterator[Proxy]:
    """The hook as a file beside LiteLLM's configuration."""
    with running_proxy(Proxy(site.directory / "proxy", site)) as proxy:
        # The first request of all waits for whatever LiteLLM loads late.
        model_of(proxy.ask("hello", model="phi2"))
        yield proxy


@pytest.mark.parametrize(("model", "prompt"), PROMPTS.items())
def test_the_prompt_decides(proxy: Proxy, model: str, prompt: str) -> None:
    answer = proxy.ask(prompt)
    assert model_of(answer) == answer.headers["x-vsr-selected-model"] == model
    assert answer.headers["x-vsr-selected-decision"] == (model if model != "phi2" else "everyday")
    assert "x-vsr-degraded" not in answer.headers


def test_the_log_has_the_scores_of_every_route_and_no_prompt(proxy: Proxy) -> None:
    before = len(proxy.lines())
    proxy.ask(PROMPTS["doctor"])
    wait_for(lambda: len(proxy.lines()) > before, "a line in the log")
    line = proxy.lines()[-1]
    listed = line.partition("[")[2].partition("]")[0].split(", ")
    scores = {name: float(score) for name, score in map(str.split, listed)}
    assert {"doctor", "dcot", "everyday"} <= scores.keys()
    assert max(scores, key=lambda name: scores[name]) == "doctor"
    assert "doctor -> doctor" in line
    assert "medication" not in "".join(proxy.lines())


def test_a_model_that_is_named_is_the_one_that_answers(proxy: Proxy) -> None:
    before = len(proxy.lines())
    for model in ("phi2", "doctor", "dcot"):
        answer = proxy.ask(PROMPTS["doctor"], model=model)
        assert model_of(answer) == model
        assert "x-vsr-selected-model" not in answer.headers
    assert len(proxy.lines()) == before


def test_clients_see_base_and_adapters(proxy: Proxy) -> None:
    listed = [entry["id"] for entry in proxy.client.get("/v1/models").json()["data"]]
    assert sorted(listed) == ["auto", "dcot", "doctor", "phi2"]


def test_a_decision_changes_more_than_the_model(proxy: Proxy) -> None:
    received = proxy.ask("Tell me briefly, why?").json()["demo"]["received"]
    assert (received["model"], received["system"]) == ("dcot", ["Be brief."])
    assert received["fields"]["chat_template_kwargs"] == {"enable_thinking": True}


def test_pictures_reach_the_model_and_not_the_router(proxy: Proxy) -> None:
    content = [{"type": "text", "text": "What is this, briefly?"}, PICTURE]
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    answer = proxy.client.post("/v1/chat/completions", json=body)
    received = answer.json()["demo"]["received"]
    assert (received["model"], received["system"]) == ("dcot", ["Be brief."])
    assert answer.json()["usage"]["prompt_tokens"] > 100_000
    # The router would have refused it.
    assert answer.headers["x-vsr-selected-decision"] == "briefly"


def test_an_answer_of_the_routers_own(proxy: Proxy) -> None:
    answer = proxy.ask("Are you closed?")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "We are closed."
    assert "demo" not in answer.json(), "the backend was asked"
    with proxy.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Are you closed?"}]},
    ) as stream:
        events = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "We are closed."


def test_streams(proxy: Proxy) -> None:
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": PROMPTS["doctor"]}]}
    with proxy.client.stream("POST", "/v1/chat/completions", json=body) as stream:
        assert stream.headers["x-vsr-selected-model"] == "doctor"
        text = "".join(stream.iter_text())
    assert "doctor" in text and text.rstrip().endswith("[DONE]")


async def twenty(proxy: Proxy, model: str) -> list[httpx.Response]:
    """Twenty requests at once, three times over."""
    async with httpx.AsyncClient(base_url=proxy.client.base_url, timeout=60) as client:
        prompts = list(PROMPTS.values())

        async def one(number: int) -> httpx.Response:
            messages = [{"role": "user", "content": prompts[number % len(prompts)]}]
            return await client.post("/v1/chat/completions", json={"model": model, "messages": messages})

        return [answer for _ in range(3) for answer in await asyncio.gather(*map(one, range(20)))]


async def test_the_hook_leaves_the_event_loop_while_it_waits(site: Site, tmp_path: Path) -> None:
    """Twenty requests at once. What its stretches on the loop take, `python -m perf hook` measures."""
    callbacks = ["loop_watch.watch", "triton_router.integrations.litellm.hook"]
    patient = {"TRITON_ROUTER_WITHIN": "10000"}
    with running_proxy(Proxy(tmp_path / "proxy", site, callbacks, settings=patient)) as proxy:

        def stretches() -> int:
            answer = proxy.ask("", model="phi2", user="loop-watch").json()
            return len(json.loads(answer["choices"][0]["message"]["content"])["hook"])

        stretches()
        named = await twenty(proxy, "phi2")
        # A model that is named is let pass at once.
        passed = stretches()
        routed = await twenty(proxy, "auto")
        count = stretches()
    assert [model_of(answer) for answer in named] == ["phi2"] * 60
    expected = [list(PROMPTS)[number % 3] for _ in range(3) for number in range(20)]
    assert [model_of(answer) for answer in routed] == expected
    # The request that reads is one of them.
    assert passed == 60 + 1 and count >= 2 * 60


def test_a_log_that_nobody_reads_holds_up_no_request(site: Site, tmp_path: Path) -> None:
    """The event loop does not write it: the loop would stop for good here, and for moments where disks are slow."""
    proxy = Proxy(tmp_path / "proxy", site)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    up = threading.Event()

    def read() -> None:
        while not up.is_set():
            if select.select([reading], [], [], 0.1)[0]:
                os.read(reading, 4096)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        try:
            proxy.start(errors=writing)
        finally:
            up.set()
            reader.join()
        # A line has a hundred bytes.
        assert [model_of(proxy.ask(PROMPTS["doctor"])) for _ in range(80)] == ["doctor"] * 80
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            os.write(writing, b"x" * 4096)
    finally:
        proxy.stop()
        os.close(reading)
        os.close(writing)


def test_an_adapter_that_litellm_does_not_list_is_served_by_its_base(site: Site, tmp_path: Path) -> None:
    with running_proxy(Proxy(tmp_path / "proxy", site, names=("phi2", "doctor"))) as proxy:
        assert model_of(proxy.ask(PROMPTS["doctor"])) == "doctor"
        assert model_of(proxy.ask(PROMPTS["dcot"])) == "phi2"


def warnings(proxy: Proxy) -> list[str]:
    return [line for line in proxy.lines() if "WARNING" in line]


def test_without_the_router_requests_keep_their_model(site: Site, proxy: Proxy) -> None:
    """Dead, hung, and back: no request fails, and the log says it once a minute."""
    assert warnings(proxy) == []
    site.kill("router")
    for number in range(12):
        answer = proxy.ask(PROMPTS["doctor"])
        assert (model_of(answer), answer.headers["x-vsr-degraded"]) == ("phi2", "router"), number
    wait_for(lambda: warnings(proxy) != [], "a warning")
    assert len(warnings(proxy)) == 1 and "unreachable" in warnings(proxy)[0]
    site.start_router()
    wait_for(lambda: "x-vsr-degraded" not in proxy.ask(PROMPTS["doctor"]).headers, "advice again")
    wait_for(lambda: model_of(proxy.ask(PROMPTS["doctor"])) == "doctor", "the encoder answers")
    site.signal("router", signal.SIGSTOP)
    try:
        for number in range(6):
            answer = proxy.ask(PROMPTS["doctor"])
            assert (model_of(answer), answer.headers["x-vsr-degraded"]) == ("phi2", "router"), number
    finally:
        site.signal("router", signal.SIGCONT)
    wait_for(lambda: model_of(proxy.ask(PROMPTS["doctor"])) == "doctor", "advice again")
    assert len(warnings(proxy)) == 1


def test_what_would_take_long_to_write_is_not_asked_about(proxy: Proxy) -> None:
    """The router would take it."""
    assert model_of(proxy.ask(PROMPTS["doctor"] + " " * 200_000)) == "doctor"
    answer = proxy.ask(PROMPTS["doctor"] + " " * 300_000)
    assert (model_of(answer), answer.headers["x-vsr-degraded"]) == ("phi2", "router")


def test_errors_are_no_advice(tmp_path: Path, site: Site) -> None:
    settings = {"TRITON_ROUTER_URL": f"http://127.0.0.1:{site.rest}/nowhere"}
    directory = tmp_path / "proxy"
    with running_proxy(Proxy(directory, site, settings=settings)) as proxy:
        for _ in range(3):
            answer = proxy.ask(PROMPTS["doctor"])
            assert (model_of(answer), answer.headers["x-vsr-degraded"]) == ("phi2", "router")
        wait_for(lambda: proxy.lines() != [], "a line in the log")
        (line,) = proxy.lines()
        assert "status_404" in line


STAFF = """
version: v0.3
providers: {models: [{name: phi2, backend_refs: [{endpoint: "127.0.0.1:9"}]}]}
routing:
  modelCards: [{name: phi2, loras: [{name: doctor}]}]
  signals:
    role_bindings: [{name: staff, role: staff, subjects: [{kind: Group, name: staff}]}]
    pii: [{name: card, pii_types_denied: [CREDIT_CARD]}, {name: mail, pii_types_denied: [EMAIL_ADDRESS]}]
  decisions:
    - {name: no cards, rules: {type: pii, name: card}, plugins: [{type: block, configuration: {status: 451}}]}
    - {name: nobody's mail, rules: {type: pii, name: mail}, plugins: [{type: mask}]}
    - {name: staff, rules: {type: authz, name: staff}, modelRefs: [{model: phi2, lora_name: doctor}]}
global:
  inference: {endpoint: "127.0.0.1:9"}
  services:
    api: {port: %d, token_env: STAFF_TOKEN}
    extproc: {port: %d}
    observability: {metrics: {enabled: false}}
    authz: {identity: {set_by: gateway}}
"""


def test_what_the_router_forbids_is_forbidden(site: Site, tmp_path: Path) -> None:
    """Somebody vouches for callers here; one whom nobody knows is not served by the default model instead."""
    port, config = free_port(), tmp_path / "staff.yaml"
    config.write_text(STAFF % (port, free_port()))
    settings = {
        "TRITON_ROUTER_URL": f"http://127.0.0.1:{port}",
        "TRITON_ROUTER_TOKEN": "s3cret",
        "TRITON_ROUTER_HEADERS": "x-authz-user-id, x-authz-user-groups",
    }
    with (tmp_path / "router.log").open("wb") as log:
        command = [sys.executable, "-m", "triton_router.cli", "serve", "--config", config, "--repository", MODELS]
        environment = {**os.environ, "STAFF_TOKEN": "s3cret"}
        router = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=REPOSITORY)
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200, "the router")
        with running_proxy(Proxy(tmp_path / "proxy", site, settings=settings)) as proxy:
            assert proxy.ask("hello").status_code == 403
            assert model_of(proxy.ask("hello", model="phi2")) == "phi2"
            proxy.client.headers.update({"x-authz-user-id": "ada", "x-authz-user-groups": "staff"})
            assert model_of(proxy.ask("hello")) == "doctor"
            assert proxy.ask("pay with 4111 1111 1111 1111").status_code == 451
            assert proxy.ask("write to jane@mail.example").status_code == 403
    finally:
        router.kill()
        router.wait(10)
