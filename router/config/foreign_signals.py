"""Signals and rules of vLLM Semantic Router: what it spells in another way becomes the canonical form, in place."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Path
from triton_router.config.heads import ClassifierSignal, FactCheckSignal, ModalitySignal, UserFeedbackSignal
from triton_router.config.plain import SIGNALS, at, items, leaves_of, names, switch
from triton_router.config.plugins import ResponseJailbreakPlugin
from triton_router.config.protection import JailbreakSignal, PiiSignal
from triton_router.config.signals import (
    ComplexitySignal,
    DomainSignal,
    EmbeddingSignal,
    LanguageSignal,
    ReaskSignal,
)

_MODULES = ("global", "model_catalog", "modules")
# Where the thresholds of signals that have none of their own are.
_THRESHOLDS = {
    FactCheckSignal.LIST: (*_MODULES, "hallucination_mitigation", "fact_check", "threshold"),
    UserFeedbackSignal.LIST: (*_MODULES, "feedback_detector", "threshold"),
    JailbreakSignal.LIST: (*_MODULES, "prompt_guard", "threshold"),
    ModalitySignal.LIST: (*_MODULES, "modality_detector", "confidence_threshold"),
}
_SCORINGS = {
    ComplexitySignal.LIST: (*_MODULES, "complexity", "prototype_scoring"),
    EmbeddingSignal.LIST: (
        *("global", "model_catalog", "embeddings", "semantic", "embedding_config"), "prototype_scoring",
    ),
}  # fmt: skip
_ON_ERROR = {
    JailbreakSignal.TYPE: (*_MODULES, "prompt_guard", "on_error"),
    PiiSignal.TYPE: (*_MODULES, "classifier", "pii", "on_error"),
}
# Generated files write 0 where no threshold is set.
_ZERO_IS_NONE = (*_THRESHOLDS, PiiSignal.LIST, LanguageSignal.LIST, ReaskSignal.LIST)


def adopt(data: Any, routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Rewrite the signals and rules of ``routing``, a routing table of ``data`` that stands at ``path``."""
    for listed in _ZERO_IS_NONE:
        for _, signal in items(routing, (SIGNALS[-1], listed)):
            if signal.get("threshold") == 0:
                del signal["threshold"]
    _no_facts(data, routing, path, adopted)
    for defaults, key in ((_THRESHOLDS, "threshold"), (_SCORINGS, "prototype_scoring")):
        for listed, source in defaults.items():
            _inherit(data, routing, path, listed, key, source, adopted)
    _composers(routing, path, adopted)  # first: their rules too name domains and labels
    _operators(routing, path, adopted)
    _domains_of_rules(routing, path, adopted)
    _labels(routing, path, adopted)
    _unknown_protection(data, routing, path, adopted)
    _checks_of_responses(routing, path, adopted)


