"""The MCP client against real servers: the sample directory of tenants, and one that answers badly on demand."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for

from triton_router.config.services import McpSettings
from triton_router.errors import Unavailable
from triton_router.signals.mcp import McpClassification, McpClassifier

TENANTS = REPOSITORY / "config/tenants/server.py"

# Answers what the text says, so that a test decides; counts how often it was asked for its classes.
ODD = """
import asyncio, json, os, sys
from typing import Any
from mcp.server import MCPServer

server = MCPServer("odd", log_level="ERROR")
listed = 0
if "--no-list" not in sys.argv:
    @server.tool()
    async def list_categories() -> list[str]:
        global listed
        listed += 1
        return ["even", "odd"]

@server.tool(structured_output=False)
async def classify_text(text: str, with_probabilities: bool, headers: dict[str, str] | None = None) -> str:
    if text.startswith("sleep "):
        await asyncio.sleep(float(text.removeprefix("sleep ")))
    if text == "raise":
        raise ValueError("no")
    if text == "leave":
        os._exit(1)
    if text in ("count", "seen", "environment") or text.startswith("sleep "):
        said = {"seen": json.dumps(headers), "environment": os.environ.get("SECRET", "")}.get(text, str(listed))
        return json.dumps({"class": said, "confidence": 0.5})
    return text

if "--stdio" in sys.argv:
    server.run("stdio")
else:
    server.run("streamable-http", port=int(sys.argv[1]), json_response="--sse" not in sys.argv)
