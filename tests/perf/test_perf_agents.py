"""Coding agents against the stack: what is kept of their requests, how they are started, what is counted."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from perf import agents
from perf.relay import Exchange, relay_to
from triton_router.names import DECISION, MESSAGES_PATH, RESPONSES_PATH

QUESTION = "Why did the Roman Republic fall?"


class _Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(201)
        self.send_header(DECISION, "history_decision")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (self.path.encode(), self.headers["x-demo-script"].encode(), body):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_relay_passes_both_ways_and_keeps_the_decision(gateway: int) -> None:
    with relay_to(gateway) as relay:
        answer = httpx.post(f"{relay.url}/v1/messages?beta=true", json={"a": "é"}, headers={"x-demo-script": "s"})
    assert (answer.status_code, answer.headers[DECISION]) == (201, "history_decision")
    assert answer.text == '/v1/messages?beta=trues{"a":"é"}'
    assert relay.exchanges == [Exchange("/v1/messages", {"a": "é"}, 201, "history_decision")]


@pytest.mark.parametrize(
    ("tools", "text", "own"), [(["t"], QUESTION, True), ([], QUESTION, False), (["t"], "x", False)]
)
def test_a_programs_own_request_offers_tools_and_has_the_question(tools: list[str], text: str, own: bool) -> None:
    for path, name in ((MESSAGES_PATH, "messages"), (RESPONSES_PATH, "input")):
        body = {"tools": tools, name: [{"role": "user", "content": text}]}
        assert agents.is_own(Exchange(path, body, 200, None), QUESTION) is own


@pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)
def test_a_program_works_next_to_the_note_with_nothing_of_the_callers(
    agent: agents.Agent, gateway: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / ".bin" / agent.words[0]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nenv > {tmp_path}/env\ncat AGENTS.md > {tmp_path}/note\nprintf "%s" "$*"\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr(agents, "MODULES", tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with relay_to(gateway) as relay, httpx.Client() as client:
        row = agents.Trial(relay, client, "http://127.0.0.1:9", 5, tmp_path).row(agent, "What is cognitive dissonance?")
    assert (row["exit"], row["plain"], row["decisions"], row["equal"]) == (3, "history_decision", [], False)
    environment = (tmp_path / "env").read_text()
    assert "secret" not in environment and f"HTTPS_PROXY={agents.NOWHERE}" in environment
    assert (tmp_path / "note").read_text() == agents.NOTE
    assert (tmp_path / f"{agent.name}.log").read_text().endswith("What is cognitive dissonance?")


def row(agent: str, *decisions: str, background: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    own = [{"decision": decision, "words": QUESTION} for decision in decisions]
    return {"agent": agent, "question": QUESTION, "plain": "history", "decisions": list(decisions), "own": own,
            "first": decisions[:1] == ("history",), "equal": decisions == ("history",) * 3, "exact": len(own),
            "background": list(background), "elsewhere": {"/v1/models": 1}}  # fmt: skip


def test_the_table_counts_questions_loops_and_background_requests() -> None:
    title = {"task": "title", "decision": "other", "words": QUESTION}
    rows = [row("Codex", "history", "history", "history"), row("Codex", "history", "law", "law", background=(title,))]
    text = agents.table({"machine": "2 cores", "command": "x", "turns": 3, "versions": {"Codex": "1.2"}, "rows": rows})
    assert f"\n| Codex | {QUESTION} | history | 3 history | yes |\n" in text
    assert f"\n| Codex | {QUESTION} | history | 1 history → 2 law | no |\n" in text
    assert "Codex 1.2: 2 questions, 2 decided as the plain one, 1 in all 3 requests of the loop; " in text
    assert text.endswith(
        "\n- 1 background requests: task title, other; words: the question\n- 2 requests to `/v1/models`"
    )


def test_a_program_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agents, "MODULES", tmp_path)
    parser = ArgumentParser()
    agents.add_arguments(parser)
    assert agents.run(parser.parse_args([])) == 2
    assert "@openai/codex must be installed: make .cache/agents" in capsys.readouterr().err
