"""Which parts of a request decide: through the pipeline, without encoders and network."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from triton_router import cli
from triton_router.api.app import create_app
from triton_router.cli import main
from triton_router.config import ConfigError, loads
from triton_router.dialects import ChatRequest
from triton_router.exchange import Forward, Request
from triton_router.parts import PartReader
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals import SignalInput
from triton_router.signals.contract import READ_ON_LOOP
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

ROOT = Path(__file__).parents[2]
CONFIG = """
providers:
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    keywords:
      - {name: careful, keywords: [step by step]}
      - {name: secret, keywords: [launch code], parts: [all]}
      - {name: failed, keywords: [traceback], parts: [tool]}
    structure:
      - {name: code, feature: {type: count, source: {type: regex, pattern: '```'}}}
    tasks: [{name: background}]
  decisions:
    - {name: guarded, priority: 4, rules: {type: keyword, name: secret}}
    - {name: mended, priority: 3, rules: {type: keyword, name: failed}}
    - {name: aside, priority: 2, rules: {type: task, name: background}}
    - {name: thought, priority: 1, rules: {type: keyword, name: careful}, modelRefs: [{model: large}]}
    - {name: coded, rules: {type: structure, name: code}}
global: {router: {parts: PARTS}}
"""
NOTE = "<system-reminder>\nWork step by step, and run the linter.\n</system-reminder>\n"


def pipeline(parts: str = "{}") -> Pipeline:
    return Pipeline(compile_runtime(loads(CONFIG.replace("PARTS", parts))), None, TopicParameters(), Metrics())


def decided(*turns: str | dict[str, Any], parts: str = "{}", path: str = "/v1/chat/completions") -> str | None:
    """The name of the decision on a conversation; texts are the user's and the assistant's by turns."""
    roles = ("user", "assistant")
    messages = [
        {"role": roles[number % 2], "content": turn} if isinstance(turn, str) else turn
        for number, turn in enumerate(turns)
    ]
    body = json.dumps({"model": "MoM", "max_tokens": 9, "messages": messages}).encode()
    outcome = asyncio.run(pipeline(parts).route(Request("POST", path, {}, body)))
    assert isinstance(outcome, Forward)
    return outcome.response_headers.get("x-vsr-selected-decision")


def test_a_program_s_words_do_not_decide_and_the_person_s_do() -> None:
    assert decided(f"{NOTE}Why did the Roman Republic fall?") is None
    assert decided(f"{NOTE}Explain step by step why the Roman Republic fell.") == "thought"


def test_a_reminder_behind_a_tool_s_result_changes_nothing() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "Read", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": f"ok\n{NOTE}"}]}
    question = "Rename the class, step by step."
    assert decided(question, call, result, path="/v1/messages") == "thought"
    assert decided("Rename the class.", call, result, path="/v1/messages") is None


@pytest.mark.parametrize("wrapped", ["{}", "<system-reminder>{}</system-reminder>\nHi!", "Hi!\n```\n{}\n```"])
def test_a_rule_that_reads_all_is_not_evaded_by_a_tag(wrapped: str) -> None:
    assert decided(wrapped.format("Print the launch code")) == "guarded"


def test_a_signal_can_read_the_results_of_tools() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "Traceback (most recent call last)"}
    assert decided("Run it.", call, result) == "mended"
    assert decided("What is a traceback?") is None


def test_the_material_counts_for_the_text_s_looks() -> None:
    assert decided("What is wrong here?\n```\nx = 1\n```") == "coded"


def test_a_follow_up_goes_on_unless_each_turn_stands_alone() -> None:
    turns = ("Explain heapsort step by step", "First, a heap is built.", "and then?")
    assert decided(*turns) == "thought"
    assert decided(*turns, parts="{conversation: last_turn}") is None


def test_an_operator_s_shapes_count() -> None:
    text = "<bulletin>\nOn Sundays the desk thinks step by step about late orders.\n</bulletin>\n\nIs my order late?"
    assert decided(text) is None
    assert decided(text, parts="{shapes: [{client: desk, reading: words, tag: bulletin}]}") == "thought"


def test_wrong_shapes_are_named_with_their_lines() -> None:
    wrong = "{conversation: folow, shapes: [{client: a, reading: word, tag: x}, {client: b, reading: words}]}"
    with pytest.raises(ConfigError) as caught:
        loads(CONFIG.replace("PARTS", wrong))
    line = CONFIG.splitlines().index("global: {router: {parts: PARTS}}") + 1
    problems = [problem for problem in caught.value.problems if problem.severity == "error"]
    assert {problem.line for problem in problems} == {line}
    assert {problem.path for problem in problems} == {
        "global.router.parts.conversation",
        "global.router.parts.shapes[0].reading",
        "global.router.parts.shapes[1]",
    }


def test_a_title_goes_aside() -> None:
    chat = (
        "### Task:\nGenerate a concise title for the chat.\n<chat_history>\nUSER: {}\nASSISTANT: Sure.\n</chat_history>"
    )
    assert decided(chat.format("Integrate x step by step")) == "aside"
    assert decided("Suggest a title for my essay on whales") is None


async def test_a_long_conversation_is_read_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []
    to_thread = asyncio.to_thread

    async def noted(function: Any, *arguments: Any) -> Any:
        threads.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    for text, count in (("short", 0), ("long " * READ_ON_LOOP, 1)):
        await SignalInput(ChatRequest.saying(text)).read_parts()
        assert len(threads) == count


def test_explain_shows_the_parts_and_what_fired() -> None:
    request = {
        "model": "MoM",
        "max_tokens": 5,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": NOTE}, {"type": "text", "text": "Go step by step"}]}
        ],
    }
    ours = pipeline()
    with TestClient(create_app(lambda: ours)) as rest:
        explained = rest.post("/api/v1/explain", json={"request": request, "path": "/v1/messages"}).json()
        assert rest.post("/api/v1/explain", json={"request": request, "path": "/v1/odd"}).status_code == 400
        assert rest.post("/api/v1/explain", json={"text": "a", "request": request}).status_code == 400
        plain = rest.post("/api/v1/explain", json={"text": "step by step"}).json()
    assert [(part["kind"], part["turn"]) for part in explained["parts"]] == [
        ("system", 0),
        ("context", 1),
        ("words", 1),
    ]
    assert explained["judged"] == {"words": "Go step by step", "topic": "Go step by step", "task": None}
    fired = {signal["name"]: signal["fired_by"] for signal in explained["signals"] if signal["matched"]}
    assert fired == {"careful": [2]}
    assert plain["outcome"]["decision"] == "thought"


def test_explain_reads_a_whole_request_at_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "EXPLAIN_WITHIN", 0.0)
    (tmp_path / "router.yaml").write_text(CONFIG.replace("PARTS", "{}"))
    (tmp_path / "request.json").write_text(
        json.dumps({"messages": [{"role": "user", "content": f"{NOTE}Why?"}, {"role": "user", "content": "Now"}]})
    )
    command = ["explain", "--config", str(tmp_path / "router.yaml"), "--request", str(tmp_path / "request.json")]
    command += ["--repository", str(ROOT / "model_repository")]
    assert main(command) == 0
    explained = json.loads(capsys.readouterr().out)
    assert [part["kind"] for part in explained["parts"]] == ["context", "words", "words"]
    (tmp_path / "request.json").write_text("{")
    assert main([*command, "--text"]) == 1
    assert main([*command[:4], str(tmp_path / "none.json")]) == 1


def test_reask_reads_the_person_s_words_of_earlier_turns() -> None:
    turns = [("user", f"{NOTE}What is heapsort?"), ("assistant", "A sort."), ("user", "yes")]
    request = ChatRequest.parse(json.dumps({"messages": [{"role": r, "content": t} for r, t in turns]}).encode())
    query = SignalInput(request)
    assert (query.earlier(4), query.read(("own",)), query.text()) == (["What is heapsort?"], "yes", "What is heapsort?")


@pytest.mark.parametrize("names", [("words",), ("all",), ("tool",), ("own", "material"), ("context",)])
def test_places_are_those_of_what_is_read(names: tuple[str, ...]) -> None:
    body = {"messages": [{"role": "user", "content": f"{NOTE}Why?\n```\nx\n```"}, {"role": "tool", "content": "17"}]}
    parts = PartReader().read(ChatRequest.parse(json.dumps(body).encode()))
    every = list(parts.all())
    text = parts.read(names)
    assert [place for place in parts.places(every, names)] == [
        place for place, part in enumerate(every) if part.text.strip() and part.text.strip() in text
    ]
