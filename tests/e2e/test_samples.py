"""The worked samples of `config/` through real Envoy and real Triton: the right adapter for each question."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_stack import REPOSITORY, free_port, wait_for
from tritonclient.grpc import InferenceServerClient
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = REPOSITORY / "config"
TENANTS = 1000


def sample(name: str, directory: Path, port: int, **changes: Any) -> Iterator[Site]:
    yield from running(Site(directory, CONFIG / f"{name}.yaml", changes, grpc=port))


def model_of(site: Site, prompt: str) -> str:
    answer = site.ask(prompt)
    assert answer.status_code == 200, answer.text
    assert "x-vsr-degraded" not in answer.headers
    assert answer.headers["x-vsr-selected-model"] == answer.json()["model"]
    assert answer.json()["demo"]["headers"]["x-gateway-base-model-name"] == site.config.providers.models[0].name
    return str(answer.json()["model"])


@pytest.fixture(scope="module")
def medical(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("medical", tmp_path_factory.mktemp("medical"), triton_port)


@pytest.mark.parametrize(
    ("prompt", "adapter"),
    [
        ("My throat hurts when I swallow and my glands are swollen. What might it be?", "diagnosis-lora"),
        ("What could cause numbness in my left hand at night?", "diagnosis-lora"),
        ("Is it safe to mix ibuprofen with alcohol?", "pharmacy-lora"),
        ("What is the usual dose of amoxicillin for an adult?", "pharmacy-lora"),
        ("I worry all the time and my heart races before meetings", "mental-health-lora"),
        ("How can I support a friend who is depressed?", "mental-health-lora"),
        ("Write a limerick about a bicycle", "llama3-8b"),
    ],
)
def test_a_medical_platform(medical: Site, prompt: str, adapter: str) -> None:
    assert model_of(medical, prompt) == adapter


def test_a_cap_of_the_pharmacy_covers_both_ways_to_ask_for_tokens(medical: Site) -> None:
    prompt = "What is the usual dose of amoxicillin for an adult?"
    for members, expected in [
        ({"max_completion_tokens": 9000}, {"max_completion_tokens": 1024}),
        ({"max_tokens": 9000}, {"max_tokens": 1024}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({}, {"max_tokens": 1024}),
    ]:
        fields = medical.ask(prompt, **members).json()["demo"]["received"]["fields"]
        assert {key: value for key, value in fields.items() if "tokens" in key} == expected


@pytest.fixture(scope="module")
def legal(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("legal", tmp_path_factory.mktemp("legal"), triton_port)


@pytest.mark.parametrize(
    ("prompt", "adapter"),
    [
        ("Does US law let my employer read my mail?", "us-law-lora"),
        ("What does 17 U.S.C. § 107 say about quoting?", "us-law-lora"),
        ("How long may we keep data under the GDPR?", "eu-law-lora"),
        ("Art. 6 GDPR: which basis fits a newsletter?", "eu-law-lora"),
        ("Draft a termination clause with thirty days' notice", "contract-lora"),
        ("Compare US law and European law on cookies", "mistral-7b"),
        ("What is the capital of Norway?", "mistral-7b"),
    ],
)
def test_legal_work(legal: Site, prompt: str, adapter: str) -> None:
    assert model_of(legal, prompt) == adapter


def test_every_legal_decision_is_on_record_without_the_question(legal: Site) -> None:
    mark = f"req-{time.time_ns()}"
    legal.ask("May we send this data to Delaware?", headers={"x-request-id": mark})
    records = [json.loads(line) for line in (legal.directory / "audit.jsonl").read_text().splitlines()]
    (record,) = [record for record in records if record["request_id"] == mark]
    assert record["decision"] == "us_law"
    assert (record["model"], record["base"], record["adapter"]) == ("us-law-lora", "mistral-7b", "us-law-lora")
    assert [signal["name"] for signal in record["matched_signals"]] == ["us_law"]
    assert record["matched_decisions"] == ["us_law"]
    assert len(record["generation"]) == 12 and record["time"].endswith("+00:00")
    assert "prompt" not in record and "this data" not in json.dumps(records)


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("support", tmp_path_factory.mktemp("support"), triton_port)


@pytest.mark.parametrize(
    ("prompt", "adapter"),
    [
        ("my computer wont boot since this morning", "it-lora"),
        ("I forgot the password for the intranet", "it-lora"),
        ("how much holiday can i still take this year", "hr-lora"),
        ("Whom do I ask about maternity leave?", "hr-lora"),
        ("I paid for a hotel in Lyon out of my own pocket, how do I get it refunded?", "finance-lora"),
        ("my salary slip shows the wrong amount", "finance-lora"),
        ("Tell me a joke about penguins", "qwen2.5-7b"),
    ],
)
def test_a_support_desk(support: Site, prompt: str, adapter: str) -> None:
    assert model_of(support, prompt) == adapter


@pytest.fixture(scope="module")
def education(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("education", tmp_path_factory.mktemp("education"), triton_port)


@pytest.mark.parametrize(
    ("prompt", "adapter"),
    [
        ("How do I solve 3x + 5 = 20?", "math-tutor"),
        ("Why does ice float on water?", "science-tutor"),
        ("What do ribosomes do in a cell?", "science-tutor"),
        ("What is the theme of Macbeth?", "literature-tutor"),
        ("How does the poet use metaphor in the second stanza?", "literature-tutor"),
        ("What caused the French Revolution?", "history-tutor"),
        ("What could I cook for six friends tonight?", "qwen3-8b"),
    ],
)
def test_a_learning_platform(education: Site, prompt: str, adapter: str) -> None:
    assert model_of(education, prompt) == adapter


def test_a_hard_problem_switches_the_tutors_reasoning_on(education: Site) -> None:
    """The switch belongs to the base model's family, and works for its adapters too."""
    proof = education.ask("Prove that the square root of 2 is irrational and justify every step of the proof")
    assert proof.headers["x-vsr-selected-decision"] == "math_proof"
    assert proof.json()["model"] == "math-tutor"
    assert proof.json()["demo"]["received"]["fields"]["chat_template_kwargs"] == {"enable_thinking": True}
    simple = education.ask("How do I solve 3x + 5 = 20?").json()["demo"]["received"]["fields"]
    assert simple["chat_template_kwargs"] == {"enable_thinking": False}


