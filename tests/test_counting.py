"""Counts and times: the same numbers as Prometheus' own client has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from triton_router.telemetry.counting import Counter, Timings

BUCKETS = (0.001, 0.0025, 1.0, 5.0)
SECONDS = st.floats(0, 10) | st.sampled_from([*BUCKETS, 0.0])


@given(st.lists(st.tuples(st.sampled_from(["total", "parse"]), SECONDS), max_size=20))
def test_times_are_the_same_as_prometheus_own(times: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    timings = Timings("router_stage_seconds", "Time.", ["stage"], buckets=BUCKETS, registry=ours)
    histogram = Histogram("router_stage_seconds", "Time.", ["stage"], buckets=BUCKETS, registry=theirs)
    for stage, seconds in times:
        timings.labels(stage).observe(seconds)
        histogram.labels(stage).observe(seconds)
    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected


def test_a_counter_is_prometheus_own() -> None:
    registry = CollectorRegistry()
    counter = Counter("router_requests", "Requests.", ["model", "path"], registry=registry)
    for _ in range(2):
        counter.labels("a", "routed").inc()
    counter.labels(model="a", path="routed").inc()
    counter.labels("b", "cache").inc(2)
    assert registry.get_sample_value("router_requests_total", {"model": "a", "path": "routed"}) == 3
    assert registry.get_sample_value("router_requests_total", {"model": "b", "path": "cache"}) == 2
    with pytest.raises(ValueError, match="label count"):
        counter.labels("a")
