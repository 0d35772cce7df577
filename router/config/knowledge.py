"""Settings of knowledge bases: labelled examples that prompts are compared with, and signals that read the outcome.

The folder `knowledge_bases` has those that every file may use by name. Their names, labels, groups and metrics are
those of vLLM Semantic Router; their exemplars are our own.
"""

import json
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, Literal

from pydantic import Field

from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Path
from triton_router.config.kinds import SignalSettings
from triton_router.config.plain import at, items, tables
from triton_router.config.prototypes import PrototypeScoring
from triton_router.config.section import Name, Phrase, Section, Similarity

KBS = ("global", "model_catalog", "kbs")
# Metrics that every knowledge base has.
BEST_SCORE, BEST_MATCHED_SCORE = "best_score", "best_matched_score"


class KnowledgeLabel(Section):
    description: str | None = Field(None, description="For people.")
    exemplars: tuple[Phrase, ...] = Field((), description="Prompts that belong to the label.")


class KnowledgeSource(Section):
    path: str = Field(description="Folder of the manifest, relative to the configuration file.")
    manifest: Name = Field("labels.json", description="JSON file with `labels`: exemplars by label.")


class KnowledgeMetric(Section):
    """A number for projections: the score of one group minus that of another."""

    name: Name = Field(description="Name that inputs of projections refer to.")
    type: Literal["group_margin"] = Field("group_margin", description="Score of a group minus that of another one.")
    positive_group: Name = Field(description="The group whose score counts.")
    negative_group: Name = Field(description="The group whose score is subtracted.")


class KnowledgeBase(Section):
    """Labelled examples, compared with the prompt's embedding."""

    name: Name = Field(description="Name that signals refer to.")
    labels: dict[str, KnowledgeLabel] = Field(default_factory=dict, description="Labels, here or in `source`.")
    source: KnowledgeSource | None = Field(None, description="File with the labels.")
    threshold: Similarity = Field(0.5, description="Least score of a label that matches.")
    label_thresholds: dict[str, Similarity] = Field(default_factory=dict, description="Thresholds of single labels.")
    groups: dict[str, tuple[Name, ...]] = Field(default_factory=dict, description="Labels by group.")
    metrics: tuple[KnowledgeMetric, ...] = Field((), description="Differences of scores, for projections.")
    prototype_scoring: PrototypeScoring = Field(
        default_factory=PrototypeScoring, description="Scoring of the similarity to a label."
    )


class KnowledgeTarget(Section):
    kind: Literal["label", "group", "metric"] = Field(description="What is read.")
    value: Name = Field(description="Name of the label, group or metric.")


class KnowledgeSignal(SignalSettings):
    """A label, group or metric of a knowledge base."""

    TYPE, LIST = "kb", "kb"
    MODULE = KBS
    PURPOSE = "Labels and groups of knowledge bases, for rules of `type: kb`."

    kb: Name = Field(description="Name of the knowledge base under `global.model_catalog.kbs`.")
    target: KnowledgeTarget = Field(description="The label, group or metric to read.")
    match: Literal["best", "threshold"] = Field(
        "threshold",
        description="`best`: its score is the highest of its kind. `threshold`: its score reaches the label's "
        "threshold; for a group, the score of one of its labels does. A metric matches if it is over 0.",
    )


def adopt(data: Any, directory: FilePath, adopted: Converted) -> None:
    """Put the labels of each manifest into ``data``, and the built-in bases that it reads without declaring them."""
    for path, base in items(data, KBS):
        folder, manifest = at(base, "source", "path"), at(base, "source", "manifest") or "labels.json"
        if not isinstance(folder, str) or not isinstance(manifest, str) or base.get("labels"):
            continue
        labels, reason = _labels(directory / folder / manifest)
        if labels is None:
            reason = f"{folder}/{manifest} {reason}"
            if (built_in := _built_in(str(base.get("name")))) is not None:
                labels, reason = built_in["labels"], f"{reason}: the built-in labels are used"
            adopted.problems.append(Mistake((*path, "source"), reason, harmless=True))
        if labels is not None:
            base["labels"] = labels
    declared = [base.get("name") for _, base in items(data, KBS)]
    for path, name in _read_by_signals(data):
        if name not in declared and (built_in := _built_in(name)) is not None:
            declared.append(name)
            adopted.append(KBS, {"name": name, **built_in}, path)


def _read_by_signals(data: Any) -> Iterator[tuple[Path, str]]:
    for path, routing in tables(data):
        for where, signal in items(routing, ("signals", KnowledgeSignal.LIST), below=path):
            if isinstance(name := signal.get("kb"), str):
                yield (*where, "kb"), name


def _labels(manifest: FilePath) -> tuple[dict[str, Any] | None, str]:
    """The labels in a file, or why there are none."""
    try:
        labels = json.loads(manifest.read_bytes())["labels"]
        if not isinstance(labels, dict):
            raise ValueError("`labels` is not a mapping")
        return {name: {"exemplars": label.get("exemplars") or []} for name, label in labels.items()}, ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"is no manifest of labels: {error}"


def _built_in(name: str) -> dict[str, Any] | None:
    bases = {file.stem: file for file in FilePath(__file__).with_name("knowledge_bases").glob("*.json")}
    return dict(json.loads(bases[name].read_bytes())) if name in bases else None
