"""Hypothesis looks for mistakes, not at the clock."""

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make fuzz`: many more examples, of what the default suite tries a few of.
settings.register_profile("fuzz", settings.get_profile("untimed"), max_examples=1500)
settings.load_profile("untimed")
