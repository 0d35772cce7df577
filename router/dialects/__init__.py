"""Dialects: the APIs through which a model is asked. Each module is one: how it is read, rewritten and answered."""

from router.dialects import chat, completions, messages, responses
from router.dialects.chat import ChatRequest
from router.dialects.completions import CompletionsRequest
from router.dialects.messages import MessagesRequest
from router.dialects.request import ModelRequest, Turn
from router.dialects.responses import ResponsesRequest

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
    "ResponsesRequest",
    "Turn",
]
