"""Decisions: rule trees in three-valued logic, and the strategies that pick one match."""

from triton_router.decisions.rules import Node, Verdict, compiled, evaluate, nearness
from triton_router.decisions.settle import Settling
from triton_router.decisions.strategy import Choice, Choosing, choose

__all__ = ["Choice", "Choosing", "Node", "Settling", "Verdict", "choose", "compiled", "evaluate", "nearness"]
