"""Times by stage: the same numbers as Prometheus' own client has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from triton_router.telemetry.timings import Timings

BUCKETS = (0.001, 0.0025, 1.0, 5.0)
SECONDS = st.floats(0, 10) | st.sampled_from([*BUCKETS, 0.0])


@given(st.lists(st.tuples(st.sampled_from(["total", "parse"]), SECONDS), max_size=20))
def test_the_same_as_prometheus_own(times: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    timings = Timings("router_stage_seconds", "Time.", "stage", buckets=BUCKETS, registry=ours)
    histogram = Histogram("router_stage_seconds", "Time.", ["stage"], buckets=BUCKETS, registry=theirs)
    for stage, seconds in times:
        timings.labels(stage).observe(seconds)
        histogram.labels(stage).observe(seconds)
    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected
