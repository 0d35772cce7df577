"""The model of replicas and instances against queues whose waiting times are known."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from perf.scale import CapacityModel, Service, plan, saturation, simulate

ALONE = CapacityModel(lengths={64: (1.0, Service(10.0, 10.0))}, router_before=0.0, router_after=0.0)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_instance_is_a_queue_of_one_server(busy: float) -> None:
    """M/D/1: a request waits busy / (1 - busy) / 2 service times on average (Pollaczek and Khinchine)."""
    outcome = simulate(ALONE, busy * 100, 20_000)
    assert fmean(outcome.ms) == pytest.approx(10 * (1 + busy / (1 - busy) / 2), rel=0.05)
    assert outcome.busy == pytest.approx(busy, rel=0.03)


def test_the_router_s_thread_is_such_a_queue_too() -> None:
    model = CapacityModel(lengths={64: (1.0, Service(0.0, 0.0))}, router_before=2.0, router_after=0.0)
    assert fmean(simulate(model, 300, 20_000).ms) == pytest.approx(2 * (1 + 0.6 / 0.4 / 2), rel=0.05)


def test_two_lengths_are_a_queue_with_general_service() -> None:
    """M/G/1: rate times the mean square of the service time, over 2 (1 - busy)."""
    model = replace(ALONE, lengths={16: (0.5, Service(5.0, 5.0)), 256: (0.5, Service(25.0, 25.0))})
    wait = 0.04 * (0.5 * 25 + 0.5 * 625) / 2 / (1 - 0.04 * 15)
    assert fmean(simulate(model, 40, 30_000).ms) == pytest.approx(15 + wait, rel=0.06)


def test_two_instances_wait_less_than_one_of_half_the_load() -> None:
    assert fmean(simulate(replace(ALONE, instances=2), 120).ms) < fmean(simulate(ALONE, 60).ms)


def test_only_equal_lengths_batch() -> None:
    cheap = Service(10.0, 0.0)
    same = CapacityModel({64: (1.0, cheap)}, 0.0, 0.0, largest_batch=8)
    assert saturation(same, 64) == pytest.approx(800, rel=0.01)
    mixed = replace(same, lengths={64: (0.5, cheap), 128: (0.5, cheap)})
    # Of a random row of two kinds, equal ones stand two together on average.
    assert saturation(mixed, 64) == pytest.approx(200, rel=0.1)


def test_shared_cores_bound_the_whole() -> None:
    """6 ms of work a request on two cores, whoever does it."""
    model = CapacityModel({64: (1.0, Service(4.0, 4.0))}, 1.0, 0.5, instances=2, beside=0.5, cores=2)
    assert saturation(model) == pytest.approx(1000 * 2 / 6, rel=0.03)
    assert simulate(model, 10, 2000).quantile(0.1) == pytest.approx(6.0, abs=0.01)
    assert saturation(replace(model, speed=0.5)) == pytest.approx(saturation(model) / 2, rel=0.01)
    together = replace(model, instances=1, threads=2)
    assert saturation(together) == pytest.approx(1000 * 2 / 6, rel=0.03)
    assert simulate(together, 10, 2000).quantile(0.1) == pytest.approx(4.0, abs=0.01)


def test_a_plan_is_enough_and_no_more() -> None:
    model = replace(ALONE, router_before=1.0, router_after=0.5)
    result = plan(model, 500, 40.0, requests=3000)
    assert result is not None
    fitted, outcome = result
    assert outcome.quantile(0.99) <= 40.0
    # 5 instances' worth of work, 0.75 replicas'; nothing may be busy for more than 85 % of the time.
    assert (fitted.instances, fitted.replicas) == (6, 1)
    assert simulate(replace(fitted, instances=5, replicas=4), 500, 3000).busy > 0.85
    stricter = plan(model, 500, 16.0, requests=3000)
    assert stricter is not None and stricter[0].instances > 6
    in_pairs = plan(model, 500, 16.0, step=2, requests=3000)
    assert in_pairs is not None and in_pairs[0].instances % 2 == 0
    # Nobody is faster than the work itself.
    assert plan(model, 500, 11.0, most=64, requests=2000) is None
