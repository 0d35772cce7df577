"""A whole decision as data: every signal, every rule node, the outcome; and the same as a tree for people."""

from __future__ import annotations

from typing import Any

from triton_router.completion import Completion
from triton_router.decisions import Verdict
from triton_router.exchange import Forward
from triton_router.record import Record
from triton_router.selection import described
from triton_router.signals import SignalInput

# Characters of a part in the tree.
EXCERPT = 80


def explain(record: Record) -> dict[str, Any]:
    """A decided request as JSON-ready data. ``matched`` is ``null`` where a signal could not be evaluated.

    ``fired_by`` has the places in ``parts`` of those that made a signal match, ``nearness`` is how near a decision came
    in [0, 1], ``stages`` when each stage began after the first, in ms.
    """
    signals, choice, selection = record.routing()
    chosen, scores = choice.decision, record.scores()
    return {
        **(_read(record.query) if record.query is not None else {}),
        "signals": [
            {"type": kind, "name": name, "matched": signal.matched, "value": round(signal.value, 4),
             "threshold": signal.threshold, "measure": signal.measure, "ms": round(signal.ms, 3),
             "fired_by": signals.fired_by.get((kind, name), [])}
            for (kind, name), signal in signals.evaluations.items()
        ],
        "decisions": [
            {"name": decision.name, "priority": decision.priority, "tier": decision.tier,
             "chosen": decision is chosen, "nearness": scores[decision.name], **_node(verdict)}
            for decision, verdict in zip(record.decisions, choice.verdicts, strict=True)
        ],
        "outcome": {
            "recipe": record.recipe.name or None if record.recipe else None,
            "decision": chosen.name if chosen else None,
            **({"blocked": record.blocked} if record.blocked else {}),
            **({"unsettled": choice.unsettled.name} if choice.unsettled else {}),
            "confidence": round(choice.confidence, 4),
            "category": record.category,
            "model": selection.model,
            "base_model": selection.base,
            "adapter": selection.adapter,
            "missing_adapter": selection.missing,
            "selected_by": selection.reason,
            "candidates": described(selection.standings),
            "refused_hints": list(selection.refused_hints),
            "reasoning": selection.use_reasoning,
            "reasoning_effort": selection.effort if selection.use_reasoning else None,
            "plugins": [plugin.model_dump(mode="json") for plugin in chosen.plugins] if chosen else [],
        },
        "degraded": dict(signals.degraded),
        "windows": signals.encoding.windows if signals.encoding else None,
        "timings_ms": record.milliseconds(),
        "stages": _stages(record),
    }  # fmt: skip


def _read(query: SignalInput) -> dict[str, Any]:
    """Whose words the request has, and what of it is judged."""
    parts = query.parts
    return {
        "parts": [
            {"kind": part.kind, "text": part.text, "reason": part.reason, "turn": part.turn} for part in parts.all()
        ],
        "judged": {"words": parts.words, "topic": parts.topic, "task": parts.task},
    }


def outgoing(body: bytes, record: Record, outcome: Forward | Completion) -> dict[str, Any]:
    """How a previewed request with that ``body`` would leave the router: `before` and `after` are bodies as text."""
    selection = record.selection
    changed = outcome.body if isinstance(outcome, Forward) else None
    return {
        "path": record.path,
        "model": selection.model if selection else None,
        "base_model": selection.base if selection else None,
        "before": body.decode("utf-8", "replace"),
        "after": changed.decode("utf-8", "replace") if changed is not None else None,
        "answer": outcome.body.decode("utf-8", "replace") if isinstance(outcome, Completion) else None,
        "set_headers": dict(outcome.headers) if isinstance(outcome, Forward) else {},
        "remove_headers": list(outcome.remove) if isinstance(outcome, Forward) else [],
        "ignored": list(record.ignored),
    }


