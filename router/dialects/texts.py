"""Every text of a request that a model reads, wherever it stands in the body: to look at, or to be replaced.

A list of the places where text may stand would be one short some day. So all strings count, except in members that are
known to be names, switches or encoded media.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_router.errors import MalformedRequest

if TYPE_CHECKING:
    from triton_router.dialects.request import ModelRequest


class Text(NamedTuple):
    """A string of a request. ``where`` names its part, such as `tool 3`, and quotes nothing."""

    text: str
    where: str


Change = Callable[[str, str], str]
"""Gets a text and where it stands; returns what takes its place."""

# Members of a body that no model reads.
_UNREAD = frozenset({
    "bad_words", "cache_control", "cache_salt", "container", "context_management", "conversation",
    "encoding_format", "frequency_penalty", "function_call", "guided_decoding_backend", "include", "inference_geo",
    "kv_transfer_params", "logit_bias", "mcp_servers", "media_io_kwargs", "metadata", "mm_processor_kwargs",
    "modalities", "model", "parallel_tool_calls", "previous_response_id", "priority", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "reasoning", "reasoning_effort", "request_id",
    "safety_identifier", "service_tier", "session_id", "speed", "stop", "stop_sequences", "store", "stream",
    "stream_options", "thinking", "tool_choice", "truncation", "user", "verbosity", "vllm_xargs",
})  # fmt: skip
# Strings within a message that the API reads, not the model.
_STRUCTURE = frozenset({
    "cache_control", "call_id", "container_id", "detail", "encrypted_content", "file_id", "file_url", "format",
    "id", "item_id", "media_type", "mime_type", "role", "server_label", "signature", "status", "tool_call_id",
    "tool_use_id", "type",
})  # fmt: skip
_ENCODED = frozenset({"data", "file_data", "b64_json"})
_ADDRESSES = frozenset({"url", "image_url", "video_url", "audio_url", "file_data"})
# What a tool is called with: the model's and the client's own JSON, in which every member counts, numbers too.
_ARGUMENTS = frozenset({"arguments", "input", "chat_template_kwargs", "variables"})
_CALLS = frozenset({"tool_calls", "function_call"})


def texts_of(request: ModelRequest) -> list[Text]:
    """All of them as sent: system text, whatever is no conversation, then that in its order.

    Raises:
        MalformedRequest: the body is nested too deep.
    """
    texts: list[Text] = []

    def note(text: str, where: str) -> str:
        texts.append(Text(text, where))
        return text

    for _ in _members(request, note):
        pass
    return texts


def change_texts(request: ModelRequest, change: Change) -> None:
    """Put what ``change`` returns in the place of each text; it is called in the order of :func:`texts_of`."""
    for name, value, changed in _members(request, change):
        if changed is value:
            continue
        if isinstance(value, list):
            request.edit_elements(name, partial(_written, value, changed))
        else:
            request.set(name, changed)


def _written(old: list[Any], new: list[Any], texts: list[str], _: list[Any]) -> list[str]:
    """The elements of ``new``; those that are as in ``old`` keep their exact text."""
    return [
        text if one is other else json.dumps(other, separators=(",", ":"))
        for text, one, other in zip(texts, old, new, strict=True)
    ]


def _members(request: ModelRequest, change: Change) -> Iterator[tuple[str, Any, Any]]:
    """Each member with its value as it is, and with its texts changed."""
    others = (name for name in request.members if name != request.CONVERSATION)
    for name in dict.fromkeys(("system", "instructions", *others, request.CONVERSATION)):
        value = request.get(name)
        if value is None or name in _UNREAD:
            continue
        try:
            if name == request.CONVERSATION:
                yield name, value, _conversation(value, change)
            elif name in _ARGUMENTS:
                yield name, value, _arguments(value, name, change)
            else:
                yield name, value, _changed(value, name, change)
        except RecursionError:
            problem = "the body is nested too deep"
        else:
            continue
        raise MalformedRequest(problem, name)


def _conversation(value: Any, change: Change) -> Any:
    if not isinstance(value, list):
        return _changed(value, "user 0", change)
    return _same(value, [_changed(item, f"{_speaker(item)} {place}", change) for place, item in enumerate(value)])


def _speaker(item: Any) -> str:
    """The role of a message, or what an item of another kind stands for."""
    if not isinstance(item, dict):
        return "user"
    role, kind = item.get("role"), item.get("type")
    if isinstance(role, str) and role:
        return role if role.isidentifier() else "unknown"
    kind = kind if isinstance(kind, str) else ""
    return "call" if kind.endswith("_call") else "tool" if kind.endswith("_output") else "assistant"


def _changed(value: Any, where: str, change: Change) -> Any:
    """``value`` with its texts changed; the same object where none was."""
    match value:
        case str():
            return change(value, where) if value else value
        case list():
            return _same(value, [_changed(item, where, change) for item in value])
        case dict():
            return _object(value, where, change)
    return value


def _object(holder: dict[str, Any], where: str, change: Change) -> dict[str, Any]:
    kind = holder.get("type")
    if kind == "tool_result":
        where = _within(where, "tool")
    changed = {}
    for name, value in holder.items():
        if isinstance(value, str) and (name in _STRUCTURE or _is_encoded(holder, name, value)):
            changed[name] = value
        elif name == "name" and "role" not in holder and isinstance(value, str):
            changed[name] = value  # of a tool
        elif name in _ARGUMENTS:
            changed[name] = _arguments(value, _within(where, "call"), change)
        else:
            changed[name] = _changed(value, _within(where, "call") if name in _CALLS else where, change)
    return holder if all(changed[name] is value for name, value in holder.items()) else changed


def _is_encoded(holder: dict[str, Any], name: str, value: str) -> bool:
    """Whether a string is an image, a sound or a file."""
    if name in _ENCODED and holder.get("type") != "text":
        return True
    return name in _ADDRESSES and value.startswith("data:")


def _arguments(value: Any, where: str, change: Change) -> Any:
    """The client's own JSON, as such or written into a string: valid JSON it stays."""
    if not isinstance(value, str):
        return _own(value, where, change)
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict | list):
        return _changed(value, where, change)
    changed = _own(parsed, where, change)
    return value if changed is parsed else json.dumps(changed, ensure_ascii=False, separators=(",", ":"))


def _own(value: Any, where: str, change: Change) -> Any:
    match value:
        case list():
            return _same(value, [_own(item, where, change) for item in value])
        case dict():
            pairs = [(_changed(name, where, change), _own(item, where, change)) for name, item in value.items()]
            same = all(
                new is item and name is old for (name, new), (old, item) in zip(pairs, value.items(), strict=True)
            )
            return value if same else dict(pairs)
        case int() | float() if not isinstance(value, bool):
            written = json.dumps(value)
            changed = change(written, where)
            return value if changed == written else changed
    return _changed(value, where, change)


def _within(where: str, part: str) -> str:
    """The name of a ``part`` of what stands at ``where``."""
    _, space, number = where.partition(" ")
    return part + space + number if space else where


def _same(old: list[Any], new: list[Any]) -> list[Any]:
    return old if all(one is other for one, other in zip(old, new, strict=True)) else new
