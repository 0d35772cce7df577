"""What chaos and endurance make of their samples, and that every fault of the matrix is there."""

from __future__ import annotations

from perf.chaos import SHORT, judged
from perf.endurance import rises
from perf.faults import FAULTS
from perf.load import Samples


def test_failures_are_counted_and_only_what_came_after_the_fault_can_be_slow() -> None:
    samples = Samples(
        ms=[900, 100, 2500, 50], at=[0.0, 1.95, 2.0, 3.0], status_of=[200, 503, 200, 0],
        degraded_of=[False, False, True, False], degraded=1,
    )  # fmt: skip
    assert judged(samples, struck=2.0) == {
        "requests": 4, "failed": 2, "statuses": {"0": 1, "503": 1}, "degraded": 1, "slowest": 2.5,
    }  # fmt: skip


def test_a_rise_is_that_of_the_last_third() -> None:
    rounds = [{"mib": {"router": size}, "descriptors": {"router": 7}, "threads": {}} for size in (100, 101, 100, 110)]
    risen = dict(rises(rounds))
    assert round(risen["mib of router"], 3) == 0.1 and risen["descriptors of router"] == 0
    assert not dict(rises([]))


def test_the_matrix_is_whole() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) and set(SHORT) <= set(names)
    for part in ("Triton", "worker", "replica", "Redis", "MCP", "configuration", "disk", "descriptors"):
        assert any(part in name for name in names), part
