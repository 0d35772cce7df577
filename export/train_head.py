"""The command `train-head`: a head on labelled rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from export import bundle, head, training, wide
from export.exporter import Exporter
from export.labelled import Data, DataFile
from export.manifest import ModelSpec
from export.training import HeadSettings, OperatingRates, TrainingResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    bundle.add_model_argument(parser)
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="FILE[:WEIGHT][=LABEL]",
        help='JSON lines {"text", "label"}, each counting so often; all of them of one label; repeat',
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="SOURCE",
        help="omit rows whose `source` starts with this; repeat",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="OLD=NEW", help="read the files' label OLD as NEW; repeat"
    )
    parser.add_argument(
        "--language", action="append", default=[], metavar="CODE", help="omit rows marked with another language"
    )
    parser.add_argument(
        "--together",
        choices=("row", "source", "lang"),
        default="row",
        help="linear, mlp: folds of cross-validation hold back all of a source, or of a language",
    )
    parser.add_argument(
        "--passages",
        metavar="LABEL",
        help="linear, mlp: cut texts as the router cuts a conversation; a row of any other label than this one counts "
        "by its likeliest passage",
    )
    parser.add_argument(
        "--positive", metavar="LABELS", help="linear, mlp: comma-separated labels that a rule adds; goes with `--rate`"
    )
    parser.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="linear, mlp: of the rows of this data file without a positive label such a share reaches 0.5; repeat",
    )
    parser.add_argument("--out", type=Path, required=True, help="head file to write")
    parser.add_argument(
        "--method",
        choices=("linear", "mlp", "mixture"),
        default="linear",
        help="logistic regression; one hidden layer; or a gate between two linear heads",
    )
    parser.add_argument("--name", default="domain", help="head and output name")
    parser.add_argument("--features", default="mean.6,mean.4", help="pooled states, comma-separated")
    parser.add_argument("--inverse-penalty", type=float, default=1.0, help="C of the regression")
    parser.add_argument(
        "--ngrams",
        type=int,
        metavar="ROWS",
        help="linear, mlp: add weights of tokens, pairs and triples, each kind hashed to so many rows",
    )
    parser.add_argument("--ngram-inverse-penalty", type=float, default=3.0, help="C of their regression")
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="mlp: default 30")
    parser.add_argument("--picture", type=Path, help="operating curve to draw: coverage over accuracy")
    parser.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="NAME",
        help="linear, mlp: name of a data file whose rows set temperature and offsets; repeat; default: all",
    )
    parser.add_argument("--hidden", type=int, default=64, help="mlp: width of its layer")
    parser.add_argument("--first", type=Path, metavar="HEAD", help="mixture: the linear head for exam questions")
    parser.add_argument("--second", type=Path, metavar="HEAD", help="mixture: that for people's prompts, the `--data`")
    parser.add_argument(
        "--exams", type=Path, action="append", metavar="FILE", help="mixture: texts of the kind that it is for; repeat"
    )
    parser.add_argument(
        "--lean", type=float, default=0.0, help="mixture: logit from which a text counts as of that kind"
    )


def run(arguments: argparse.Namespace) -> None:
    exporter = bundle.exporter(arguments)
    model = bundle.trainable(exporter, arguments)
    data = Data.read(
        [DataFile.parse(text) for text in arguments.data],
        arguments.without,
        renamed=dict(text.split("=", 1) for text in arguments.label),
        group=arguments.together,
        passages=arguments.passages is not None,
        languages=arguments.language,
    )
    if arguments.method == "mixture" and None in (arguments.first, arguments.second, arguments.exams):
        raise ValueError("a mixture needs `--first`, `--second` and `--exams`")
    result = train(exporter, model, data, arguments)
    head.save(result.head, arguments.out)
    print(training.summary(result))
    print(f"\n{arguments.out}: {arguments.out.stat().st_size} bytes")
    if arguments.picture is not None:
        from export import pictures

        pictures.draw_operating({"held-back rows": (result.probabilities, result.rows.truth)}, arguments.picture)


def train(exporter: Exporter, model: ModelSpec, data: Data, arguments: argparse.Namespace) -> TrainingResult:
    rates = {name: float(share) for name, share in (text.split("=", 1) for text in arguments.rate)}
    settings = HeadSettings(
        method=arguments.method,
        features=tuple(arguments.features.split(",")),
        inverse_penalty=arguments.inverse_penalty,
        folds=arguments.folds,
        seed=arguments.seed,
        flavour=model.precision.cpu,
        hidden=arguments.hidden,
        epochs=arguments.epochs or 30,
        calibrate=tuple(arguments.calibrate),
        negative=arguments.passages,
        point=OperatingRates(tuple(arguments.positive.split(",")), rates, arguments.passages) if rates else None,
        ngram_inverse_penalty=arguments.ngram_inverse_penalty,
    )
    features = exporter.features(model, settings.features)
    if arguments.method == "mixture":
        exams = Data.read([DataFile(path, 1.0) for path in arguments.exams], arguments.without)
        experts, change = (head.load(arguments.first), head.load(arguments.second)), exporter.delta(model)
        return training.train_mixture(arguments.name, experts, exams, data, settings, arguments.lean, features, change)
    ngrams = None
    if arguments.ngrams is not None:
        rows = exporter.windows(model).rows
        ngrams = wide.counts([rows(text) for text in data.texts], arguments.ngrams)
    return training.train(arguments.name, data, settings, features, exporter.delta(model), exporter.progress, ngrams)
