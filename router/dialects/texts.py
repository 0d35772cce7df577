"""Every text of a request that a model reads, wherever it stands in the body: to look at, or to be replaced.

A list of the places where text may stand would be one short some day. So all strings count, names of members and long
numbers too, except for top-level members that no model reads. Names, ids and encoded media are told by how they look:
a chat template may write a role or a tool's name into the prompt, whatever it is.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_router.body import unique
from triton_router.errors import MalformedRequest
from triton_router.jsontext import LONG_NUMBER

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
# Strings within a message that are names, ids or switches.
_STRUCTURE = frozenset({
    "cache_control", "call_id", "container_id", "detail", "file_id", "format", "id", "item_id", "media_type",
    "mime_type", "role", "server_label", "status", "tool_call_id", "tool_use_id", "type",
})  # fmt: skip
# No sentence, and no number of many digits.
_NAME = re.compile(r"(?=.*[a-zA-Z]|.{1,6}$)[\w.:;/+=-]{1,64}", re.ASCII)
_MEDIA = frozenset({
    "audio_url", "b64_json", "data", "encrypted_content", "file_data", "file_url", "image_url", "signature", "url",
    "video_url",
})  # fmt: skip
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\r\n"
_DATA_URL = re.compile(r"data:[\w/.+-]*(?:;[\w=.-]+)*;base64,", re.ASCII)
# Shorter ones are no image; of longer ones so many characters tell whether they are.
_LEAST_MEDIA, _HEAD = 32, 1024
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


def spoken(where: str) -> bool:
    """Whether a part at ``where`` is one of the conversation's, not what stands beside it."""
    return " " in where


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
        if name in _UNREAD or not isinstance(value, str | list | dict):
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
        case int() | float() if abs(value) >= LONG_NUMBER:
            return _number(value, where, change)
    return value


def _object(holder: dict[str, Any], where: str, change: Change) -> dict[str, Any]:
    if holder.get("type") == "tool_result":
        where = _within(where, "tool")
    changed = {}
    for name, value in holder.items():
        if isinstance(value, str) and _is_no_text(holder, name, value):
            new: Any = value
        elif name in _ARGUMENTS:
            new = _arguments(value, _within(where, "call"), change)
        else:
            new = _changed(value, _within(where, "call") if name in _CALLS else where, change)
        changed[name if _is_name(name) else change(name, where)] = new
    return holder if _unchanged(changed, holder) else changed


def _is_no_text(holder: dict[str, Any], name: str, value: str) -> bool:
    """Whether a string is a name, an image, a sound or a file."""
    if name in _STRUCTURE or (name == "name" and "role" not in holder):  # of a tool
        return _is_name(value)
    return name in _MEDIA and _is_media(value)


def _is_name(value: str) -> bool:
    short = len(value) <= 64 and value.isascii()
    return short and (value.isidentifier() or _NAME.fullmatch(value) is not None)


def _is_media(value: str) -> bool:
    """Whether ``value`` is base64, and of no text."""
    url = _DATA_URL.match(value)
    encoded = value[url.end() :] if url else value
    if len(encoded) < _LEAST_MEDIA or not encoded.isascii() or encoded.encode().translate(None, _BASE64):
        return False
    head = encoded[:_HEAD].encode().translate(None, b"=\r\n")
    decoded = base64.urlsafe_b64decode(head[: len(head) // 4 * 4])
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return error.start < len(decoded) - 3
    return not "".join(text.split()).isprintable()


def _arguments(value: Any, where: str, change: Change) -> Any:
    """The client's own JSON, as such or written into a string: valid JSON it stays."""
    if not isinstance(value, str):
        return _own(value, where, change)
    try:
        parsed = json.loads(value, object_pairs_hook=unique)
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
            changed = {_changed(name, where, change): _own(item, where, change) for name, item in value.items()}
            return value if _unchanged(changed, value) else changed
        case int() | float() if not isinstance(value, bool):
            return _number(value, where, change)
    return _changed(value, where, change)


def _number(value: float, where: str, change: Change) -> Any:
    written = json.dumps(value)
    changed = change(written, where)
    return value if changed == written else changed


def _within(where: str, part: str) -> str:
    """The name of a ``part`` of what stands at ``where``."""
    _, space, number = where.partition(" ")
    return part + space + number if space else where


def _unchanged(new: dict[str, Any], old: dict[str, Any]) -> bool:
    pairs = zip(new.items(), old.items(), strict=False)
    return len(new) == len(old) and all(one[0] is two[0] and one[1] is two[1] for one, two in pairs)


def _same(old: list[Any], new: list[Any]) -> list[Any]:
    return old if all(one is other for one, other in zip(old, new, strict=True)) else new