def _stages(record: Record) -> list[dict[str, Any]]:
    first = min((began for began, _ in record.stages.values()), default=0.0)
    return [
        {"stage": stage, "start_ms": round((began - first) * 1000, 3), "ms": round((ended - began) * 1000, 3)}
        for stage, (began, ended) in record.stages.items()
    ]


def _node(verdict: Verdict) -> dict[str, Any]:
    node: dict[str, Any] = {"matched": verdict.matched, "confidence": round(verdict.confidence, 4)}
    if verdict.rule is not None:
        node["rule"] = verdict.rule.operator or f"{verdict.rule.type}:{verdict.rule.name}"
        if verdict.rule.predicate is not None:
            node["predicate"] = verdict.rule.predicate.model_dump(exclude_none=True)
    if verdict.below:
        node["conditions"] = [_node(below) for below in verdict.below]
    return node


def as_text(explained: dict[str, Any]) -> str:
    """What :func:`explain` returned, as a readable tree."""
    outcome = explained["outcome"]
    lines = [f"model     {outcome['model']}" + (f" (on {outcome['base_model']})" if outcome["adapter"] else ""),
             *([f"recipe    {outcome['recipe']}"] if outcome["recipe"] else []),
             f"decision  {outcome['decision'] or 'none matched: default model'}",
             f"reasoning {_SWITCH[outcome['reasoning']]}"]  # fmt: skip
    if "unsettled" in outcome:
        lines.append(f"fails     because a signal of {outcome['unsettled']} is unknown")
    lines += [f"degraded  {part}: {reason}" for part, reason in explained["degraded"].items()]
    lines += _candidates(outcome)
    lines += ["", "parts"]
    lines += [
        f"  {place:>2} {part['kind']:<9} {_excerpt(part['text'])}" for place, part in enumerate(explained["parts"])
    ]
    lines += ["", "signals"]
    for signal in explained["signals"]:
        threshold = "" if signal["threshold"] is None else f" of {signal['threshold']:.2f}"
        name = f"{signal['type']}:{signal['name']}"
        fired = f"  part {', '.join(map(str, signal['fired_by']))}" if signal["fired_by"] else ""
        lines.append(f"  {_MARK[signal['matched']]} {name:<32} {signal['value']:.3f}{threshold}{fired}")
    lines += ["", "decisions"]
    for decision in explained["decisions"]:
        arrow = "→" if decision["chosen"] else " "
        lines.append(f"{arrow} {_MARK[decision['matched']]} {decision['name']} (priority {decision['priority']})")
        lines += _tree(decision, "      ") if "rule" in decision else ["      (no rules: matches everything)"]
    lines += ["", "  ".join(f"{stage} {ms:.2f} ms" for stage, ms in explained["timings_ms"].items())]
    return "\n".join(lines)


def _candidates(outcome: dict[str, Any]) -> list[str]:
    """Why one of several candidates was chosen."""
    lines = ["", f"candidates (chosen by {outcome['selected_by']})"] if outcome["candidates"] else []
    for each in outcome["candidates"]:
        factors = "  ".join(f"{name} {ratio:.2f}" for name, ratio in each["factors"].items())
        values = "  ".join(f"{name}={value:g}" for name, value in each["values"].items())
        bounds = f"  breaks {', '.join(each['breaks'])}" if each["breaks"] else ""
        lines.append(f"  {each['model']:<24} share {each['share']:.0%}  {factors}{bounds}".rstrip())
        lines.append(f"  {'':<24} {values}")
    return lines


_MARK = {True: "✓", False: "·", None: "?"}
_SWITCH = {True: "on", False: "off", None: "untouched"}


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else f"{line[:EXCERPT]}… ({len(text)} characters)"


def _tree(node: dict[str, Any], indent: str) -> list[str]:
    lines = [f"{indent}{_MARK[node['matched']]} {node['rule']}  {node['confidence']:.3f}"]
    for below in node.get("conditions", []):
        lines += _tree(below, indent + "  ")
    return lines
