"""What is made of measurements: the gate's verdict, ratios to peers, recovery, tables in documents."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perf import counts, gate, ladder, overload, peers, sampled, streams, targets
from perf.documents import PICTURES, TABLE_ON, placed
from perf.load import Samples
from perf.rounds import Rung, Series, interleaved
from triton_router.extproc.headers import declared_length

DOCUMENTS = Path(__file__).parents[2] / "docs"
RATIO = {"a / b": {"value": 2.0, "margin": 1.5}}


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
    ratios = gate.ratios({name: {"p50": 1.0, "cpu_ms": 1.0} for name in names}).keys()
    counted = [name for name in baseline if name not in ratios]
    assert baseline.keys() > ratios
    assert {name.partition(" of ")[0] for name in counted} == {
        "instructions", "peak memory in KiB", "ext_proc messages", "ext_proc bytes", "system calls",
    }  # fmt: skip
    assert all(figure["margin"] == gate.margin(name) for name, figure in baseline.items())
    assert all(baseline[name]["margin"] <= 1.4 for name in counted)


def test_counts_are_the_same_twice_and_see_one_rule_more() -> None:
    document = ladder.aibrix()
    first, again = (counts.count(ladder.keywords_only(document), "x") for _ in range(2))
    # Half of the margin that the gate allows: where memory stands when the cycle collector runs differs by 2 %.
    assert again == pytest.approx(first, rel=0.05)
    # Body in and out, headers and body of the response in and out.
    assert first["ext_proc messages of x"] == 6
    assert counts.count(document, "x")["instructions of x"] > first["instructions of x"] * 1.02


def test_medians_over_rounds_let_one_bad_round_pass() -> None:
    rounds = [Samples(ms=[float(ms)] * 10, at=[0.0] * 10, seconds=1.0) for ms in (5, 5, 500)]
    summary = Series(rounds, [0.01, 0.01, 0.01], {"envoy-a": 0.06, "router-a": 0.03}).summary()
    assert (summary["p50"], summary["p99"], summary["max"], summary["requests"]) == (5.0, 5.0, 500.0, 30)
    assert summary["spread"] == [5.0, 500.0]
    assert summary["cpu_ms"] == pytest.approx(1.0)
    assert summary["stack_ms"] == pytest.approx(3.0)
    assert ladder.by_part({"a": summary}) == {"a": {"Envoy": pytest.approx(2.0), "router": pytest.approx(1.0)}}
    # Of thirty requests neither the hundredth nor the thousandth is known.
    assert summary["p999"] is None and summary["p99_of_all"] is None


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


def test_ratios_to_the_peers_and_whether_they_are_met() -> None:
    def rows(**figures: tuple[float, ...]) -> dict[str, dict[str, float]]:
        systems = {"ours": peers.OURS, "bare": peers.BARE, "routed": peers.ROUTED}
        row = {systems[name]: dict(zip(("p50", "per_second"), each, strict=True)) for name, each in figures.items()}
        return row | {name: {"p50": 20.0, "per_second": 60.0} for name in peers.PEERS if name != peers.ROUTED}

    by_count = {"8": rows(ours=(50, 120), bare=(9, 240), routed=(600, 14)),
                "1": rows(ours=(10, 90), bare=(6, 90), routed=(60, 15))}  # fmt: skip
    at_load: dict[str, dict[str, Any]] = {peers.OURS: {"p99_of_all": 40}, peers.ROUTED: {"p99_of_all": 90}}
    p50, p99, rate = peers.ratios("about 110 tokens", by_count, at_load)
    assert (p50.figure, p50.met, p50.floor) == ("p50, 1 connection(s)", True, pytest.approx(0.1))
    assert p50.shares == {name: pytest.approx(1 / 6 if name == peers.ROUTED else 0.5) for name in peers.PEERS}
    assert (p99.shares, p99.met) == ({peers.ROUTED: pytest.approx(4 / 9)}, False)
    assert (rate.shares[peers.ROUTED], rate.shares[peers.ONNX], rate.met) == (pytest.approx(8.0), 2.0, True)
    few = {name: {"p99_of_all": None} for name in at_load}
    p99 = peers.ratios("about 110 tokens", by_count, few)[1]
    assert (p99.shares, p99.met) == ({}, False)


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
    samples = Samples(at=[0.1, 0.2, 1.1, 1.2, 2.1, 2.2], ms=[10, 10, 25, 30, 10, 10], status_of=[200] * 5 + [503])
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


def test_what_was_measured_stands_next_to_its_target(tmp_path: Path) -> None:
    result = {"mode": targets.WATCHED, f"us_of_{streams.SHORTER}": 20.0, f"us_of_{streams.LONGER}": 200.0}
    (tmp_path / "streams.json").write_text(json.dumps({"results": [{"mode": streams.ALONE}, result]}))
    text = targets.table(tmp_path)
    assert "watched stream of 1,000 chunks | 20 | ≤ 60 | yes |\n" in text
    assert text.endswith("watched stream of 10,000 chunks | 200 | ≤ 60 | no |\n")


@pytest.mark.parametrize(("value", "met"), [(2000.0, "yes"), (1999.0, "no"), (None, "")])
def test_a_target_that_is_a_least_value(value: float | None, met: str) -> None:
    assert targets.Target("x", value, 2000, "≥").met == met
    assert targets.Target("x", value).met == ""


def test_cpu_time_belongs_to_the_innermost_module_of_ours() -> None:
    seen: list[str] = []

    class Headers(dict[str, str]):
        """They are read in the middle of the router's work."""

        def get(self, *_: object) -> str:  # type: ignore[override]
            seen.append(sampled.part(sys._getframe()))
            return ""

    assert sampled.part(sys._getframe()) == sampled.LOOP
    declared_length(Headers())
    assert seen == ["ext_proc messages"]
    assert set(sampled.NAMES) == {sampled.LOOP, *(name for name, _ in sampled.PARTS)}


def test_every_table_and_picture_has_its_place_in_the_documents() -> None:
    pictures = [(page, name.removesuffix(".png")) for each in PICTURES.values() for name, (page, _) in each.items()]
    for page, mark in [(page, name) for name, page in TABLE_ON.items()] + pictures:
        assert "new\n" in placed((DOCUMENTS / page).read_text(), mark, "new")
