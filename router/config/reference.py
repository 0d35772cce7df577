"""The configuration reference, written from the schema.

``python -m triton_router.config.reference > docs/configuration.md``
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from triton_router.config.schema import Config
from triton_router.config.section import Section

EXAMPLE = """\
version: v0.3
providers:
  defaults:
    default_model: small
    reasoning_families:
      qwen3: {type: chat_template_kwargs, parameter: enable_thinking}
  models:
    - name: big
      reasoning_family: qwen3
      backend_refs:
        - {endpoint: "10.0.0.7:8000", weight: 3}
        - {endpoint: "10.0.0.8:8000", weight: 1}
    - name: small
      backend_refs: [{endpoint: "small.models.svc.cluster.local:8000"}]
routing:
  strategy: priority
  modelCards:
    - name: small
      loras: [{name: tax-lora, description: Income tax questions}]
  signals:
    domains:
      - {name: math}
      - {name: tax law, description: "income tax, deductions, returns"}
      - {name: other}
    keywords:
      - {name: thorough, keywords: [step by step, show your work]}
  decisions:
    - name: think
      priority: 20
      rules:
        operator: OR
        conditions:
          - {type: domain, name: math}
          - operator: AND
            conditions:
              - {type: keyword, name: thorough}
              - operator: NOT
                conditions: [{type: domain, name: tax law}]
      modelRefs: [{model: big, use_reasoning: true}]
      plugins:
        - type: system_prompt
          configuration: {mode: insert, system_prompt: Check your result before you give it.}
    - name: tax
      priority: 10
      rules: {type: domain, name: tax law}
      modelRefs: [{model: small, lora_name: tax-lora}]
global:
  inference: {endpoint: "127.0.0.1:8001", deadline_ms: 300}
"""

_HEAD = f"""\
# Configuration

This page lists every key of the v0.3 form that this version reads. `python -m triton_router.config.reference`
generates it from the schema. `triton-router check --config FILE` reports every mistake at once.
`triton-router config-schema` prints a JSON Schema for editors. An unlisted key is an error.
Keys marked "known, not active" belong to vLLM Semantic Router's form. They give a warning and have no effect here.

```yaml
{EXAMPLE}```
"""


def markdown() -> str:
    """The whole page."""
    sections = "\n".join(_section(path, model) for path, model in _sections("", Config))
    return f"{_HEAD}\n{sections}"


def _sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    if path == "recipes[].routing":
        # The tables of `routing` say it all.
        return
    for name, field in model.model_fields.items():
        below = f"{path}.{field.alias or name}".removeprefix(".")
        for section, suffix in models_in(field.annotation):
            # A rule holds rules: one table says it all.
            if section is not model:
                yield from _sections(f"{below}{suffix}", section)


def models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The sections in a type, each with what follows the key in its path: `[]` in a list, `.NAME` in a mapping."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        suffix += "[]"
    elif origin is dict:
        suffix += ".NAME"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
    for argument in arguments:
        yield from models_in(argument, suffix)


def _section(path: str, model: type[BaseModel]) -> str:
    kind = model.model_fields.get("type")
    choice = f" (`type: {typing.get_args(kind.annotation)[0]}`)" if kind and path.endswith("plugins[]") else ""
    lines = [f"## `{path}`{choice}" if path else "## The file", ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(name, field) for name, field in model.model_fields.items()]
    inactive = model.NOT_ACTIVE if issubclass(model, Section) else frozenset()
    if inactive:
        lines += ["", "Known, not active: " + ", ".join(f"`{key}`" for key in sorted(inactive)) + "."]
    return "\n".join([*lines, ""])


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or ("Kind of plugin." if name == "type" else "")
    return f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {meaning} |".replace("\n", " ")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.default in ((), None, PydanticUndefined):
        return "—"
    value = field.default
    shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


_WORDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}


def _type(field: FieldInfo) -> str:
    words = _words(field.annotation)
    least = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    most = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    if least is not None and most is not None:
        words += f", {least} to {most}"
    elif least is not None:
        words += f", at least {least}"
    return words


def _words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return "mapping by name"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_words(item) for item in arguments if item is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _WORDS.get(annotation, "text")


if __name__ == "__main__":
    print(markdown(), end="")
