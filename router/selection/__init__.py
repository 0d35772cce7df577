"""Selection: from a decision's candidates to one model, adapter and reasoning mode."""

from triton_router.selection.adapters import LoadedAdapters
from triton_router.selection.model import Hint, ModelCatalog, Selection, nearest_name
from triton_router.selection.reasoning import apply_reasoning

__all__ = ["Hint", "LoadedAdapters", "ModelCatalog", "Selection", "apply_reasoning", "nearest_name"]
