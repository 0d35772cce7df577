"""A file of probes, in the form of vLLM Semantic Router's recipes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field, model_validator

from triton_router.config.loader import read_form
from triton_router.config.section import LowerHeaderName, Name, Section

# Text that says nothing: long prompts are filled up with it.
_FILLER = "This sentence takes up room. "


class Padding(Section):
    """Text in front of a query, behind it or on both sides, ``repeat`` times in all."""

    text: str = Field(description="The text.")
    repeat: int = Field(1, ge=0, le=1_000_000, description="How often.")
    placement: Literal["before", "after", "around"] = Field("after", description="Where.")


class GeneratedText(Section):
    """A piece of text that brings all the text of a request to a length."""

    message_index: int = Field(0, ge=0, description="Message that it is put into.")
    content_index: int = Field(0, ge=0, description="Place among the pieces of that message.")
    target_text_bytes: int = Field(ge=0, le=64_000_000, description="Length of the request's text with it.")


class Variant(Section):
    """One probe."""

    NOT_ACTIVE = frozenset({"display_prompt", "playground", "forbidden_signals"})

    id: Name = Field(description="Name among the probes of its decision.")
    query: str | None = Field(None, description="What the user says; or `messages`.")
    messages: list[dict[str, Any]] | None = Field(None, description="A conversation, as chat completions have it.")
    tools: list[dict[str, Any]] | None = Field(None, description="Tools that the request declares.")
    headers: dict[LowerHeaderName, str] = Field(default_factory=dict, description="Request headers.")
    repeat: int = Field(1, ge=1, le=1_000_000, description="How often the query is said.")
    padding: Padding | None = Field(None, description="Text around the query.")
    generated_text: GeneratedText | None = Field(None, description="Text up to a length.")
    expected_signals: dict[str, list[str]] = Field(
        default_factory=dict, description="Signals that should match, by kind or by their list under `signals`."
    )
    tags: list[str] = Field(
        default_factory=list, description="What pass rates are given by; `GROUP:NAME` counts as GROUP."
    )
    notes: str | None = Field(None, description="For people.")

    @model_validator(mode="after")
    def _says_something(self) -> Variant:
        if (self.query is None) == (self.messages is None):
            raise ValueError("a probe has either `query` or `messages`")
        return self


class ProbedDecision(Section):
    """Probes that should lead to one decision."""

    NOT_ACTIVE = frozenset({"expected_algorithm", "expected_plugins", "forbidden_signals"})

    id: Name = Field(description="Name of the group.")
    model: Name | None = Field(None, description="Virtual model that is asked; default: that of `routing`.")
    expected_recipe: Name | None = Field(None, description="Recipe that should be chosen.")
    expected_decision: Name = Field(description="Decision that should be chosen.")
    expected_alias: Name | None = Field(None, description="Model or adapter that should serve.")
    objective: str | None = Field(None, description="For people.")
    notes: str | None = Field(None, description="For people.")
    variants: list[Variant] = Field(min_length=1, description="The probes.")


class Acceptance(Section):
    """Least percentages; without them every probe has to pass."""

    min_probe_pass_rate: float = Field(100, ge=0, le=100, description="Of all probes.")
    min_decision_pass_rate: float = Field(100, ge=0, le=100, description="Of groups whose probes all pass.")


class Coverage(Section):
    """What the file claims of itself; of these only rates by tag are asked for."""

    NOT_ACTIVE = frozenset({"min_signal_assertion_percent", "min_projection_assertion_percent", "min_tag_counts",
                            "min_algorithm_assertion_percent", "min_plugin_assertion_percent",
                            "required_request_shapes"})  # fmt: skip

    min_tag_pass_rate: dict[str, float] = Field(
        default_factory=dict, description="Least percentage of the probes with a tag, or with one of its group."
    )


class Fixture(Section):
    description: str | None = Field(None, description="For people.")
    media_type: Name = Field("image/png", description="Media type.")
    sha256: str | None = Field(None, description="For people.")
    data_base64: str = Field(description="The image.")


class Fixtures(Section):
    images: dict[str, Fixture] = Field(default_factory=dict, description="Images that messages name.")


class Evaluation(Section):
    NOT_ACTIVE = frozenset({"concurrency"})

    request_timeout_seconds: float = Field(60, gt=0, le=3600, description="Longest that one probe may take.")


class ProbeFile(Section):
    """A whole file."""

    NOT_ACTIVE = frozenset({"routing_assets", "router_eval_endpoint"})

    schema_version: Literal["v1"] = Field("v1", description="Form of the file.")
    name: Name = Field("probes", description="Name of the suite.")
    description: str | None = Field(None, description="For people.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How probes are run.")
    acceptance: Acceptance = Field(default_factory=Acceptance, description="What has to pass.")
    coverage: Coverage = Field(default_factory=Coverage, description="What has to pass by tag.")
    fixtures: Fixtures = Field(default_factory=Fixtures, description="Images.")
    decisions: list[ProbedDecision] = Field(min_length=1, description="Probes by decision.")


@dataclass(frozen=True, slots=True)
class Probe:
    """One request, and what should come of it. ``signals`` are kinds (or lists) and names that should match."""

    group: str
    name: str
    body: bytes
    decision: str
    recipe: str | None = None
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()


def read(path: Path) -> ProbeFile:
    """Read a file of probes.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong.
    """
    return read_form(path, ProbeFile)


def probes(file: ProbeFile) -> Iterator[Probe]:
    """The probes of ``file`` as requests, in order."""
    for decision in file.decisions:
        for variant in decision.variants:
            request = {"model": decision.model, "messages": _messages(variant, file.fixtures), "tools": variant.tools}
            yield Probe(
                group=decision.id,
                name=variant.id,
                body=orjson.dumps({key: value for key, value in request.items() if value is not None}),
                decision=decision.expected_decision,
                recipe=decision.expected_recipe,
                model=decision.expected_alias,
                headers=variant.headers,
                signals=tuple((of, name) for of, names in variant.expected_signals.items() for name in names),
                tags=tuple(dict.fromkeys([*variant.tags, *_shape(variant)])),
            )


def _shape(variant: Variant) -> Iterator[str]:
    yield "shape:messages" if variant.messages else "shape:text"
    if variant.tools:
        yield "shape:tools"
    if variant.messages and sum(message.get("role") == "user" for message in variant.messages) > 1:
        yield "multi_turn"


def _messages(variant: Variant, fixtures: Fixtures) -> list[dict[str, Any]]:
    if variant.messages is None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _query(variant)}]
    else:
        messages = [{**each, "content": _content(each.get("content"), fixtures)} for each in variant.messages]
    if variant.generated_text is not None and variant.generated_text.message_index < len(messages):
        _lengthen(messages, variant.generated_text)
    return messages


def _query(variant: Variant) -> str:
    query = " ".join([variant.query or ""] * variant.repeat)
    if variant.padding is None:
        return query
    padding = variant.padding
    before = {"before": padding.repeat, "after": 0, "around": padding.repeat // 2}[padding.placement]
    return f"{padding.text * before} {query} {padding.text * (padding.repeat - before)}".strip()


def _content(content: Any, fixtures: Fixtures) -> Any:
    if not isinstance(content, list):
        return content
    return [_image(piece, fixtures) if piece.get("type") == "image_fixture" else piece for piece in content]


def _image(piece: dict[str, Any], fixtures: Fixtures) -> dict[str, Any]:
    image = fixtures.images.get(str(piece.get("fixture")))
    data = "" if image is None else base64.b64encode(base64.b64decode(image.data_base64)).decode()
    url = f"data:{image.media_type if image else 'image/png'};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _lengthen(messages: list[dict[str, Any]], target: GeneratedText) -> None:
    message = messages[target.message_index]
    content = message["content"]
    pieces = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    missing = target.target_text_bytes - sum(len(text.encode()) for each in messages for text in _texts(each))
    filler = (_FILLER * (max(missing, 0) // len(_FILLER) + 1))[: max(missing, 0)]
    place = min(target.content_index, len(pieces))
    message["content"] = [*pieces[:place], {"type": "text", "text": filler}, *pieces[place:]]


def _texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for piece in content if isinstance(content, list) else ():
        if isinstance(piece.get("text"), str):
            yield piece["text"]
