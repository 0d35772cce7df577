"""The command `evaluate-bundle`: labelled rows on their way through a bundle, as a request goes.

The language of a text chooses the trunk, whose served flavour gives the domain. Besides accuracy it counts what users
would notice: how often a configuration sends a prompt to another model, or with another system prompt, than its label.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export import attacks, bundle, page
from export.encoder import OnnxEncoder, Row, read_rows
from export.evaluate import named_files
from export.evaluation import EvaluationResult
from triton_router.config import Config, leaves, loads
from triton_router.inference import load_bundle
from triton_router.inference.language import identify

HEAD = "domain"
FALLBACK = "other"
TEMPLATE = Path(__file__).parent / "templates" / "bundle-report.md.j2"
# What stands behind the tables, by bundle: files next to the template.
NOTES = {"default": ("bundle-report-notes.md", "use-m3-notes.md"), "accurate": ("e5-notes.md",)}
# Fewer rows of one language say little; they are counted together.
LEAST_ROWS = 10
# Shares of look-alikes that are flagged, where the curve of attacks is read.
RATES = (0.01, 0.026, 0.05)


@dataclass(frozen=True)
class Group:
    """Rows of one set, or of one language of it. ``probabilities`` FP32 [rows, labels], each row of its own trunk."""

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    probabilities: NDArray[np.float32]
    trunks: tuple[str, ...]

    @property
    def predicted(self) -> list[str]:
        return [self.labels[index] for index in self.probabilities.argmax(axis=1)]

    @property
    def strict(self) -> float:
        """Share with the row's label."""
        return float(np.mean([label == row.label for label, row in zip(self.predicted, self.rows, strict=True)]))

    @property
    def lenient(self) -> float:
        """Share with the row's label or one that can be argued for."""
        return float(
            np.mean([label in (row.label, *row.also) for label, row in zip(self.predicted, self.rows, strict=True)])
        )

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return self.result.error

    @property
    def result(self) -> EvaluationResult:
        """Without embeddings."""
        truth = np.asarray([self.labels.index(row.label) for row in self.rows])
        return EvaluationResult(self.labels, truth, self.probabilities, np.empty((len(truth), 0), np.float32))

    def by_language(self) -> dict[str, Group]:
        codes = [row.lang or "?" for row in self.rows]
        few = {code for code in codes if codes.count(code) < LEAST_ROWS}
        names = ["others" if code in few else code for code in codes]
        return {
            name: self.of([index for index, each in enumerate(names) if each == name]) for name in sorted(set(names))
        }

    def of(self, indices: Sequence[int]) -> Group:
        return Group(
            self.labels,
            tuple(self.rows[index] for index in indices),
            self.probabilities[list(indices)],
            tuple(self.trunks[index] for index in indices),
        )

    def routed_wrongly(self, outcomes: Mapping[str, str], threshold: float) -> float:
        """Share that ``outcomes``, by domain, treat otherwise than the label asks."""
        sure = self.probabilities.max(axis=1) >= threshold
        domains = [label if enough else FALLBACK for label, enough in zip(self.predicted, sure, strict=True)]
        return float(np.mean([outcomes[a] != outcomes[row.label] for a, row in zip(domains, self.rows, strict=True)]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FILE", help="labelled rows; repeat")
    parser.add_argument(
        "--attacks", metavar="NAME=FILE", help="rows labelled benign, jailbreak, prompt_injection, harmful_request"
    )
    parser.add_argument("--author", action="append", default=[], metavar="NAME=WHO", help="who wrote a set; repeat")
    parser.add_argument(
        "--config", type=Path, default=bundle.ROOT / "config" / "aibrix.yaml", help="whose outcomes count"
    )
    parser.add_argument("--report", type=Path, help="Markdown page to write")


def run(arguments: argparse.Namespace) -> None:
    groups: dict[str, Group] = {}
    served, _ = load_bundle(arguments.repository / "bundle.json")
    encoders = {
        trunk.name: OnnxEncoder.served(arguments.repository, trunk.name) for trunk in served.trunks if not trunk.pairs
    }
    for name, path in named_files(arguments.data).items():
        groups[name] = evaluate(encoders, read_rows(path))
        print(f"{name}: {groups[name].strict:.1%}, lenient {groups[name].lenient:.1%}, "
              f"calibration error {groups[name].error:.1%}", flush=True)  # fmt: skip
    judged: attacks.Judged | None = None
    flagged: dict[str, float] = {}
    if arguments.attacks is not None:
        ((attacked, path),) = named_files([arguments.attacks]).items()
        judged = attacks.judge(encoders, read_rows(path))
        flagged = {name: attacks.judge(encoders, group.rows).flagged() for name, group in groups.items()}
        shares = ", ".join(f"{label} {judged.flagged(label):.1%}" for label in judged.labels)
        print(f"{attacked}: {shares}; " + ", ".join(f"{name} {share:.2%}" for name, share in flagged.items()))
    config = loads(arguments.config.read_text()).config
    threshold = config.global_.model_catalog.modules.classifier.domain.threshold
    models, personas = outcomes(config)
    if arguments.report is not None:
        from export import pictures

        assets = arguments.report.parent / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        of_bundle = "" if arguments.bundle == "default" else f"-{arguments.bundle}"
        if judged is not None:
            pictures.draw_attacks(judged, assets / f"attacks{of_bundle}.png")
        results = {name: group.result for name, group in groups.items()}
        pictures.draw_reliability(results, assets / f"reliability{of_bundle}.png")
        text = page.render(
            TEMPLATE,
            of_bundle=of_bundle,
            notes=NOTES.get(arguments.bundle, ()),
            trunks=served.trunks,
            groups=groups,
            authors=dict(each.split("=", 1) for each in arguments.author),
            languages={name: group.by_language() for name, group in groups.items()},
            wrong={
                name: (group.routed_wrongly(models, threshold), group.routed_wrongly(personas, threshold))
                for name, group in groups.items()
            },
            attacked=judged,
            flagged=flagged,
            rates=RATES,
            config=arguments.config.name,
            threshold=threshold,
        )
        arguments.report.write_text(text)


def evaluate(encoders: Mapping[str, OnnxEncoder], rows: Sequence[Row]) -> Group:
    """Each row by the first trunk that lists its language, else by the one that lists most."""
    most = max(encoders.values(), key=lambda encoder: len(encoder.trunk.languages))
    chosen = []
    for row in rows:
        language = identify(row.text)
        listing = (encoder for encoder in encoders.values() if language in encoder.trunk.languages)
        chosen.append(next(listing, most))
    probabilities = np.stack([
        encoder.encode([row.text])[HEAD][0] for encoder, row in zip(chosen, rows, strict=True)
    ])  # fmt: skip
    head = most.trunk.head(HEAD)
    assert head is not None
    return Group(head.labels, tuple(rows), probabilities, tuple(encoder.trunk.name for encoder in chosen))


def outcomes(config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """The model, and the system prompt, that a domain alone leads to; by domain, decisions in order of priority."""
    models: dict[str, str] = {}
    personas: dict[str, str] = {}
    for decision in sorted(config.routing.decisions, key=lambda each: -each.priority):
        prompt = next((str(plugin.configuration) for plugin in decision.plugins if plugin.type == "system_prompt"), "")
        for rule in leaves(decision):
            if rule.type == "domain":
                models.setdefault(str(rule.name), decision.modelRefs[0].model)
                personas.setdefault(str(rule.name), prompt)
    return models, personas
