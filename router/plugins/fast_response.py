"""`fast_response`: a fixed answer at once; nothing was generated, so the usage counts nothing."""

from __future__ import annotations

from triton_router.completion import Completion
from triton_router.config.schema import FastResponseSettings
from triton_router.dialects import ModelRequest


def fast_response(settings: FastResponseSettings, request: ModelRequest, model: str) -> Completion:
    """The answer to ``request``, under the name of ``model``."""
    return request.answer(settings.message, model)
