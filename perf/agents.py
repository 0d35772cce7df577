"""Coding agents' own programs through the whole stack: are their questions decided as the plain ones, also in a loop?

Each program works in a folder with a project note. The demo backend calls a tool of the program's until the loop is
over, so nobody's model is needed. A relay in front of Envoy records what the program sends and the router decides.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import yaml

from perf.relay import PATIENCE, Exchange, Relay, relay_to
from perf.results import write_results
from perf.testbed import FIRST_PORT, ROOT, Testbed, command, machine
from triton_router.names import DECISION, MESSAGES_PATH, RESPONSES_PATH
from triton_router.processes import Process

MODULES = ROOT / ".cache" / "agents" / "node_modules"
# The share of questions whose requests are all to be decided as the plain question.
TARGET = 0.95
# Seconds that a program may take to end.
GRACE = 5.0
DEMO_PORT = FIRST_PORT + 3
# Nothing listens there: whatever a program wants of the internet fails at once.
NOWHERE = "http://127.0.0.1:9"

# Two questions of each of ten domains.
QUESTIONS = {
    "What is the integral of x times e to the x?": "math",
    "In how many ways can eight people sit around a round table?": "math",
    "Why does a spinning top not fall over?": "physics",
    "How fast is a stone after a fall of twenty metres?": "physics",
    "Why does salt lower the freezing point of water?": "chemistry",
    "What happens when hydrochloric acid meets baking soda?": "chemistry",
    "How do plants turn sunlight into sugar?": "biology",
    "What do ribosomes do in a cell?": "biology",
    "What are the early signs of iron deficiency?": "health",
    "How much sleep does a teenager need?": "health",
    "May a landlord keep the deposit because of normal wear and tear?": "law",
    "What is the difference between libel and slander?": "law",
    "Why did the Roman Republic fall?": "history",
    "What led to the partition of India in 1947?": "history",
    "How does a central bank fight inflation?": "economics",
    "Why do rent controls reduce the supply of flats?": "economics",
    "What does Kant mean by the categorical imperative?": "philosophy",
    "Is free will compatible with determinism?": "philosophy",
    "Why do people give in to peer pressure?": "psychology",
    "What is cognitive dissonance?": "psychology",
}

# All of this would decide, if the router took it for the person's words.
NOTE = """# Notes for the shop server

This is a web service in TypeScript. It takes orders over REST, stores them in PostgreSQL and sends a receipt by mail.

- `src/api` has one file for each route, `src/store` the queries, `src/jobs` what runs at night.
- Run `npm test` and the linter before each commit. A new function needs a unit test, a new route an integration test.
- Think step by step: write the failing test first, then the smallest change that makes it pass, then tidy up.
- Types are strict. Do not use `any`, do not silence the compiler, and validate every body with its schema.
- Migrations are in `db/migrations`, numbered. Never edit one that was released; add another.
- Errors reach the client as problem details. Log them with the request's id, and never log a password or a token.
- Explain in the pull request why the change is needed, and show your work: list the commands that you ran.
"""
ORDERS = """TODO for the TypeScript API, step by step:
1. the unit tests of the parser fail on Node 22
2. the compiler warns about an unused import in src/api/orders.ts
3. walk me through the SQL of the nightly job
"""


@dataclass(frozen=True)
class Agent:
    """A program: its npm package, the API that it speaks, the tool that it is told to call, and how it is started.

    ``prepare`` gets its home, the address of the stack and the backend's script; it returns the environment.
    """

    name: str
    package: str
    path: str
    tool: str
    arguments: dict[str, str]
    words: Sequence[str]
    prepare: Callable[[Path, str, str], dict[str, str]]

    @property
    def version(self) -> str:
        return str(json.loads((MODULES / self.package / "package.json").read_text())["version"])


def _claude_code(home: Path, url: str, script: str) -> dict[str, str]:
    switches = ("DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_BUG_COMMAND")
    models = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_SMALL_FAST_MODEL")
    return {
        **dict.fromkeys(switches, "1"),
        **dict.fromkeys(models, "MoM"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_CUSTOM_HEADERS": f"x-demo-script: {script}",
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
    }


def _codex(home: Path, url: str, script: str) -> dict[str, str]:
    directory = home / ".codex"
    directory.mkdir(exist_ok=True)
    (directory / "config.toml").write_text(f"""
