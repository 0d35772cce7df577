"""Decisions: rule trees in three-valued logic, and the strategies that pick one match."""

from router.decisions.rules import Verdict, evaluate, nearness
from router.decisions.strategy import Choice, choose

__all__ = ["Choice", "Verdict", "choose", "evaluate", "nearness"]
