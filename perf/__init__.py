"""Measuring what a routed request costs."""
