"""Kinds of signals and plugins of an installed package: the example of docs/signals/writing-one.md, used for real."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "signals" / "writing-one.md").read_text()
PLUGIN_PAGE = (ROOT / "docs" / "plugins.md").read_text()

CONFIG = """
providers:
  models:
    - {name: calm, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: plain, backend_refs: [{endpoint: "127.0.0.1:2"}]}
  defaults: {default_model: plain}
routing:
  signals:
    domains: [{name: math}, {name: other}]
    moods: [{name: angry, label: anger, threshold: 0.6}]
  decisions:
    - name: soothe
      priority: 2
      rules: {operator: AND, conditions: [{type: mood, name: angry}, {type: domain, name: math}]}
      modelRefs: [{model: calm}]
      plugins: [{type: signature, configuration: {name: the router}}]
global:
  inference: {endpoint: "ADDRESS", deadline_ms: 5000}
  services: {observability: {tracing: {enabled: true, exporter: {type: stdout}}}}
"""

# Runs where the package is installed: a Triton that serves a bundle with one head more, a request, and what is told.
PROGRAM = r"""
import asyncio, io, json, sys
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb, service_pb2_grpc

from triton_router.config import ConfigError, loads
from triton_router.config.reference import markdown
from triton_router.explain import explain
from triton_router.generations import Generations
from triton_router.inference.bundle import Bundle, checksum
from triton_router.dialects import ChatRequest
from triton_router.pipeline import Request
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

source, text = Path(sys.argv[1]), sys.argv[2]
document = json.loads((source / "bundle.json").read_text())
trunk = document["trunks"][0]
trunk["heads"].append({"name": "mood", "output": "mood", "labels": ["joy", "anger"]})
del document["trunks"][1:], document["checksum"]
document["checksum"] = checksum(document)
bundle = Bundle.model_validate(document)
tokenizers = {trunk["name"]: (source / trunk["tokenizer"]["file"]).read_bytes()}
calls = []


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    async def ModelConfig(self, request, context):
        response = pb.ModelConfigResponse()
        response.config.parameters["bundle_checksum"].string_value = bundle.checksum
        return response

    async def ModelInfer(self, request, context):
        calls.append([output.name for output in request.outputs])
        rows, response = request.inputs[0].shape[0], pb.ModelInferResponse()
        (described,) = bundle.trunks
        outputs = {head.output: np.full(len(head.labels), 0.0, np.float32) for head in described.heads}
        for head in described.heads:
            outputs[head.output][head.labels.index("math" if head.name == "domain" else head.labels[-1])] = 0.9
        embedding = np.zeros(described.embedding.dimension, np.float32)
        embedding[0] = 1
        outputs[described.embedding.output] = embedding
        for name in (output.name for output in request.outputs):
            tensor = response.outputs.add(name=name, datatype="FP32")
            tensor.shape.extend([rows, len(outputs[name])])
            response.raw_output_contents.append(np.tile(outputs[name], (rows, 1)).tobytes())
        return response


async def main():
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    loaded = loads(text.replace("ADDRESS", f"127.0.0.1:{port}"))
    generations = Generations(loaded, bundle, tokenizers, Metrics())
    watch = asyncio.create_task(generations.run())
    await generations.settled(30)
    calls.clear()
    spans = io.StringIO()
    body = {"model": "MoM", "messages": [{"role": "user", "content": "Why is this wrong again?!"}]}
    async with generations.routing(spans) as route:
        outcome = await route(Request("POST", "/v1/chat/completions", {}, json.dumps(body).encode()))
    count, outputs = len(calls), sorted(calls[0])
    decided = await generations.current.decide(SignalInput(ChatRequest.saying("Why?")), everything=True)
    watch.cancel()
    await server.stop(0)
    explained = explain(decided)["signals"]
    return {"model": outcome.headers["x-selected-model"], "sent": dict(outcome.headers), "calls": count,
            "outputs": outputs, "spans": spans.getvalue(), "explained": explained}


def mistakes(changed):
    try:
        loads(changed)
    except ConfigError as error:
        return [[problem.line, problem.path, problem.message, problem.suggestion] for problem in error.problems]


