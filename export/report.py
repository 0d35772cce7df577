"""Measures a bundle's flavours on labelled rows and writes the model report."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

from export import head as head_file
from export import quality
from export.encoder import Encoder, Pair, Row, read_pairs, read_rows
from export.manifest import Model
from export.pipeline import Pipeline
from export.precision import FLAVOURS

LATENCY_RUNS = 60
BATCHMATES = 8
BINS = 10


@dataclass(frozen=True)
class Result:
    """One flavour on one data set. Probabilities and embeddings row by row, in the order of `labels` and `rows`."""

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.probabilities.argmax(axis=1)

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.predicted == self.truth

    @property
    def accuracy(self) -> float:
        return float(self.hit.mean())

    @property
    def error(self) -> float:
        return quality.calibration_error(self.probabilities, self.truth)

    def confusion(self) -> NDArray[np.int64]:
        """[truth, predicted]"""
        table = np.zeros((len(self.labels), len(self.labels)), np.int64)
        np.add.at(table, (self.truth, self.predicted), 1)
        return table


@dataclass(frozen=True)
class Likeness:
    """How well similarities of an embedding follow what people said of pairs, on one set, by trunk and flavour."""

    name: str
    pairs: int
    measure: str
    values: dict[tuple[str, str], float]
    """By trunk (`published`, `delta`) and flavour."""


def evaluate(
    pipeline: Pipeline, model: Model, data: Mapping[str, Path], pairs: Mapping[str, Path], report: Path | None
) -> None:
    """Print the measures of both flavours on every data set, and write them with pictures when `report` is given.

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
    results: dict[str, dict[str, Result]] = {}
    latency: dict[str, dict[int, float]] = {}
    encoders = {flavour: pipeline.encoder(model, flavour) for flavour in FLAVOURS}
    for flavour, encoder in encoders.items():
        results[flavour] = {}
        for name, part in rows.items():
            result = results[flavour][name] = _measure(encoder, head, part)
            pipeline.progress(
                f"{flavour}, {name}: accuracy {result.accuracy:.1%}, calibration error {result.error:.1%}"
            )
    likeness = _likeness(pipeline, model, encoders, scored)
    for entry in likeness:
        said = ", ".join(f"{trunk} {flavour} {value:.3f}" for (trunk, flavour), value in entry.values.items())
        pipeline.progress(f"{entry.name}: {entry.measure} {said}")
    batch = _batch_dependence(encoders[precision], model, next(iter(rows.values())), head.name)
    pipeline.progress(f"{precision}: same label in a batch of {BATCHMATES} as alone for {batch.agreement:.1%}")
    latency = _latency(encoders, model, json.loads(pipeline.source(model).config.read_text())["vocab_size"])
    for flavour, times in latency.items():
        pipeline.progress(f"{flavour}: " + ", ".join(f"{n} tokens {ms:.1f} ms" for n, ms in times.items()))
    if report is not None:
        assets = report.parent / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        served = results[precision]
        for name, result in served.items():
            _draw_confusion(result, name, assets / f"confusion-{_slug(name)}.png")
        _draw_reliability(served, assets / "reliability.png")
        draw_operating({name: (r.probabilities, r.truth) for name, r in served.items()}, assets / "operating.png")
        report.write_text(_markdown(pipeline, model, file, head, results, likeness, latency, batch))
        pipeline.progress(f"report: {report}")


def _measure(encoder: Encoder, head: head_file.Head, rows: Sequence[Row]) -> Result:
    unknown = {row.label for row in rows} - set(head.labels)
    if unknown:
        raise ValueError(f"the head has no label {', '.join(sorted(unknown))}")
    encoded = encoder.encode([row.text for row in rows])
    truth = np.asarray([head.labels.index(row.label) for row in rows])
    return Result(head.labels, truth, encoded[head.name], encoded["embedding"])


def _likeness(
    pipeline: Pipeline, model: Model, encoders: Mapping[str, Encoder], scored: Mapping[str, Sequence[Pair]]
) -> list[Likeness]:
    if not scored:
        return []
    trunks = {"published": encoders}
    if model.delta is not None:
        # Under a name of its own, so that it does not take the place of the graphs that are served.
        bare = model.model_copy(update={"name": f"{model.name}-published", "delta": None, "fork": 0, "heads": ()})
        published = {flavour: pipeline.encoder(bare, flavour) for flavour in encoders}
        trunks = {"published": published, "delta": encoders}
    found = []
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
        found.append(Likeness(name, len(pairs), "area under ROC" if alike else "rank correlation", values))
    return found


