"""`python -m export`: make, check, train and measure the signal bundle; docs/export.md says how to bring a model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from export import engine

if TYPE_CHECKING:
    from export.manifest import Model
    from export.pipeline import Pipeline
    from export.training import Data, Outcome

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
        (
            "cross-check",
            _cross_check,
            "compare embedders with what Hugging Face's Optimum makes of their weights",
        ),
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
        elif name == "cross-check":
            python = ROOT / ".cache" / "environments" / "optimum" / "bin" / "python"
            command.add_argument("--python", type=Path, default=python, help="of the environment with Optimum")
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
    command.add_argument(
        "--method",
        choices=("linear", "mlp", "lora"),
        default="linear",
        help="logistic regression or one hidden layer on frozen states; or a low-rank delta of the trunk with a linear "
        "head, which needs PyTorch",
    )
    command.add_argument("--name", default="domain", help="head and output name")
    command.add_argument("--features", default="mean.6,mean.4", help="pooled states, comma-separated")
    command.add_argument("--inverse-penalty", type=float, default=1.0, help="C of the regression")
    command.add_argument("--folds", type=int, default=5, help="of linear and mlp; lora holds a tenth of the rows back")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--epochs", type=int, help="default: 30 of mlp, 3 of lora")
    command.add_argument("--picture", type=Path, help="operating curve to draw: coverage over accuracy")
    command.add_argument("--hidden", type=int, default=64, help="mlp: width of its layer")
    command.add_argument("--delta", type=Path, help="lora: file to write; default: beside the head")
    command.add_argument("--rank", type=int, default=16, help="lora: of the matrices")
    command.add_argument("--learning-rate", type=float, default=5e-4, help="lora: of the matrices, at its highest")
    command.add_argument("--hold", type=float, default=5.0, help="lora: weight of the term that keeps the embedding")
    command.add_argument("--fork", type=int, default=0, help="lora: change a copy of so many top layers, for the head")
    command.add_argument("--tokens", type=int, default=128, help="lora: longer texts are cut")


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", action="append", required=True, metavar="NAME=FILE", help="labelled rows; repeat")
    command.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help='JSON lines {"a", "b", "label"}, labels 0 and 1 or grades: what a delta did to the embedding; repeat',
    )
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


def _cross_check(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import cross_check

    cross_check.run(pipeline, options.python)


def _report(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import verify_report

    verify_report.write(options.results or [options.build / "verify.json"], options.perf, options.out, options.note)
    pipeline.progress(f"report: {options.out}")


def _train_head(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import head, training
    from export.pipeline import check_trainable

    model = pipeline.models[0]
    check_trainable(model)
    data = training.Data.read([training.DataFile.parse(text) for text in options.data])
    if options.method == "lora":
        outcome = _tuned(pipeline, model, data, options)
    else:
        settings = training.Settings(
            method=options.method,
            features=tuple(options.features.split(",")),
            inverse_penalty=options.inverse_penalty,
            folds=options.folds,
            seed=options.seed,
            flavour=model.precision.cpu,
            hidden=options.hidden,
            epochs=options.epochs or 30,
        )
        features = pipeline.features(model, settings.features)
        outcome = training.train(options.name, data, settings, features, pipeline.delta(model), pipeline.progress)
    head.save(outcome.head, options.out)
    print(training.told(outcome))
    print(f"\n{options.out}: {options.out.stat().st_size} bytes")
    if options.picture is not None:
        from export import report

        report.draw_operating({"held-back rows": (outcome.probabilities, outcome.rows.truth)}, options.picture)


def _tuned(pipeline: Pipeline, model: Model, data: Data, options: argparse.Namespace) -> Outcome:
    """Write the delta; the head's temperature is of the flavour that is served, on the rows that were held back."""
    from export import delta, head, training
    from export.pipeline import needs_torch

    needs_torch("a delta is trained", ("torch", "transformers"))
    from export import tuning

    settings = tuning.Settings(
        features=tuple(options.features.split(",")),
        pooling=model.pooling,
        rank=options.rank,
        epochs=options.epochs or 3,
        learning_rate=options.learning_rate,
        hold=options.hold,
        fork=options.fork,
        tokens=options.tokens,
        inverse_penalty=options.inverse_penalty,
        seed=options.seed,
    )
    found = pipeline.source(model)
    tuned = tuning.train(data, settings, found.directory, found.weights_sha256, pipeline.progress)
    path = options.delta or options.out.with_suffix(".safetensors")
    delta.save(tuned.delta, path)
    pipeline.progress(f"delta: {path}, {path.stat().st_size} bytes")

    changed = model.model_copy(update={"delta": path, "fork": options.fork})
    rows = data.of(data.held_back)
    bare = head.Head(options.name, data.labels, settings.features, (tuned.layer,), 1.0, {})
    logits = bare.logits(pipeline.features(changed, settings.features)(rows.texts))
    facts = tuning.described(settings, tuned.drift)
    facts |= {"flavour": model.precision.cpu, "delta": pipeline.delta(changed)}
    return training.finished(bare, "lora", facts, data.described(), rows, logits, tuned.drift)


def _evaluate(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import report

    def named(items: list[str]) -> dict[str, Path]:
        for item in items:
            if "=" not in item:
                raise ValueError(f"{item}: expected NAME=FILE")
        return {name: Path(path) for name, path in (item.split("=", 1) for item in items)}

    report.evaluate(pipeline, pipeline.models[0], named(options.data), named(options.pairs), options.report)


def _fit_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import topics

    topics.run_fit(options.repository, options)
    pipeline.write_repository()


def _evaluate_topics(pipeline: Pipeline, options: argparse.Namespace) -> None:
    from export import topics

    topics.run_evaluate(options.repository, options)


if __name__ == "__main__":
    sys.exit(main())