"""


class Server:
    """A server as a child process, on the same port each time it is started."""

    def __init__(self, directory: Path, script: Path, *arguments: str, port: int) -> None:
        self.url, self._port = f"http://127.0.0.1:{port}/mcp", port
        self._command = [sys.executable, str(script), *arguments]
        self._log = directory / f"server-{port}.log"

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_for(self._answers, "MCP server")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return httpx.get(f"http://127.0.0.1:{self._port}/").status_code == 404

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcp")
    (path / "odd.py").write_text(ODD)
    return path


@pytest.fixture(scope="module")
def tenants(directory: Path) -> Iterator[Server]:
    port = free_port()
    arguments = ["--database", str(directory / "tenants.db"), "--seed", "1000", "--model", "base", "--port", str(port)]
    server = Server(directory, TENANTS, *arguments, port=port)
    server.start()
    with sqlite3.connect(directory / "tenants.db") as table:
        table.execute("UPDATE tenants SET use_reasoning = 1 WHERE tenant = 'tenant-0002'")
        table.execute("UPDATE tenants SET use_reasoning = 0 WHERE tenant = 'tenant-0003'")
        table.execute("UPDATE tenants SET trial_adapter = 'b', trial_share = 0.25 WHERE tenant = 'tenant-0004'")
    table.close()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def odd(directory: Path) -> Iterator[Server]:
    port = free_port()
    server = Server(directory, directory / "odd.py", str(port), port=port)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def running(settings: McpSettings) -> AsyncIterator[McpClassifier]:
    classifier = McpClassifier(settings)
    assert classifier.failure == "starting"
    task = asyncio.create_task(classifier.run())
    try:
        await until(lambda: classifier.failure is None)
        yield classifier
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await task
        assert classifier.failure is not None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def at_once(coroutine: Coroutine[Any, Any, str]) -> str:
    """What it returns without waiting for anything."""
    with pytest.raises(StopIteration) as returned:
        coroutine.send(None)
    return str(returned.value.value)


async def reason(classifier: McpClassifier, text: str = "hello") -> str:
    with pytest.raises(Unavailable) as raised:
        await classifier.classify(text, {})
    return raised.value.reason


def over_http(server: Server, **settings: Any) -> McpSettings:
    return McpSettings(url=server.url, **{"timeout_seconds": 60, **settings})


def over_stdio(script: Path, *arguments: str, **settings: Any) -> McpSettings:
    args = (str(script), *arguments, "--stdio")
    settings_of_it = {
        "transport_type": "stdio",
        "command": sys.executable,
        "args": args,
        "timeout_seconds": 60,
        **settings,
    }
    return McpSettings.model_validate(settings_of_it)


# --- the sample server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["http", "stdio"])
async def classifier(request: pytest.FixtureRequest, tenants: Server, directory: Path) -> AsyncIterator[McpClassifier]:
    forward = ("x-tenant-id", "x-session-id")
    http = over_http(tenants, forward_headers=forward)
    stdio = over_stdio(TENANTS, "--database", str(directory / "tenants.db"), forward_headers=forward)
    async with running(http if request.param == "http" else stdio) as running_one:
        yield running_one


async def test_a_tenant_brings_its_model_and_adapter(classifier: McpClassifier) -> None:
    assert classifier.categories == ("tenant", "unknown_tenant")
    classification = await classifier.classify("hello", {"x-tenant-id": "tenant-0001"})
    assert classification == McpClassification("tenant", 1.0, "base", "tenant-0001", None)
    assert (await classifier.classify("hello", {"x-tenant-id": "tenant-0002"})).use_reasoning is True
    assert (await classifier.classify("hello", {"x-tenant-id": "tenant-0003"})).use_reasoning is False


async def test_an_unknown_tenant_is_a_class_without_hints(classifier: McpClassifier) -> None:
    for headers in ({"x-tenant-id": "nobody"}, {}, {"x-other": "tenant-0001"}):
        assert await classifier.classify("hello", headers) == McpClassification("unknown_tenant", 1.0)


async def test_a_text_that_utf_8_cannot_carry_is_classified(classifier: McpClassifier) -> None:
    assert (await classifier.classify("half \ud83d", {"x-tenant-id": "tenant-0001"})).category == "tenant"


async def test_a_trial_splits_conversations_and_each_keeps_its_arm(classifier: McpClassifier) -> None:
    async def arm(session: int) -> str | None:
        headers = {"x-tenant-id": "tenant-0004", "x-session-id": f"s{session}"}
        return (await classifier.classify("hello", headers)).adapter

    arms = [await arm(session) for session in range(100)]
    assert set(arms) == {"b", "tenant-0004"}
    assert 10 < arms.count("b") < 45
    assert [await arm(session) for session in range(20)] == arms[:20]


async def test_a_thousand_tenants_two_hundred_at_a_time(classifier: McpClassifier) -> None:
    names = [f"tenant-{number:04}" for number in range(1, 1001)]
    for start in range(0, 1000, 200):
        batch = names[start : start + 200]
        classifications = await asyncio.gather(*(classifier.classify("hello", {"x-tenant-id": name}) for name in batch))
        assert [each.adapter if each.adapter != "b" else "tenant-0004" for each in classifications] == batch


# --- the contract of the tools -------------------------------------------------------------------------------------

GOOD = [
    ({"class": "odd", "confidence": 0}, McpClassification("odd", 0.0)),
    ({"class": "odd", "confidence": 1, "probabilities": [1, 0]}, McpClassification("odd", 1.0)),
    ({"class": "odd", "confidence": 0.5, "lora_name": "a"}, McpClassification("odd", 0.5, adapter="a")),
    ({"class": "odd", "confidence": 0.5, "adapter": "a", "lora_name": "b"}, McpClassification("odd", 0.5, adapter="a")),
    (
        {"class": "odd", "confidence": 0.5, "model": 7, "adapter": "", "use_reasoning": "yes"},
        McpClassification("odd", 0.5),
    ),
]
BAD = [
    "plain text", "", "null", "[]", '"odd"', '{"class": "odd"}', '{"confidence": 1}', '{"class": 1, "confidence": 1}',
    '{"class": null, "confidence": 1}', '{"class": "odd", "confidence": "1"}', '{"class": "odd", "confidence": true}',
    '{"class": "odd", "confidence": 1.01}', '{"class": "odd", "confidence": -0.1}',
    '{"class": "odd", "confidence": NaN}', '{"class": "odd", "confidence": Infinity}',
    '{"class": "odd", "confidence": 1' + "0" * 400 + "}", "[" * 100_000,
]  # fmt: skip


@pytest.fixture(scope="module")
async def asker(odd: Server) -> AsyncIterator[McpClassifier]:
    async with running(over_http(odd)) as running_one:
        yield running_one


@pytest.mark.parametrize(("answer", "expected"), GOOD)
async def test_an_answer_may_come_as_text(
    asker: McpClassifier, answer: dict[str, Any], expected: McpClassification
) -> None:
    assert await asker.classify(json.dumps(answer), {}) == expected


@pytest.mark.parametrize("answer", BAD, ids=range(len(BAD)))
async def test_a_malformed_answer_is_none(asker: McpClassifier, answer: str) -> None:
    assert await reason(asker, answer) == "malformed"
    assert asker.failure is None


async def test_a_tool_that_fails_leaves_the_session_alone(asker: McpClassifier) -> None:
    assert await reason(asker, "raise") == "error"
    assert asker.failure is None


async def test_a_tool_that_is_not_there(odd: Server) -> None:
    async with running(over_http(odd, tool_name="sort_text")) as classifier:
        assert await reason(classifier) == "error"
        assert classifier.failure is None


async def test_answers_may_come_as_event_streams(directory: Path) -> None:
    port = free_port()
    server = Server(directory, directory / "odd.py", str(port), "--sse", port=port)
    server.start()
    try:
        async with running(over_http(server)) as classifier:
            assert await classifier.classify('{"class": "odd", "confidence": 1}', {}) == McpClassification("odd", 1.0)
    finally:
        server.kill()


async def test_configured_headers_are_passed_on_and_no_others(odd: Server) -> None:
    async with running(over_http(odd, forward_headers=("x-one", "x-two"))) as classifier:
        classification = await classifier.classify("seen", {"x-one": "1", "authorization": "secret"})
        assert json.loads(classification.category) == {"x-one": "1"}
    async with running(over_http(odd)) as classifier:
        assert (await classifier.classify("seen", {"x-one": "1"})).category == "null"


async def test_classes_are_listed_once_a_session(directory: Path) -> None:
    async with running(over_stdio(directory / "odd.py")) as classifier:
        assert classifier.categories == ("even", "odd")
        for _ in range(5):
            assert (await classifier.classify("count", {})).category == "1"
        # Longer than a probe's interval: that it still lives is not asked with this tool.
        await asyncio.sleep(2.5)
        assert (await classifier.classify("count", {})).category == "1"


async def test_a_server_need_not_list_its_classes(directory: Path) -> None:
    async with running(over_stdio(directory / "odd.py", "--no-list")) as classifier:
        assert classifier.categories == ()
        assert (await classifier.classify('{"class": "odd", "confidence": 1}', {})).category == "odd"


async def test_the_environment_of_a_process_is_set(directory: Path) -> None:
    async with running(over_stdio(directory / "odd.py", env={"SECRET": "s3"})) as classifier:
        assert (await classifier.classify("environment", {})).category == "s3"


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_a_call_ends_at_its_deadline_and_others_do_not_wait_for_it(
    transport: str, odd: Server, directory: Path
) -> None:
    limit = {"timeout_seconds": 2}
    settings = over_http(odd, **limit) if transport == "http" else over_stdio(directory / "odd.py", **limit)
    async with running(settings) as classifier:
        slow = asyncio.create_task(reason(classifier, "sleep 30"))
        await asyncio.sleep(0.01)
        assert (await classifier.classify("count", {})).confidence == 0.5
        assert not slow.done()
        assert await slow == "deadline"
        assert classifier.failure is None


async def test_a_server_that_hangs_is_left_alone_until_it_answers_again(directory: Path) -> None:
    port = free_port()
    server = Server(directory, directory / "odd.py", str(port), port=port)
    server.start()
    try:
        async with running(over_http(server, timeout_seconds=0.1, sessions=2)) as classifier:
            os.kill(server.process.pid, signal.SIGSTOP)
            for _ in range(6):
                assert await reason(classifier) == "deadline"
            assert classifier.failure == "deadline"
            assert await at_once(reason(classifier)) == "deadline"
            os.kill(server.process.pid, signal.SIGCONT)
            await until(lambda: classifier.failure is None)
            assert (await classifier.classify("count", {})).confidence == 0.5
    finally:
        server.kill()


async def test_calls_beyond_the_limit_go_on_without(odd: Server) -> None:
    async with running(over_http(odd, max_in_flight=2)) as classifier:
        slow = [asyncio.create_task(classifier.classify("sleep 0.5", {})) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await reason(classifier) == "overload"
        await asyncio.gather(*slow)
        assert (await classifier.classify("count", {})).confidence == 0.5


async def test_a_caller_that_leaves_takes_its_call_along(odd: Server) -> None:
    async with running(over_http(odd, max_in_flight=1)) as classifier:
        call = asyncio.create_task(classifier.classify("sleep 3", {}))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await classifier.classify("count", {})).confidence == 0.5


# --- servers that come and go --------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_comes_back(directory: Path) -> None:
    port = free_port()
    server = Server(directory, directory / "odd.py", str(port), port=port)
    server.start()
    try:
        async with running(over_http(server)) as classifier:
            pending = asyncio.create_task(reason(classifier, "sleep 4"))
            await asyncio.sleep(0.2)
            server.kill()
            assert await reason(classifier) == "unreachable"
            assert await pending == "unreachable"
            await until(lambda: classifier.failure == "unreachable")
            assert await at_once(reason(classifier)) == "unreachable"
            # Long enough for the pauses between attempts to have grown.
            await asyncio.sleep(3)
            server.start()
            answered = time.monotonic()
            await until(lambda: classifier.failure is None)
            print(f"\nused again {time.monotonic() - answered:.2f} s after the server answered")
            assert (await classifier.classify("count", {})).confidence == 0.5
    finally:
        server.kill()


async def test_a_server_that_dies_unasked_is_noticed(directory: Path) -> None:
    port = free_port()
    server = Server(directory, directory / "odd.py", str(port), port=port)
    server.start()
    try:
        async with running(over_http(server)) as classifier:
            server.kill()
            await until(lambda: classifier.failure == "unreachable")
    finally:
        server.kill()


async def test_a_process_that_dies_is_started_again(directory: Path) -> None:
    others = children()
    async with running(over_stdio(directory / "odd.py")) as classifier:
        first = children() - others
        assert await reason(classifier, "leave") == "unreachable"
        assert classifier.failure == "unreachable"
        await until(lambda: classifier.failure is None)
        assert (await classifier.classify("count", {})).category == "1"
        second = children() - others
        assert len(second) == len(first) == 1
        assert second != first
    assert children() == others


async def test_a_server_that_was_never_there(caplog: pytest.LogCaptureFixture) -> None:
    classifier = McpClassifier(McpSettings(url=f"http://127.0.0.1:{free_port()}/mcp"))
    task = asyncio.create_task(classifier.run())
    await until(lambda: classifier.failure == "unreachable")
    assert await at_once(reason(classifier)) == "unreachable"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_command_that_cannot_be_started() -> None:
    classifier = McpClassifier(McpSettings(transport_type="stdio", command="/no/such/program"))
    task = asyncio.create_task(classifier.run())
    await until(lambda: classifier.failure == "unreachable")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_logs_hold_no_prompt(odd: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(over_http(odd, timeout_seconds=0.2)) as classifier:
        for text in ("my secret", '{"class": "my secret", "confidence": 2}', "sleep 1", "raise"):
            await reason(classifier, text)
    written = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "MCP session is up" in written
    assert "my secret" not in written


def children() -> set[int]:
    """Processes of the odd server that this one started over stdio."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    pids = set()
    for each in listed:
        try:
            line = Path(f"/proc/{each}/cmdline").read_text()
        except OSError:
            continue
        if "--stdio" in line.split("\0"):
            pids.add(int(each))
    return pids


