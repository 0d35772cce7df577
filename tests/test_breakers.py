"""Breakers of models and adapters: facts that several processes write, judged by a clock that tests turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triton_router.breakers import LONGEST_WAIT, Breakers, resting, retry_after
from triton_router.config import Config
from triton_router.config.fallback import CircuitBreakerSettings
from triton_router.vitals import Vitals, named

SETTINGS = CircuitBreakerSettings(consecutive_failures=3, cooldown_period=10, half_open_probes=2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def two(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> tuple[Breakers, Breakers]:
    """What two workers of one host see, each of them at once."""
    monkeypatch.setattr("triton_router.vitals.NOTICED_WITHIN", 0.0)
    path = tmp_path / "vitals"
    path.touch()
    seats = [Vitals(str(path), seat, 2) for seat in range(2)]
    for vitals in seats:
        vitals.row("m")  # new rows are noticed a little later
    here, there = (Breakers(vitals, clock) for vitals in seats)
    return here, there


def states(two: tuple[Breakers, Breakers], name: str = "m") -> set[str]:
    return {breakers.judge(name, SETTINGS).state for breakers in two}


def test_failures_in_a_row_open_it_for_all_workers(two: tuple[Breakers, Breakers]) -> None:
    here, there = two
    here.failed("m")
    there.failed("m")
    assert states(two) == {"closed"}
    here.failed("m")
    assert states(two) == {"open"}
    assert states(two, "other") == {"closed"}


def test_an_answer_between_them_starts_the_count_anew(two: tuple[Breakers, Breakers], clock: Clock) -> None:
    here, there = two
    for breakers in (here, there):
        breakers.failed("m")
    clock.now += 1
    there.succeeded("m")
    clock.now += 1
    here.failed("m")
    here.failed("m")
    assert states(two) == {"closed"}
    there.failed("m")
    assert states(two) == {"open"}


def test_a_few_probes_after_the_cooldown_decide(two: tuple[Breakers, Breakers], clock: Clock) -> None:
    here, there = two
    for _ in range(3):
        here.failed("m")
    clock.now += 9.9
    assert states(two) == {"open"}
    clock.now += 0.2
    assert states(two) == {"half_open"}
    here.probe("m", SETTINGS)
    assert states(two) == {"half_open"}
    there.probe("m", SETTINGS)
    assert states(two) == {"open"}
    there.failed("m")
    clock.now += 9.9
    assert states(two) == {"open"}
    clock.now += 0.2
    assert states(two) == {"half_open"}
    here.succeeded("m")
    assert states(two) == {"closed"}


def test_probes_of_which_nothing_is_heard_are_not_waited_for(two: tuple[Breakers, Breakers], clock: Clock) -> None:
    here, _ = two
    for _ in range(3):
        here.failed("m")
    clock.now += 10
    for _ in range(2):
        here.probe("m", SETTINGS)
    assert here.judge("m", SETTINGS).seconds == pytest.approx(10)
    clock.now += 10.1
    assert states(two) == {"half_open"}


def test_who_asks_to_be_left_alone_is(two: tuple[Breakers, Breakers], clock: Clock) -> None:
    here, there = two
    here.failed("m", retry_after=7)
    assert states(two) == {"waiting"}
    assert there.judge("m", SETTINGS).seconds == pytest.approx(7)
    # An answer to an earlier request changes nothing.
    there.succeeded("m")
    assert states(two) == {"waiting"}
    clock.now += 7.1
    assert states(two) == {"closed"}
    here.failed("m", retry_after=1e9)
    clock.now += LONGEST_WAIT + 1
    assert states(two) == {"closed"}


@pytest.mark.parametrize(
    ("value", "seconds"), [("12", 12), ("0.5", 0.5), ("", None), ("soon", None), ("-3", None), ("1,5", None)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after(429, value) == retry_after(503, value) == seconds
    assert retry_after(500, value) is None


def test_retry_after_may_be_a_date() -> None:
    when = datetime.now(UTC) + timedelta(seconds=60)
    assert retry_after(429, format_datetime(when, usegmt=True)) == pytest.approx(60, abs=2)
    assert retry_after(503, "Wed, 21 Oct 2015 07:28:00 GMT") == 0


DATES = st.builds(
    "{}, {:02} {} {} {} {}".format,
    st.sampled_from(["Mon", "Fri", ""]), st.integers(), st.sampled_from(["Jan", "Feb", "Foo"]), st.integers(),
    st.sampled_from(["00:00:00", "23:59:60", "99:99"]), st.sampled_from(["GMT", "+0100", "-9999999999", ""]),
)  # fmt: skip


@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("9" * 400)
@given(st.text() | DATES)
def test_whatever_a_backend_says_is_no_error(text: str) -> None:
    seconds = retry_after(429, text)
    assert seconds is None or seconds >= 0


def test_who_rests_is_told_by_the_names_of_the_configuration() -> None:
    """As `/ready` and `router_model_rests` have it."""
    vitals = Vitals()
    breakers = Breakers(vitals)
    breakers.failed(named("base", "lora"), retry_after=60)
    for _ in range(2):
        breakers.failed("other")
    document = {
        "providers": {"models": [{"name": "base"}, {"name": "other"}]},
        "routing": {"modelCards": [{"name": "base", "loras": [{"name": "lora"}]}]},
    }
    assert resting(Config.model_validate(document), vitals) == {}
    document["routing"]["fallback"] = {"circuit_breaker": {"consecutive_failures": 2}}  # type: ignore[assignment]
    states = resting(Config.model_validate(document), vitals)
    assert {name: (each.state, round(each.seconds)) for name, each in states.items()} == {
        "lora": ("waiting", 60),
        "other": ("open", 30),
    }