@dataclass(frozen=True)
class BatchDependence:
    """How much a row's outputs depend on the rows that it is batched with (dynamic int8 ranges are per batch)."""

    agreement: float
    """Share of rows whose most probable label is the same alone and in a batch."""
    shift: float
    """Mean absolute change of the most probable label's probability."""
    cosine: float
    """Least cosine of the two embeddings of a row."""


def _batch_dependence(encoder: Encoder, model: Model, rows: Sequence[Row], head: str) -> BatchDependence:
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


def _latency(encoders: Mapping[str, Encoder], model: Model, vocabulary: int) -> dict[str, dict[int, float]]:
    """Median milliseconds of one forward by flavour and bucket, every token real; flavours take turns."""
    times: dict[str, dict[int, float]] = {flavour: {} for flavour in encoders}
    generator = np.random.default_rng(0)
    for length in model.buckets:
        ids = generator.integers(0, vocabulary, (1, length))
        mask = np.ones((1, length), np.int64)
        taken: dict[str, list[float]] = {flavour: [] for flavour in encoders}
        for run in range(LATENCY_RUNS + 5):
            for flavour, encoder in encoders.items():
                started = perf_counter()
                encoder.run(ids, mask)
                if run >= 5:
                    taken[flavour].append((perf_counter() - started) * 1000)
        for flavour, values in taken.items():
            times[flavour][length] = statistics.median(values)
    return times


def _markdown(
    pipeline: Pipeline,
    model: Model,
    file: Path,
    head: head_file.Head,
    results: Mapping[str, Mapping[str, Result]],
    likeness: Sequence[Likeness],
    latency: Mapping[str, Mapping[int, float]],
    batch: BatchDependence,
) -> str:
    parts = pipeline.trunk(model)
    width = parts.outputs[0].width
    served = results[model.precision.cpu]
    training = head.training
    numbers = sum(layer.weight.size + layer.bias.size for layer in head.layers)
    files = [
        [
            f"`{file['file']}`",
            file["rows"],
            f"{file['weight']:g}",
            f"{file['held_back_accuracy']:.1%}" if file["held_back_accuracy"] is not None else "-",
            f"`{file['sha256'][:16]}…`",
        ]
        for file in training["data"]
    ]
    flavours = [
        [name, *[f"{results[flavour][name].accuracy:.1%}" for flavour in FLAVOURS], _agreement(results, name)]
        for name in served
    ]
    overall = [
        [name, len(r.truth), f"{r.accuracy:.1%}", f"{_macro_f1(r):.1%}", f"{r.error:.1%}", _noise(r)]
        for name, r in served.items()
    ]
    times = [[flavour, *[f"{ms:.1f}" for ms in row.values()]] for flavour, row in latency.items()]
    lost = max(results["fp32"][name].accuracy - results["int8"][name].accuracy for name in served)
    chosen = (
        f"Served on CPU: **{model.precision.cpu}**. The rule is int8 unless it loses more than 0.5 points of accuracy\n"
        f"on some set; here the most it loses is {lost * 100:.1f} points."
    )
    return f"""# Model report

Written by `python -m export evaluate`, which measured every number below unless it says otherwise: on CPU, with the
tokens and windows that the router uses, one text at a time, so without padding, as it is served. Nothing here was
measured on a GPU: the TensorRT configuration (`model_repository/{model.name}/config.pbtxt`) has only been checked
against Triton's schema.

## What is served

One forward of `{parts.model_id}` (weights sha256 `{parts.weights_sha256[:16]}…`) gives `embedding`
({width} numbers of unit length) and `{head.name}` ({len(head.labels)} probabilities). The graph is built by
`export/graph.py` from the weights and agrees with the PyTorch model within 1e-4 (`tests/export/test_parity.py`).

The head reads {_features(head)}.
It is {training["method"]}:
{numbers} numbers in `export/heads/{file.name}`. Temperature {head.temperature:.3f}, of the {training["flavour"]}
flavour. Trained with
{_settings(training)}.

{table(["training data", "rows", "weight of a row", "held-back accuracy", "sha256"], files)}

{_CHOICES if model.delta is None else _delta_section(training)}
{_embedding_section(likeness)}## Accuracy and calibration

{table(["set", "rows", "accuracy", "macro F1", "calibration error (ECE, 15 bins)", "if calibrated"], overall)}

“If calibrated” is what the same measure says of so many rows whose labels are drawn with the very probabilities that
the head gives: a sample's calibration error is never zero.

{_NOTES}
![reliability](assets/reliability.png)

Where a caller believes the head only from a probability on: the share of rows that are left to it, and how many of them
are right.

{table(["probability from", *[f"{name}: left, right" for name in served]], _operating(served))}

![operating curve](assets/operating.png)

{"".join(_class_section(name, result) for name, result in served.items())}## int8 against fp32

{table(["set", *FLAVOURS, "same label in both"], flavours)}

Median milliseconds of one forward, ONNX Runtime {version("onnxruntime")}, one thread, by padded length in tokens:

{table(["", *[str(length) for length in model.buckets]], times)}

{chosen}

Dynamic int8 takes the range of its activations from the whole batch, padded to its longest row, so a row's result
depends a little on its neighbours. In batches of {BATCHMATES} rows of one bucket, {batch.agreement:.1%} of rows keep
the label that they get alone; that label's probability moves by {batch.shift:.3f} on average; the least cosine between
the two embeddings of a row is {batch.cosine:.3f}. fp32 has no such effect: `--precision fp32` serves it.
"""


