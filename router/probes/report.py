"""Results of probes as a table, JSON or JUnit, and whether they are what the file asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from triton_router.probes.form import ProbeFile
from triton_router.probes.verdicts import Result


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of ``total`` passed."""

    passed: int
    total: int

    @property
    def percent(self) -> float:
        return 100.0 * self.passed / self.total if self.total else 100.0


@dataclass(frozen=True, slots=True)
class Summary:
    """``ruleless`` passes are those by a decision without rules. ``unmet`` says what the file asks for and lacks."""

    probes: Rate
    decisions: Rate
    ruleless: int
    tags: dict[str, Rate]
    signals: Rate
    causes: dict[str, int]
    unmet: tuple[str, ...]


def summarize(file: ProbeFile, results: Sequence[Result]) -> Summary:
    """Count ``results``, the probes of ``file``."""
    groups: dict[str, list[Result]] = {}
    tags: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.probe.group, []).append(result)
        for tag in result.probe.tags:
            tags.setdefault(tag, []).append(result)
    probes = _rate(results)
    decisions = Rate(sum(all(each.passed for each in group) for group in groups.values()), len(groups))
    asserted = sum(len(result.probe.signals) for result in results)
    causes = Counter(_blamed(result) for result in results if not result.passed)
    unmet = [*_unmet("probes", probes, file.acceptance.min_probe_pass_rate),
             *_unmet("decisions", decisions, file.acceptance.min_decision_pass_rate)]  # fmt: skip
    for group, least in file.coverage.min_tag_pass_rate.items():
        of_group = [each for each in results if any(tag.partition(":")[0] == group for tag in each.probe.tags)]
        unmet += _unmet(f"tag {group}", _rate(of_group), least)
    return Summary(
        probes=probes,
        decisions=decisions,
        ruleless=sum(result.passed and result.ruleless for result in results),
        tags={tag: _rate(tags[tag]) for tag in sorted(tags)},
        signals=Rate(asserted - sum(len(result.missing) for result in results), asserted),
        causes=dict(causes.most_common()),
        unmet=tuple(unmet),
    )


def _rate(results: Iterable[Result]) -> Rate:
    outcomes = [result.passed for result in results]
    return Rate(sum(outcomes), len(outcomes))


def _unmet(what: str, rate: Rate, least: float) -> list[str]:
    return [f"{what}: {rate.percent:.1f} % pass, {least:g} % are required"] if rate.percent < least else []


def _blamed(result: Result) -> str:
    first = result.causes[0]
    return first.signal or first.text


def as_table(summary: Summary, results: Sequence[Result]) -> str:
    """For people."""
    lines = []
    for result in results:
        if not result.passed:
            probe = result.probe
            lines.append(f"MISS {probe.group}/{probe.name}: expected {probe.decision}, got {result.decision or 'none'}")
            lines += [f"       {cause.text}" for cause in result.causes]
            lines += [f"       expected signal {cause.text}" for cause in result.missing]
    lines += [""] if lines else []
    lines.append(f"{'probes':<32}{_shown(summary.probes)}  ({summary.ruleless} by a decision without rules)")
    lines.append(f"{'decisions':<32}{_shown(summary.decisions)}")
    if summary.signals.total:
        lines.append(f"{'expected signals':<32}{_shown(summary.signals)}")
    lines += ["", "by tag"]
    lines += [f"  {tag:<30}{_shown(rate)}" for tag, rate in summary.tags.items()]
    if summary.causes:
        lines += ["", "causes"]
        lines += [f"  {count:>4}  {cause}" for cause, count in summary.causes.items()]
    lines += ["", *(f"not met: {each}" for each in summary.unmet)] if summary.unmet else []
    return "\n".join(lines)


def _shown(rate: Rate) -> str:
    return f"{rate.passed:>5} of {rate.total:<5}{rate.percent:>6.1f} %"


def as_data(file: ProbeFile, summary: Summary, results: Sequence[Result]) -> dict[str, Any]:
    """As JSON-ready data, for programs. Prompts are not in it."""
    return {
        "name": file.name,
        "accepted": not summary.unmet,
        "unmet": summary.unmet,
        "probes": _data(summary.probes),
        "decisions": _data(summary.decisions),
        "passed_without_rules": summary.ruleless,
        "expected_signals": _data(summary.signals),
        "tags": {tag: _data(rate) for tag, rate in summary.tags.items()},
        "causes": summary.causes,
        "results": [
            {"group": each.probe.group, "probe": each.probe.name, "tags": each.probe.tags, "passed": each.passed,
             "expected": {"recipe": each.probe.recipe, "decision": each.probe.decision, "model": each.probe.model},
             "actual": {"recipe": each.recipe, "decision": each.decision, "model": each.model},
             "without_rules": each.ruleless, "causes": each.causes, "missing_signals": each.missing}
            for each in results
        ],
    }  # fmt: skip


def _data(rate: Rate) -> dict[str, float]:
    return {"passed": rate.passed, "total": rate.total, "percent": round(rate.percent, 2)}


def as_junit(file: ProbeFile, summary: Summary, results: Sequence[Result]) -> str:
    """As JUnit's XML, for CI: a suite of one test a probe, and one for what the file asks for."""
    failures = str(sum(not each.passed for each in results))
    suite = ElementTree.Element("testsuite", name=file.name, tests=str(len(results)), failures=failures)
    for each in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"{file.name}.{each.probe.group}", name=each.probe.name
        )
        if not each.passed:
            message = f"expected {each.probe.decision}, got {each.decision or 'none'}"
            failure = ElementTree.SubElement(case, "failure", message=message)
            failure.text = "\n".join(cause.text for cause in (*each.causes, *each.missing))
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="accepted", value=str(not summary.unmet).lower())
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
