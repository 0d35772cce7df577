"""Pictures of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def by_load(prompts: Mapping[str, Any], systems: Sequence[str], path: Path, title: str) -> None:
    """Latency over throughput, a panel for each kind of prompts and a line for each system: solid p50, dotted p99."""
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(1, len(prompts), figsize=(5.5 * len(prompts), 4.2), sharey=True, squeeze=False)
    for axes, (kind, by_count) in zip(panels[0], prompts.items(), strict=True):
        for number, name in enumerate(systems):
            rows = [rows[name] for rows in by_count.values()]
            rates, colour = [row["per_second"] for row in rows], f"C{number}"
            axes.plot(rates, [row["p50"] for row in rows], marker="o", markersize=3, color=colour, label=name)
            axes.plot(rates, [row["p99"] for row in rows], linestyle=":", color=colour)
        axes.set(xscale="log", yscale="log", xlabel="requests a second", title=f"prompts of {kind}")
    panels[0][0].set_ylabel("ms (solid p50, dotted p99)")
    panels[0][0].legend(fontsize=7)
    _save(figure, path, title)


def distributions(
    lines: Mapping[str, Sequence[float]], path: Path, title: str, *, limits: Sequence[float] = ()
) -> None:
    """Thousandths of a distribution, the tail stretched: each nine is as wide as the last; ``limits`` go across."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    for name, values in lines.items():
        # The last is the maximum; it stands at 99.95 %.
        rest = [1 - min(number / (len(values) - 1), 0.9995) for number in range(len(values))]
        axes.plot([1 / share for share in rest], values, label=name)
    for limit in limits:
        axes.axhline(limit, color="grey", linewidth=0.7, linestyle="--")
    axes.set(xscale="log", ylabel="ms")
    axes.set_xticks([1, 2, 10, 100, 1000], ["0", "50 %", "90 %", "99 %", "99.9 %"])
    axes.legend(fontsize=8)
    _save(figure, path, title)


def over_time(
    moments: Sequence[float], ms: Sequence[float], path: Path, title: str, marks: Mapping[str, float]
) -> None:
    """Every latency at the time at which it was to be sent; ``marks`` are times with a name."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    axes.plot(moments, ms, ".", markersize=1.5)
    for name, moment in marks.items():
        axes.axvline(moment, color="grey", linewidth=0.7)
        axes.text(moment, 1, f" {name}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")
    axes.set(xlabel="s", ylabel="ms", yscale="log")
    _save(figure, path, title)


def shares(lines: Mapping[str, Sequence[float | None]], path: Path, title: str, marks: Mapping[str, float]) -> None:
    """A share of the requests by second, a line for each name; ``marks`` are times with a name."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 3.2))
    for name, line in lines.items():
        axes.plot([float("nan") if share is None else share for share in line], marker="o", markersize=3, label=name)
    for name, moment in marks.items():
        axes.axvline(moment, color="grey", linewidth=0.7)
        axes.text(moment, 1, f" {name}", transform=axes.get_xaxis_transform(), fontsize=7, va="top")
    axes.set(xlabel="s", ylabel="share", ylim=(0, 1))
    axes.legend(fontsize=8)
    _save(figure, path, title)


def stacked(panels: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path, title: str) -> None:
    """CPU time of a request by part, in ms: a panel for each load, a bar for each rung, top down."""
    pyplot = _pyplot()
    parts = list(dict.fromkeys(part for rungs in panels.values() for bar in rungs.values() for part in bar))
    figure, axes_of = pyplot.subplots(1, len(panels), figsize=(5.5 * len(panels), 3.4), sharey=True, squeeze=False)
    colours = pyplot.get_cmap("tab20").colors
    colours = [*colours[::2], *colours[1::2]]  # the strong ones first
    for axes, (load, rungs) in zip(axes_of[0], panels.items(), strict=True):
        names, left = list(rungs), [0.0] * len(rungs)
        for number, part in enumerate(parts):
            widths = [rungs[name].get(part, 0.0) for name in names]
            axes.barh(names, widths, left=left, color=colours[number], label=part)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set(title=load, xlabel="CPU ms a request")
    axes_of[0][0].invert_yaxis()
    # Below the panels, where no bar is.
    handles, labels = axes_of[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="lower center", ncol=6, bbox_to_anchor=(0.5, -0.08))
    _save(figure, path, title)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None}, bbox_inches="tight")
    _pyplot().close(figure)
