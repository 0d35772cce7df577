"""Two configurations on the same requests: what moves, what it costs, and what a pasted one must not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from counting_triton import CountingTriton, counting
from hypothesis import given
from hypothesis import strategies as st
from page_state import service_state

from triton_router.api.app import create_app
from triton_router.cli import main
from triton_router.compare import Sample, as_text, compare_with, read_samples
from triton_router.config import Loaded, loads
from triton_router.dialects import ChatRequest
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.jsontext import json_bytes
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"
BEFORE = """
providers:
  defaults: {default_model: plain}
  models:
    - {name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}], pricing: {prompt_per_1m: 1, completion_per_1m: 2}}
    - {name: careful, backend_refs: [{endpoint: "127.0.0.1:2"}], pricing: {prompt_per_1m: 10, completion_per_1m: 20}}
routing:
  signals:
    keywords:
      - {name: proof, operator: OR, keywords: [step by step]}
      - {name: hello, operator: OR, keywords: [hello]}
  decisions:
    - name: prove
      rules: {operator: OR, conditions: [{type: keyword, name: proof}]}
      modelRefs: [{model: careful}]
global:
  inference: {endpoint: "127.0.0.1:9"}
"""
AFTER = BEFORE.replace("{type: keyword, name: proof}]", "{type: keyword, name: hello}]")
WITH_DOMAINS = BEFORE.replace(
    "  decisions:",
    "    domains: [{name: biology}, {name: other}]\n  decisions:\n    - name: cells\n"
    "      rules: {operator: OR, conditions: [{type: domain, name: biology}]}\n      modelRefs: [{model: plain}]",
)  # fmt: skip


async def compared(before: str, after: str, *lines: str, **options: Any) -> dict[str, Any]:
    samples = list(read_samples(lines))
    return (await compare_with(loads(before), loads(after), samples, BUNDLE, **options)).report()


async def test_what_moves_and_what_stays() -> None:
    report = await compared(BEFORE, AFTER, "step by step", "hello", "hello, step by step", "anything")
    assert (report["requests"], report["moved"], report["degraded"]) == (4, 2, {})
    moves = {(flow["before"]["decision"], flow["after"]["decision"]): flow["requests"] for flow in report["flows"]}
    assert moves == {
        ("prove", "(no decision)"): 1,
        ("(no decision)", "prove"): 1,
        ("prove", "prove"): 1,
        ("(no decision)", "(no decision)"): 1,
    }
    assert {example["prompt"] for example in report["examples"]} == {"step by step", "hello"}
    assert "2 of 4 requests move" in as_text(report)


async def test_costs_are_those_of_counted_tokens_or_estimates() -> None:
    line = json.dumps({"prompt": "step by step", "usage": {"prompt": 1_000_000, "completion": 500_000}})
    report = await compared(BEFORE, AFTER, line)
    assert report["cost"] == [{"currency": "USD", "before": 20.0, "after": 2.0}]
    (estimate,) = (await compared(BEFORE, AFTER, "step by step", answer_tokens=1_000_000))["cost"]
    assert estimate["before"] == pytest.approx(20.0, abs=0.01)
    assert estimate["after"] == pytest.approx(2.0, abs=0.01)


async def test_models_without_a_price_are_counted_apart() -> None:
    unpriced = AFTER.replace(", pricing: {prompt_per_1m: 1, completion_per_1m: 2}", "")
    report = await compared(BEFORE, unpriced, "step by step", "step by step")
    assert report["unpriced"] == {"before": 0, "after": 2}


async def test_equal_candidates_move_nothing() -> None:
    several = BEFORE.replace("modelRefs: [{model: careful}]", "modelRefs: [{model: careful}, {model: plain}]")
    report = await compared(several, several + "# another file", *["step by step"] * 40)
    assert report["moved"] == 0


async def test_requests_that_name_a_model_pass_and_unknown_ones_are_refused() -> None:
    def line(model: str) -> str:
        return json.dumps({"request": {"model": model, "messages": []}})

    report = await compared(BEFORE, AFTER, line("plain"), line("nobody"), '{"request": {"model": 3}}')
    kinds = {flow["before"]["decision"]: flow["before"]["model"] for flow in report["flows"]}
    assert kinds["(passed through)"] == "plain"
    assert "(refused)" in kinds
    assert report["moved"] == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"a": 1}', "line 2: Value error, an object needs `request` or `prompt`"),
        ("{", "line 2:"),
        ('{"request": {}, "path": "/v1/models"}', "line 2: Value error, `path` must be one of"),
        ('{"prompt": "a", "usage": {"prompt": 3}}', "line 2: usage.completion: Field required"),
        ('{"prompt": "a", "headers": 3}', "line 2:"),
        ('{"sent": 3}', "line 2: sent:"),
    ],
)
def test_a_line_that_is_no_request_is_named(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="line 2") as error:
        list(read_samples(["fine", line, "fine"]))
    assert str(error.value).startswith(complaint)


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_whatever_was_recorded_is_read_again(prompt: str, headers: dict[str, str]) -> None:
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": prompt}]})
    line = json.dumps({"id": "1", "sent": {"path": "/v1/chat/completions", "headers": headers, "request": body}})
    (sample,) = read_samples([line])
    lowered = {name.lower(): value for name, value in headers.items()}
    assert (sample.body, sample.path) == (body.encode(), "/v1/chat/completions")
    assert sample.headers == lowered


@pytest.fixture
async def triton() -> AsyncIterator[tuple[CountingTriton, str]]:
    bundle, _ = load_bundle(BUNDLE)
    async with counting(bundle) as stub:
        yield stub


async def test_each_prompt_is_encoded_once(triton: tuple[CountingTriton, str]) -> None:
    stub, address = triton
    # What is not answered in time is asked again.
    before = WITH_DOMAINS.replace('"127.0.0.1:9"', f'"{address}", deadline_ms: 60000')
    after = before.replace("name: other}", "name: law}")
    prompts = [f"question number {number}" for number in range(30)]
    report = await compared(before, after, *prompts, *prompts)
    assert report["degraded"] == {}
    # The probe of a start is a text too, as are those that domains without a label are compared with.
    repeats = [count for count in stub.texts.values() if count != 1]
    assert len(stub.texts) >= 30 and repeats == []


async def test_a_script_that_the_encoder_cannot_read_is_no_fault(triton: tuple[CountingTriton, str]) -> None:
    before = WITH_DOMAINS.replace("127.0.0.1:9", triton[1])
    report = await compared(before, before + "# another", "细胞是什么?")
    assert (report["degraded"], report["requests"]) == ({}, 1)


async def test_without_triton_the_comparison_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_router.compare.SETTLE_WITHIN", 0.2)
    report = await compared(WITH_DOMAINS, WITH_DOMAINS + "# another", "What is a cell?")
    assert report["degraded"] == {"triton": 1}


# --- the command ---------------------------------------------------------------------------------------------------


def files(directory: Path, before: str, after: str, prompts: str) -> list[str]:
    for name, text in (("before.yaml", before), ("after.yaml", after), ("prompts.txt", prompts)):
        (directory / name).write_text(text)
    return [str(directory / "before.yaml"), str(directory / "after.yaml"), "--prompts", str(directory / "prompts.txt")]


@pytest.mark.parametrize(
    ("after", "prompts", "more", "status"),
    [
        (AFTER, "anything\n", [], 0),
        (AFTER, "anything\nhello\n", [], 1),
        (AFTER, "anything\nhello\n", ["--allow", "0.5"], 0),
        (AFTER, "anything\nhello\nstep by step\n", ["--allow", "0.5"], 1),
        ("nonsense: true", "anything\n", [], 2),
        (AFTER, "{\n", [], 2),
        (AFTER, "", [], 2),
    ],
)
def test_its_status_is_for_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: str, prompts: str, more: list[str], status: int
) -> None:
    assert main(["compare", *files(tmp_path, BEFORE, after, prompts), *more]) == status
    output = capsys.readouterr()
    assert output.out or output.err


def test_its_requests_may_be_probes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = files(tmp_path, BEFORE, AFTER, "")
    probes = tmp_path / "probes.yaml"
    probes.write_text("decisions: [{id: a, expected_decision: prove, variants: [{id: b, query: hello}]}]")
    assert main(["compare", *arguments[:2], "--prompts", str(probes)]) == 1
    assert "1 of 1 requests move" in capsys.readouterr().out
    probes.write_text("decisions: 3")
    assert main(["compare", *arguments[:2], "--prompts", str(probes)]) == 2


def test_its_report_can_be_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *files(tmp_path, BEFORE, AFTER, "hello\n"), "--json"])
    assert json.loads(capsys.readouterr().out)["moved"] == 1


# --- a pasted configuration -----------------------------------------------------------------------------------------


def job(
    after: str, samples: str = "hello", *, before: str = BEFORE, allow: Sequence[str] = (), **environment: str
) -> list[dict[str, Any]]:
    """The lines that the process of a comparison writes."""
    text = {"before": before, "file": "router.yaml", "after": after, "allow_inactive": allow, "bundle": str(BUNDLE),
            "answer_tokens": 300}  # fmt: skip
    written = f"{json.dumps(text)}\n{samples}".encode()
    result = subprocess.run([sys.executable, "-m", "triton_router.compare"], input=written,
                          capture_output=True, env={**os.environ, **environment}, check=False, timeout=120)  # fmt: skip
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_process_reports_progress_and_result() -> None:
    *progress, last = job(AFTER)
    assert progress == [{"done": 1, "of": 1}]
    assert last["report"]["moved"] == 1


def test_mistakes_come_by_line() -> None:
    (answer,) = job("providers:\n  modells: []\n")
    assert "pasted:2:" in answer["failed"] and "did you mean `models`" in answer["failed"]


def test_a_file_that_would_take_a_process_along_is_a_mistake_too() -> None:
    (answer,) = job("x: " + "[" * 30_000)
    assert "pasted:1:" in answer["failed"] and "nested deeper" in answer["failed"]


def test_what_may_do_nothing_in_force_may_do_nothing_in_the_other_one_too() -> None:
    guarded = BEFORE.replace("  signals:", "  signals:\n    jailbreak: [{name: guard, direction: response}]")
    assert "--allow-inactive direction" in job(guarded)[-1]["failed"]
    assert job(guarded, before=guarded, allow=["direction"])[-1]["report"]["requests"] == 1


def test_no_variable_of_the_environment_gets_into_it() -> None:
    pasted = AFTER.replace("name: prove", "name: ${ROUTER_TEST_SECRET:-hidden}")
    answers = json.dumps(job(pasted, ROUTER_TEST_SECRET="s3cret"))
    assert "s3cret" not in answers and "hidden" in answers


def test_no_program_of_it_is_started(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    mcp = f"""
  model_catalog:
    modules:
      classifier:
        mcp: {{transport_type: stdio, command: /usr/bin/touch, args: ["{mark}"]}}
  stores: {{semantic_cache: {{enabled: true, backend_type: redis, redis: {{host: 127.0.0.1, port: 9}}}}}}
