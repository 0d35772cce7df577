"""The `triton-router` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import triton_router.startup  # noqa: F401
from triton_router import __version__
from triton_router.config import Config, ConfigError, Loaded, inside_words, load, migrate
from triton_router.dialects import DIALECTS, ChatRequest, ModelRequest, chat
from triton_router.errors import BundleError, Refusal
from triton_router.inference import bundle_path, load_bundle
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from triton_router.compare import Sample

# Triton's model repository, next to the configuration, in a folder above it, or where this package's source is.
REPOSITORY = "model_repository"
# Seconds that `explain` waits for Triton and the MCP server before it explains without them.
EXPLAIN_WITHIN = 3.0


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the result is the exit status."""
    arguments = _parser().parse_args(argv)
    config: Path | None = getattr(arguments, "config", None)
    if config is not None and not config.exists():
        print(f"{config.absolute()}: there is no such file; --config names the configuration", file=sys.stderr)
        return 1
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except (ConfigError, BundleError, Refusal, RuntimeError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        return _end_like_others()
    return status


def _end_like_others() -> int:
    """End as a program does whose reader has gone away (`… | head`): by SIGPIPE, without a word."""
    # What is still buffered must not be tried again at the interpreter's end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.raise_signal(signal.SIGPIPE)
    return 128 + signal.SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="triton-router", description="LLM router for NVIDIA Triton.")
    parser.add_argument("--version", action="version", version=f"triton-router {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = _command(commands, "serve", _serve, "run ext_proc, REST and metrics")
    serve.add_argument("--state-directory", type=Path, help="directory that keeps encoded texts between starts")
    serve.add_argument(
        "--envoy-directory", type=Path, help="directory for Envoy's files, which follow the configuration"
    )
    levels = ["DEBUG", "INFO", "WARNING", "ERROR"]
    serve.add_argument("--log-level", default="INFO", choices=levels, help="least level of log lines; default: INFO")
    up = _command(commands, "up", _up, "run Triton, the router and Envoy on this machine")
    up.add_argument("--demo-backends", action="store_true", help="replace every endpoint with a demo server")
    up.add_argument("--run-directory", type=Path, default=Path("build/run"), help="logs and generated configuration")
    _command(commands, "check", _check, "report every mistake in a configuration")
    explain = _command(commands, "explain", _explain, "explain the decision on a prompt or a request")
    explain.add_argument("--text", action="store_true", help="a readable tree instead of JSON")
    explain.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="a request header")
    explain.add_argument("--model", metavar="NAME", help="virtual model that the request names; default: `routing`")
    explain.add_argument("--path", default=chat.PATH, choices=list(DIALECTS), help="API path of --request")
    what = explain.add_mutually_exclusive_group(required=True)
    what.add_argument("prompt", nargs="?", help="the user's message")
    what.add_argument("--request", metavar="FILE", help="a whole request as JSON; `-` reads standard input")
    _add_compare(commands)
    probes = _command(commands, "probes", _probes, "run a file of probes against a configuration")
    probes.add_argument("--gateway", metavar="URL", help="send the probes through this gateway instead")
    probes.add_argument("--format", default="table", choices=["table", "json", "junit"], help="format of the report")
    probes.add_argument("file", type=Path, metavar="FILE", help="the probes")
    envoy = _reader(commands, "envoy", _envoy, "print Envoy's configuration")
    envoy.add_argument(
        "--router", action="append", default=[], metavar="HOST:PORT", help="ext_proc address; default: this machine's"
    )
    envoy.add_argument("--access-log", type=Path, metavar="FILE", help="Envoy's log, one line per request")
    _reader(commands, "health", _health, "ask the router on this machine whether it serves")
    migrate = _reader(commands, "migrate", _migrate, "print a flat configuration in the canonical form")
    migrate.add_argument("--whole-words", action="store_true", help="write `match: word`; list the changed rules")
    described = "print the JSON Schema of the configuration"
    schema = commands.add_parser("config-schema", help=described, description=described)
    schema.set_defaults(run=_schema)
    return parser


