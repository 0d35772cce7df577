"""The audit log: whole lines or none, in the file that the path names now."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from triton_router.config import loads
from triton_router.exchange import Forward, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.signals.mcp import McpClassification, McpClassifier
from triton_router.telemetry import AuditLog, Metrics, configure_logging


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    # A limit on the file's size behaves as a disk that is full there: half a line fits.
    script = """
import resource, sys
from pathlib import Path
from triton_router.telemetry import AuditLog
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
audit = AuditLog(Path(sys.argv[1]))
print([audit.write({"number": number, "padding": "x" * 280}) for number in range(5)])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(audit.write({"number": 5}))
"""
    path = tmp_path / "audit.jsonl"
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[True, True, True, False, False]", "True"]
    assert [line["number"] for line in lines(path)] == [0, 1, 2, 5]


@pytest.mark.parametrize("taken_away", [False, True])
def test_a_rotated_file_is_opened_again(tmp_path: Path, taken_away: bool) -> None:
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    audit = AuditLog(path)
    assert audit.write({"number": 1})
    path.rename(old)
    if not taken_away:
        path.touch()
    assert audit.write({"number": 2})
    assert [line["number"] for line in lines(old)] == [1]
    assert [line["number"] for line in lines(path)] == [2]


def test_text_that_utf_8_cannot_carry_is_written_as_an_escape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.jsonl"
    assert AuditLog(path).write({"adapter": "half \ud800", "\udfff": 1, "large": 2**70})
    assert lines(path) == [{"adapter": "half \ud800", "\udfff": 1, "large": 2**70}]
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging()
    try:
        logging.getLogger("test").info("said", extra={"fields": {"adapter": "half \ud800"}})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert json.loads(capsys.readouterr().err)["adapter"] == "half \ud800"


CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9", adapters_on_demand: true}]}]
routing:
  signals:
    mcp: [{name: tenant}]
  decisions:
    - name: tenants
      rules: {type: mcp, name: tenant}
      modelRefs: [{model: base}]
      hints: {adapters: ["tenant-*"]}
global:
  model_catalog: {modules: {classifier: {mcp: {enabled: true, transport_type: http, url: "http://127.0.0.1:9/mcp"}}}}
  services: {observability: {audit: {enabled: true, path: "PATH"}}}
"""


class Hostile(McpClassifier):
    async def classify(self, *_: object) -> McpClassification:
        return McpClassification("tenant", 1.0, adapter="tenant-\ud800")


async def test_a_hint_with_half_a_surrogate_pair_fails_no_request(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    loaded = loads(CONFIG.replace("PATH", str(path)))
    settings = loaded.config.global_.model_catalog.modules.classifier.mcp
    assert settings is not None
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), Metrics(), classifier=Hostile(settings))
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}).encode()
    outcome = await pipeline.route(Request("POST", "/v1/chat/completions", {}, body))
    assert isinstance(outcome, Forward)
    [record] = lines(path)
    assert record["decision"] == "tenants" and record["adapter"] == "tenant-\ud800"