def test_all_signals_of_a_request_share_one_call(education: Site) -> None:
    """Domain, complexity and the rest look at one encoding of the prompt."""
    client = InferenceServerClient(education.config.global_.inference.endpoint)

    def requests() -> int:
        statistics = client.get_inference_statistics("minilm", as_json=True)["model_stats"][0]
        return int(statistics["inference_stats"]["success"]["count"])

    time.sleep(0.5)
    before = requests()
    for number in range(10):
        education.ask(f"Prove that {number} is not a prime number")
    wait_for(lambda: requests() - before >= 10, "Triton counts")
    time.sleep(0.3)
    assert requests() - before == 10
    client.close()


# --- kickstart -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kickstart(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("kickstart", tmp_path_factory.mktemp("kickstart"), triton_port)


MEDICATION = "Is there medication for my symptoms?"


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        (MEDICATION, "doctor"),
        ("A farmer has 17 sheep and all but 9 run away. How many are left?", "dcot"),
        ("Write a limerick about a bicycle", "phi2"),
    ],
)
def test_a_base_and_two_adapters(kickstart: Site, prompt: str, model: str) -> None:
    assert model_of(kickstart, prompt) == model


def test_sixty_prompts_on_which_nothing_was_chosen(kickstart: Site) -> None:
    """59 of them reached their route when they were first asked, 56 since the classifier was tuned."""
    lines = (Path(__file__).parent / "kickstart.jsonl").read_text().splitlines()
    routes = [(row["prompt"], row["route"]) for row in map(json.loads, lines)]
    missed = [(prompt, route) for prompt, route in routes if model_of(kickstart, prompt) != route]
    assert len(routes) == 60 and len(missed) <= 4, missed


