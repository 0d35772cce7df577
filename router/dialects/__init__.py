"""Dialects: the APIs through which a model is asked. Each module is one: how it is read, rewritten and answered.

What comes through no dialect of its own is an ``OtherRequest``.
"""

from triton_router.dialects import chat, completions, messages, responses
from triton_router.dialects.chat import ChatRequest
from triton_router.dialects.completions import CompletionsRequest
from triton_router.dialects.messages import MessagesRequest
from triton_router.dialects.other import OtherRequest
from triton_router.dialects.request import ModelRequest, Turn
from triton_router.dialects.responses import ResponsesRequest

DIALECTS: dict[str, type[ModelRequest]] = {
    chat.PATH: ChatRequest,
    completions.PATH: CompletionsRequest,
    responses.PATH: ResponsesRequest,
    messages.PATH: MessagesRequest,
}

__all__ = [
    "DIALECTS",
    "ChatRequest",
    "CompletionsRequest",
    "MessagesRequest",
    "ModelRequest",
    "OtherRequest",
    "ResponsesRequest",
    "Turn",
]
