"""Limits and budgets: how much callers may ask for in a unit of time."""

from triton_router.limits.counters import SharedCounters
from triton_router.limits.limits import Admission, Limits, Stores, Wish

__all__ = ["Admission", "Limits", "SharedCounters", "Stores", "Wish"]
