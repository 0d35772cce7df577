"""What chaos and endurance make of their samples, and that every fault of the matrix is there."""

from __future__ import annotations

import pytest

from perf.chaos import SHORT, broken, judged
from perf.endurance import rises
from perf.faults import FAULTS
from perf.load import Samples


def test_failures_are_counted_and_only_what_came_after_the_fault_can_be_slow() -> None:
    samples = Samples(
        ms=[900, 100, 2500, 50], at=[0.0, 1.95, 2.0, 3.0], status_of=[200, 503, 200, 0],
        degraded_of=[False, False, True, False],
    )  # fmt: skip
    assert judged(samples, struck=2.0) == {
        "requests": 4, "failed": 2, "statuses": {"0": 1, "503": 1}, "degraded": 1, "slowest": 2.5,
    }  # fmt: skip


WELL = {"back": 1.0, "answerable": True, "failed": 0, "slowest": 1.9}


@pytest.mark.parametrize("change", [{"back": None}, {"back": 15.1}, {"failed": 1}, {"slowest": 2.1}], ids=str)
def test_a_promise_is_broken_by_failures_by_long_waits_and_by_parts_that_stay_away(change: dict[str, object]) -> None:
    assert not broken(WELL)
    assert broken(WELL | change)
    assert broken(WELL | change, timed=False) == (change in ({"back": None}, {"failed": 1}))


def test_failures_break_no_promise_where_nobody_is_left_to_answer() -> None:
    assert not broken(WELL | {"answerable": False, "failed": 5, "slowest": 3.0})


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