model = "MoM"
model_provider = "stack"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.stack]
name = "stack"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "STACK_KEY"
http_headers = {{ "x-demo-script" = '{script}' }}
""")
    return {"CODEX_HOME": str(directory), "STACK_KEY": "none"}


AGENTS = (
    Agent(
        "Claude Code",
        "@anthropic-ai/claude-code",
        MESSAGES_PATH,
        "Bash",
        {"command": "cat orders.txt"},
        ("claude", "--allowedTools=Bash", "-p"),
        _claude_code,
    ),
    Agent(
        "Codex",
        "@openai/codex",
        RESPONSES_PATH,
        "exec_command",
        {"cmd": "cat orders.txt"},
        ("codex", "exec", "--skip-git-repo-check"),
        _codex,
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "aibrix.yaml")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS), help="for each program, at most so many")
    parser.add_argument("--turns", type=int, default=5, help="requests of a loop: the last one is answered in text")


def run(arguments: argparse.Namespace) -> int:
    if missing := [agent.package for agent in AGENTS if not (MODULES / agent.package).exists()]:
        print(f"{', '.join(missing)} must be installed: make .cache/agents", file=sys.stderr)
        return 2
    document = measure(arguments.config, arguments.questions, arguments.turns)
    write_results(arguments.out, "agents", document)
    print(table(document))
    rows = document["rows"]
    shares = [[row["equal"] for row in rows if row["agent"] == agent.name] for agent in AGENTS]
    return 0 if all(sum(equal) >= TARGET * len(equal) for equal in shares) else 1


def measure(config: Path, questions: int, turns: int) -> dict[str, Any]:
    """Each question sent plainly and by each program; ``rows`` has what was decided."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        testbed = Testbed(Path(directory), stack)
        testbed.start("demo", [sys.executable, "-m", "triton_router.stack.demo_backend", "--port", str(DEMO_PORT)])
        document = yaml.safe_load(config.read_text())
        backends = {model["name"]: [DEMO_PORT] for model in document["providers"]["models"]}
        gateway = testbed.gateway("agents", document, backends=backends)
        testbed.wait_until_routed({gateway: "MoM"})
        relay = stack.enter_context(relay_to(gateway))
        client = stack.enter_context(httpx.Client(timeout=PATIENCE))
        trial = Trial(relay, client, f"http://127.0.0.1:{testbed.rest_port(gateway)}", turns, Path(directory))
        rows = []
        for agent in AGENTS:
            for question in list(QUESTIONS)[:questions]:
                rows.append(trial.row(agent, question))
                print(line(rows[-1]), file=sys.stderr, flush=True)
    versions = {agent.name: agent.version for agent in AGENTS}
    return {"machine": machine(), "command": command(), "turns": turns, "versions": versions, "rows": rows}


