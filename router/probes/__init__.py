"""Probes: prompts with the decision that they should lead to, run against a configuration; docs/probes.md."""
