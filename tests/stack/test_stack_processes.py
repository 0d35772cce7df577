"""The supervisor with small children of its own, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for

from triton_router.stack.ports import Port, port_problems

# A supervisor over the children that the test names: each is Python code and a grace. A child is ready when the file
# of its name exists. Pids are left in files too.
SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
from triton_router.processes import Child, supervise

here = Path(sys.argv[1])

def exists(name):
    async def ask():
        return (here / name).exists()
    return ask

async def well():
    return not (here / "ill").exists()

async def drain():
    print("draining", flush=True)
    await asyncio.sleep(600 if (here / "hang").exists() else 0)

children = [
    Child(
        name=name, command=[sys.executable, "-c", code], grace=grace,
        ready=exists(name), ready_within=2 if name == "slow" else 120, retries=int(name == "frail"),
        before_stop=drain if name == "last" else None, healthy=well,
        after_stop=lambda name=name: print("after", name, flush=True),
    )
    for name, code, grace in json.loads(sys.argv[2])
]
say = lambda text: print(text, flush=True)
sys.exit(asyncio.run(
    # Longer than any test waits: what ends sooner was ended by what the test is about.
    supervise(children, here / "logs", say=say, on_ready=lambda: say("all ready"), stop_within=600)
))
"""

READY = """
import os, signal, sys, time
from pathlib import Path
here = Path({here!r})
def ready(name):
    (here / (name + ".pid")).write_text(str(os.getpid()))
    (here / name).touch()
def tell(name):
    with (here / "ended").open("a") as ended:
        ended.write(name + " ")
    sys.exit(0)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Supervised:
    def __init__(self, here: Path, children: list[tuple[str, str, float]]) -> None:
        prelude = READY.format(here=str(here))
        children_json = json.dumps([(name, prelude + code, grace) for name, code, grace in children])
        self.here = here
        self.output = here / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, str(here), children_json],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )

    def read_output(self) -> str:
        return self.output.read_text()

    def pid(self, name: str) -> int:
        return int((self.here / f"{name}.pid").read_text())

    def wait_ready(self) -> None:
        wait_for(lambda: "all ready" in self.read_output(), f"all ready; it said {self.read_output()}")


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(*children: tuple[str, str, float]) -> Supervised:
        started.append(Supervised(tmp_path, list(children)))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def steady(name: str) -> tuple[str, str, float]:
    code = f"signal.signal(signal.SIGTERM, lambda *_: tell({name!r})); ready({name!r}); time.sleep(600)"
    return name, code, 60.0


def deaf(name: str) -> tuple[str, str, float]:
    return name, f"signal.signal(signal.SIGTERM, signal.SIG_IGN); ready({name!r}); time.sleep(600)", 0.3


def test_progress_then_an_orderly_end_after_ctrl_c(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), steady("middle"), steady("last"))
    run.wait_ready()
    assert [line.split(" ready")[0].split()[0] for line in run.read_output().splitlines()[:3]] == [
        "[1/3]",
        "[2/3]",
        "[3/3]",
    ]
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) == 0
    assert (run.here / "ended").read_text().split() == ["last", "middle", "first"]
    after = [line for line in run.read_output().splitlines() if line.startswith(("draining", "after"))]
    assert after == ["draining", "after last", "after middle", "after first"]


def test_a_deaf_child_is_killed_after_its_grace(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), deaf("last"))
    run.wait_ready()
    started = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(PATIENCE) == 0
    assert time.monotonic() - started >= 0.3
    assert not alive(run.pid("last"))


def test_a_second_ctrl_c_does_not_wait(supervised: Callable[..., Supervised], tmp_path: Path) -> None:
    (tmp_path / "hang").touch()
    run = supervised(steady("first"), steady("last"))
    run.wait_ready()
    run.process.send_signal(signal.SIGINT)
    wait_for(lambda: "draining" in run.read_output(), "draining")
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) == 0
    assert not alive(run.pid("first")) and not alive(run.pid("last"))


def test_one_that_crashes_before_it_was_ready_ends_all_and_is_explained(supervised: Callable[..., Supervised]) -> None:
    crash = "time.sleep(0.5); print('the reason'); sys.exit(3)"
    run = supervised(steady("first"), ("crash", crash, 5.0), steady("last"))
    assert run.process.wait(PATIENCE) == 1
    output = run.read_output()
    assert "crash ended with exit code 3; everything is being stopped" in output and "crash | the reason" in output
    assert "draining" not in output
    assert not alive(run.pid("first")) and not alive(run.pid("last"))


def test_one_that_crashes_later_is_started_again_and_the_others_go_on(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), steady("last"))
    run.wait_ready()
    first, last = run.pid("first"), run.pid("last")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "first is back after" in run.read_output() and run.pid("first") != first, "first is back")
    assert "first was ended by SIGKILL; it is started again in 0.2 s" in run.read_output()
    assert alive(run.pid("first")) and run.pid("last") == last and alive(last)
    assert "after first" in run.read_output(), "what it left is cleared away"
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) == 0
    assert (run.here / "ended").read_text().split() == ["last", "first"]


def test_pauses_grow_while_it_crashes_again_and_again(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), ("crash", "ready('crash'); time.sleep(0.2); sys.exit(3)", 5.0))
    run.wait_ready()
    for pause in ("0.2", "0.4", "0.8"):
        line = f"crash ended with exit code 3; it is started again in {pause} s"
        wait_for(lambda line=line: line in run.read_output(), line)  # type: ignore[misc]
    assert run.process.poll() is None


def test_one_that_runs_but_does_not_do_its_work_is_replaced(supervised: Callable[..., Supervised]) -> None:
    run = supervised(deaf("only"))
    run.wait_ready()
    ill = run.pid("only")
    (run.here / "ill").touch()
    wait_for(lambda: "only runs, but does not answer; it is started again" in run.read_output(), "it is noticed")
    assert not alive(ill)
    (run.here / "ill").unlink()
    wait_for(lambda: "only is back after" in run.read_output() and run.pid("only") != ill, "it is back")


FRAIL = """
fell = here / "fell"
if not fell.exists():
    fell.touch()
    print("a lock was waited for too long", flush=True)
    os.abort()
