"""What the kickstart brings beside its configuration: the chat template, rendered as vLLM renders one; the hook."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "deploy" / "kickstart" / "phi2-chat-template.jinja"


def rendered(*messages: dict[str, Any], add_generation_prompt: bool = True) -> str:
    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    # The options of transformers' apply_chat_template, which vLLM calls.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(messages=list(messages), add_generation_prompt=add_generation_prompt)


def test_the_charts_copy_is_the_same() -> None:
    values = yaml.safe_load((ROOT / "deploy/helm/triton-router/values/kickstart.yaml").read_text())
    (base,) = values["vllm"]["servers"]
    assert base["chatTemplate"] == TEMPLATE.read_text().rstrip("\n")


def reply(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_question() -> None:
    assert rendered(reply("user", "Why is the sky blue?")) == "Instruct: Why is the sky blue?\nOutput:"


def test_a_conversation_with_system_text() -> None:
    text = rendered(
        reply("system", "Be brief."), reply("user", "Hi"), reply("assistant", "Hello."), reply("user", "Who are you?")
    )
    assert text == "Be brief.\n\nInstruct: Hi\nOutput: Hello.\nInstruct: Who are you?\nOutput:"


def test_text_in_parts_without_the_pictures() -> None:
    parts = [
        {"type": "text", "text": "first "},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "second"},
    ]
    assert rendered(reply("user", parts), add_generation_prompt=False) == "Instruct: first\nsecond\n"


def test_an_assistant_that_said_nothing() -> None:
    assert rendered(reply("assistant", None), add_generation_prompt=False) == "Output: \n"


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(TemplateError, match="narrator"):
        rendered(reply("narrator", "Once upon a time"))


def test_the_litellm_hook_needs_nothing_of_the_router() -> None:
    """It is copied into environments where only LiteLLM is installed."""
    tree = ast.parse((ROOT / "router" / "integrations" / "litellm.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.partition(".")[0]
        for node in imports
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name is not None
    }
    assert names - sys.stdlib_module_names == {"aiohttp", "fastapi", "litellm"}
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in imports)