_CHOICES = """Exam questions and prompts as people type them pull the head in different directions, and the weight sets
the balance. Features, weight and C were chosen by cross-validation on the training files alone, never on the sets
below. Figures of that search, made once by hand (accuracy on held-back rows, two folds of three, so with a third less
data than the final head; int8 where not marked):

| features | weight of user prompts | C | exam rows | user prompts |
| --- | --- | --- | --- | --- |
| embedding (`mean.6`), fp32 | 2 | 3 | 73.2% | 76.9% |
| `mean.5`, fp32 | 2 | 3 | 74.3% | 80.6% |
| `mean.6` + `cls.6`, fp32 | 2 | 3 | 74.1% | 77.7% |
| `mean.6` + `mean.4`, fp32 | 2 | 3 | 76.9% | 81.3% |
| `mean.6` + `mean.4` | 3 | 1 | 75.4% | 84.4% |
| `mean.6` + `mean.4` | 4 | 0.5 | 74.0% | 84.7% |
| `mean.6` + `mean.4` | 6 | 0.7 | 73.5% | 84.6% |
| `mean.6` + `mean.4` + `mean.2` | 3 | 1 | 76.0% | 83.5% |
| `mean.6` + `mean.4` + `max.4` | 3 | 1 | 75.5% | 84.1% |

A third state costs half as many numbers again and brings nothing beyond the folds' noise. The trunk is frozen: its
embedding is the published one, which similarity rules and caches rely on.

"""

_NOTES = """The exam sets carry the label of the subject that a question was published under; near borders (economics
and business, biology and health, physics and engineering) it can be argued with. The user prompts, training and test
alike, were written for this project by one hand, so the test says how the head does on new prompts *of that kind*;
prompts from elsewhere will be harder. English only.

"""


def _settings(training: Mapping[str, Any]) -> str:
    told = {key: value for key, value in training.items() if key not in ("data", "method", "flavour", "delta")}
    told.pop("embedding_cosine", None)
    return textwrap.fill(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items()), 110)


def _delta_section(training: Mapping[str, Any]) -> str:
    delta, cosine = training["delta"], training.get("embedding_cosine")
    if delta["fork"]:
        where = f"a copy of the top {delta['fork']} layers, which the head reads: the embedding is the published one."
    else:
        where = "all layers of the trunk, so the embedding is of changed states too."
    drift = ""
    if cosine and not delta["fork"]:
        drift = (
            "\nIts cosine with the published embedding, both in fp32, on the rows held back from training: "
            f"{cosine['mean']:.3f} on average,\n{cosine['least']:.3f} at least."
        )
    size, checksum = f"{delta['bytes'] / 1e6:.2f} MB", f"{delta['sha256'][:16]}…"
    return f"""The states are not the published model's: a low-rank delta (`export/heads/{delta["file"]}`, rank
{delta["rank"]}, {size}, sha256 `{checksum}`) is merged into the weights. It changes
{where}{drift}

"""