def _add_compare(commands: Any) -> None:
    description = "show which requests a change of the configuration moves"
    status = "Exit status: 0 if no more requests move than allowed, 1 if more do, 2 if the comparison is incomplete."
    compare = commands.add_parser("compare", help=description, description=description, epilog=status)
    compare.add_argument("config", metavar="before", type=Path, help="configuration file")
    compare.add_argument("after", type=Path, help="the configuration to compare it with")
    compare.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE",
        help="one prompt or one JSON request per line, or a file of probes (*.yaml)",
    )  # fmt: skip
    compare.add_argument("--repository", type=Path, help=f"Triton model repository; default: the nearest {REPOSITORY}")
    compare.add_argument("--allow", type=float, default=0.0, metavar="SHARE", help="share that may move, in [0, 1]")
    compare.add_argument(
        "--answer-tokens", type=int, default=300, metavar="N", help="assumed tokens of an answer without a count"
    )
    compare.add_argument("--json", action="store_true", help="the whole report as JSON")
    _allows_inactive(compare)
    compare.set_defaults(run=_compare)


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], description: str
) -> argparse.ArgumentParser:
    command = _reader(commands, name, run, description)
    command.add_argument("--repository", type=Path, help=f"Triton model repository; default: the nearest {REPOSITORY}")
    return command


