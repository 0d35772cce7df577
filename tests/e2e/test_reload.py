"""Another configuration under load, with two workers behind real Envoy: nobody notices but the new models."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from local_stack import PATIENCE, free_port, wait_for
from whole_system import Site, running

pytestmark = pytest.mark.e2e

RATE = 50
FIRST = """
version: v0.3
providers:
  models:
    - {name: first, backend_refs: [{endpoint: "127.0.0.1:1"}]}
routing:
  signals: {}
  decisions:
    - {name: all, modelRefs: [{model: first}]}
"""


class Mounted:
    """A configuration file as a ConfigMap mounts it: links that are swapped at once."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._count = directory / "mounted", 0
        self._directory.mkdir()
        self.file = self._directory / "router.yaml"

    def write(self, text: str) -> str:
        """Swap the content, and return the generation that it is."""
        self._count += 1
        data = self._directory / f"..{self._count}"
        data.mkdir()
        (data / "router.yaml").write_text(text)
        fresh = self._directory / "..fresh"
        fresh.symlink_to(data.name)
        fresh.rename(self._directory / "..data")
        if not self.file.is_symlink():
            self.file.symlink_to("..data/router.yaml")
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Changing(Site):
    """A site whose configuration is mounted; three backends serve any model."""

    def __init__(self, directory: Path, grpc: int) -> None:
        (directory / "first.yaml").write_text(FIRST)
        changes = {
            "global": {
                "router": {"reload": {"interval_seconds": 0.05}},
                "services": {"extproc": {"workers": 2}, "router_replay": {"enabled": True}},
            }
        }
        super().__init__(directory, directory / "first.yaml", changes, grpc=grpc, any_adapter=True)
        self.base: dict[str, Any] = yaml.safe_load(self.config_file.read_text())
        self.ports = [self.backends["first"], free_port(), free_port()]
        self.mounted = Mounted(directory)
        self.mounted.write(self.config_file.read_text())
        self.config_file = self.mounted.file

    def start(self) -> None:
        for port in self.ports[1:]:
            self.backends[f"other-{port}"] = port
        super().start()

    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")

    def change(self, generation: int) -> tuple[str, str]:
        """Another model, adapter and backend; returns the generation's name and the adapter that answers."""
        document = json.loads(json.dumps(self.base))
        model, adapter = f"model-{generation % 7}", f"adapter-{generation}"
        port = self.ports[generation % len(self.ports)]
        reliability = {"health_check_interval": 0.5}
        names = [model, f"model-{(generation + 1) % 7}"]
        document["providers"]["models"] = [
            {"name": name, "backend_refs": [{"endpoint": f"127.0.0.1:{port}", "adapters_on_demand": True}],
             "reliability": reliability}
            for name in names
        ]  # fmt: skip
        document["routing"]["modelCards"] = [{"name": model, "loras": [{"name": adapter}]}]
        document["routing"]["decisions"] = [{"name": "all", "modelRefs": [{"model": model, "lora_name": adapter}]}]
        return self.mounted.write(yaml.safe_dump(document)), adapter

    def ready(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.rest}/ready").json()
        return answer

    def resident(self) -> dict[int, int]:
        """Resident bytes of the router's processes, without the spare worker: the youngest one, that serves nothing."""
        supervisor = self.processes["router"].pid
        children = Path(f"/proc/{supervisor}/task") / str(supervisor) / "children"
        wait_for(lambda: len(children.read_text().split()) == 3, "two workers and a spare")
        *workers, _ = sorted(map(int, children.read_text().split()))
        return {pid: _resident(pid) for pid in (supervisor, *workers)}


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Changing]:
    yield from running(Changing(tmp_path_factory.mktemp("changing"), triton_port))


class Load:
    """Requests at a fixed rate; remembers every answer."""

    def __init__(self, url: str) -> None:
        self._url, self.answers, self.failures = url, list[tuple[str, str]](), list[str]()

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=PATIENCE) as client, asyncio.TaskGroup() as tasks:
            due = time.monotonic()
            while True:
                tasks.create_task(self._one(client))
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self, client: httpx.AsyncClient) -> None:
        body = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}
        try:
            answer = await client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        if answer.status_code != 200:
            self.failures.append(f"{answer.status_code} {answer.text}")
            return
        self.answers.append((answer.headers["x-vsr-config-generation"], answer.json()["model"]))


