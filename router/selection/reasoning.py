"""Telling the selected model to think, or not to."""

from __future__ import annotations

from triton_router.dialects import ModelRequest
from triton_router.selection.model import Selection

# The families that take an effort have no "off"; this is the least that all of them accept.
LEAST_EFFORT = "low"


def apply_reasoning(request: ModelRequest, selection: Selection) -> None:
    """Set the switch of the model's reasoning family; a model without a family gets nothing.

    A boolean family gets an explicit ``false`` when reasoning is off: Qwen3 and its like think unless told not to.
    """
    family, enabled = selection.family, selection.use_reasoning
    if family is None or enabled is None:
        return
    if family.type == "chat_template_kwargs":
        request.think(family.parameter, enabled)
    else:
        request.think_with(selection.effort if enabled else LEAST_EFFORT)
