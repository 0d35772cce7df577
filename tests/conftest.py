"""How the tests are divided between processes (`make test` has two)."""

from __future__ import annotations

import pytest


# xdist reads the marks in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A file stays in one process, for its fixtures; the end-to-end tests do too, for they share running systems.
        together = "e2e" if item.path.parent.name == "e2e" else str(item.path)
        item.add_marker(pytest.mark.xdist_group(together))
