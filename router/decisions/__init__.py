"""Decisions: rule trees in three-valued logic, and the strategies that pick one match."""

from triton_router.decisions.rules import Verdict, evaluate, nearness
from triton_router.decisions.settle import Settling
from triton_router.decisions.strategy import Choice, choose

__all__ = ["Choice", "Settling", "Verdict", "choose", "evaluate", "nearness"]
