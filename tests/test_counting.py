"""Counts and times: the same numbers as Prometheus' own client has."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from triton_router.telemetry.counting import Counter, Level, Timings

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


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 5)), max_size=20))
def test_counts_are_the_same_as_prometheus_own(counts: list[tuple[str, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    for registry, counter, gauge in ((ours, Counter, Level), (theirs, prometheus_client.Counter, Gauge)):
        requests: Any = counter("router_requests", "Requests.", ["model"], registry=registry)
        refused: Any = counter("router_refused", "Refused.", registry=registry)
        in_flight: Any = gauge("router_in_flight", "In flight.", registry=registry)
        for model, count in counts:
            requests.labels(model).inc(count)
            refused.inc()
            in_flight.inc(count - 3)
    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected


def test_labels_that_a_counter_does_not_have() -> None:
    counter = Counter("router_requests", "Requests.", ["model", "path"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="router_requests: labels are model, path"):
        counter.labels("a")