"""
    last = job(AFTER + mcp)[-1]
    assert not mark.exists()
    assert "report" in last or "redis" in last["failed"]


# --- over REST -----------------------------------------------------------------------------------------------------


async def rest_of(config: str, records: list[dict[str, Any]]) -> httpx.AsyncClient:
    loaded: Loaded = loads(config)
    metrics = Metrics()
    generations = Generations(loaded, *load_bundle(BUNDLE), metrics)

    async def recorded(most: int) -> list[dict[str, Any]]:
        return records[-most:]

    async def count_recorded() -> int:
        return len(records)

    state = service_state(loaded, generations, metrics, recorded=recorded, count_recorded=count_recorded)
    app = create_app(lambda: generations.current, state=state)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router", timeout=120)


async def test_recorded_requests_are_compared() -> None:
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "hello"}]})
    record = {"id": "1", "path": "routed", "sent": {"path": "/v1/chat/completions", "headers": {}, "request": body}}
    async with await rest_of(BEFORE, [record, {"id": "2", "prompt": "step by step"}]) as rest:
        answer = await rest.post("/api/v1/compare", json={"config": AFTER})
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["report"]["requests"], last["report"]["moved"]) == (2, 2)


@given(st.text(), st.booleans())
def test_what_json_may_hold_unescaped_ends_no_line(prompt: str, whole: bool) -> None:
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": prompt}]}, ensure_ascii=False)
    sent = {"path": "/v1/chat/completions", "headers": {}, "request": body}
    record = {"id": "1", "sent": sent} if whole else {"id": "1", "prompt": prompt}
    (sample,) = read_samples(json_bytes(record).decode().split("\n"))
    assert sample.body == (body.encode() if whole else ChatRequest.saying(prompt).encode())


async def test_nothing_recorded_is_said() -> None:
    async with await rest_of(BEFORE, []) as rest:
        answer = await rest.post("/api/v1/compare", json={"config": AFTER})
        assert answer.status_code == 409
        assert "router_replay" in answer.json()["error"]["message"]
        assert (await rest.get("/api/v1/recorded")).json() == {"keeps": False, "records": 0}


def test_samples_are_what_a_client_would_send() -> None:
    (sample,) = read_samples(["  hi  ", "", " "])
    assert sample == Sample(b'{"messages": [{"role": "user", "content": "hi"}]}')
