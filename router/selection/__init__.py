"""Selection: from a decision's candidates to one model, adapter and reasoning mode."""

from triton_router.selection.adapters import LoadedAdapters
from triton_router.selection.balance import Balance, Standing, described
from triton_router.selection.model import Hint, ModelCatalog, Selection, nearest_name
from triton_router.selection.reasoning import apply_reasoning

__all__ = [
    "Balance", "Hint", "LoadedAdapters", "ModelCatalog", "Selection", "Standing", "apply_reasoning", "described",
    "nearest_name",
]  # fmt: skip
