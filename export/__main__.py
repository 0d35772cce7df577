"""`python -m export`: make, check, train and measure the signal bundle; docs/export.md says how to bring a model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from export import engine

if TYPE_CHECKING:
    from export.pipeline import Pipeline

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["engine"]:
        # It runs in a serving image, which has little more than the standard library.
        return engine.main(arguments[1:])
    options = _parser().parse_args(arguments)

    from export import manifest, source
    from export.pipeline import ExportError, Pipeline, Places

    try:
        models = manifest.load(options.manifest).bundle(options.bundle)
        if any(model.graph == "torch" for model in models) and os.environ.get("PYTHONHASHSEED") != "0":
            # The library walks through sets while it exports: with another seed the file is another.
            os.execve(
                sys.executable, [sys.executable, "-m", "export", *arguments], os.environ | {"PYTHONHASHSEED": "0"}
            )
        places = Places(options.repository, options.build, options.manifest.parent / "topics.json")
        pipeline = Pipeline(places, models, options.precision)
        options.run(pipeline, options)
    except (ExportError, source.SourceError, manifest.ManifestError, engine.EngineError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, help_text in (
        ("onnx", _onnx, "fetch the published models and write their graphs"),
        ("engine", engine.run, "build TensorRT plans, on the GPU that serves them"),
        ("repository", _repository, "write configurations, labels, tokenizers and the bundle's manifest"),
        ("verify", _verify, "check that nothing was lost on the way, and that files and configurations fit"),
        ("report", _report, "write the export report from what `verify` and the measurements left"),
        ("all", _all, "everything that serving needs; does again only what changed"),
        ("train-head", _train_head, "train a head on labelled JSON lines"),
        ("evaluate", _evaluate, "measure accuracy, calibration, int8 against fp32, latency"),
        ("fit-topics", _fit_topics, "fit how topics are scored that the head does not know"),
        ("evaluate-topics", _evaluate_topics, "measure that on topics that nothing was fitted on"),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=run)
        if name == "engine":
            engine.add_arguments(command)
            continue
        _common(command)
        if name in ("onnx", "all"):
            command.add_argument(
                "--for",
                dest="platforms",
                choices=("cpu", "gpu", "both", "torch"),
                default="cpu",
                help="whose graphs; `torch` stands in for plans where TensorRT's builder is missing",
            )
        elif name == "verify":
            _verify_options(command)
        elif name == "report":
            command.add_argument("--out", type=Path, default=ROOT / "docs" / "export-report.md", help="page to write")
            command.add_argument("--results", type=Path, action="append", help="a `verify.json`; default: the build's")
            command.add_argument("--note", help="what a reader must know about the run, said above its latencies")
            command.add_argument("--perf", type=Path, help="folder of a `python -m perf triton` run")
        elif name == "train-head":
            _train_options(command)
        elif name == "evaluate":
            _evaluate_options(command)
        elif name in ("fit-topics", "evaluate-topics"):
            from export import topics

            add = topics.add_fit_arguments if name == "fit-topics" else topics.add_evaluate_arguments
            add(command)
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--manifest", type=Path, default=ROOT / "export" / "models.yaml", help="which models there are"
    )
    command.add_argument("--bundle", default="default", help="which of its bundles (default: %(default)s)")
    command.add_argument("--precision", choices=("fp32", "int8"), help="on CPU; default: what the manifest says")
    command.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="Triton model repository")
    command.add_argument("--build", type=Path, default=ROOT / "build" / "export", help="cache and intermediate files")


def _verify_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--for", dest="platforms", choices=("cpu", "gpu", "both"), default="cpu", help="whose flavours"
    )
    command.add_argument("--no-reference", action="store_true", help="without PyTorch: files and configurations only")
    command.add_argument(
        "--triton", help="host:port of a running Triton (gRPC); default: one is started for the check; `none`: no check"
    )
    command.add_argument("--model-config-name", default="cpu", help="configuration of the Triton that is started")
    command.add_argument("--rtx", action="store_true", help="also compile the GPU graphs with TensorRT for RTX")


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


def _platforms(options: argparse.Namespace) -> tuple[str, ...]:
    return ("cpu", "gpu") if options.platforms == "both" else (options.platforms,)


def _onnx(pipeline: Pipeline, options: argparse.Namespace) -> None:
    for platform in _platforms(options):
        pipeline.graphs(platform)  # type: ignore[arg-type]


def _repository(pipeline: Pipeline, options: argparse.Namespace) -> None:
    pipeline.write_repository()


def _all(pipeline: Pipeline, options: argparse.Namespace) -> None:
    _onnx(pipeline, options)
    pipeline.write_repository()


def _verify(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import verify

    verify.run(
        pipeline,
        _platforms(options),
        reference=not options.no_reference,
        triton=options.triton,
        config_name=options.model_config_name,
        rtx=options.rtx,
    )


def _report(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import verify_report

    verify_report.write(options.results or [options.build / "verify.json"], options.perf, options.out, options.note)
    pipeline.progress(f"report: {options.out}")


def _train_head(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import head, training

    model = pipeline.models[0]
    settings = training.Settings(
        features=tuple(options.features.split(",")),
        inverse_penalty=options.inverse_penalty,
        folds=options.folds,
        seed=options.seed,
        flavour=model.precision.cpu,
    )
    files = [training.DataFile.parse(text) for text in options.data]
    trained, scores = training.train(
        options.name, files, settings, pipeline.features(model, settings.features), pipeline.progress
    )
    head.save(trained, options.out)
    for score in scores:
        accuracy, error = f"{score.accuracy:.1%}", f"{score.calibration_error:.1%}"
        print(f"{score.path.name}: held-back accuracy {accuracy}, calibration error {error}")
    print(f"temperature {trained.temperature:.3f}; {options.out}: {options.out.stat().st_size} bytes")


def _evaluate(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import report

    data = dict(item.split("=", 1) for item in options.data)
    report.evaluate(pipeline, pipeline.models[0], {name: Path(path) for name, path in data.items()}, options.report)


def _fit_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import topics

    topics.run_fit(options.repository, options)
    pipeline.write_repository()


def _evaluate_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import topics

    topics.run_evaluate(options.repository, options)


if __name__ == "__main__":
    sys.exit(main())
