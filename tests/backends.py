"""What backends answer in the four APIs, whole and as streams cut anywhere: for tests of what happens to answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

CHAT, COMPLETIONS, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"
PATHS = (CHAT, COMPLETIONS, MESSAGES, RESPONSES)


def asking(path: str, *contents: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A conversation: system text, the user's turns with answers between them, a call of a tool and its result."""
    system, *turns = contents
    roles = ("user", "assistant")
    match path:
        case "/v1/completions":
            return {"prompt": "\n".join(contents), **more}
        case "/v1/messages":
            messages: list[dict[str, Any]] = [
                {"role": roles[place % 2], "content": text} for place, text in enumerate(turns)
            ]
            if arguments is not None:
                call = {"type": "tool_use", "id": "t", "name": "send", "input": arguments}
                result = {"type": "tool_result", "tool_use_id": "t", "content": json.dumps(arguments)}
                messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
            return {"system": system, "messages": messages, "max_tokens": 99, **more}
        case "/v1/responses":
            items: list[dict[str, Any]] = [
                {"role": roles[place % 2], "content": text} for place, text in enumerate(turns)
            ]
            if arguments is not None:
                written = json.dumps(arguments)
                items.append({"type": "function_call", "call_id": "t", "name": "send", "arguments": written})
                items.append({"type": "function_call_output", "call_id": "t", "output": written})
            return {"instructions": system, "input": items, **more}
    messages = [{"role": "system", "content": system}]
    messages += [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    if arguments is not None:
        function = {"name": "send", "arguments": json.dumps(arguments)}
        messages.append({"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": function}]})
        messages.append({"role": "tool", "tool_call_id": "t", "content": json.dumps(arguments)})
    return {"messages": messages, **more}


def answering(path: str, text: str, arguments: str | None = None) -> bytes:
    """A whole answer that says ``text`` and calls a tool with ``arguments``."""
    return json.dumps(_answer(path, text, arguments)).encode()


