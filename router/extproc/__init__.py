"""Envoy's external processing protocol: knows HTTP and Envoy, nothing of routing."""