# --- how long it takes ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_fifty_calls_a_second(tenants: Server) -> None:
    """Prints the time of a call beside that of the same request sent bare."""
    async with running(over_http(tenants, forward_headers=("x-tenant-id",))) as classifier:

        async def ask(number: int) -> None:
            await classifier.classify("word " * 100, {"x-tenant-id": f"tenant-{number:04}"})

        through = await timed(ask)
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    async with httpx.AsyncClient(headers=headers) as http:

        async def post(number: int) -> None:
            arguments = {"text": "word " * 100, "headers": {"x-tenant-id": f"tenant-{number:04}"}}
            call = {"name": "classify_text", "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
            answer = await http.post(tenants.url, json=message)
            assert answer.json()["result"]["structuredContent"]["class"] == "tenant"

        bare = await timed(post)
    for name, times in (("classify", through), ("bare HTTP", bare)):
        cuts = statistics.quantiles(times, n=100)
        print(f"\n{name}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms", end="")
    print()


async def timed(ask: Callable[[int], Any]) -> list[float]:
    times: list[float] = []

    async def once(number: int) -> None:
        started = time.perf_counter()
        await ask(number)
        times.append((time.perf_counter() - started) * 1000)

    async with asyncio.TaskGroup() as tasks:
        for number in range(1, 251):
            tasks.create_task(once(number))
            await asyncio.sleep(0.02)
    return times
