"""A small server shaped like vLLM, OpenAI's APIs and Anthropic's, for demonstrations and tests: it generates nothing.

Every answer carries a ``demo`` field with what arrived: the model name, the system texts, the other top-level fields
the gateway's headers and the names of the credentials, so that ``curl`` shows what the router did.

The request header ``x-demo-script`` scripts an answer: ``key=value`` pairs joined by ``;`` (a word without ``=`` is
only a label), for example ``slow-stream;chunks=500;seconds=20;tools=1``.

========== ==========================================================================================================
key        effect
========== ==========================================================================================================
chunks     number of text chunks of a streamed answer
seconds    time over which they are spread
delay      seconds before the answer begins
tools      ``1``: call one of the request's tools instead of answering in text
tool       its name (default: the first one); without a tool of that name the answer is text
arguments  of the call, as JSON without ``;``
results    answer in text once the conversation has so many results of tools
thoughts   ``1``: think aloud before the answer
echo       repeat what the user said last, in pieces of so many characters
status     answer with this HTTP status and an error
reset      break the connection after this many chunks (of a streamed answer)
========== ==========================================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from triton_router.stack.demo_turn import DemoModel, Json, Script, Turn

_SHOWN_HEADERS = (
    "x-selected-model", "x-gateway-base-model-name", "x-request-id", "accept-encoding", "anthropic-version",
    "anthropic-beta", "traceparent", "tracestate",
)  # fmt: skip
_CREDENTIALS = ("authorization", "x-api-key")
_CONTENT_FIELDS = frozenset({"model", "messages", "prompt", "input", "system", "instructions"})


def application(models_by_port: Mapping[int, Sequence[DemoModel]]) -> Starlette:
    """The server. A port without models answers for any model name."""

    async def models(request: Request) -> Response:
        served = models_by_port.get(_port(request), ())
        entries = [entry for model in served for entry in _model_entries(model)]
        return JSONResponse({"object": "list", "data": entries})

    async def health(_: Request) -> Response:
        return Response(status_code=200)

    async def generate(request: Request) -> Response:
        api = _APIS[request.url.path]
        try:
            body = json.loads(await request.body())
            script = Script.parse(request.headers.get("x-demo-script", ""))
        except ValueError as error:
            return api.failure(400, f"The request cannot be read: {error}", "BadRequestError")
        if not isinstance(body, dict):
            return api.failure(400, "The request must be a JSON object.", "BadRequestError")
        served = models_by_port.get(_port(request), ())
        served_names = {name for model in served for name in (model.name, *model.loras)}
        model = str(body.get("model", ""))
        if served_names and model not in served_names:
            return api.failure(404, f"The model `{model}` does not exist.", "NotFoundError")
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.status is not None:
            return api.failure(script.status, "The request failed as its script says.", "InternalServerError")
        turn = Turn(model, body, script, _demo(request, body), _pieces(model, script, body))
        if body.get("stream") is True and api.stream is not None:
            return StreamingResponse(_played(api.stream(turn), script), media_type="text/event-stream")
        if script.seconds:
            await asyncio.sleep(script.seconds)
        return JSONResponse({**api.whole(turn), "demo": turn.demo})

    routes = [Route(path, generate, methods=["POST"]) for path in _APIS]
    return Starlette(routes=[*routes, Route("/v1/models", models), Route("/health", health)])


def _port(request: Request) -> int:
    server = request.scope.get("server")
    return int(server[1]) if server else 0


def _model_entries(model: DemoModel) -> Iterator[Json]:
    shared = {"object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 32768}
    yield {"id": model.name, **shared, "root": model.name, "parent": None}
    for lora in model.loras:
        yield {"id": lora, **shared, "root": lora, "parent": model.name}


def _failure(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _anthropic_failure(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"type": "error", "error": {"type": kind, "message": message}}, status)


def _pieces(model: str, script: Script, body: Json) -> list[str]:
    if script.echo is not None:
        text = _said_last(body)
        return [text[start : start + script.echo] for start in range(0, len(text), script.echo)]
    if script.chunks is not None:
        return [f"{number} " for number in range(script.chunks)]
    return [f"{word} " for word in f"This is a demo answer of {model}.".split()]


def _said_last(body: Json) -> str:
    spoken = body.get("messages", body.get("input", body.get("prompt")))
    if isinstance(spoken, list):
        turns = [item for item in spoken if isinstance(item, dict) and item.get("role") == "user"]
        spoken = turns[-1].get("content") if turns else ""
    return _text(spoken)


def _demo(request: Request, body: Json) -> Json:
    headers = {
        name: value for name, value in request.headers.items() if name in _SHOWN_HEADERS or name.startswith("x-vsr-")
    }
    fields = {key: value for key, value in body.items() if key not in _CONTENT_FIELDS}
    received = {"model": body.get("model"), "system": list(_system_texts(body)), "fields": fields}
    credentials = [name for name in _CREDENTIALS if name in request.headers]
    return {
        "path": request.url.path,
        "port": _port(request),
        "received": received,
        "headers": headers,
        "credentials": credentials,
    }


def _system_texts(body: Json) -> Iterator[str]:
    for key in ("system", "instructions"):
        if key in body:
            yield _text(body[key])
    messages = body.get("messages", body.get("input"))
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            yield _text(message.get("content"))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else json.dumps(content)


async def _played(frames: Iterator[str], script: Script) -> AsyncIterator[str]:
    """The frames, at the speed and up to the point that the script names."""
    pause = script.seconds / script.chunks if script.chunks else 0.0
    for number, frame in enumerate(frames):
        if script.reset is not None and number >= script.reset:
            raise ConnectionResetError("the script asks for a broken connection")
        yield frame
        if pause:
            await asyncio.sleep(pause)


# --- chat completions ----------------------------------------------------------------------------------------------


def _usage(turn: Turn) -> Json:
    prompt, completion = turn.prompt_tokens, len(turn.pieces)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chat(turn: Turn) -> Json:
    message: Json = {"role": "assistant", "content": turn.text}
    if turn.thoughts:
        message["reasoning"] = "".join(turn.thoughts)
    reason = "stop"
    if turn.tool is not None:
        function = {"name": turn.tool, "arguments": turn.arguments}
        call = {"id": f"call_{turn.id}", "type": "function", "function": function}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": f"chatcmpl-{turn.id}",
        "object": "chat.completion",
        "created": turn.created,
        "model": turn.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": _usage(turn),
    }


def _chat_stream(turn: Turn) -> Iterator[str]:
    def chunk(delta: Json, reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _event(_chunk(turn, "chat.completion.chunk", [choice]) | more)

    yield chunk({"role": "assistant", "content": ""}, demo=turn.demo)
    for thought in turn.thoughts:
        yield chunk({"reasoning": thought})
    if turn.tool is not None:
        head = {"index": 0, "id": f"call_{turn.id}", "type": "function"}
        yield chunk({"tool_calls": [{**head, "function": {"name": turn.tool, "arguments": ""}}]})
        # As long as the text would have been: arguments that no script has stream like words.
        for piece in [turn.script.arguments] if turn.script.arguments else ['{"note": "', *turn.pieces, '"}']:
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for piece in turn.pieces:
            yield chunk({"content": piece})
    yield chunk({}, "stop" if turn.tool is None else "tool_calls")
    yield from _last_frames(turn, "chat.completion.chunk")


def _chunk(turn: Turn, kind: str, choices: list[Json]) -> Json:
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{turn.id}",
        "object": kind,
        "created": turn.created,
        "model": turn.model,
        "choices": choices,
    }


def _last_frames(turn: Turn, kind: str) -> Iterator[str]:
    if (turn.body.get("stream_options") or {}).get("include_usage"):
        yield _event(_chunk(turn, kind, []) | {"usage": _usage(turn)})
    yield "data: [DONE]\n\n"


def _event(data: Json, name: str | None = None) -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


# --- completions, embeddings ---------------------------------------------------------------------------------------


def _completion(turn: Turn) -> Json:
    choice = {"index": 0, "text": turn.text, "finish_reason": "stop", "logprobs": None}
    return _chunk(turn, "text_completion", [choice]) | {"usage": _usage(turn)}


def _completion_stream(turn: Turn) -> Iterator[str]:
    for piece in turn.pieces:
        yield _event(_chunk(turn, "text_completion", [{"index": 0, "text": piece, "finish_reason": None}]))
    yield _event(_chunk(turn, "text_completion", [{"index": 0, "text": "", "finish_reason": "stop"}]))
    yield from _last_frames(turn, "text_completion")


def _embedding(turn: Turn) -> Json:
    source = turn.body.get("input", "")
    texts = source if isinstance(source, list) else [source]
    vectors = [[byte / 255 for byte in hashlib.sha256(repr(text).encode()).digest()[:8]] for text in texts]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": turn.prompt_tokens, "total_tokens": turn.prompt_tokens}
    return {"object": "list", "data": data, "model": turn.model, "usage": usage}


# --- responses -----------------------------------------------------------------------------------------------------


def _response(turn: Turn, status: str = "completed") -> Json:
    completed = status == "completed"
    tokens = {"input_tokens": turn.prompt_tokens, "output_tokens": len(turn.pieces)}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    shared = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": turn.body.get("tools") or []}
    return {
        "id": f"resp_{turn.id}",
        "object": "response",
        "created_at": turn.created,
        "status": status,
        "model": turn.model,
        "instructions": turn.body.get("instructions"),
        "error": None,
        "incomplete_details": None,
        "metadata": turn.body.get("metadata"),
        "temperature": turn.body.get("temperature", 1.0),
        "top_p": turn.body.get("top_p", 1.0),
        **shared,
        "output": _output(turn) if completed else [],
        "usage": {**tokens, **details, "total_tokens": sum(tokens.values())} if completed else None,
    }


def _output(turn: Turn) -> list[Json]:
    """The finished items of a response."""
    items: list[Json] = []
    if turn.thoughts:
        thought = {"type": "reasoning_text", "text": "".join(turn.thoughts)}
        items.append({"id": f"rs_{turn.id}", "type": "reasoning", "summary": [], "content": [thought]})
    if turn.tool is not None:
        call = {"id": f"fc_{turn.id}", "call_id": f"call_{turn.id}", "name": turn.tool, "arguments": turn.arguments}
        return [*items, {**call, "type": "function_call", "status": "completed"}]
    part: Json = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": None}
    message = {"id": f"msg_{turn.id}", "type": "message", "role": "assistant", "status": "completed"}
    return [*items, {**message, "content": [part]}]


def _response_stream(turn: Turn) -> Iterator[str]:
    begun = _response(turn, "in_progress")
    events = [
        ("response.created", {"response": begun | {"demo": turn.demo}}),
        ("response.in_progress", {"response": begun}),
        *(each for index, item in enumerate(_output(turn)) for each in _item_events(turn, index, item)),
        ("response.completed", {"response": _response(turn)}),
    ]
    for number, (kind, fields) in enumerate(events):
        yield _event({"type": kind, "sequence_number": number, **fields}, kind)


def _item_events(turn: Turn, index: int, item: Json) -> Iterator[tuple[str, Json]]:
    place: Json = {"item_id": item["id"], "output_index": index}
    match item["type"]:
        case "function_call":
            yield "response.output_item.added", {"output_index": index, "item": {**item, "arguments": ""}}
            yield "response.function_call_arguments.delta", {**place, "delta": item["arguments"]}
            yield "response.function_call_arguments.done", {**place, "arguments": item["arguments"]}
        case kind:
            yield "response.output_item.added", {"output_index": index, "item": {**item, "content": []}}
            name, pieces = ("output", turn.pieces) if kind == "message" else ("reasoning", turn.thoughts)
            part: Json = item["content"][0]
            within = {**place, "content_index": 0}
            yield f"response.{_PART[name]}.added", {**within, "part": {**part, "text": ""}}
            for piece in pieces:
                yield f"response.{name}_text.delta", {**within, "delta": piece, "logprobs": []}
            yield f"response.{name}_text.done", {**within, "text": part["text"], "logprobs": []}
            yield f"response.{_PART[name]}.done", {**within, "part": part}
    yield "response.output_item.done", {"output_index": index, "item": item}


_PART = {"output": "content_part", "reasoning": "reasoning_part"}


# --- messages ------------------------------------------------------------------------------------------------------


def _message(turn: Turn) -> Json:
    return {
        "id": f"msg_{turn.id}",
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": list(_blocks(turn)),
        "stop_reason": _stop_reason(turn),
        "usage": {"input_tokens": turn.prompt_tokens, "output_tokens": len(turn.pieces)},
    }


def _stop_reason(turn: Turn) -> str:
    return "end_turn" if turn.tool is None else "tool_use"


def _blocks(turn: Turn) -> Iterator[Json]:
    if turn.thoughts:
        yield {"type": "thinking", "thinking": "".join(turn.thoughts), "signature": turn.id}
    if turn.tool is not None:
        yield {"type": "tool_use", "id": f"call_{turn.id}", "name": turn.tool, "input": json.loads(turn.arguments)}
    else:
        yield {"type": "text", "text": turn.text}


def _message_stream(turn: Turn) -> Iterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return _event({"type": kind, **fields}, kind)

    whole = _message(turn)
    begun: Json = {
        "content": [],
        "stop_reason": None,
        "usage": {**whole["usage"], "output_tokens": 0},
        "demo": turn.demo,
    }
    yield event("message_start", message=whole | begun)
    for index, block in enumerate(whole["content"]):
        empty, deltas = _deltas(turn, block)
        yield event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    yield event("message_delta", delta={"stop_reason": whole["stop_reason"]}, usage=whole["usage"])
    yield event("message_stop")


def _deltas(turn: Turn, block: Json) -> tuple[Json, list[Json]]:
    """A block before anything was said, and the pieces that are said then."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in turn.pieces]
        case "thinking":
            thoughts: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in turn.thoughts]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": ""}, [*thoughts, signed]
        case _:
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": turn.arguments}]