def test_clients_see_base_and_adapters(kickstart: Site) -> None:
    listed = {model.id: model.model_dump().get("parent") for model in kickstart.openai.models.list()}
    assert listed == {"MoM": None, "auto": None, "phi2": None, "doctor": "phi2", "dcot": "phi2"}
    for name in ("phi2", "doctor", "dcot"):
        named = kickstart.ask(MEDICATION, model=name)
        assert named.json()["model"] == name and "x-vsr-selected-decision" not in named.headers


def test_the_log_shows_how_near_every_route_came(kickstart: Site) -> None:
    mark = f"req-{time.time_ns()}"
    kickstart.ask(MEDICATION, headers={"x-request-id": mark})
    text = (kickstart.directory / "router.log").read_text()
    (line,) = [json.loads(line) for line in text.splitlines() if mark in line]
    assert (line["event"], line["model"]) == ("routed", "doctor")
    assert line["scores"].keys() == {"doctor", "dcot", "everyday"}
    assert line["scores"]["doctor"] == line["confidence"] > max(line["scores"]["dcot"], line["scores"]["everyday"])
    assert "medication" not in text


def test_rest_advises_what_envoy_does(kickstart: Site) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": MEDICATION}]}
    advice = httpx.post(f"http://127.0.0.1:{kickstart.rest}/api/v1/route", json=body).json()
    assert (advice["model"], advice["base_model"], advice["degraded"]) == ("doctor", "phi2", {})
    assert advice["scores"]["doctor"] == advice["confidence"]


