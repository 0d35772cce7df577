"""Training of a classification head on frozen features of the flavour that is served."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier

from export import quality, wide
from export.encoder import Vectors
from export.head import HeadWeights, Layer, rounded
from export.labelled import Data, Floats, Indices

METHODS = {
    "linear": "multinomial logistic regression, temperature and offsets on cross-validated logits",
    "mlp": "one hidden layer with ReLU, temperature and offsets on cross-validated logits",
    "mixture": "two linear experts, of exam questions and of people's prompts, and a gate that tells the two apart",
}
# Rows of one step of the hidden layer's training.
BATCH = 200
# How often the passages that count are chosen again by the head that learnt the last choice.
ROUNDS = 3


@dataclass(frozen=True)
class HeadSettings:
    method: Literal["linear", "mlp", "mixture"]
    features: tuple[str, ...]
    inverse_penalty: float
    """scikit-learn's C: larger fits the training rows closer."""
    folds: int
    seed: int
    flavour: str
    hidden: int = 64
    """Width of the hidden layer."""
    epochs: int = 30
    """Of the hidden layer's training."""
    calibrate: tuple[str, ...] = ()
    """Names of the files whose rows set temperature and offsets: those like what the head will read; empty: all."""
    negative: str | None = None
    """Of rows that stand as several passages: all passages of a row with this label have it, and of any other row the
    one that has it least (Dietterich et al., 1997, multiple instances)."""
    point: OperatingRates | None = None
    ngram_inverse_penalty: float = 3.0
    """As `inverse_penalty`, of the weights of n-grams."""


@dataclass(frozen=True)
class OperatingRates:
    """Where the operating point lies: the labels ``positive`` together reach a probability of one half on so many of a
    file's rows of another label, at most; by the file's name."""

    positive: tuple[str, ...]
    rates: Mapping[str, float]
    of: str | None = None
    """Only rows of this label count; ``None``: all that are not positive."""


@dataclass(frozen=True)
class TrainingResult:
    """A head, and what it is worth on rows that had no part in what they are scored by."""

    head: HeadWeights
    rows: Data
    logits: Floats
    """[rows, labels] before temperature"""

    @property
    def probabilities(self) -> Floats:
        return quality.softmax(self.logits / self.head.temperature)