def _embedding_section(likeness: Sequence[Likeness]) -> str:
    if not likeness:
        return ""
    columns = list(likeness[0].values)
    rows = [[e.name, e.pairs, e.measure, *[f"{e.values[column]:.3f}" for column in columns]] for e in likeness]
    names = {"published": "as published", "delta": "with the delta"}
    header = ["set", "pairs", "measure", *[f"{names[trunk]}, {flavour}" for trunk, flavour in columns]]
    changed = [column for column in columns if column[0] == "delta"]
    if changed:
        lost = max((e.values["published", flavour] - e.values["delta", flavour], e.name, flavour)
                   for e in likeness for _, flavour in changed)  # fmt: skip
        said = (
            f"The most that the delta costs is {lost[0]:.3f} ({lost[1]}, {lost[2]})."
            if lost[0] >= 0.0005
            else "The delta costs nothing on any set."
        )
    else:
        said = "The embedding is the published one."
    return f"""## The embedding

Pairs that people scored, against the cosine of their embeddings: Spearman's rank correlation where there are grades,
area under the ROC curve where a pair is the same or not. {said}

{table(header, rows)}

"""


def _operating(served: Mapping[str, Result]) -> list[list[str]]:
    curves = [quality.operating_curve(result.probabilities, result.truth) for result in served.values()]
    return [
        [f"{points[0].threshold:.2f}", *[f"{p.coverage:.0%}, {_percent(p.accuracy)}" for p in points]]
        for points in zip(*curves, strict=True)
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _features(head: head_file.Head) -> str:
    return ", ".join(f"`{name}`" for name in head.features) + " (pooled states by layer, unit length each)"


def _agreement(results: Mapping[str, Mapping[str, Result]], name: str) -> str:
    first, second = (results[flavour][name].predicted for flavour in FLAVOURS)
    return f"{np.mean(first == second):.1%}"


def _class_section(name: str, result: Result) -> str:
    confusion = result.confusion()
    rows = []
    for index, label in enumerate(result.labels):
        hits, said, there = confusion[index, index], confusion[:, index].sum(), confusion[index].sum()
        wrong = np.where(np.arange(len(result.labels)) == index, -1, confusion[index])
        taken = f"{result.labels[wrong.argmax()]} ({wrong.max()})" if wrong.max() > 0 else "-"
        rows.append([label, there, _share(hits, there), _share(hits, said), taken])
    return f"""### {name}

{table(["class", "rows", "recall", "precision", "most often taken for"], rows)}

![confusion](assets/confusion-{_slug(name)}.png)

"""


def _macro_f1(result: Result) -> float:
    table = result.confusion()
    return float(np.mean(2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)))


def _noise(result: Result) -> str:
    mean, bound = quality.calibration_noise(result.probabilities)
    return f"{mean:.1%}; 19 in 20 below {bound:.1%}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _draw_confusion(result: Result, name: str, path: Path) -> None:
    table = result.confusion()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = pyplot.subplots(figsize=(7.5, 6.5), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(result.labels)), result.labels, rotation=60, ha="right")
    axes.set_yticks(range(len(result.labels)), result.labels)
    axes.set(xlabel="said", ylabel="label", title=f"{name}: {result.accuracy:.1%} of {len(result.truth)}")
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def draw_operating(sets: Mapping[str, tuple[NDArray[Any], NDArray[np.int64]]], path: Path) -> None:
    """Coverage over accuracy by set, from probabilities [rows, labels] and the index of each row's label."""
    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    for name, (probabilities, truth) in sets.items():
        points = quality.operating_curve(probabilities, truth, np.linspace(0, 0.99, 100).tolist())
        # A share of a handful of rows would show noise.
        shown = [point for point in points if point.accuracy is not None and point.coverage * len(truth) >= 10]
        (line,) = axes.plot([point.coverage for point in shown], [point.accuracy for point in shown], label=name)
        for threshold in (0.5, 0.7, 0.9):
            place = next((point for point in shown if abs(point.threshold - threshold) < 0.005), None)
            if place is not None:
                axes.plot([place.coverage], [place.accuracy], marker="o", color=line.get_color())
                axes.annotate(f"{threshold:g}", (place.coverage, place.accuracy), fontsize=8, xytext=(4, 4),
                              textcoords="offset points")  # fmt: skip
    axes.set(xlabel="share of rows left to the head", ylabel="share of them that is right", xlim=(0, 1.02))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _draw_reliability(results: Mapping[str, Result], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for name, result in results.items():
        confidence = result.probabilities.max(axis=1)
        places = np.minimum((confidence * BINS).astype(int), BINS - 1)
        # A bin of a handful of rows would show noise.
        filled = [place for place in range(BINS) if (places == place).sum() >= 10]
        axes.plot(
            [confidence[places == place].mean() for place in filled],
            [result.hit[places == place].mean() for place in filled],
            marker="o",
            label=f"{name} (ECE {result.error:.1%})",
        )
    axes.set(xlabel="probability of the label", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
