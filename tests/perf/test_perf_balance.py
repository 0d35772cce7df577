"""What `perf balance` makes of its samples."""

from __future__ import annotations

from perf.balance import Row, judged

BOUNDS = (10.0, 20.0, 40.0)


def rows(share: float, *, slow_for: float, away_for: float) -> list[Row]:
    """100 requests a second: the victim is slow at 10 s and left after ``slow_for``, and is back ``away_for`` after
    20 s."""
    made: list[Row] = []
    for number in range(4000):
        moment = number / 100
        away = 10 + slow_for <= moment < 20 + away_for
        victim = not away and number % 100 < share * 100
        slow = victim and 10 <= moment < 20
        made.append((moment, 1000.0 if slow else 100.0, "victim" if victim else "steady", True))
    return made


def test_a_recovery_is_timed_from_when_all_stays_well() -> None:
    row = judged(rows(0.5, slow_for=2, away_for=4), BOUNDS)
    assert (row["p99_before"], row["p99_back"], row["share_back"]) == (100.0, 2, 4)
    assert row["share_slow"] == 0 and row["share_steady"] == (0.5, 0.5) and row["failed"] == 0


def test_what_never_recovers_is_said() -> None:
    row = judged(rows(0.5, slow_for=10, away_for=20), BOUNDS)
    assert row["p99_back"] is None and row["share_back"] is None and row["share_slow"] == 0.5
