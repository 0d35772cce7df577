"""Names and addresses through the whole system, with the exported tagger on a real Triton."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_stack import REPOSITORY
from whole_system import Site, running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
version: v0.3
global: {services: {router_replay: {enabled: true, include_request: true}}}
providers:
  models: [{name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}]
routing:
  signals:
    pii: [{name: who, pii_types_denied: [PERSON, STREET_ADDRESS, EMAIL_ADDRESS]}]
    domains: [{name: math}]
  decisions:
    - {name: masked, rules: {type: pii, name: who}, plugins: [{type: mask}]}
    - {name: sums, rules: {type: domain, name: math}, modelRefs: [{model: cloud}]}
"""
PROMPT = "My name is Angela Merkel-Schmidt, send it to 742 Evergreen Terrace, Springfield, or angela@mail.example."


class Named(Site):
    def start_router(self) -> None:
        self.config_file.write_text(
            self.config_file.read_text().replace("inference:", f"inference:\n    bundle: {self.repository}/bundle.json")
        )
        super().start_router()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("names")
    command = [sys.executable, "-m", "export", "all", "--bundle", "protect", "--repository", directory / "repository"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    (directory / "names.yaml").write_text(CONFIG)
    site = Named(directory, Path(directory / "names.yaml"))
    site.repository = directory / "repository"
    yield from running(site)


def test_a_name_and_an_address_are_masked_and_come_back(site: Named) -> None:
    answer = site.ask(PROMPT, headers={"x-demo-script": "echo=5"})
    assert answer.json()["choices"][0]["message"]["content"] == PROMPT
    assert answer.headers["x-vsr-masked"] == "masked"
    assert "x-vsr-degraded" not in answer.headers
    record = site.client.get(f"http://127.0.0.1:{site.rest}/api/v1/replay/{answer.headers['x-vsr-replay-id']}").text
    assert "My name is [PERSON_1], send it to [STREET_ADDRESS_1], or [EMAIL_ADDRESS_1]." in record


def test_without_the_tagger_nothing_is_sent_on(site: Named) -> None:
    site.kill("triton")
    assert site.ask("hello there").status_code == 503
