"""A small OpenAI-compatible server, shaped like vLLM, for demonstrations and tests: it generates nothing.

Every answer carries a ``demo`` field with what arrived: the model name, the system texts, the other top-level fields
and the gateway's headers, so that ``curl`` shows what the router did.

The request header ``x-demo-script`` scripts an answer: ``key=value`` pairs joined by ``;`` (a word without ``=`` is
only a label), for example ``slow-stream;chunks=500;seconds=20;tools=1``.

========== ==========================================================================================================
key        effect
========== ==========================================================================================================
chunks     number of text chunks of a streamed answer
seconds    time over which they are spread
delay      seconds before the answer begins
tools      ``1``: call the first of the request's tools instead of answering in text
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
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]

_SHOWN_HEADERS = ("x-selected-model", "x-gateway-base-model-name", "x-request-id", "accept-encoding", "traceparent",
                  "tracestate")  # fmt: skip
_CONTENT_FIELDS = frozenset({"model", "messages", "prompt", "input", "system", "instructions"})


@dataclass(frozen=True, slots=True)
class Served:
    """A model of one port, with its adapters."""

    name: str
    loras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """What ``x-demo-script`` asks for."""

    chunks: int | None = None
    seconds: float = 0.0
    delay: float = 0.0
    tools: bool = False
    status: int | None = None
    reset: int | None = None

    @classmethod
    def parse(cls, header: str) -> Script:
        """Read the header. Raises ValueError for a value that is no number."""
        pairs = dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part)
        return cls(
            chunks=int(pairs["chunks"]) if "chunks" in pairs else None,
            seconds=float(pairs.get("seconds", 0)),
            delay=float(pairs.get("delay", 0)),
            tools=pairs.get("tools", "0") == "1",
            status=int(pairs["status"]) if "status" in pairs else None,
            reset=int(pairs["reset"]) if "reset" in pairs else None,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """One request that is to be answered."""

    model: str
    body: Json
    script: Script
    demo: Json
    pieces: list[str]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def prompt_tokens(self) -> int:
        return len(json.dumps(self.body).split())

    @property
    def tool(self) -> str | None:
        tools = self.body.get("tools") or []
        if not self.script.tools or not tools:
            return None
        return str(tools[0].get("function", tools[0]).get("name", "tool"))


def application(models_by_port: Mapping[int, Sequence[Served]]) -> Starlette:
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
            return _failure(400, f"The request cannot be read: {error}", "BadRequestError")
        if not isinstance(body, dict):
            return _failure(400, "The request must be a JSON object.", "BadRequestError")
        served = models_by_port.get(_port(request), ())
        known = {name for model in served for name in (model.name, *model.loras)}
        model = str(body.get("model", ""))
        if known and model not in known:
            return _failure(404, f"The model `{model}` does not exist.", "NotFoundError")
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.status is not None:
            return _failure(script.status, "The request failed as its script says.", "InternalServerError")
        turn = Turn(model, body, script, _demo(request, body), _pieces(model, script))
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


def _model_entries(model: Served) -> Iterator[Json]:
    shared = {"object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 32768}
    yield {"id": model.name, **shared, "root": model.name, "parent": None}
    for lora in model.loras:
        yield {"id": lora, **shared, "root": lora, "parent": model.name}


def _failure(status: int, message: str, kind: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _pieces(model: str, script: Script) -> list[str]:
    if script.chunks is not None:
        return [f"{number} " for number in range(script.chunks)]
    return [f"{word} " for word in f"This is a demo answer of {model}.".split()]


def _demo(request: Request, body: Json) -> Json:
    headers = {
        name: value for name, value in request.headers.items() if name in _SHOWN_HEADERS or name.startswith("x-vsr-")
    }
    fields = {key: value for key, value in body.items() if key not in _CONTENT_FIELDS}
    received = {"model": body.get("model"), "system": list(_system_texts(body)), "fields": fields}
    return {"path": request.url.path, "port": _port(request), "received": received, "headers": headers}


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
    reason = "stop"
    if turn.tool is not None:
        call = {"id": f"call_{turn.id}", "type": "function", "function": {"name": turn.tool, "arguments": "{}"}}
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
    if turn.tool is not None:
        head = {"index": 0, "id": f"call_{turn.id}", "type": "function"}
        yield chunk({"tool_calls": [{**head, "function": {"name": turn.tool, "arguments": ""}}]})
        # As long as the text would have been: arguments stream like words.
        for piece in ('{"note": "', *turn.pieces, '"}'):
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
    given = turn.body.get("input", "")
    texts = given if isinstance(given, list) else [given]
    vectors = [[byte / 255 for byte in hashlib.sha256(repr(text).encode()).digest()[:8]] for text in texts]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": turn.prompt_tokens, "total_tokens": turn.prompt_tokens}
    return {"object": "list", "data": data, "model": turn.model, "usage": usage}


# --- responses -----------------------------------------------------------------------------------------------------


def _response(turn: Turn, status: str = "completed") -> Json:
    content = [{"type": "output_text", "text": turn.text, "annotations": []}]
    message = {"id": f"msg_{turn.id}", "type": "message", "role": "assistant", "status": status, "content": content}
    done = status == "completed"
    tokens = {"input_tokens": turn.prompt_tokens, "output_tokens": len(turn.pieces)}
    return {
        "id": f"resp_{turn.id}",
        "object": "response",
        "created_at": turn.created,
        "status": status,
        "model": turn.model,
        "output": [message] if done else [],
        "usage": {**tokens, "total_tokens": sum(tokens.values())} if done else None,
    }


def _response_stream(turn: Turn) -> Iterator[str]:
    def event(kind: str, number: int, **fields: Any) -> str:
        return _event({"type": kind, "sequence_number": number, **fields}, kind)

    yield event("response.created", 0, response=_response(turn, "in_progress") | {"demo": turn.demo})
    place = {"item_id": f"msg_{turn.id}", "output_index": 0, "content_index": 0}
    for number, piece in enumerate(turn.pieces, 1):
        yield event("response.output_text.delta", number, **place, delta=piece)
    yield event("response.completed", len(turn.pieces) + 1, response=_response(turn))


# --- messages ------------------------------------------------------------------------------------------------------


def _message(turn: Turn) -> Json:
    return {
        "id": f"msg_{turn.id}",
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": [{"type": "text", "text": turn.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": turn.prompt_tokens, "output_tokens": len(turn.pieces)},
    }


def _message_stream(turn: Turn) -> Iterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return _event({"type": kind, **fields}, kind)

    yield event("message_start", message=_message(turn) | {"content": [], "stop_reason": None, "demo": turn.demo})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in turn.pieces:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": len(turn.pieces)})
    yield event("message_stop")


@dataclass(frozen=True, slots=True)
class _Api:
    whole: Any
    stream: Any = None


_APIS = {
    "/v1/chat/completions": _Api(_chat, _chat_stream),
    "/v1/completions": _Api(_completion, _completion_stream),
    "/v1/responses": _Api(_response, _response_stream),
    "/v1/messages": _Api(_message, _message_stream),
    "/v1/embeddings": _Api(_embedding),
}


# --- running -------------------------------------------------------------------------------------------------------


def serve(models_by_port: Mapping[int, Sequence[Served]]) -> None:
    """Listen on every port of ``models_by_port`` on loopback until SIGINT or SIGTERM."""
    sockets = [socket.create_server(("127.0.0.1", port), backlog=1024) for port in models_by_port]
    config = uvicorn.Config(
        application(models_by_port), log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=sockets)


def write_plan(path: Path, models_by_port: Mapping[int, Sequence[Served]]) -> None:
    """Write the file that ``--plan`` reads."""
    plan = [
        {"port": port, "models": [{"name": model.name, "loras": list(model.loras)} for model in models]}
        for port, models in models_by_port.items()
    ]
    path.write_text(json.dumps(plan, indent=1, ensure_ascii=False))


def _read_plan(path: Path) -> dict[int, list[Served]]:
    return {
        entry["port"]: [Served(model["name"], tuple(model["loras"])) for model in entry["models"]]
        for entry in json.loads(path.read_text())
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m router.stack.demo_backend --port 8000 --model NAME --lora ADAPTER`` or ``--plan FILE``."""
    parser = argparse.ArgumentParser(prog="python -m router.stack.demo_backend", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, help="port on loopback")
    parser.add_argument("--model", action="append", default=[], help="model name to serve; any name without it")
    parser.add_argument("--lora", action="append", default=[], help="adapter of the first --model")
    parser.add_argument("--plan", type=Path, help="JSON file that names several ports, in place of the above")
    options = parser.parse_args(arguments)
    if options.plan is not None:
        serve(_read_plan(options.plan))
    elif options.port is None:
        parser.error("--port or --plan is needed")
    else:
        loras = tuple(options.lora)
        serve({options.port: [Served(name, () if at else loras) for at, name in enumerate(options.model)]})


if __name__ == "__main__":
    main()
