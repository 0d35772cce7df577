"""Selection: from a decision's candidates to one model, adapter and reasoning mode."""

from router.selection.model import ModelCatalog, Selection
from router.selection.reasoning import apply_reasoning

__all__ = ["ModelCatalog", "Selection", "apply_reasoning"]