"""


def test_one_that_crashes_before_it_was_ready_may_be_started_again(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), ("frail", FRAIL + steady("frail")[1], 60.0))
    run.wait_ready()
    output = run.read_output()
    assert "frail was ended by SIGABRT before it was ready, and is started again" in output
    assert "frail | a lock was waited for too long" in output
    # What the first one left is cleared away, and only that.
    assert output.splitlines().count("after frail") == 1
    assert "frail is back" not in output, "it was never there before"


@pytest.mark.parametrize(("code", "line", "times"), [
    ("os.abort()", "frail was ended by SIGABRT", 2), ("sys.exit(3)", "frail ended with exit code 3", 1),
])  # fmt: skip
def test_not_for_ever_and_not_one_that_gives_up(
    supervised: Callable[..., Supervised], code: str, line: str, times: int
) -> None:
    run = supervised(steady("first"), ("frail", code, 60.0))
    assert run.process.wait(PATIENCE) == 1
    assert run.read_output().count(line) == times


def test_a_child_that_cannot_start_ends_the_others(supervised: Callable[..., Supervised]) -> None:
    run = supervised(steady("first"), ("slow", "time.sleep(600)", 1.0))
    wait_for(lambda: (run.here / "first.pid").exists(), "first child")
    assert run.process.wait(PATIENCE) == 1
    assert "slow was not ready within 2 s" in run.read_output()
    assert not alive(run.pid("first"))


def test_grandchildren_end_with_their_parent(supervised: Callable[..., Supervised]) -> None:
    fork = """
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready("grandchild")
    time.sleep(600)
while not (here / "grandchild").exists():
    time.sleep(0.01)
ready("parent")
time.sleep(600)
"""
    run = supervised(("parent", fork, 5.0))
    run.wait_ready()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(PATIENCE) == 0
    assert not alive(run.pid("parent")) and not alive(run.pid("grandchild"))


def test_nobody_outlives_a_killed_supervisor(supervised: Callable[..., Supervised]) -> None:
    run = supervised(deaf("first"), deaf("last"))
    run.wait_ready()
    pids = [run.pid("first"), run.pid("last")]
    run.process.kill()
    run.process.wait(PATIENCE)
    wait_for(lambda: not any(map(alive, pids)), "no child left")


# --- ports ---------------------------------------------------------------------------------------------------------


def test_ports_in_use_are_named_with_their_key() -> None:
    busy, free = free_port(), free_port()
    with socket.create_server(("127.0.0.1", busy)):
        problems = port_problems(
            [Port("127.0.0.1", busy, "a.port"), Port("127.0.0.1", free, "b.port"), Port("127.0.0.1", free, "c.port")]
        )
    assert problems == [
        f"port {busy} on 127.0.0.1 is already in use; it is set by a.port",
        f"port {free} is named twice: by b.port and by c.port",
    ]


def test_an_address_that_is_not_ours_is_a_problem() -> None:
    [problem] = port_problems([Port("192.0.2.1", free_port(), "a.host")])
    assert "cannot be used" in problem and "a.host" in problem


def test_a_port_that_was_just_left_is_free() -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        accepted, _ = server.accept()
        accepted.close()  # leaves TIME_WAIT behind
        client.recv(1)
    assert port_problems([Port("127.0.0.1", port, "a.port")]) == []
