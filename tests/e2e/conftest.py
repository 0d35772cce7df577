"""Running systems for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from local_stack import REPOSITORY
from whole_system import Fragile, Site

AnySite = TypeVar("AnySite", bound=Site)


@pytest.fixture(scope="session")
def aibrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The fifteen rules."""
    yield from _running(Site(tmp_path_factory.mktemp("aibrix"), REPOSITORY / "config" / "aibrix.yaml"))


CYBERSECURITY = {
    "domains": [{"name": "cybersecurity"}],
    "decisions": [
        {
            "name": "cybersecurity_decision",
            "priority": 10,
            "rules": {"operator": "OR", "conditions": [{"name": "cybersecurity", "type": "domain"}]},
            "modelRefs": [{"model": "qwen3-8b", "use_reasoning": True}],
        }
    ],
}


@pytest.fixture(scope="session")
def with_cybersecurity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The fifteen rules, and a topic that the classifier's head does not know, by name alone."""
    directory = tmp_path_factory.mktemp("cybersecurity")
    yield from _running(Site(directory, REPOSITORY / "config" / "aibrix.yaml", CYBERSECURITY))


def _running(site: AnySite) -> Iterator[AnySite]:
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    """The fifteen rules on a Triton that can be made ill."""
    directory = tmp_path_factory.mktemp("fragile")
    site = Fragile(directory, REPOSITORY / "config" / "aibrix.yaml")
    yield from _running(site)
