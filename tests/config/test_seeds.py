"""The documents that describe the product, when somebody has them: what they print loads, and means what they say.

``SEEDS=DIRECTORY`` names the folder with the documents. Without it there is nothing to read, and only the re-indenting
of YAML that has lost its indentation is tested.
"""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from triton_router.config import Loaded, loads


def indented(lines: list[str]) -> str:
    """YAML of the flat form from lines without indentation, by what each key may stand under."""
    depth_of = {
        0: {"classifier", "vllm_endpoints", "model_config", "default_model", "categories"},
        1: {"category_model"},
        2: {"model_id", "use_modernbert", "threshold", "use_cpu", "category_mapping_path"},
    }
    depths = {key: depth for depth, keys in depth_of.items() for key in keys}
    written, section, item = [], "", 0
    for line in lines:
        text = line.split("#")[0].rstrip() if line.lstrip().startswith("#") else line
        if not text.strip():
            continue
        key = re.sub(r"^- ", "", text).split(":")[0].strip('"')
        if not text.startswith("- ") and key in depths and not (depths[key] and section != "classifier"):
            section, item = (key, 0) if depths[key] == 0 else (section, depths[key])
            written.append("  " * depths[key] + text)
            continue
        depth = _depth(section, key, text.startswith("- "), item)
        if text.startswith("- ") or text.endswith(":"):
            item = depth + 1
        written.append("  " * depth + text)
    return "\n".join(written) + "\n"


def _depth(section: str, key: str, begins: bool, item: int) -> int:
    if section == "model_config":
        if key in ("reasoning_family", "preferred_endpoints", "loras"):
            return 2
        return 3 if begins else 4 if key in ("description", "name") else 1
    if section == "categories":
        if begins:
            return 1 if key == "name" else 3
        return 2 if key in ("description", "system_prompt", "model_scores") else 4
    return 1 if begins else 2


def test_yaml_that_has_lost_its_indentation_can_be_read() -> None:
    flat = """\
    classifier:
      category_model:
        threshold: 0.5
    vllm_endpoints:
      - name: "e"
        address: "h"
        port: 1
    model_config:
      "m":
        reasoning_family: "f"
        preferred_endpoints: ["e"]
        loras:
          - name: "a"
            description: "d"
          - name: "b"
            description: "d"
    default_model: "m"
    categories:
      - name: "c"
        description: "d"
        model_scores:
          - model: "m"
            lora_name: "a"
            score: 1.0
      - name: "g"
        system_prompt: "s"
        model_scores:
          - model: "m"
            score: 0.5
    """
    text = textwrap.dedent(flat)
    assert yaml.safe_load(indented([line.strip() for line in text.splitlines()])) == yaml.safe_load(text)


def document(seeds: Path, number: str) -> str:
    (path,) = seeds.glob(f"{number}_*")
    return path.read_text()


def first_flat(seeds: Path) -> str:
    lines = document(seeds, "000").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("classifier:"))
    end = next(index for index in range(start, len(lines)) if lines[index].startswith("3. "))
    return indented(lines[start:end])


def second_flat(seeds: Path) -> str:
    (text,) = re.findall(r"```yaml\n(.*?)```", document(seeds, "001"), re.DOTALL)
    return str(text)


@pytest.mark.parametrize("written", [first_flat, second_flat])
def the_flat_documents(seeds: Path, written: Any) -> None:
    loaded: Loaded = loads(written(seeds))
    source = yaml.safe_load(written(seeds))
    warned = {warning.path.rpartition(".")[2] for warning in loaded.warnings}
    assert {"reasoning_family", "category_mapping_path"} <= warned
    assert {warning.severity for warning in loaded.warnings} == {"warning"}
    decisions = {decision.name: decision for decision in loaded.config.routing.decisions}
    assert list(decisions) == [category["name"] for category in source["categories"]]
    for category in source["categories"]:
        decision, (score,) = decisions[category["name"]], category["model_scores"]
        (ref,) = decision.modelRefs
        assert (ref.model, ref.lora_name, ref.score) == (score["model"], score.get("lora_name"), score["score"])
        assert (ref.use_reasoning, ref.reasoning_effort) == (score["use_reasoning"], score.get("reasoning_effort"))
        (plugin,) = decision.plugins
        assert decision.priority == 10
        assert plugin.type == "system_prompt" and plugin.configuration.system_prompt == category["system_prompt"]
    (card,) = loaded.config.routing.modelCards
    assert [lora.name for lora in card.loras] == ["technical-lora", "medical-lora", "legal-lora"]
    assert loaded.config.providers.models[0].backend_refs[0].endpoint == "127.0.0.1:8000"


def snippets(seeds: Path) -> list[Any]:
    blocks = re.findall(r"\.\. code-block:: yaml\n\n((?:    .*\n|\s*\n)+)", document(seeds, "003"))
    return [yaml.safe_load(re.sub(r"^(\s*)- # \.\.\..*$", "", textwrap.dedent(block), flags=re.M)) for block in blocks]


def merged(into: Any, part: Any) -> Any:
    """``part`` joined to ``into``: mappings key by key, lists by the names of their items."""
    if isinstance(into, dict) and isinstance(part, dict):
        return {key: merged(into.get(key), part.get(key)) for key in {**into, **part}}
    if isinstance(into, list) and isinstance(part, list):
        by_name = {item.get("name") or item.get("type"): item for item in into}
        return [*by_name.values(), *(item for item in part if (item.get("name") or item.get("type")) not in by_name)]
    return into if part is None else part


def every_snippet_of_the_gateway_guide_in_one_file(seeds: Path) -> None:
    whole: Any = {"version": "v0.3"}
    for snippet in snippets(seeds):
        if isinstance(snippet, dict) and "plugins" in snippet:
            plugged = {"decisions": [{**whole["routing"]["decisions"][0]}]}
            plugged["decisions"][0]["plugins"] = merged(plugged["decisions"][0].get("plugins", []), snippet["plugins"])
            whole["routing"]["decisions"] = plugged["decisions"] + whole["routing"]["decisions"][1:]
        elif isinstance(snippet, dict):
            whole = merged(whole, snippet)
        else:
            where = "decisions" if "rules" in snippet[0] else None
            if where:
                whole["routing"]["decisions"] = merged(whole["routing"]["decisions"], snippet)
            else:
                domains = whole["routing"]["signals"]["domains"]
                whole["routing"]["signals"]["domains"] = merged(domains, snippet)
    loaded = loads(yaml.safe_dump(whole, sort_keys=False))
    config = loaded.config
    assert {model.name: model.reasoning_family for model in config.providers.models} == {
        "qwen3-8b": "qwen3", "llama3-8b-instruct": None,
    }  # fmt: skip
    assert {decision.name: decision.priority for decision in config.routing.decisions} == {
        "math_decision": 10, "cybersecurity_decision": 10,
    }  # fmt: skip
    assert {"math", "physics", "business", "cybersecurity"} <= {
        signal.name for signal in config.routing.signals.domains
    }
    assert [plugin.type for plugin in config.routing.decisions[0].plugins] == ["system_prompt", "semantic-cache"]
    tracing = config.global_.services.observability.tracing
    assert tracing.enabled
    assert (tracing.exporter.type, tracing.exporter.endpoint, tracing.exporter.insecure) == (
        "otlp",
        "jaeger:4317",
        True,
    )


if "SEEDS" in os.environ:
    test_the_flat_documents = the_flat_documents
    test_every_snippet_of_the_gateway_guide_in_one_file = every_snippet_of_the_gateway_guide_in_one_file

    @pytest.fixture
    def seeds() -> Path:
        return Path(os.environ["SEEDS"])
