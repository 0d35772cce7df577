"""The limit on calls to Triton, in front of a simulated one: so many servers, first come first served, a fake clock."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest

from triton_router.inference.limit import LEAST, Limit

SHAPE, SERVICE = (1, 32), 0.004


@dataclass
class Site:
    """A Triton with ``servers`` that take ``service`` seconds a call, and a router before it."""

    limit: Limit
    clock: list[float]
    servers: int = 2
    service: float = SERVICE
    took: list[float] = field(default_factory=list)
    shed: int = 0
    _ends: list[tuple[float, float]] = field(default_factory=list)
    _free: list[float] = field(default_factory=list)

    def load(self, rate: float, seconds: float, seed: int = 1) -> tuple[float, float, float]:
        """Poisson arrivals. Returns the share that was shed, and mean and 99 % quantile of calls, in services."""
        self.took, self.shed = [], 0
        drawn, ends = random.Random(seed), self.clock[0] + seconds
        now = self.clock[0] + drawn.expovariate(rate)
        while now < ends:
            self._return(now)
            self.clock[0] = now
            if self.limit.full:
                self.shed += 1
            else:
                self.limit.enter()
                self._call(now)
            now += drawn.expovariate(rate)
        ordered = sorted(self.took)
        share = self.shed / (self.shed + len(ordered))
        return share, sum(ordered) / len(ordered) / self.service, ordered[int(len(ordered) * 0.99)] / self.service

    def rest(self) -> None:
        self._return(self.clock[0] + 60)

    def _call(self, now: float) -> None:
        while len(self._free) < self.servers:
            heapq.heappush(self._free, 0.0)
        begins = max(now, heapq.heappop(self._free))
        heapq.heappush(self._free, begins + self.service)
        heapq.heappush(self._ends, (begins + self.service, now))

    def _return(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            ended, began = heapq.heappop(self._ends)
            self.clock[0] = ended
            self.took.append(ended - began)
            self.limit.leave(SHAPE, ended - began)


def site(most: int = 256, tolerance: float | None = 3.0, servers: int = 2) -> Site:
    clock = [0.0]
    return Site(Limit(most, tolerance, lambda: clock[0]), clock, servers)


CAPACITY = 2 / SERVICE


def test_twice_the_load_keeps_triton_busy_and_calls_quick() -> None:
    triton = site()
    _, _, before = triton.load(0.8 * CAPACITY, 10)
    shed, _, during = triton.load(2 * CAPACITY, 20)
    assert during <= before * 1.5
    assert 0.45 < shed < 0.55  # what is not shed is all that Triton can do


def test_hardly_anything_is_shed_below_capacity_and_soon_after_an_overload() -> None:
    triton = site()
    assert triton.load(0.8 * CAPACITY, 20)[0] < 0.01
    triton.load(2 * CAPACITY, 10)
    triton.load(0.8 * CAPACITY, 1)
    assert triton.load(0.8 * CAPACITY, 10)[0] < 0.01


def test_a_larger_triton_is_given_more_calls() -> None:
    small, large = site(servers=2), site(servers=16)
    for each in (small, large):
        each.load(2 * each.servers / SERVICE, 5)
    assert large.limit.calls > 2 * small.limit.calls
    assert len(large.took) / 5 > 0.95 * large.servers / SERVICE


def test_an_overload_that_goes_on_is_not_taken_for_the_ordinary() -> None:
    triton = site()
    triton.load(2 * CAPACITY, 2)
    first = triton.limit.calls
    triton.load(2 * CAPACITY, 130)
    assert triton.limit.calls <= 2 * first


def test_a_triton_that_has_become_slower_is_learnt_anew() -> None:
    triton = site()
    triton.load(0.5 * CAPACITY, 5)
    # It comes up again, as after a restart on another GPU; no call was left.
    triton.rest()
    triton.service *= 4
    triton.limit.forget()
    triton.load(0.8 * CAPACITY / 4, 10)
    assert triton.load(0.8 * CAPACITY / 4, 10)[0] < 0.02


def test_what_failed_at_once_says_nothing_of_how_long_calls_take() -> None:
    triton = site()
    triton.load(0.5 * CAPACITY, 1)
    for _ in range(100):
        triton.limit.enter()
        triton.limit.leave(SHAPE, None)
    assert triton.load(0.8 * CAPACITY, 10)[0] < 0.01


@pytest.mark.parametrize("most", [1, 2, LEAST, 7])
def test_the_configured_most_is_never_exceeded(most: int) -> None:
    limit = Limit(most, 3.0, lambda: 0.0)
    for _ in range(most):
        assert not limit.full
        limit.enter()
    assert limit.full


def test_a_limit_that_does_not_adapt_stays() -> None:
    triton = site(most=100, tolerance=None)
    triton.load(2 * CAPACITY, 5)
    assert triton.limit.calls == 100
