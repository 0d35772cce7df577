"""Checks of what lies under deploy/, without a cluster and without a container engine; tests/deploy runs them."""