async def reloads(site: Changing, count: int) -> None:
    expected = {site.ready()["generation"]: "first"} if site.ready()["generation"] else {}
    load = Load(site.url)
    sending = asyncio.create_task(load.run())
    before: dict[int, int] = {}
    rejected = 0
    try:
        for number in range(1, count + 1):
            if number == max(count // 5, 2):
                before = site.resident()
            if number % 10 == 0:
                site.mounted.write(f"version: v0.3\nproviders: {{modells: []}}  # {number}")
                await until(lambda: "rejected" in site.ready())
                assert "did you mean `models`?" in site.ready()["rejected"][0]
                rejected += 1
                continue
            generation, adapter = await asyncio.to_thread(site.change, number)
            expected[generation] = adapter
            await until(lambda generation=generation: site.ready()["generation"] == generation)  # type: ignore[misc]
            assert "rejected" not in site.ready()
        await asyncio.sleep(0.5)
        after = site.resident()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert load.failures == []
    assert len(load.answers) > count
    wrong = [(generation, model) for generation, model in load.answers if expected.get(generation, model) != model]
    assert wrong == []
    assert len({generation for generation, _ in load.answers} & expected.keys()) > count / 2
    grown = {pid: after[pid] - before[pid] for pid in before}
    assert len(grown) == 3, "no worker was started again"
    print(f"{count} reloads, {rejected} rejected, {len(load.answers)} answers; grown by {grown}")
    assert all(bytes_ < 10 * 1024 * 1024 for bytes_ in grown.values()), grown


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


async def test_four_reloads_under_load(changing: Changing) -> None:
    await reloads(changing, 4)


@pytest.mark.slow
async def test_a_hundred_reloads_under_load(changing: Changing) -> None:
    await reloads(changing, 100)


def test_the_swap_is_measured_apart_from_preparing(changing: Changing) -> None:
    generation, _ = changing.change(1001)

    def events() -> list[dict[str, float]]:
        lines = (changing.directory / "router.log").read_text().splitlines()
        parsed = [json.loads(line) for line in lines if line[:1] == "{"]
        return [line for line in parsed if line["event"] == "reloaded" and line["generation"] == generation]

    # It serves before it says so.
    wait_for(lambda: bool(events()), "the new generation")
    (event,) = events()
    print({name: event[name] for name in ("prepare_ms", "gateway_ms", "swap_ms")})
    assert event["swap_ms"] > 0 and event["gateway_ms"] > 0 and event["prepare_ms"] > 0


def test_a_running_answer_outlives_its_model(changing: Changing) -> None:
    generation, adapter = changing.change(2001)
    wait_for(lambda: changing.ready()["generation"] == generation, "the new generation")
    body = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    script = {"x-demo-script": "chunks=30;seconds=4"}
    with changing.client.stream("POST", "/v1/chat/completions", json=body, headers=script) as answer:
        assert answer.headers["x-vsr-selected-model"] == adapter
        generation, _ = changing.change(2004)
        wait_for(lambda: changing.ready()["generation"] == generation, "the next generation")
        events = [line for line in answer.iter_lines() if line.startswith("data:")]
    assert events[-1] == "data: [DONE]" and len(events) > 30
    # Names of the generation before are gone once its requests are.
    assert changing.ask("hello", model=adapter).status_code == 404


def test_a_decision_of_any_worker_can_be_looked_up(changing: Changing) -> None:
    for _ in range(8):
        answer = changing.ask("hello, this is private")
        url = f"http://127.0.0.1:{changing.rest}/api/v1/replay/{answer.headers['x-vsr-replay-id']}"
        record = httpx.get(url).json()
        assert record["decision"] == "all" and record["model"] == answer.headers["x-vsr-selected-model"]
        assert record["generation"] == answer.headers["x-vsr-config-generation"]
        assert "private" not in json.dumps(record)
    assert httpx.get(f"http://127.0.0.1:{changing.rest}/api/v1/replay/unknown").status_code == 404


def test_metrics_are_those_of_all_workers(changing: Changing) -> None:
    before = changing.metric("router_requests_total")
    for _ in range(20):
        changing.ask("hello")
    wait_for(lambda: changing.metric("router_requests_total") - before == 20, "all requests are counted")
    assert changing.metric("router_config_reloads_total", result="accepted") >= 2


def test_a_worker_that_dies_is_started_again(changing: Changing) -> None:
    generation = changing.ready()["generation"]
    supervisor = changing.processes["router"].pid
    victim = sorted(changing.resident().keys() - {supervisor})[0]
    os.kill(victim, signal.SIGKILL)
    for _ in range(20):
        assert changing.ask("hello").status_code == 200
    wait_for(lambda: len(changing.resident()) == 3 and victim not in changing.resident(), "a new worker")
    time.sleep(1)
    generations = {changing.ask("hello").headers["x-vsr-config-generation"] for _ in range(20)}
    assert generations == {generation}