def test_the_guide_does_what_it_says(kickstart: Site) -> None:
    """Each block of `bash` in it, run on its own, prints the block that follows; numbers may differ."""
    guide = (REPOSITORY / "docs" / "deploy" / "kickstart.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```\n\n```text\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == guide.count("```bash") == 4
    kickstart.ask(MEDICATION)
    here = {
        "GATEWAY": kickstart.url,
        "ROUTER": f"http://127.0.0.1:{kickstart.rest}",
        "ROUTER_LOG": str(kickstart.directory / "router.log"),
    }
    for script, printed in blocks:
        result = subprocess.run(
            ["bash", "-euc", script], env={**os.environ, **here}, capture_output=True, text=True, timeout=30
        )
        assert result.returncode == 0, result.stderr
        assert _without_numbers(result.stdout) == _without_numbers(printed)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+\.\d+", "#", text.replace("\r", ""))


# --- tenants -------------------------------------------------------------------------------------------------------


class Directory:
    """The sample MCP server."""

    def __init__(self, directory: Path) -> None:
        self.port, self._directory = free_port(), directory
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        command = [sys.executable, str(CONFIG / "tenants" / "server.py"), "--port", str(self.port)]
        command += ["--database", str(self._directory / "tenants.db"), "--seed", str(TENANTS)]
        with (self._directory / "directory.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--model", "llama3-8b"], stdout=log, stderr=log)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{self.port}/").status_code == 404, "tenant directory")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[tuple[Site, Directory]]:
    path = tmp_path_factory.mktemp("tenants")
    directory = Directory(path)
    directory.start()
    changes = {"global": {"model_catalog": {"modules": {"classifier": {"mcp": {"url": directory.url}}}}}}
    try:
        site = Site(path, CONFIG / "tenants.yaml", changes, grpc=triton_port, any_adapter=True)
        for running_site in running(site):
            wait_for(lambda: "x-vsr-degraded" not in site.ask("hello").headers, "the directory is asked")
            yield running_site, directory
    finally:
        directory.kill()


def test_every_tenant_gets_its_adapter(tenants: tuple[Site, Directory]) -> None:
    site, _ = tenants
    for number in range(1, TENANTS + 1, 37):
        tenant = f"tenant-{number:04}"
        answer = site.ask("Hello there", headers={"x-tenant-id": tenant})
        assert answer.json()["model"] == answer.headers["x-vsr-selected-model"] == tenant
        assert answer.json()["demo"]["headers"]["x-gateway-base-model-name"] == "llama3-8b"
    assert site.metric("router_requests_total", model="(undeclared)") > 20, "labels of tenants are without number"
    assert site.metric("router_requests_total", model="tenant-0001") == 0


def test_nobodys_tenant_is_answered_by_the_router(tenants: tuple[Site, Directory]) -> None:
    site, _ = tenants
    answer = site.ask("Hello there", headers={"x-tenant-id": "stranger"})
    assert answer.headers["x-vsr-response-path"] == "fast_response"
    assert answer.json()["choices"][0]["message"]["content"].startswith("This workspace is not set up")
    chunks = list(
        site.openai.chat.completions.create(
            model="MoM", messages=[{"role": "user", "content": "hi"}], stream=True,
            stream_options={"include_usage": True}, extra_headers={"x-tenant-id": "stranger"},
        )
    )  # fmt: skip
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("This workspace is not set up")
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 0


def test_tenants_adapters_cannot_be_named_by_clients(tenants: tuple[Site, Directory]) -> None:
    site, _ = tenants
    assert site.ask("hi", model="tenant-0001").status_code == 404
    assert {model.id for model in site.openai.models.list()} == {"MoM", "auto", "llama3-8b"}


def test_without_the_directory_requests_go_on_and_come_back(tenants: tuple[Site, Directory]) -> None:
    site, directory = tenants
    directory.kill()
    answer = site.ask("Hello there", headers={"x-tenant-id": "tenant-0005"})
    assert (answer.status_code, answer.json()["model"]) == (200, "llama3-8b")
    assert answer.headers["x-vsr-degraded"] == "mcp"
    assert site.metric("router_degraded_requests_total", part="mcp") >= 1
    directory.start()
    wait_for(lambda: site.ask("Hello", headers={"x-tenant-id": "tenant-0005"}).json()["model"] == "tenant-0005", "back")


@pytest.fixture(scope="module")
def assistants(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    yield from sample("assistants", tmp_path_factory.mktemp("assistants"), triton_port)


NOTE = "<system-reminder>\nA TypeScript server. Run the linter; work step by step.\n</system-reminder>"
CHAT = "\n<chat_history>\nUSER: Prove step by step that 7 is prime.\nASSISTANT: It has two divisors.\n</chat_history>"
TASKS = [
    "### Task:\nGenerate a concise, 3-5 word title for the chat.",
    "### Task:\nGenerate 1-3 broad tags for the chat history.",
    "### Task:\nSuggest 3-5 follow-up questions that the user might ask next.",
]


def messages(site: Site, *blocks: str, system: str | None = None) -> httpx.Response:
    content = [{"type": "text", "text": block} for block in blocks]
    body: dict[str, Any] = {"model": "MoM", "max_tokens": 20, "messages": [{"role": "user", "content": content}]}
    return site.client.post("/v1/messages", json=body if system is None else {**body, "system": system})


@pytest.mark.parametrize("task", TASKS)
def test_background_tasks_go_to_the_small_model_without_thinking_and_persona(assistants: Site, task: str) -> None:
    answer = assistants.ask(task + CHAT)
    assert answer.headers["x-vsr-selected-decision"] == "background"
    received = answer.json()["demo"]["received"]
    assert answer.json()["model"] == "small" and received["system"] == []
    assert received["fields"]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("prompt", "decision"),
    [
        ("Why did the Roman Republic fall?", "everything_else"),
        ("What is the derivative of x^3?", "careful_work"),
        ("What are the side effects of ibuprofen?", "health"),
    ],
)
def test_a_reminder_in_front_of_a_question_does_not_decide(assistants: Site, prompt: str, decision: str) -> None:
    assert assistants.ask(prompt).headers["x-vsr-selected-decision"] == decision
    assert messages(assistants, NOTE, prompt).headers["x-vsr-selected-decision"] == decision


def test_a_persona_joins_an_agent_s_own_instructions(assistants: Site) -> None:
    own = "You are a coding agent.\n" + "Use the tools.\n" * 30
    received = messages(assistants, "Write a Python function that merges two sorted lists", system=own).json()["demo"]
    text = json.dumps(received["received"]["system"])
    assert "Prefer short, working code" in text and "You are a coding agent." in text