def _no_facts(data: Any, routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """There is always one of the two labels: where facts are not sure enough to be needed, they are not."""
    source = _THRESHOLDS[FactCheckSignal.LIST]
    inherited = at(data, *source) or FactCheckSignal.model_fields["threshold"].default
    for where, signal in items(routing, (SIGNALS[-1], FactCheckSignal.LIST), below=path):
        if "threshold" in signal or signal.get("label") or not isinstance(inherited, int | float):
            continue
        meant = FactCheckSignal.meant(str(signal.get("name")), str(signal.get("description") or ""))
        if meant == FactCheckSignal.MEANING["no_fact_check_needed"] and 0 < inherited < 1:
            signal["threshold"] = round(1 - inherited, 6)
            adopted.origin[(*where, "threshold")] = source


def _inherit(
    data: Any, routing: dict[str, Any], path: Path, listed: str, key: str, source: Path, adopted: Converted
) -> None:
    """Modules have the settings of signals that have none of their own."""
    inherited = at(data, *source)
    for where, signal in items(routing, (SIGNALS[-1], listed), below=path) if inherited else ():
        if key not in signal and signal.get("method") != "contrastive":
            signal[key] = deepcopy(inherited)
            adopted.origin[(*where, key)] = source


def _operators(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Conditions without an operator are an OR there, and nothing at all is no rule."""

    def walk(rule: Any, where: Path) -> None:
        if not isinstance(rule, dict) or rule.get("type"):
            return
        if rule.get("conditions") and not rule.get("operator"):
            rule["operator"] = "OR"
            message = "these conditions have no `operator`; one of them is enough"
            adopted.problems.append(Mistake((*where, "conditions"), message, harmless=True))
        for below, condition in items(rule, ("conditions",), below=where):
            walk(condition, below)

    for where, decision in items(routing, ("decisions",), below=path):
        if isinstance(rules := decision.get("rules"), dict) and not any(rules.values()):
            decision["rules"] = None
        walk(decision.get("rules"), (*where, "rules"))


def _domains_of_rules(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Without declared domains, those that rules name are."""
    if names(routing, SIGNALS[-1], DomainSignal.LIST):
        return
    for where, leaf in _leaves(routing, path):
        name, signals = leaf.get("name"), routing.setdefault(SIGNALS[-1], {})
        if leaf.get("type") != DomainSignal.TYPE or not isinstance(name, str) or not isinstance(signals, dict):
            continue
        declared = signals.get(DomainSignal.LIST) or []
        if isinstance(declared, list) and not any(at(each, "name") == name for each in declared):
            adopted.origin[(*path, SIGNALS[-1], DomainSignal.LIST, len(declared))] = where
            signals[DomainSignal.LIST] = [*declared, {"name": name}]
            message = f"no domains are declared, so `{name}` counts as one by its name alone"
            adopted.problems.append(Mistake((*where, "name"), message, harmless=True))


def _labels(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """A rule names one label of a classifier: `NAME:LABEL` here."""
    for where, leaf in _leaves(routing, path):
        if leaf.get("type") == ClassifierSignal.TYPE and isinstance(leaf.get("label"), str) and leaf["label"]:
            leaf["name"] = f"{leaf.get('name')}:{leaf.pop('label')}"
            adopted.origin[(*where, "name")] = (*where, "label")


def _unknown_protection(data: Any, routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Modules say what a protective signal counts as that could not be evaluated."""
    sources = {of: source for of, source in _ON_ERROR.items() if at(data, *source) == "block"}
    for where, leaf in _leaves(routing, path) if sources else ():
        source = sources.get(str(leaf.get("type")))
        if source is not None and not {"on_error", "on_unknown"} & leaf.keys():
            leaf["on_unknown"] = "match"
            adopted.origin[(*where, "on_unknown")] = source


def _composers(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """A complexity signal may hold only where a tree of other signals does: every rule on it asks for both."""
    composers: dict[str, tuple[Path, dict[str, Any]]] = {}
    for where, signal in items(routing, (SIGNALS[-1], ComplexitySignal.LIST), below=path):
        composer = signal.get("composer")
        if isinstance(composer, dict) and isinstance(signal.get("name"), str):
            composers[signal["name"]] = (*where, "composer"), signal.pop("composer")
    for where, leaf in list(_leaves(routing, path)) if composers else ():
        composed = composers.get(str(leaf.get("name")).rpartition(":")[0])
        if leaf.get("type") == ComplexitySignal.TYPE and composed is not None and composed[1]:
            own = dict(leaf)
            leaf.clear()
            leaf |= {"operator": "AND", "conditions": [own, deepcopy(composed[1])]}
            adopted.origin |= {(*where, "conditions", 0): where, (*where, "conditions", 1): composed[0]}
    for where, score in items(routing, ("projections", "scores"), below=path):
        for inside, each in items(score, ("inputs",), below=where):
            if each.get("type") == ComplexitySignal.TYPE and str(each.get("name")).rpartition(":")[0] in composers:
                message = "this sum ignores the signal's `composer`, which applies only in rules"
                adopted.problems.append(Mistake(inside, message, harmless=True))


def _checks_of_responses(routing: dict[str, Any], path: Path, adopted: Converted) -> None:
    """Signals that read responses: the plugin `response_jailbreak` acts on them, with their threshold."""
    reading = [
        (where, signal)
        for where, signal in items(routing, (SIGNALS[-1], JailbreakSignal.LIST))
        if signal.get("direction") == "response"
    ]
    named = {str(leaf.get("name")) for _, leaf in _leaves(routing, path) if leaf.get("type") == JailbreakSignal.TYPE}
    plugins = [
        (inside, configuration)
        for where, decision in items(routing, ("decisions",), below=path)
        for inside, plugin in items(decision, ("plugins",), below=where)
        if plugin.get("type") in ResponseJailbreakPlugin.names()
        and isinstance(configuration := plugin.get("configuration"), dict)
        and switch(configuration.get("enabled")) is not False
    ]
    acting = [(where, signal) for where, signal in reading if plugins and str(signal.get("name")) not in named]
    stated = [(where, signal["threshold"]) for where, signal in acting if "threshold" in signal]
    thresholds = [(each, where) for where, each in stated if isinstance(each, int | float)]
    for inside, configuration in plugins if thresholds else ():
        configuration["threshold"], source = min(thresholds)
        adopted.origin[(*inside, "configuration", "threshold")] = (*path, *source, "threshold")
    adopted.drop(
        at(routing, SIGNALS[-1]), JailbreakSignal.LIST, (*path, SIGNALS[-1]), [int(where[-1]) for where, _ in acting]
    )


def _leaves(routing: dict[str, Any], path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The leaves of all rules, each with its path."""
    for where, decision in items(routing, ("decisions",), below=path):
        yield from leaves_of(decision.get("rules"), (*where, "rules"))
