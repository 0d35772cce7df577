"""Dashboard and alert rules: only metrics that exist, and rules that fire when they should."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from triton_router.config import Config
from triton_router.load import VitalsMetrics
from triton_router.telemetry import Metrics
from triton_router.vitals import Vitals

REPOSITORY = Path(__file__).parents[2]
HERE = REPOSITORY / "deploy" / "observability"
# Prometheus' own labels of a scrape.
FROM_PROMETHEUS = {"up": {"job", "instance"}}


def exposed() -> dict[str, set[str]]:
    """Names as Prometheus sees them, with their labels."""
    names = dict(FROM_PROMETHEUS)
    for metric in vars(Metrics()).values():
        if isinstance(metric, CollectorRegistry) or not hasattr(metric, "collect"):
            continue
        (family,) = metric.collect()
        labels = getattr(metric, "_labelnames", None) or getattr(family, "_labelnames", ())
        kinds = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        for kind in kinds:
            names[family.name + kind] = {*labels, *(["le"] if kind == "_bucket" else [])}
    for gauge in VitalsMetrics(Config, Vitals()).collect():
        names[gauge.name] = set(gauge._labelnames)
    return names


def unknown(expression: str) -> list[str]:
    """What ``expression`` asks for and the router does not expose."""
    metrics, unknowns = exposed(), []
    used: set[str] = set()
    for name, matchers in re.findall(r"\b(router_\w+|up)\b(?:\{([^}]*)\})?", expression):
        labels = metrics.get(name)
        if labels is None:
            unknowns.append(name)
            continue
        used |= labels
        unknowns += [f"{name}{{{label}}}" for label in re.findall(r"(\w+)\s*[=!]", matchers) if label not in labels]
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        unknowns += [f"by {label}" for label in re.split(r"\s*,\s*", grouped.strip()) if label and label not in used]
    return unknowns


def panels() -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads((HERE / "dashboard.json").read_text())["panels"]
    return shown


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_check_sees_what_is_not_there() -> None:
    assert unknown("sum by (le, modle) (rate(router_upstream_seconds_bucket{model='m', state='5xx'}[5m]))") == [
        "router_upstream_seconds_bucket{state}", "by modle",
    ]  # fmt: skip
    assert unknown("router_upstream_seconds") == ["router_upstream_seconds"]


def test_everything_that_is_asked_for_is_exposed() -> None:
    assert {query: unknowns for query in queries() if (unknowns := unknown(query))} == {}
    assert {rule["alert"]: unknowns for rule in rules() if (unknowns := unknown(rule["expr"]))} == {}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(queries() + [rule["expr"] for rule in rules()])
    names = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in exposed()} - FROM_PROMETHEUS.keys()
    assert [name for name in sorted(names) if name not in shown] == []


def test_the_tracked_dashboard_is_the_written_one() -> None:
    assert (HERE / "dashboard.json").read_text() == runpy.run_path(str(HERE / "dashboard.py"))["written"](), (
        "run deploy/observability/dashboard.py"
    )


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in panels()]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in panels()}) == len(places)


def test_each_alert_has_a_test() -> None:
    tests = yaml.safe_load((HERE / "alerts_test.yaml").read_text())["tests"]
    for test in tests:
        assert {each["alertname"] for each in test["alert_rule_test"]} == {rule["alert"] for rule in rules()}
    assert all(each["exp_alerts"] for each in tests[-1]["alert_rule_test"])


# --- with Prometheus' own tool ---------------------------------------------------------------------------------------


def promtool(*arguments: str, directory: Path = HERE) -> subprocess.CompletedProcess[str]:
    tool = REPOSITORY / ".cache" / "prometheus" / "usr" / "bin" / "promtool"
    return subprocess.run([tool, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.deploy
def test_alerts_fire_on_their_fault_and_not_without_one() -> None:
    checked, tested = promtool("check", "rules", "alerts.yaml"), promtool("test", "rules", "alerts_test.yaml")
    assert (checked.returncode, tested.returncode) == (0, 0), checked.stdout + tested.stdout + tested.stderr


@pytest.mark.deploy
@pytest.mark.parametrize(("rule", "spoilt"), [("> 0.05", "> 0.9"), ("== 0", "== 7"), ('status="5xx"', 'status="5x"')])
def test_a_spoilt_rule_is_caught(tmp_path: Path, rule: str, spoilt: str) -> None:
    (tmp_path / "alerts.yaml").write_text((HERE / "alerts.yaml").read_text().replace(rule, spoilt))
    (tmp_path / "alerts_test.yaml").write_text((HERE / "alerts_test.yaml").read_text())
    assert promtool("test", "rules", "alerts_test.yaml", directory=tmp_path).returncode != 0


@pytest.mark.deploy
def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    def check(expressions: list[str]) -> int:
        recorded = [{"record": f"q{number}", "expr": query} for number, query in enumerate(expressions)]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": recorded}]}))
        return promtool("check", "rules", "rules.yaml", directory=tmp_path).returncode

    assert check([query.replace("$__rate_interval", "5m") for query in queries()]) == 0
    assert check(["sum by (x (up)"]) != 0