@dataclass(frozen=True, slots=True)
class _Api:
    whole: Any
    stream: Any = None
    failure: Callable[[int, str, str], Response] = _failure


_APIS = {
    "/v1/chat/completions": _Api(_chat, _chat_stream),
    "/v1/completions": _Api(_completion, _completion_stream),
    "/v1/responses": _Api(_response, _response_stream),
    "/v1/messages": _Api(_message, _message_stream, _anthropic_failure),
    "/v1/embeddings": _Api(_embedding),
}


# --- running -------------------------------------------------------------------------------------------------------


def serve(models_by_port: Mapping[int, Sequence[DemoModel]], host: str = "127.0.0.1") -> None:
    """Listen on every port of ``models_by_port`` until SIGINT or SIGTERM."""
    sockets = [socket.create_server((host, port), backlog=1024) for port in models_by_port]
    config = uvicorn.Config(
        application(models_by_port), log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=sockets)


def write_plan(path: Path, models_by_port: Mapping[int, Sequence[DemoModel]]) -> None:
    """Write the file that ``--plan`` reads."""
    plan = [
        {"port": port, "models": [{"name": model.name, "loras": list(model.loras)} for model in models]}
        for port, models in models_by_port.items()
    ]
    path.write_text(json.dumps(plan, indent=1, ensure_ascii=False))


def _read_plan(path: Path) -> dict[int, list[DemoModel]]:
    return {
        entry["port"]: [DemoModel(model["name"], tuple(model["loras"])) for model in entry["models"]]
        for entry in json.loads(path.read_text())
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m triton_router.stack.demo_backend --port 8000 --model NAME --lora ADAPTER`` or ``--plan FILE``."""
    parser = argparse.ArgumentParser(
        prog="python -m triton_router.stack.demo_backend", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1", help="listening address (default: %(default)s)")
    parser.add_argument("--port", type=int, help="listening port")
    parser.add_argument("--model", action="append", default=[], help="model name to serve; any name without it")
    parser.add_argument("--lora", action="append", default=[], help="adapter of the first --model")
    parser.add_argument("--plan", type=Path, help="JSON file that names several ports, in place of the above")
    options = parser.parse_args(arguments)
    if options.plan is not None:
        serve(_read_plan(options.plan), options.host)
    elif options.port is None:
        parser.error("--port or --plan is needed")
    else:
        loras = tuple(options.lora)
        models = [DemoModel(name, () if at else loras) for at, name in enumerate(options.model)]
        serve({options.port: models}, options.host)


if __name__ == "__main__":
    main()
