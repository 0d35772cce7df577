"""Hypothesis looks for mistakes, not at the clock. A failure is shown at once: a run that is ended has no summary."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make fuzz`: many more examples, of what the default suite tries a few of.
settings.register_profile("fuzz", settings.get_profile("untimed"), max_examples=1500)
settings.load_profile("untimed")


class Failures:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\n{report.nodeid} ({report.when})\n{report.longreprtext}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    # Workers of xdist report to the process that started them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Failures(config))
