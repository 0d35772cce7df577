"""`fast_response`: a fixed answer at once; nothing was generated, so the usage counts nothing."""

from __future__ import annotations

from router.chat import ChatRequest
from router.completion import Completion, completion
from router.config.schema import FastResponseSettings


def fast_response(settings: FastResponseSettings, request: ChatRequest, model: str) -> Completion:
    """The answer to ``request``, under the name of ``model``."""
    return completion(request, settings.message, model)
