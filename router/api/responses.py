"""Responses of the REST service: JSON, errors in OpenAI's shape, and streams that end where nobody reads them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from triton_router.api.live import LiveFeed
from triton_router.errors import error_body
from triton_router.jsontext import json_bytes

log = logging.getLogger(__name__)

# Seconds that a piece of a stream may take to be read.
READ_WITHIN = 10.0


def json_response(content: Any, status: int = 200) -> Response:
    """``content``, NumPy's arrays included, as JSON."""
    return Response(json_bytes(content), status_code=status, media_type="application/json")


def error_response(status: int, message: str, code: str | None = None) -> Response:
    """An error; ``code`` names the single error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return Response(error_body(message, type=kind, code=code), status_code=status, media_type="application/json")


def impatient(send: Send) -> Send:
    """``send`` that raises TimeoutError where the client does not read."""

    async def send_in_time(message: Message) -> None:
        async with asyncio.timeout(READ_WITHIN):
            await send(message)

    return send_in_time


class ImpatientStream(StreamingResponse):
    """A stream that a client has to read: otherwise it ends, and so does what makes it."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(impatient(send))
        except TimeoutError:
            log.info("a stream that nobody reads is ended")
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


def live_response(feed: LiveFeed) -> Response:
    """A view of ``feed``, as long as it is read."""
    headers = {"cache-control": "no-store"}
    return ImpatientStream(_view(feed), media_type="text/event-stream", headers=headers)


async def _view(feed: LiveFeed) -> AsyncGenerator[bytes]:
    view = feed.open()
    try:
        while (event := await view.get()) is not None:
            yield event
    finally:
        feed.leave(view)
