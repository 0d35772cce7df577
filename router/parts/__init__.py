"""Parts: whose words a request has. The person's, those that a client's program added, and the results of tools."""

from triton_router.parts.conversation import Conversation, PartReader, Parts, split_words
from triton_router.parts.normal import normalised
from triton_router.parts.part import Kind, Part
from triton_router.parts.shapes import SHAPES, Shape
from triton_router.parts.task import Task
from triton_router.parts.windows import Window, windows

__all__ = [
    "SHAPES",
    "Conversation",
    "Kind",
    "Part",
    "PartReader",
    "Parts",
    "Shape",
    "Task",
    "Window",
    "normalised",
    "split_words",
    "windows",
]
