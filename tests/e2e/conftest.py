"""Running systems for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from local_stack import REPOSITORY
from whole_system import Fragile, Site, running


@pytest.fixture(scope="session")
def aibrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The fifteen rules, and their probes."""
    page = {"probes": str(REPOSITORY / "config" / "probes" / "aibrix.yaml")}
    changes = {"global": {"services": {"api": {"page": page}}}}
    yield from running(Site(tmp_path_factory.mktemp("aibrix"), REPOSITORY / "config" / "aibrix.yaml", changes))


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
    yield from running(Site(directory, REPOSITORY / "config" / "aibrix.yaml", CYBERSECURITY))


@pytest.fixture(scope="session")
def triton_port(aibrix: Site) -> int:
    """A Triton that other sites may use too."""
    return aibrix.grpc


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    """The fifteen rules on a Triton that can be made ill."""
    directory = tmp_path_factory.mktemp("fragile")
    site = Fragile(directory, REPOSITORY / "config" / "aibrix.yaml")
    yield from running(site)
