"""Selection: from a decision's candidates to one model, adapter and reasoning mode."""

from router.selection.adapters import LoadedAdapters
from router.selection.model import Hint, ModelCatalog, Selection
from router.selection.reasoning import apply_reasoning

__all__ = ["Hint", "LoadedAdapters", "ModelCatalog", "Selection", "apply_reasoning"]
