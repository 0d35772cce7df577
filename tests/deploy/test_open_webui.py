"""Open WebUI, offline, in front of the kickstart's Envoy: an account, the list of models, conversations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from environments import executables
from local_stack import REPOSITORY, free_port, wait_for
from whole_system import Site, running

pytestmark = pytest.mark.deploy

PROMPT = "Is there medication for my symptoms?"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from running(Site(tmp_path_factory.mktemp("webui"), REPOSITORY / "config" / "kickstart.yaml"))


@pytest.fixture(scope="module")
def webui(site: Site) -> Iterator[httpx.Client]:
    """A client that has signed up."""
    port, data = free_port(), site.directory / "webui"
    data.mkdir()
    environment = {
        **os.environ,
        "DATA_DIR": str(data),
        "OPENAI_API_BASE_URL": f"{site.url}/v1",
        "OPENAI_API_KEY": "none",
        "ENABLE_OLLAMA_API": "false",
        "WEBUI_SECRET_KEY": "of-the-test",
        # Nothing is downloaded: documents would be embedded by an API that nobody calls here.
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",
    }
    command = [executables("open-webui") / "open-webui", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (site.directory / "webui.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=data, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: client.get("/health").status_code == 200, "Open WebUI")
            account = {"name": "Ada", "email": "ada@example.org", "password": "Not-a-secret-1"}
            signed_up = client.post("/api/v1/auths/signup", json=account)
            assert signed_up.status_code == 200, signed_up.text
            client.headers["authorization"] = f"Bearer {signed_up.json()['token']}"
            yield client
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def ask(webui: httpx.Client, model: str, **members: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], **members}
    return webui.post("/api/chat/completions", json=body)


def test_base_and_adapters_are_listed(webui: httpx.Client) -> None:
    listed = {model["id"]: model.get("parent") for model in webui.get("/api/models").json()["data"]}
    assert listed == {"MoM": None, "auto": None, "phi2": None, "doctor": "phi2", "dcot": "phi2"}


@pytest.mark.parametrize(("model", "answering"), [("auto", "doctor"), ("MoM", "doctor"), ("phi2", "phi2")])
def test_a_conversation(webui: httpx.Client, model: str, answering: str) -> None:
    answer = ask(webui, model)
    assert answer.status_code == 200, answer.text
    assert answer.json()["demo"]["received"]["model"] == answering
    assert answer.json()["choices"][0]["message"]["content"]


def test_a_streamed_one(webui: httpx.Client) -> None:
    answer = ask(webui, "auto", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event).get("choices", [])]
    assert "doctor" in "".join(delta.get("content") or "" for delta in deltas)
