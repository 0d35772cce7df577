"""What is made of measurements: the gate's verdict, ratios to peers, recovery, tables in documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perf import gate, overload, peers
from perf.documents import placed
from perf.load import Samples
from perf.rounds import Rung, Series, interleaved

RATIO = {"a / b": {"ratio": 2.0, "margin": 1.5}}


@pytest.mark.parametrize(
    ("measured", "fails"),
    [({"a / b": 2.9}, False), ({"a / b": 3.0}, False), ({"a / b": 3.1}, True), ({"a / b": 0.1}, False), ({}, True),
     ({"a / b": float("nan")}, True)],
)  # fmt: skip
def test_the_gate_fails_beyond_the_margin(measured: dict[str, float], fails: bool) -> None:
    assert bool(gate.exceeded(measured, RATIO)) is fails


def test_the_committed_baseline_has_every_figure_of_the_gate() -> None:
    baseline = json.loads(gate.BASELINE.read_text())
    names = (gate.ALONE, gate.NOTHING, gate.KEYWORDS, gate.DOMAIN, gate.HIT, gate.BARE)
    assert baseline.keys() == gate.ratios({name: {"p50": 1.0, "cpu_ms": 1.0} for name in names}).keys()
    assert all(figure["margin"] >= 1.3 for figure in baseline.values())


def test_medians_over_rounds_let_one_bad_round_pass() -> None:
    rounds = [Samples(ms=[float(ms)] * 10, at=[0.0] * 10, seconds=1.0) for ms in (5, 5, 500)]
    summary = Series(rounds, [0.01, 0.01, 0.01]).summary()
    assert (summary["p50"], summary["p99"], summary["max"], summary["requests"]) == (5.0, 5.0, 500.0, 30)
    assert summary["spread"] == [5.0, 500.0]
    assert summary["cpu_ms"] == pytest.approx(1.0)
    # Of thirty requests the thousandth is not known.
    assert summary["p999"] is None


async def test_rounds_go_forth_and_back() -> None:
    order: list[str] = []

    def rung(name: str) -> Rung:
        async def ask(number: int) -> Samples:
            order.append(f"{name}{number}")
            return Samples(ms=[1.0], at=[0.0], seconds=1.0)

        return Rung(ask)

    testbed: Any = None
    await interleaved(testbed, {"a": rung("a"), "b": rung("b")}, 3)
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]


def test_ratios_to_the_peer_and_whether_they_are_met() -> None:
    def rows(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> dict[str, dict[str, float]]:
        names = ("p50", "p99", "per_second")
        return {peers.OURS: dict(zip(names, ours, strict=True)), peers.ROUTED: dict(zip(names, theirs, strict=True))}

    by_count = {"8": rows((50, 90, 120), (600, 900, 14)), "1": rows((10, 40, 90), (60, 90, 15))}
    found = {name: (value, met) for name, value, _, _, met in peers.ratios("about 110 tokens", by_count)}
    assert found["p50, 1 connection(s)"] == (pytest.approx(1 / 6), True)
    assert found["p99, 1 connection(s)"] == (pytest.approx(4 / 9), False)
    assert found["requests/s, each at its best"] == (pytest.approx(8.0), True)


def test_recovery_is_when_it_is_fast_and_stays_so() -> None:
    """Slow for 1.2 s after the overload, then fast but for one in two hundred."""
    moments = [10 + number / 100 for number in range(1000)]
    ms = [300.0 if moment < 11.2 else 20.0 for moment in moments]
    ms[600] = 300.0
    recovery = overload.recovered(moments, ms, 10.0, 100.0)
    assert recovery == pytest.approx(1.19)
    assert overload.recovered(moments, [300.0] * 1000, 10.0, 100.0) is None
    assert overload.recovered(moments, [20.0] * 1000, 10.0, 100.0) == 0.0


def test_overload_is_judged_by_when_requests_were_to_be_sent() -> None:
    samples = Samples(at=[0.1, 0.2, 1.1, 1.2, 2.1, 2.2], ms=[10, 10, 25, 30, 10, 10])
    samples.statuses.update({200: 5, 503: 1})
    parts = {overload.BEFORE: (0.0, 1.0), overload.DURING: (1.0, 2.0), overload.AFTER: (2.0, 3.0)}
    judged = overload.judge(samples, parts)
    assert judged["p99_ratio"] == 3.0
    assert judged["parts"][overload.DURING]["requests"] == 2
    assert judged["statuses"] == {"200": 5, "503": 1}
    assert judged["recovery_seconds"] == 0.0


def test_a_table_takes_the_place_of_the_last_one() -> None:
    page = "Before.\n<!-- perf:a -->\nold\n<!-- /perf:a -->\nAfter.\n"
    once = placed(page, "a", "| new \\1 |\n")
    assert once == "Before.\n<!-- perf:a -->\n\n| new \\1 |\n\n<!-- /perf:a -->\nAfter.\n"
    assert placed(once, "a", "| new \\1 |\n") == once
    with pytest.raises(ValueError, match="place for b"):
        placed(page, "b", "")
