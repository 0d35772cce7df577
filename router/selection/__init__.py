"""Selection: from a decision's candidates to one model, adapter and reasoning mode."""

from triton_router.selection.adapters import LoadedAdapters
from triton_router.selection.balance import Balance, Standing, described
from triton_router.selection.model import Hint, ModelCatalog, Selection
from triton_router.selection.naming import named_model, unknown_model
from triton_router.selection.reasoning import apply_reasoning

__all__ = [
    "Balance", "Hint", "LoadedAdapters", "ModelCatalog", "Selection", "Standing", "apply_reasoning", "described",
    "named_model", "unknown_model",
]  # fmt: skip
