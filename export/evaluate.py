"""The command `evaluate`: a bundle's flavours on labelled rows, as a model report."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from export import bundle, quality
from export import head as head_file
from export.encoder import OnnxEncoder, Row, ScoredPair, read_pairs, read_rows
from export.evaluation import BATCHMATES, BatchDependence, Evaluation, EvaluationResult, Likeness
from export.exporter import Exporter
from export.manifest import ModelSpec
from export.precision import FLAVOURS

LATENCY_RUNS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FILE", help="labelled rows; repeat")
    parser.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help='JSON lines {"a", "b", "label"}, labels 0 and 1 or grades: what a delta did to the embedding; repeat',
    )
    parser.add_argument(
        "--wrapped",
        action="store_true",
        help="measure only whether prompts keep their words and domain inside client programs' text",
    )
    parser.add_argument("--report", type=Path, help="Markdown report to write, pictures in assets/ next to it")


def run(arguments: argparse.Namespace) -> None:
    if arguments.wrapped:
        from export import wrappers

        wrappers.run(arguments.repository, named_files(arguments.data))
        return
    exporter = bundle.exporter(arguments)
    evaluation = evaluate(exporter, exporter.models[0], named_files(arguments.data), named_files(arguments.pairs))
    if arguments.report is not None:
        from export import model_report

        model_report.write(exporter, evaluation, arguments.report)
        exporter.progress(f"report: {arguments.report}")


def named_files(items: Sequence[str]) -> dict[str, Path]:
    for item in items:
        if "=" not in item:
            raise ValueError(f"{item}: expected NAME=FILE")
    return {name: Path(path) for name, path in (item.split("=", 1) for item in items)}


def evaluate(exporter: Exporter, model: ModelSpec, data: Mapping[str, Path], pairs: Mapping[str, Path]) -> Evaluation:
    """Measure both flavours on every data set, printing the measures.

    pairs: scored pairs, for the embedding, with the model's delta and without.

    Raises ValueError for a row that cannot be read or whose label the head does not have.
    """
    listed = next((each for each in model.heads if each.file is not None), None)
    if listed is None or listed.file is None:
        raise ValueError(f"{model.name} has no head that was trained here")
    file, precision = listed.file, model.precision.cpu
    # The graph calls it what the manifest does.
    head = replace(head_file.load(file), name=listed.name)
    rows = {name: read_rows(path) for name, path in data.items()}
    scored = {name: read_pairs(path) for name, path in pairs.items()}
    results: dict[str, dict[str, EvaluationResult]] = {}
    latency: dict[str, dict[int, float]] = {}
    encoders = {flavour: exporter.encoder(model, flavour) for flavour in FLAVOURS}
    for flavour, encoder in encoders.items():
        results[flavour] = {}
        for name, part in rows.items():
            result = results[flavour][name] = _measure(encoder, head, part)
            exporter.progress(
                f"{flavour}, {name}: accuracy {result.accuracy:.1%}, calibration error {result.error:.1%}"
            )
    likeness = _likeness(exporter, model, encoders, scored)
    for entry in likeness:
        scores = ", ".join(f"{trunk} {flavour} {value:.3f}" for (trunk, flavour), value in entry.values.items())
        exporter.progress(f"{entry.name}: {entry.measure} {scores}")
    batch = _batch_dependence(encoders[precision], model, next(iter(rows.values())), head.name)
    exporter.progress(f"{precision}: same label in a batch of {BATCHMATES} as alone for {batch.agreement:.1%}")
    latency = _latency(encoders, model, json.loads(exporter.source(model).config.read_text())["vocab_size"])
    for flavour, times in latency.items():
        exporter.progress(f"{flavour}: " + ", ".join(f"{n} tokens {ms:.1f} ms" for n, ms in times.items()))
    return Evaluation(model, file, head, results, likeness, latency, batch)


def _measure(encoder: OnnxEncoder, head: head_file.HeadWeights, rows: Sequence[Row]) -> EvaluationResult:
    unknown = {row.label for row in rows} - set(head.labels)
    if unknown:
        raise ValueError(f"the head has no label {', '.join(sorted(unknown))}")
    encoded = encoder.encode([row.text for row in rows])
    truth = np.asarray([head.labels.index(row.label) for row in rows])
    return EvaluationResult(head.labels, truth, encoded[head.name], encoded["embedding"])


def _likeness(
    exporter: Exporter,
    model: ModelSpec,
    encoders: Mapping[str, OnnxEncoder],
    scored: Mapping[str, Sequence[ScoredPair]],
) -> list[Likeness]:
    if not scored:
        return []
    trunks = {"published": encoders}
    if model.delta is not None:
        # Under a name of its own, so that it does not take the place of the graphs that are served.
        bare = model.model_copy(update={"name": f"{model.name}-published", "delta": None, "fork": 0, "heads": ()})
        published = {flavour: exporter.encoder(bare, flavour) for flavour in encoders}
        trunks = {"published": published, "delta": encoders}
    entries = []
    for name, pairs in scored.items():
        labels = np.asarray([pair.label for pair in pairs])
        alike = set(labels.tolist()) <= {0.0, 1.0}
        values = {}
        for trunk, flavours in trunks.items():
            for flavour, encoder in flavours.items():
                first = encoder.encode([pair.first for pair in pairs])["embedding"]
                second = encoder.encode([pair.second for pair in pairs])["embedding"]
                near = (first * second).sum(axis=1)
                measured = quality.separation(near, labels == 1) if alike else quality.rank_correlation(near, labels)
                values[trunk, flavour] = measured
        entries.append(Likeness(name, len(pairs), "area under ROC" if alike else "rank correlation", values))
    return entries


def _batch_dependence(encoder: OnnxEncoder, model: ModelSpec, rows: Sequence[Row], head: str) -> BatchDependence:
    batches: dict[int, list[list[int]]] = {}
    for row in rows:
        tokens = encoder.windows.rows(row.text)
        if len(tokens) == 1:
            length = next(bucket for bucket in model.buckets if bucket >= len(tokens[0]))
            batches.setdefault(length, []).append(tokens[0])
    same, shifts, cosines = [], [], []
    for tokens in batches.values():
        for start in range(0, len(tokens), BATCHMATES):
            part = tokens[start : start + BATCHMATES]
            joined = encoder.windows.pad(part)
            together = encoder.run(joined.ids, joined.mask)
            for index in range(len(part)):
                alone = encoder.run(joined.ids[index : index + 1], joined.mask[index : index + 1])
                label = alone[head][0].argmax()
                same.append(together[head][index].argmax() == label)
                shifts.append(abs(together[head][index][label] - alone[head][0][label]))
                cosines.append(together["embedding"][index] @ alone["embedding"][0])
    return BatchDependence(float(np.mean(same)), float(np.mean(shifts)), float(np.min(cosines)))


def _latency(encoders: Mapping[str, OnnxEncoder], model: ModelSpec, vocabulary: int) -> dict[str, dict[int, float]]:
    """Median milliseconds of one forward by flavour and bucket, every token real; flavours take turns."""
    times: dict[str, dict[int, float]] = {flavour: {} for flavour in encoders}
    generator = np.random.default_rng(0)
    for length in model.buckets:
        ids = generator.integers(0, vocabulary, (1, length))
        mask = np.ones((1, length), np.int64)
        samples: dict[str, list[float]] = {flavour: [] for flavour in encoders}
        for run in range(LATENCY_RUNS + 5):
            for flavour, encoder in encoders.items():
                started = perf_counter()
                encoder.run(ids, mask)
                if run >= 5:
                    samples[flavour].append((perf_counter() - started) * 1000)
        for flavour, values in samples.items():
            times[flavour][length] = statistics.median(values)
    return times
