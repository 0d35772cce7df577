"""What the page's views ask besides the REST service's other paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from triton_router.api.compare import comparison
from triton_router.api.responses import ImpatientStream, json_response, live_response
from triton_router.api.send import send
from triton_router.api.state import ServiceState
from triton_router.api.status import status
from triton_router.config import Config, ConfigError
from triton_router.config.signals import ComplexitySignal, EmbeddingSignal, KeywordSignal
from triton_router.dialects import DIALECTS, chat
from triton_router.errors import Refusal
from triton_router.jsontext import json_bytes
from triton_router.pipeline import Pipeline

MOST_QUOTATIONS = 50
# Seconds that a comparison waits for one that runs.
TURN_WITHIN = 10.0


class SendRequest(BaseModel):
    """A request that goes through Envoy, as a client's would."""

    request: dict[str, Any]
    path: str = chat.PATH
    headers: dict[str, str] = {}


class CompareRequest(BaseModel):
    """``config`` is the configuration that would take the place of the one in force.

    ``samples`` has a request a line, as `triton-router compare` reads them; without, the last ``recorded`` requests of
    the replay log are compared. Answers whose tokens nobody counted have ``answer_tokens``.
    """

    config: str = Field(max_length=8 * 1024 * 1024)
    samples: str | None = Field(None, max_length=64 * 1024 * 1024)
    recorded: int = Field(10_000, ge=1, le=10_000)
    answer_tokens: int = Field(300, ge=0, le=1_000_000)


class Views:
    """``current`` returns the pipeline that routes, ``rejected`` what is wrong with a file that is not served,
    ``troubles`` which parts of the service do not run."""

    def __init__(
        self,
        current: Callable[[], Pipeline],
        rejected: Callable[[], list[str]],
        troubles: Callable[[], dict[str, str]],
        state: ServiceState | None,
    ) -> None:
        self._current, self._rejected, self._troubles, self._state = current, rejected, troubles, state
        self._comparing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Without a state only those that a pipeline can answer."""
        routes = [
            Route("/api/v1/examples", self.examples),
            Route("/api/v1/send", self.send, methods=["POST"]),
        ]
        if self._state is not None:
            routes += [
                Route("/api/v1/compare", partial(self.compare, self._state), methods=["POST"]),
                Route("/api/v1/live", partial(self.live, self._state)),
                Route("/api/v1/status", partial(self.status, self._state)),
                Route("/api/v1/recorded", partial(self.recorded, self._state)),
            ]
        return routes

    async def examples(self, request: Request) -> Response:
        """Requests of the configuration's file of probes, and sentences that its signals quote."""
        probes, problem = [], None
        try:
            probes = await self._state.probes() if self._state is not None else []
        except ConfigError as error:
            problem = str(error)
        quoted = quotations(self._current().runtime.config)
        return json_response({"examples": [*probes, *quoted], "problem": problem})

    async def send(self, request: Request) -> Response:
        """Send a request through Envoy; the response comes as it is streamed."""
        _refuse_other_sites(request)
        body = SendRequest.model_validate_json(await request.body())
        if body.path not in DIALECTS:
            raise Refusal(404, f"no such path: {body.path}")
        headers = {name.lower(): value for name, value in body.headers.items()}
        return await send(self._current().runtime.config, body.path, headers, json_bytes(body.request))

    async def compare(self, state: ServiceState, request: Request) -> Response:
        """What a configuration would change: lines of JSON, with the report in the last one."""
        _refuse_other_sites(request)
        body = CompareRequest.model_validate_json(await request.body())
        if body.samples is not None:
            samples = iter(body.samples.encode().split(b"\n"))
        else:
            records = await state.recorded(body.recorded)
            if not records:
                raise Refusal(409, "No requests are recorded; `global.services.router_replay` switches recording on.")
            samples = map(json_bytes, records)
        lines = comparison(state.loaded(), body.config, samples, state.bundle, body.answer_tokens)
        return ImpatientStream(_one_at_a_time(self._comparing, lines), media_type="application/x-ndjson")

    async def live(self, state: ServiceState, request: Request) -> Response:
        if state.feed.full:
            raise Refusal(503, "Too many live views are open.")
        return live_response(state.feed)

    async def recorded(self, state: ServiceState, request: Request) -> Response:
        """How many requests could be compared."""
        settings = self._current().runtime.journal.replay
        keeps = settings is not None and (settings.include_prompt or settings.include_request)
        return json_response({"keeps": keeps, "records": await state.count_recorded() if keeps else 0})

    async def status(self, state: ServiceState, request: Request) -> Response:
        return json_response(status(self._current(), state, self._rejected(), self._troubles()))


def _refuse_other_sites(request: Request) -> None:
    """Browsers say whose script asks: another site's must not send prompts or start comparisons."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refusal(403, "Only the router's own page may call this.")


async def _one_at_a_time(lock: asyncio.Lock, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async with asyncio.timeout(TURN_WITHIN):
            await lock.acquire()
    except TimeoutError:
        yield b'{"failed":"another comparison is running; please try again"}\n'
        return
    try:
        async with aclosing(lines):
            async for line in lines:
                yield line
    finally:
        lock.release()


def quotations(config: Config) -> list[dict[str, Any]]:
    """Prompts that ``config`` quotes: a sentence of each embedding and complexity signal, a phrase of each keyword."""
    declared = [signal for kind in ("embedding", "complexity", "keyword") for signal in config.routing.signals.of(kind)]
    quoted: dict[str, str] = {}
    for signal in declared:
        match signal:
            case EmbeddingSignal():
                prompts = signal.candidates[:1]
            case ComplexitySignal():
                prompts = (*signal.hard.candidates[:1], *signal.easy.candidates[:1])
            case KeywordSignal():
                prompts = signal.keywords[:1]
        quoted |= {prompt: signal.name for prompt in prompts if prompt not in quoted}
    return [{"prompt": prompt, "signal": name} for prompt, name in quoted.items()][:MOST_QUOTATIONS]