def _answer(path: str, text: str, arguments: str | None) -> dict[str, Any]:
    match path:
        case "/v1/completions":
            return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
        case "/v1/messages":
            blocks: list[dict[str, Any]] = [{"type": "text", "text": text}]
            if arguments is not None:
                blocks.append({"type": "tool_use", "id": "u", "name": "send", "input": json.loads(arguments)})
            head = {"id": "m", "type": "message", "role": "assistant", "model": "m"}
            usage = {"input_tokens": 1, "output_tokens": 1}
            return {**head, "content": blocks, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
        case "/v1/responses":
            part = {"type": "output_text", "text": text, "annotations": []}
            output: list[dict[str, Any]] = [
                {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
            ]
            if arguments is not None:
                output.append(_call(arguments))
            return {**_response("completed"), "output": output}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if arguments is not None:
        message["tool_calls"] = [_tool_call(arguments)]
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def _call(arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "id": "f", "call_id": "u", "name": "send", "arguments": arguments}


def _tool_call(arguments: str) -> dict[str, Any]:
    return {"id": "u", "type": "function", "function": {"name": "send", "arguments": arguments}}


def _response(status: str) -> dict[str, Any]:
    fixed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": status, "output": [], **fixed}


def streaming(path: str, text: Iterable[str], arguments: Iterable[str] | None = None) -> bytes:
    """The events of a stream that says ``text``, then calls a tool with ``arguments``, in these pieces."""
    text, arguments = list(text), list(arguments) if arguments is not None else None
    match path:
        case "/v1/completions":
            events = [{"choices": [{"index": 0, "text": piece, "finish_reason": None}]} for piece in text]
            events.append({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
            return _lines({"id": "c", "object": "text_completion", **each} for each in events) + b"data: [DONE]\n\n"
        case "/v1/messages":
            return _lines(_message_events(text, arguments), named=True)
        case "/v1/responses":
            return _lines(_response_events(text, arguments), named=True)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in text)]
    for place, piece in enumerate(arguments or ()):
        call = _tool_call(piece) if place == 0 else {"function": {"arguments": piece}}
        deltas.append({"tool_calls": [{"index": 0, **call}]})
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _lines({**head, "choices": [choice]} for choice in choices) + b"data: [DONE]\n\n"


def _message_events(text: list[str], arguments: list[str] | None) -> Iterator[dict[str, Any]]:
    whole = _answer("/v1/messages", "", None)
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for piece in text:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield {"type": "content_block_stop", "index": 0}
    if arguments is not None:
        block = {"type": "tool_use", "id": "u", "name": "send", "input": {}}
        yield {"type": "content_block_start", "index": 1, "content_block": block}
        for piece in arguments:
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": 1, "delta": delta}
        yield {"type": "content_block_stop", "index": 1}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


def _response_events(text: list[str], arguments: list[str] | None) -> Iterator[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": _response("in_progress")}]
    item: dict[str, Any] = {"type": "message", "id": "i", "role": "assistant", "status": "in_progress", "content": []}
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
    events.append({"type": "response.content_part.added", **place, "part": part})
    events += [{"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in text]
    text_part = {**part, "text": "".join(text)}
    events.append({"type": "response.output_text.done", **place, "text": "".join(text), "logprobs": []})
    events.append({"type": "response.content_part.done", **place, "part": text_part})
    finished = {**item, "status": "completed", "content": [text_part]}
    events.append({"type": "response.output_item.done", "output_index": 0, "item": finished})
    output = [finished]
    if arguments is not None:
        place, call = {"item_id": "f", "output_index": 1}, _call("")
        events.append({"type": "response.output_item.added", "output_index": 1, "item": call})
        kind = "response.function_call_arguments"
        events += [{"type": f"{kind}.delta", **place, "delta": piece} for piece in arguments]
        events.append({"type": f"{kind}.done", **place, "name": "send", "arguments": "".join(arguments)})
        output.append(_call("".join(arguments)))
        events.append({"type": "response.output_item.done", "output_index": 1, "item": output[1]})
    events.append({"type": "response.completed", "response": {**_response("completed"), "output": output}})
    return ({**event, "sequence_number": number} for number, event in enumerate(events))


def _lines(events: Iterable[dict[str, Any]], *, named: bool = False) -> bytes:
    return b"".join(
        (f"event: {event['type']}\n".encode() if named else b"") + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    )


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each is whole, and named if it has a type."""
    events = []
    for block in stream.decode().split("\n\n"):
        lines = block.split("\n")
        for line in lines:
            if line.startswith("data: ") and line != "data: [DONE]":
                events.append(json.loads(line[6:]))
                named = [other[7:] for other in lines if other.startswith("event: ")]
                assert not named or named == [events[-1].get("type")]
    return events


def content_of(path: str, answer: bytes, *, streamed: bool) -> tuple[str, Any]:
    """The text of an answer, and the arguments of the call in it."""
    if not streamed:
        return _said_whole(path, json.loads(answer))
    events = events_of(answer)
    match path:
        case "/v1/completions":
            return "".join(choice["text"] for event in events for choice in event["choices"]), None
        case "/v1/messages":
            deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
            written = "".join(delta.get("partial_json", "") for delta in deltas)
            return "".join(delta.get("text", "") for delta in deltas), json.loads(written) if written else None
        case "/v1/responses":
            numbers = [event["sequence_number"] for event in events]
            assert numbers == list(range(len(numbers)))
            pieces = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
            kind = "response.function_call_arguments.delta"
            written = "".join(event["delta"] for event in events if event["type"] == kind)
            text, called = _said_whole(path, events[-1]["response"])
            assert (text, called) == ("".join(pieces), json.loads(written) if written else None)
            return text, called
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(call.get("name", "") for call in calls) in ("", "send")
    written = "".join(call["arguments"] for call in calls)
    return "".join(delta.get("content") or "" for delta in deltas), json.loads(written) if written else None


def _said_whole(path: str, answer: dict[str, Any]) -> tuple[str, Any]:
    match path:
        case "/v1/completions":
            return answer["choices"][0]["text"], None
        case "/v1/messages":
            text = "".join(block.get("text", "") for block in answer["content"])
            return text, next((block["input"] for block in answer["content"] if block["type"] == "tool_use"), None)
        case "/v1/responses":
            text = answer["output"][0]["content"][0]["text"]
            return text, json.loads(answer["output"][1]["arguments"]) if len(answer["output"]) > 1 else None
    message = answer["choices"][0]["message"]
    calls = message.get("tool_calls")
    return message["content"], json.loads(calls[0]["function"]["arguments"]) if calls else None