@dataclass(frozen=True)
class Trial:
    """Programs on one stack: ``rest`` is the address of the router's REST service, ``directory`` takes their logs."""

    relay: Relay
    client: httpx.Client
    rest: str
    turns: int
    directory: Path

    def row(self, agent: Agent, question: str) -> dict[str, Any]:
        """What the stack decides for ``question``, and for each request of ``agent`` that works on it."""
        body: dict[str, Any] = {"model": "MoM", "messages": [{"role": "user", "content": question}], "max_tokens": 100}
        if agent.path == RESPONSES_PATH:
            body = {"model": "MoM", "input": question}
        response = self.client.post(self.relay.url + agent.path, json=body).raise_for_status()
        plain = response.headers.get(DECISION)
        self.relay.exchanges.clear()
        status = self._work(agent, question)
        exchanges = list(self.relay.exchanges)
        own = [self._read(each) for each in exchanges if is_own(each, question)]
        background = [self._read(each) for each in exchanges if each.path == agent.path and not is_own(each, question)]
        decisions = [each["decision"] for each in own]
        return {
            "agent": agent.name, "domain": QUESTIONS[question], "question": question, "exit": status, "plain": plain,
            "decisions": decisions, "first": decisions[:1] == [plain], "equal": decisions == [plain] * self.turns,
            "exact": sum(each["words"] == question for each in own), "own": own, "background": background,
            "elsewhere": dict(Counter(each.path for each in exchanges if each.path != agent.path)),
        }  # fmt: skip

    def _read(self, exchange: Exchange) -> dict[str, Any]:
        """What was decided for a request, and which words and task the router reads in it."""
        body = {"request": exchange.body, "path": exchange.path}
        explained = self.client.post(f"{self.rest}/api/v1/explain", json=body).raise_for_status().json()
        read = {name: explained["judged"][name] for name in ("task", "words")}
        return {"decision": exchange.decision, "status": exchange.status, **read}

    def _work(self, agent: Agent, question: str) -> int | None:
        """Have a program answer a question in a new folder; returns its exit status, ``None`` where it was given up."""
        with tempfile.TemporaryDirectory(dir=self.directory) as place:
            home, folder = Path(place, "home"), Path(place, "shop")
            home.mkdir()
            folder.mkdir()
            for name in ("CLAUDE.md", "AGENTS.md"):
                (folder / name).write_text(NOTE)
            (folder / "orders.txt").write_text(ORDERS)
            arguments = json.dumps(agent.arguments)
            script = f"tools=1;tool={agent.tool};results={self.turns - 1};arguments={arguments}"
            shared = {"PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"}
            environment = shared | agent.prepare(home, self.relay.url, script)
            program, *words = agent.words
            log = self.directory / f"{agent.name}.log"
            full = [str(MODULES / ".bin" / program), *words, question]
            process = Process(full, log, environment=environment, directory=folder)
            try:
                ends = time.monotonic() + PATIENCE
                while process.code is None and time.monotonic() < ends:
                    time.sleep(0.1)
                return process.code
            finally:
                process.end(GRACE)


def is_own(exchange: Exchange, question: str) -> bool:
    """Whether a program asks for ``question`` itself: it offers tools. It makes titles and the like without."""
    conversation = exchange.body.get("messages", exchange.body.get("input"))
    return bool(exchange.body.get("tools")) and question in json.dumps(conversation, ensure_ascii=False)


def line(row: dict[str, Any]) -> str:
    """A row of the table; decisions that follow each other are counted."""
    loop = " → ".join(f"{len(list(each))} {decision}" for decision, each in groupby(row["decisions"])) or "none"
    equal = "yes" if row["equal"] else "no"
    return f"| {row['agent']} | {row['question']} | {row['plain']} | {loop} | {equal} |"


def table(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = document["rows"]
    lines = [
        f"{document['machine']}; `{document['command']}`", "",
        "| program | question | plain | in the loop | equal |", "| --- | --- | --- | --- | --- |", *map(line, rows), "",
    ]  # fmt: skip
    for agent, version in document["versions"].items():
        of_agent = [row for row in rows if row["agent"] == agent]
        first, equal = sum(row["first"] for row in of_agent), sum(row["equal"] for row in of_agent)
        requests, exact = sum(len(row["own"]) for row in of_agent), sum(row["exact"] for row in of_agent)
        lines.append(
            f"{agent} {version}: {len(of_agent)} questions, {first} decided as the plain one, {equal} in all "
            f"{document['turns']} requests of the loop; {exact} of {requests} requests have only the question as words."
        )
        kinds = Counter(
            (each["task"] or "none", each["decision"] or "no decision", each["words"] == row["question"])
            for row in of_agent for each in row["background"]
        )  # fmt: skip
        for (task, decision, quoted), count in kinds.most_common():
            words = "the question" if quoted else "others"
            lines.append(f"- {count} background requests: task {task}, {decision}; words: {words}")
        elsewhere = sum((Counter(row["elsewhere"]) for row in of_agent), Counter[str]())
        lines += [f"- {count} requests to `{path}`" for path, count in elsewhere.most_common()]
    return "\n".join(lines)