def _reader(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], description: str
) -> argparse.ArgumentParser:
    """A command that reads a configuration and needs no model repository."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=description, description=description)
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="configuration file")
    _allows_inactive(command)
    command.set_defaults(run=run)
    return command


def _allows_inactive(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-inactive",
        action="append",
        default=[],
        metavar="NAME",
        help="load the file although this protection has no effect here; may be repeated",
    )


def _serve(arguments: argparse.Namespace) -> int:
    from triton_router.serve import ServeOptions, serve

    configure_logging(arguments.log_level)
    loaded = _loaded(arguments)
    gateway, addresses = None, dict[str, str]()
    if arguments.envoy_directory is not None:
        from triton_router.stack.gateway import FileGateway

        gateway = FileGateway.of(arguments.envoy_directory, loaded.config)
        gateway.write()
        addresses = gateway.addresses
    options = ServeOptions(
        bundle=_bundle(loaded, arguments),
        directory=arguments.state_directory,
        gateway=gateway,
        addresses=addresses,
        log_level=arguments.log_level,
    )
    asyncio.run(serve(arguments.config, loaded, options))
    return 0


def _up(arguments: argparse.Namespace) -> int:
    from triton_router.stack.up import up

    return up(
        arguments.config,
        demo_backends=arguments.demo_backends,
        repository=_repository(arguments),
        run_directory=arguments.run_directory,
        allow_inactive=arguments.allow_inactive,
    )


def _check(arguments: argparse.Namespace) -> int:
    from triton_router.stack.envoy import validation

    try:
        loaded = _loaded(arguments)
    except ConfigError as error:
        if error.coverage is not None:
            print(f"{arguments.config}: {error.coverage}")
        raise
    if (envoy := validation.binary()) is not None:
        try:
            validation.validate(loaded.config, envoy)
        except validation.EnvoyRefused as refused:
            print(f"{arguments.config}: error: {refused}", file=sys.stderr)
            return 1
    else:
        print("Envoy is not installed here (extra `stack`): its own validation did not run", file=sys.stderr)
    config = loaded.config
    adapters = sum(len(card.loras) for card in config.routing.modelCards)
    tables = [config.routing, *(recipe.routing for recipe in config.recipes)]
    signals = sum(len(declared) for routing in tables for _, declared in routing.signals)
    recipes = f"{len(config.recipes)} recipes, " if config.recipes else ""
    print(
        f"{arguments.config}: ok: {len(config.providers.models)} models, {adapters} adapters, {recipes}"
        f"{signals} signals, {sum(1 for _ in config.decisions())} decisions, {len(loaded.warnings)} warnings"
    )
    if loaded.coverage is not None:
        print(f"{arguments.config}: {loaded.coverage}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments)
    headers = dict(_header(line) for line in arguments.header)
    if arguments.request is None:
        payload: ModelRequest = ChatRequest.saying(arguments.prompt, arguments.model)
    else:
        body = sys.stdin.buffer.read() if arguments.request == "-" else Path(arguments.request).read_bytes()
        payload = DIALECTS[arguments.path].parse(body)
    decision = asyncio.run(_decision(loaded, _bundle(loaded, arguments), payload, headers))
    if arguments.text:
        from triton_router.explain import as_text

        print(as_text(decision))
    else:
        print(orjson.dumps(decision, option=orjson.OPT_INDENT_2).decode())
    return 0


async def _decision(
    loaded: Loaded, manifest: Path, payload: ModelRequest, headers: Mapping[str, str]
) -> dict[str, object]:
    from triton_router.explain import explain
    from triton_router.generations import Generations

    bundle, tokenizers = load_bundle(manifest)
    generations = Generations(loaded, bundle, tokenizers, Metrics())
    async with generations.running():
        await generations.settled(EXPLAIN_WITHIN)
        pipeline = generations.current
        query = SignalInput(payload, headers, reader=pipeline.runtime.reader)
        return explain(await pipeline.decide(query, everything=True))


def _compare(arguments: argparse.Namespace) -> int:
    from triton_router.compare import as_text, compare_with

    try:
        before, after = _loaded(arguments), _loaded(arguments, arguments.after)
        samples = _samples(arguments.prompts)
        bundle = _bundle(before, arguments)
        compared = compare_with(before, after, samples, bundle, answer_tokens=arguments.answer_tokens)
        report = asyncio.run(compared).report()
    except (ConfigError, BundleError, RuntimeError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() if arguments.json else as_text(report))
    if report["degraded"] or not samples:
        return 2
    return 1 if report["moved"] > arguments.allow * len(samples) else 0


def _samples(path: Path) -> list[Sample]:
    """Requests out of a file of probes, which is YAML, or of one with a request a line."""
    from triton_router.compare import Sample, read_samples
    from triton_router.probes import form

    if path.suffix in (".yaml", ".yml"):
        return [Sample(probe.body, headers=dict(probe.headers)) for probe in form.probes(form.read(path))]
    return list(read_samples(path.read_text("utf-8").split("\n")))


def _probes(arguments: argparse.Namespace) -> int:
    from triton_router.probes import form, report, run

    file, loaded = form.read(arguments.file), _loaded(arguments)
    probes = list(form.probes(file))
    if arguments.gateway is not None:
        timeout = file.evaluation.request_timeout_seconds
        results = run.through_gateway(arguments.gateway, loaded.config, probes, timeout)
    else:
        results = asyncio.run(run.in_process(loaded, _bundle(loaded, arguments), probes))
    summary = report.summarize(file, results)
    match arguments.format:
        case "json":
            print(orjson.dumps(report.as_data(file, summary, results), option=orjson.OPT_INDENT_2).decode())
        case "junit":
            print(report.as_junit(file, summary, results))
        case _:
            print(report.as_table(summary, results))
    return 1 if summary.unmet else 0


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _envoy(arguments: argparse.Namespace) -> int:
    from triton_router.extproc.health import worker_addresses
    from triton_router.stack import envoy

    config = _loaded(arguments).config
    routers = [envoy.split_endpoint(each) for each in arguments.router]
    workers = routers or worker_addresses(config.global_.services.extproc)
    print(json.dumps(envoy.static(config, workers=workers, access_log=arguments.access_log), indent=1))
    return 0


def _health(arguments: argparse.Namespace) -> int:
    from triton_router.extproc.health import health_targets, is_serving
    from triton_router.http2.client import CallFailed

    async def everywhere() -> bool:
        loaded = load(arguments.config, allow_inactive=arguments.allow_inactive)
        targets = health_targets(loaded.config.global_.services.extproc)
        return all([await is_serving(target) for target in targets])

    try:
        serving = asyncio.run(everywhere())
    except CallFailed as error:
        print(error.details, file=sys.stderr)
        return 1
    print("serving" if serving else "not serving")
    return 0 if serving else 1


def _migrate(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments)
    print(migrate(loaded.text, file=loaded.file, whole_words=arguments.whole_words), end="")
    if inside := inside_words(loaded.config):
        offer = "now match whole words only" if arguments.whole_words else "match inside words; see --whole-words"
        print("\n".join([f"{len(inside)} keyword signals {offer}:", *inside]), file=sys.stderr)
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2))
    return 0


def _repository(arguments: argparse.Namespace) -> Path:
    if arguments.repository is not None:
        return Path(arguments.repository)
    folders = [Path(), *arguments.config.absolute().parents, Path(__file__).resolve().parent.parent]
    return next((folder / REPOSITORY for folder in folders if (folder / REPOSITORY).is_dir()), Path(REPOSITORY))


def _bundle(loaded: Loaded, arguments: argparse.Namespace) -> Path:
    return bundle_path(loaded.config, _repository(arguments), arguments.config)


def _loaded(arguments: argparse.Namespace, path: Path | None = None) -> Loaded:
    loaded = load(path or arguments.config, allow_inactive=arguments.allow_inactive)
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    return loaded


if __name__ == "__main__":
    sys.exit(main())