def train(
    name: str,
    data: Data,
    settings: HeadSettings,
    features: Callable[[Sequence[str]], Vectors],
    delta: dict[str, Any],
    progress: Callable[[str], None],
    ngrams: Any = None,
) -> TrainingResult:
    """Train a head on frozen features, then temperature and offsets on held-back logits.

    These come from cross-validation (each row scored by a model that has not seen it), so that every row
    also trains the final model. features: texts to unit-length, concatenated features [texts, width]. delta: of the
    trunk that made them, as `HeadWeights.training` keeps it; of the files that it learnt nine tenths of the rows do not
    count. ngrams: `wide.counts` of the texts; the head gets a wide branch where there are some.

    Raises ValueError when a label is missing from the folds.
    """
    encoded = []
    for index, file in enumerate(data.files):
        part = data.of(data.origin == index)
        progress(f"encoding {len(part.texts)} rows of {file.path.name}")
        encoded.append(features(part.texts))
    x, y = np.concatenate(encoded), data.truth

    progress(f"cross-validating in {settings.folds} folds")
    logits = np.empty((len(x), len(data.labels)), np.float64)
    # Folds keep the share of each label in each file, as far as what stays together lets them.
    splitter = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for training, unseen in splitter.split(x, data.origin * len(data.labels) + y, data.group):
        mask = np.isin(np.arange(len(x)), training)
        fold = _learnt(name, x[mask], data.of(mask), settings, _of(ngrams, mask))
        logits[unseen] = fold.logits(x[unseen], _of(ngrams, unseen))

    progress(f"training on all {len(x)} texts")
    head = _learnt(name, x, data, settings, ngrams)
    head = replace(head, layers=tuple(map(rounded, head.layers)))
    facts: dict[str, Any] = {"inverse_penalty": settings.inverse_penalty, "folds": settings.folds}
    if settings.method == "mlp":
        facts |= {"hidden": settings.hidden, "epochs": settings.epochs}
    facts |= {"seed": settings.seed, "flavour": settings.flavour, "scikit_learn": sklearn.__version__}
    if head.wide is not None:
        facts["ngrams"] = {"buckets": len(head.wide) // wide.GRAMS, "inverse_penalty": settings.ngram_inverse_penalty}
    if settings.negative is not None:
        facts["passages_but_of"] = settings.negative
    if delta:
        facts["delta"] = delta
    unseen = data.unseen(delta.get("learnt", ()))
    if settings.negative is not None:
        unseen &= data.worst(_other(logits, data.labels.index(settings.negative)))
    if settings.calibrate:
        names = [file.path.name for file in data.files]
        unseen &= np.isin(data.origin, [names.index(name) for name in settings.calibrate])
        facts["calibrated_on"] = list(settings.calibrate)
    result = calibrate(head, settings.method, facts, data.facts(), data.of(unseen), logits[unseen])
    return result if settings.point is None else at_point(result, settings.point)


def _learnt(name: str, x: Vectors, data: Data, settings: HeadSettings, ngrams: Any) -> HeadWeights:
    """A head before temperature, and before its numbers are rounded.

    The wide branch is a regression of its own, whose logits are added: fitted with the states, it gets little to do,
    because the delta knows the rows.
    """
    chosen = np.ones(len(x), np.bool_)
    for _ in range(1 if settings.negative is None else ROUNDS):
        layers = _fit(x[chosen], data.truth[chosen], data.weights[chosen], settings, len(data.labels))
        head = HeadWeights(name, data.labels, settings.features, layers, 1.0, {})
        if settings.negative is not None:
            negative = data.labels.index(settings.negative)
            chosen = (data.truth == negative) | data.worst(_other(head.logits(x), negative))
    if ngrams is None:
        return head
    rows, truth, weights = ngrams[chosen], data.truth[chosen], data.weights[chosen]
    table = fit_linear(rows, truth, weights, settings.ngram_inverse_penalty, len(data.labels), settings.seed)
    last = Layer(head.layers[-1].weight, head.layers[-1].bias + table.bias)
    return replace(head, layers=(*head.layers[:-1], last), wide=table.weight)


def _of(ngrams: Any, rows: Any) -> Any:
    return None if ngrams is None else ngrams[rows]


def _other(logits: Floats | Vectors, negative: int) -> Floats:
    """The probability of any other label than ``negative``."""
    return 1.0 - quality.softmax(logits)[:, negative]


def at_point(result: TrainingResult, point: OperatingRates) -> TrainingResult:
    """``result`` with the odds of the positive labels moved, so that one half is the operating point.

    That is the calibration for prompts among which the positive ones are rarer, or more often, than in training
    (Elkan, 2001). Raises ValueError for a label or a file that is not there.
    """
    rows, head = result.rows, result.head
    names = [file.path.name for file in rows.files]
    positive = np.isin(np.arange(len(rows.labels)), [rows.labels.index(label) for label in point.positive])
    odds = result.logits / head.temperature
    margin = np.logaddexp.reduce(odds[:, positive], axis=1) - np.logaddexp.reduce(odds[:, ~positive], axis=1)
    counted = rows.truth == rows.labels.index(point.of) if point.of is not None else ~positive[rows.truth]
    shift = max(
        float(np.quantile(margin[counted & (rows.origin == names.index(name))], 1 - rate, method="higher"))
        for name, rate in point.rates.items()
    )
    moved = np.where(positive, -shift * head.temperature, 0.0)
    last = head.layers[-1]
    layers = (*head.layers[:-1], rounded(Layer(last.weight, (last.bias + moved).astype(np.float32))))
    caught = positive[rows.truth] & (margin > shift)
    facts = {
        "positive": list(point.positive),
        "rates": dict(point.rates),
        "shift": round(shift, 3),
        "held_back_recall": round(float(caught.sum() / positive[rows.truth].sum()), 4),
    }
    moved_head = replace(head, layers=layers, training={**head.training, "operating_point": facts})
    return replace(result, head=moved_head, logits=result.logits + moved)


def train_mixture(
    name: str,
    experts: tuple[HeadWeights, HeadWeights],
    exams: Data,
    data: Data,
    settings: HeadSettings,
    lean: float,
    features: Callable[[Sequence[str]], Vectors],
    delta: dict[str, Any],
) -> TrainingResult:
    """Put a gate between two linear heads that were trained before, on texts like ``exams`` and on those like ``data``.

    The gate is a regression that tells the two kinds apart; a text counts for the first expert where the logit is above
    ``lean``. The result's rows are those of ``data`` that the delta has not seen; the gate has.

    Raises ValueError for experts with other labels or features, and for one that is not linear.
    """
    for expert in experts:
        if expert.labels != data.labels or expert.features != settings.features or len(expert.layers) != 1:
            raise ValueError("both experts must be linear heads of the same labels and features")
    x, apart = features(data.texts), features(exams.texts)
    both, kind = np.concatenate([apart, x]), np.r_[np.ones(len(apart), int), np.zeros(len(x), int)]
    weights = np.concatenate([exams.weights, data.weights])
    gate = fit_linear(both, kind, weights, settings.inverse_penalty, 2, settings.seed)
    # Of the two logits that stand for a choice of two, the difference is the gate's.
    shared = Layer(gate.weight[:, 1:] - gate.weight[:, :1], gate.bias[1:] - gate.bias[:1] - np.float32(lean))
    scaled = [
        Layer(head.layers[0].weight / head.temperature, head.layers[0].bias / head.temperature) for head in experts
    ]
    parts = (*scaled, shared)
    weight = np.concatenate([part.weight for part in parts], axis=1).astype(np.float32)
    bias = np.concatenate([part.bias for part in parts]).astype(np.float32)
    training = {
        "data": [entry | {"kind": of} for of, part in (("exam", exams), ("prompt", data)) for entry in part.facts()],
        "method": METHODS["mixture"],
        "inverse_penalty": settings.inverse_penalty,
        "lean": lean,
        "seed": settings.seed,
        "flavour": settings.flavour,
        "scikit_learn": sklearn.__version__,
        "experts": [expert.training for expert in experts],
        **({"delta": delta} if delta else {}),
    }
    head = HeadWeights(name, data.labels, settings.features, (rounded(Layer(weight, bias)),), 1.0, training)
    unseen = data.unseen(delta.get("learnt", ()))
    return TrainingResult(head, data.of(unseen), np.asarray(head.logits(x[unseen]), np.float64))


def calibrate(
    head: HeadWeights,
    method: str,
    facts: dict[str, Any],
    data: list[dict[str, Any]],
    rows: Data,
    logits: Floats | Vectors,
) -> TrainingResult:
    """``head`` with its temperature and each label's offset in the last layer, and how it was made.

    data: its files, as `Data.facts` has them. rows: those that had no part in what gave their logits.
    """
    temperature, offsets = quality.fit_calibration(logits, rows.truth, rows.weights)
    # What the layers say is divided by the temperature afterwards.
    offsets = (offsets * temperature).astype(np.float32)
    calibrated, last = np.asarray(logits + offsets, np.float64), head.layers[-1]
    layers = (*head.layers[:-1], rounded(Layer(last.weight, last.bias + offsets)))
    probabilities = quality.softmax(calibrated / temperature)
    for index, entry in enumerate(data):
        part = rows.origin == index
        hit = probabilities[part].argmax(axis=1) == rows.truth[part]
        entry["held_back_accuracy"] = round(float(hit.mean()), 4) if part.any() else None
    macro = round(quality.macro_f1(probabilities, rows.truth, rows.labels), 4)
    training = {"data": data, "method": METHODS[method], **facts, "held_back_macro_f1": macro}
    return TrainingResult(replace(head, layers=layers, temperature=temperature, training=training), rows, calibrated)


def summary(result: TrainingResult) -> str:
    """What held-back rows say of a head, for a terminal."""
    rows, head = result.rows, result.head
    probabilities = result.probabilities
    raw = quality.softmax(result.logits)
    lines = []
    for index, file in enumerate(rows.files):
        part = rows.origin == index
        if part.any():
            hit = probabilities[part].argmax(axis=1) == rows.truth[part]
            error = quality.calibration_error(probabilities[part], rows.truth[part])
            scores = f"accuracy {hit.mean():.1%}, calibration error {error:.1%}"
            lines.append(f"{file.path.name}: {part.sum()} held-back rows, {scores}")
    before, after = (quality.calibration_error(p, rows.truth) for p in (raw, probabilities))
    lines.append(f"calibration error {before:.1%}, with temperature {head.temperature:.3f} {after:.1%}")
    lines.append(f"macro F1 {quality.macro_f1(probabilities, rows.truth, rows.labels):.3f}")
    width = max(len(label) for label in rows.labels)
    lines.append(f"\n{'class':{width}}  rows  precision  recall")
    for score in quality.class_scores(probabilities, rows.truth, rows.labels):
        lines.append(f"{score.label:{width}}  {score.rows:4}  {_share(score.precision):>9}  {_share(score.recall):>6}")
    lines.append("\nprobability from  rows left  accuracy there")
    for point in quality.operating_curve(probabilities, rows.truth):
        lines.append(f"{point.threshold:16.2f}  {point.coverage:9.1%}  {_share(point.accuracy):>14}")
    return "\n".join(lines)


def unit(features: Sequence[Vectors]) -> Vectors:
    """Each [rows, width] scaled to unit length, then side by side: what a head in the graph reads."""
    return np.concatenate([x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in features], axis=1)


def fit_linear(x: Any, y: Indices, weights: Floats, inverse_penalty: float, labels: int, seed: int = 0) -> Layer:
    """Multinomial logistic regression; raises ValueError where a label has no row, or it does not converge."""
    model = LogisticRegression(C=inverse_penalty, max_iter=2000, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", sklearn.exceptions.ConvergenceWarning)
        try:
            model.fit(x, y, sample_weight=weights)
        except sklearn.exceptions.ConvergenceWarning as warning:
            raise ValueError(f"the regression with an inverse penalty of {inverse_penalty} found no end") from warning
    _check_labels(len(model.classes_), labels)
    return _both(Layer(model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)))


def _fit(x: Vectors, y: Indices, weights: Floats, settings: HeadSettings, labels: int) -> tuple[Layer, ...]:
    if settings.method != "mlp":
        return (fit_linear(x, y, weights, settings.inverse_penalty, labels, settings.seed),)
    # The regression's penalty: scikit-learn divides this one by the rows of a batch, and C multiplies a sum over rows.
    batch = min(BATCH, len(x))
    model = MLPClassifier(
        (settings.hidden,), alpha=batch / (settings.inverse_penalty * weights.sum()), batch_size=batch,
        max_iter=settings.epochs, random_state=settings.seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        # It stops after the epochs that were asked for.
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        model.fit(x, y, sample_weight=weights / weights.mean())
    _check_labels(len(model.classes_), labels)
    parts = zip(model.coefs_, model.intercepts_, strict=True)
    layers = [Layer(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in parts]
    return (*layers[:-1], _both(layers[-1]))


def _check_labels(count: int, expected: int) -> None:
    if count != expected:
        raise ValueError(f"{count} of {expected} labels in a fold; too few rows of some label")


def _both(layer: Layer) -> Layer:
    """Of two labels scikit-learn gives the second one's logit alone; the first one's is then zero."""
    if layer.weight.shape[1] > 1:
        return layer
    return Layer(np.pad(layer.weight, ((0, 0), (1, 0))), np.pad(layer.bias, (1, 0)))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
