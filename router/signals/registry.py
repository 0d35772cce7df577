"""Every kind of signal, one line each; other packages add theirs through the entry point group of `config.kinds`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from triton_router.config.kinds import SIGNAL_GROUP, SIGNALS, installed
from triton_router.config.plain import SIGNALS as DECLARED
from triton_router.config.plain import at, rules
from triton_router.config.report import Report
from triton_router.signals.contract import SignalKind

# In the module of the same name, or in one that is named; loaded where a configuration uses it, as some bring large
# libraries.
_KINDS = {
    "keyword": "Keywords",
    "structure": "Structures",
    "context": "ContextLengths",
    "conversation": "Conversations",
    "task": "Tasks",
    "metadata": "MetadataValues",
    "authz": "Roles",
    "language": "Languages",
    "domain": "Domains",
    "embedding": "Embeddings",
    "complexity": "Complexities",
    "reask": "Reasks",
    "preference": "Preferences",
    "event": "Events",
    "mcp": "McpClasses",
    "kb": "KnowledgeBases",
    "partition": "Partitions",
    "projection": "Projections",
    "pii": "Pii",
    "jailbreak": "Jailbreaks",
    "classifier": "Classifiers",
    "fact_check": "heads.FactChecks",
    "user_feedback": "heads.UserFeedbacks",
    "modality": "heads.Modalities",
}


def types() -> tuple[str, ...]:
    """The types of signals that can be evaluated, in the order in which they are shown."""
    return (*_KINDS, *_others())


@cache
def kind(of: str) -> type[SignalKind[Any]]:
    """The kind of type ``of``. Raises ``KeyError``."""
    if of not in _KINDS:
        return _others()[of]
    module, _, name = _KINDS[of].rpartition(".")
    implementation: type[SignalKind[Any]] = getattr(import_module(f"{__package__}.{module or of}"), name)
    return implementation


def check(data: Any, report: Report) -> None:
    """Let each kind that ``data`` declares or names report what it finds wrong."""
    named = {rule["type"] for _, rule in rules(data)}
    for each in types():
        settings = SIGNALS[each]
        if each in named or at(data, *DECLARED, settings.LIST) or (settings.MODULE and at(data, *settings.MODULE)):
            kind(each).check(data, report)


def _others() -> dict[str, type[SignalKind[Any]]]:
    return {each.SETTINGS.TYPE: each for each in installed(SIGNAL_GROUP).values()}
