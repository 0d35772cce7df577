"""What processes of a host know of models together, without locks, and after one of them has died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from triton_router.vitals import Field, Flight, Vitals, named


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shared(tmp_path: Path, seats: int = 3, rows: int = 8) -> list[Vitals]:
    file = tmp_path / "vitals"
    file.touch()
    return [Vitals(str(file), seat, seats, rows) for seat in range(seats)]


def flown(vitals: Vitals, clock: Clock, seconds: float, *, streams: bool = True) -> None:
    flight = Flight(vitals, "m", None, streams=streams, clock=clock)
    clock.now += seconds
    flight.arrive()
    flight.end()


def test_what_is_in_flight_is_the_sum_of_all_seats(tmp_path: Path) -> None:
    one, two, three = shared(tmp_path)
    flights = [Flight(vitals, "m", "lora", streams=True) for vitals in (one, two, two)]
    assert three.total("m", Field.IN_FLIGHT) == 3
    assert three.total(named("m", "lora"), Field.WAITING_FIRST) == 3
    flights[0].arrive()
    flights[1].end()
    assert three.total("m", Field.IN_FLIGHT) == 2
    assert three.total(named("m", "lora"), Field.WAITING_FIRST) == 1


def test_the_successor_of_a_dead_process_forgets_what_was_in_flight_and_keeps_what_was_observed(tmp_path: Path) -> None:
    file = tmp_path / "vitals"
    file.touch()
    script = "import os, sys, time; from triton_router.vitals import *; v = Vitals(sys.argv[1], 1, 2, 8)\n"
    script += "Flight(v, 'm', None, streams=True); v.row('m').observe(Field.FIRST, 0.5, time.monotonic()); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, str(file)], check=False).returncode == 9
    other = Vitals(str(file), 0, 2, 8)
    assert other.total("m", Field.IN_FLIGHT) == 1
    Vitals(str(file), 1, 2, 8)
    assert other.total("m", Field.IN_FLIGHT) == 0
    estimate = other.estimate("m", Field.FIRST, other.row("m")[Field.FIRST + 3])
    assert estimate is not None and estimate.mean == pytest.approx(0.5)


def test_a_mean_forgets_within_seconds() -> None:
    vitals, clock = Vitals(), Clock()
    for _ in range(50):
        flown(vitals, clock, 0.1)
    before = vitals.estimate("m", Field.FIRST, clock.now)
    assert before is not None and before.mean == pytest.approx(0.1)
    clock.now += 6
    flown(vitals, clock, 1.0)
    after = vitals.estimate("m", Field.FIRST, clock.now)
    assert after is not None and 0.4 < after.mean < 1.0


def test_requests_that_wait_count_before_they_are_answered() -> None:
    vitals, clock = Vitals(), Clock()
    for _ in range(50):
        flown(vitals, clock, 0.1)
    flights = [Flight(vitals, "m", None, streams=True, clock=clock) for _ in range(20)]
    clock.now += 0.05
    usual = vitals.estimate("m", Field.FIRST, clock.now)
    clock.now += 0.95
    stuck = vitals.estimate("m", Field.FIRST, clock.now)
    assert usual is not None and usual.mean == pytest.approx(0.1)
    assert stuck is not None and stuck.mean > 1.0
    for flight in flights:
        flight.end()
    over = vitals.estimate("m", Field.FIRST, clock.now)
    assert over is not None and over.mean == pytest.approx(0.1)


def test_of_a_model_that_never_answered_the_waiting_ones_tell() -> None:
    vitals, clock = Vitals(), Clock()
    assert vitals.estimate("m", Field.FIRST, clock.now) is None
    Flight(vitals, "m", None, streams=True, clock=clock)
    clock.now += 3
    estimate = vitals.estimate("m", Field.FIRST, clock.now)
    assert estimate is not None and estimate.mean == pytest.approx(6)


def test_streams_and_whole_answers_are_told_apart_and_errors_not_observed() -> None:
    vitals, clock = Vitals(), Clock()
    flown(vitals, clock, 2.0, streams=False)
    failed = Flight(vitals, "m", None, streams=True, clock=clock)
    clock.now += 1
    failed.arrive(well=False)
    failed.end()
    assert vitals.estimate("m", Field.FIRST, clock.now) is None
    whole = vitals.estimate("m", Field.WHOLE, clock.now)
    assert whole is not None and whole.mean == pytest.approx(2.0)


def test_percentiles_are_those_of_a_log_normal_distribution() -> None:
    vitals, clock = Vitals(), Clock()
    row = vitals.row("m")
    for seconds in (0.1, 0.1, 0.1, 0.9):
        row.observe(Field.TOKEN, seconds, clock.now)
    estimate = vitals.estimate("m", Field.TOKEN, clock.now)
    assert estimate is not None
    assert estimate.percentile(50) < estimate.mean < estimate.percentile(95) < estimate.percentile(100)
    row = vitals.row("even")
    row.observe(Field.TOKEN, 0.2, clock.now)
    even = vitals.estimate("even", Field.TOKEN, clock.now)
    assert even is not None and even.percentile(99) == pytest.approx(0.2)


def test_more_models_than_rows_are_known_to_their_own_process_only(tmp_path: Path) -> None:
    one, two, _ = shared(tmp_path, rows=2)
    for name in ("a", "b", "c"):
        one.row(name)[Field.IN_FLIGHT] = 1
    assert [one.total(name, Field.IN_FLIGHT) for name in "abc"] == [1, 1, 1]
    assert [two.total(name, Field.IN_FLIGHT) for name in "abc"] == [1, 1, 0]
