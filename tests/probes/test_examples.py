"""Probes as examples of the page: the file next to the configuration, or the one that a key names."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from page_state import BUNDLE, service_state

from triton_router.api.app import create_app
from triton_router.config import ConfigError, loads
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.probes.examples import examples, probes_of
from triton_router.telemetry import Metrics

CONFIG = """
providers: {models: [{name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  signals: {keywords: [{name: proof, operator: OR, keywords: [step by step]}]}
  decisions: [{name: all, modelRefs: [{model: plain}]}]
global: {services: {api: {page: PAGE}}}
"""
PROBES = """
decisions:
  - id: law
    expected_decision: all
    variants:
      - {id: short, query: Is this legal?}
      - {id: long, query: And this?, padding: {text: "More. ", repeat: 100000}}
      - {id: whole, messages: [{role: user, content: Hi}], headers: {X-Tenant-Id: a}}
"""


def config(page: str = "{}") -> str:
    return CONFIG.replace("PAGE", page)


def test_those_next_to_the_configuration(tmp_path: Path) -> None:
    file, probes = tmp_path / "router.yaml", tmp_path / "probes" / "router.yaml"
    read = loads(config()).config
    assert examples(probes_of(read, file)) == []
    probes.parent.mkdir()
    probes.write_text(PROBES)
    short, whole = examples(probes_of(read, file))
    assert (short["name"], short["group"], short["decision"]) == ("short", "law", "all")
    assert short["request"] == {"messages": [{"role": "user", "content": "Is this legal?"}]}
    assert whole["headers"] == {"x-tenant-id": "a"}
    # A file that has changed is read again.
    probes.write_text(PROBES.replace("Is this legal?", "Is this allowed?"))
    os.utime(probes, (1, 1))
    assert "allowed" in str(examples(probes_of(read, file)))


def test_those_that_a_key_names(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PROBES)
    read = loads(config("{probes: mine.yaml}")).config
    assert len(examples(probes_of(read, tmp_path / "router.yaml"))) == 2
    (tmp_path / "mine.yaml").write_text("decisions: 3")
    os.utime(tmp_path / "mine.yaml", (1, 1))
    for path in ("mine.yaml", "missing.yaml"):
        read = loads(config(f"{{probes: {path}}}")).config
        with pytest.raises(ConfigError, match=path):
            examples(probes_of(read, tmp_path / "router.yaml"))


async def test_the_page_has_them_before_what_signals_quote(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(PROBES)
    loaded, metrics = loads(config("{probes: mine.yaml}"), file=str(tmp_path / "router.yaml")), Metrics()
    generations = Generations(loaded, *load_bundle(BUNDLE), metrics)

    async def probes() -> list[dict[str, object]]:
        return examples(probes_of(loaded.config, Path(loaded.file)))

    app = create_app(lambda: generations.current, state=service_state(loaded, generations, metrics, probes=probes))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as rest:
        first = (await rest.get("/api/v1/examples")).json()
        assert [each.get("decision", each.get("signal")) for each in first["examples"]] == ["all", "all", "proof"]
        file.write_text("decisions: 3")
        os.utime(file, (1, 1))
        broken = (await rest.get("/api/v1/examples")).json()
        assert [each["signal"] for each in broken["examples"]] == ["proof"]
        assert "mine.yaml:1:" in broken["problem"]