report = asyncio.run(main())
report["page"] = markdown()
report["wrong name"] = mistakes(text.replace("name: angry}", "name: angri}"))
report["wrong key"] = mistakes(text.replace("label: anger", "lable: anger"))
report["wrong value"] = mistakes(text.replace("threshold: 0.6", "threshold: 0"))
report["wrong plugin"] = mistakes(text.replace("{name: the router}", "{nam: the router}"))
print(json.dumps(report))
"""


def code(page: str, language: str) -> str:
    """The first block of a page in a language."""
    block = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert block
    return block[1]


def install(directory: Path, entry_points: str, **modules: str) -> None:
    """A package as pip leaves it."""
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    about = directory / "moods-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: moods\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)


def run(directory: Path, program: str, *arguments: str) -> str:
    installed = f"import sys; sys.path[:0] = [{str(directory)!r}, {str(ROOT)!r}]\n{program}"
    command = [sys.executable, "-c", installed, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=directory)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("site")
    declared = code(PAGE, "toml") + code(PLUGIN_PAGE, "toml")
    entry_points = declared.replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    install(directory, entry_points, moods=code(PAGE, "python"), signature=code(PLUGIN_PAGE, "python"))
    result: dict[str, Any] = json.loads(run(directory, PROGRAM, str(ROOT / "model_repository"), CONFIG))
    return result


def test_it_is_evaluated_in_the_one_call(report: dict[str, Any]) -> None:
    assert report["model"] == "calm"
    assert report["calls"] == 1
    assert "mood" in report["outputs"]


def test_it_is_explained_and_traced(report: dict[str, Any]) -> None:
    (mood,) = [signal for signal in report["explained"] if signal["type"] == "mood"]
    assert (mood["name"], mood["matched"], mood["value"], mood["threshold"]) == ("angry", True, 0.9, 0.6)
    assert "signal mood:angry" in report["spans"]


def test_it_is_in_the_reference(report: dict[str, Any]) -> None:
    assert "## `routing.signals.moods[]`" in report["page"]
    assert "| `label` | text | required | Label of the bundle's head `mood`. |" in report["page"]
    assert "`mood`" in next(line for line in report["page"].splitlines() if "Leaf: kind of signal." in line)
    assert "(`type: signature`)" in report["page"]


def test_mistakes_are_named_where_they_are(report: dict[str, Any]) -> None:
    lines = CONFIG.splitlines()
    rule = next(number for number, line in enumerate(lines, 1) if "type: mood" in line)
    declared = next(number for number, line in enumerate(lines, 1) if "moods:" in line)
    (problem,) = [each for each in report["wrong name"] if "no mood" in each[2]]
    assert problem == [rule, "routing.decisions[0].rules.conditions[0].name",
                       "no mood named `angri` in routing.signals.moods", "angry"]  # fmt: skip
    assert [declared, "routing.signals.moods[0].lable", "unknown key `lable`", "label"] in report["wrong key"]
    assert [declared, "routing.signals.moods[0].threshold", "a threshold of 0 matches every prompt", None] in (
        report["wrong value"]
    )
    (unknown,) = [each for each in report["wrong plugin"] if "unknown" in each[2]]
    assert unknown[1:] == ["routing.decisions[0].plugins[0].configuration.nam", "unknown key `nam`", "name"]


def test_its_plugin_is_applied(report: dict[str, Any]) -> None:
    assert report["sent"]["x-signed-by"] == "the router"


def test_the_package_may_be_imported_first(tmp_path: Path) -> None:
    install(tmp_path, "[triton_router.signals]\nmood = moods:Moods\n", moods=code(PAGE, "python"))
    program = "import moods\nfrom triton_router.config import Config\nprint(Config.model_json_schema()['$defs'].keys())"
    assert "'Mood'" in run(tmp_path, program)


def test_a_package_that_cannot_be_loaded_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    install(tmp_path, "[triton_router.signals]\nmood = moods:Moods\n", moods="import nothing_of_this_name")
    program = (
        "from triton_router.config import loads\ntry:\n    loads('providers: {}')\nexcept Exception as e:\n    print(e)"
    )
    assert "mood (moods:Moods)" in run(tmp_path, program)
