"""Tables that commands write from templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

from export import page
from perf import ladder, overload, streams

RUN = {"machine": "2 cores", "command": "python -m perf x", "rounds": 5}


def test_a_figure_has_two_digits_a_count_has_all_and_nothing_is_a_dash() -> None:
    assert [page.figure(value) for value in (1.234, 12345, None)] == ["1.23", "12345", "-"]
    assert (page.fmt(0.256, ".0%"), page.fmt(None, ".0%")) == ("26%", "-")


def test_a_name_that_nobody_gives_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.md.j2").write_text("{{ one }} {{ other }}")
    with pytest.raises(jinja2.UndefinedError, match="'other' is undefined"):
        page.render(tmp_path / "a.md.j2", one=1)


def test_the_ladders_table_has_every_rung_and_no_cpu_where_none_was_read() -> None:
    def row(p50: float, **more: Any) -> dict[str, Any]:
        inside = [f"{part}_{name}" for part in ("router", "encoder") for name in ("p50", "p90", "p99")]
        names = ("p90", "p99", "p99_of_all", "max", *inside)
        return {"requests": 10, "errors": 0, "per_second": 100.0, "p50": p50, "p999": None, **dict.fromkeys(names, 9.0),
                **more}  # fmt: skip

    rows = {ladder.ALONE: row(1.0), ladder.NOTHING: row(3.0, cpu_ms=1.0),
            ladder.DOMAIN: row(7.0, cpu_ms=2.5, stack_ms=9.0), ladder.BARE: row(2.0, cpu_ms=0.5)}  # fmt: skip
    bundle = {"mib": 77.0, "ready_seconds": 1.2, "prepare_ms": 3.0, "swap_ms": 0.2, "seen_ms": 44.0}
    parts = {ladder.DOMAIN: {"signals": 0.25, "body": 0.1}}
    text = ladder.table({**RUN, "saturated": 16, "rate": 70.0, "single": rows, "saturation": rows, "load": rows,
                         "parts": {"single": parts, "saturation": parts}, "system_calls": {ladder.DOMAIN: 33.64},
                         "bundles": {"english": bundle}})  # fmt: skip
    assert "\n| Envoy alone | 10 | 0 | 1.00 | 9.00 | 9.00 | - | 9.00 | +0.00 | 0.50 | - | - |\n" in text
    assert "\n| domain by Triton | 10 | 0 | 7.00 | 9.00 | 9.00 | - | 9.00 | +6.00 | 3.50 | 2.50 | 9.00 |\n" in text
    assert "takes 1.00 ms of CPU per request here, and `tritonclient` 0.50 ms" in text
    assert "\n| | domain by Triton, 1 connection | 16 |\n| --- | ---: | ---: |\n| signals | 250 | 250 |\n" in text
    assert "one connection: domain by Triton 33.6.\n" in text
    assert text.endswith("\n| `english` | 1.20 s | 77 MiB | 3 ms | 0.2 ms | 44 ms |\n")


def test_an_overload_that_did_not_end_says_so() -> None:
    part = {"requests": 3, "p50": 1.0, "p90": 2.0, "p99": None, "max": 4.0}
    text = overload.table({
        **RUN, "seconds": 30.0, "saturation": 142.2, "connections": 800, "router_mib": 77.2, "parts": {"200 %": part},
        "statuses": {"0": 1, "200": 3}, "degraded": 1, "recovery_seconds": None, "p99_ratio": 2.5,
    })  # fmt: skip
    assert "\n| 200 % | 3 | 1.00 | 2.00 | - | 4.00 |\n" in text
    assert "Responses by status: none: 1, 200: 3; routed without model-backed signals: 1." in text
    assert "2.5 times that before (target ≤ 3). Recovery: not seen (target < 2 s). Router 77 MiB.\n" in text


def test_a_row_without_a_router_leaves_its_cells_empty() -> None:
    rows = [
        {"mode": streams.ALONE, "first_p50": 1.0, "first_p99": 2.0},
        {"mode": "headers only", "first_p50": 1.5, "first_p99": 2.0, "us_per_chunk": 33.3, "rss_before": 70.1,
         "rss_peak": 80.2, f"us_of_{streams.SHORTER}": 44.4, f"us_of_{streams.LONGER}": 45.0},
    ]  # fmt: skip
    text = streams.table({**RUN, "streams": 64, "results": rows})
    assert text.endswith("| Envoy alone | 1.00 | +0.00 | 2.00 | | | | | |\n"
                         "| headers only | 1.50 | +0.50 | 2.00 | 33 | 70 | 80 | 44 | 45 |\n")  # fmt: skip
