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
from typing import Any

import orjson

import triton_router.threads  # noqa: F401
from triton_router import __version__
from triton_router.config import Config, ConfigError, Loaded, inside_words, load, migrate
from triton_router.dialects import DIALECTS, ChatRequest, ModelRequest, chat
from triton_router.errors import BundleError, Refusal
from triton_router.inference import bundle_path, load_bundle
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics, configure_logging

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
    serve.add_argument("--state-directory", type=Path, help="where encoded texts are kept between starts")
    serve.add_argument("--envoy-directory", type=Path, help="where Envoy's files are kept in step with this one")
    serve.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    up = _command(commands, "up", _up, "run Triton, the router and Envoy on this machine")
    up.add_argument("--demo-backends", action="store_true", help="replace every endpoint with a demo server")
    up.add_argument("--run-directory", type=Path, default=Path("build/run"), help="logs and generated configuration")
    _command(commands, "check", _check, "report everything that is wrong with a configuration")
    explain = _command(commands, "explain", _explain, "show the whole decision on a prompt or a request")
    explain.add_argument("--text", action="store_true", help="a readable tree instead of JSON")
    explain.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="a request header")
    explain.add_argument("--path", default=chat.PATH, choices=list(DIALECTS), help="where --request would be sent to")
    what = explain.add_mutually_exclusive_group(required=True)
    what.add_argument("prompt", nargs="?")
    what.add_argument("--request", metavar="FILE", help="a whole request as JSON; `-` reads standard input")
    envoy = commands.add_parser("envoy", help="print Envoy's configuration")
    envoy.add_argument("--config", type=Path, required=True, metavar="FILE")
    envoy.add_argument(
        "--router", action="append", default=[], metavar="HOST:PORT", help="ext_proc address; default: this machine's"
    )
    envoy.add_argument("--access-log", type=Path, metavar="FILE", help="where Envoy writes a line a request")
    envoy.set_defaults(run=_envoy)
    health = commands.add_parser("health", help="ask the router on this machine whether it serves")
    health.add_argument("--config", type=Path, required=True, metavar="FILE")
    health.set_defaults(run=_health)
    migrate = commands.add_parser("migrate", help="print a flat configuration in the canonical form")
    migrate.add_argument("--config", type=Path, required=True, metavar="FILE")
    migrate.add_argument("--whole-words", action="store_true", help="write `match: word`; lists the rules that change")
    migrate.set_defaults(run=_migrate)
    schema = commands.add_parser("config-schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(run=_schema)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], description: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=description, description=description)
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.add_argument("--repository", type=Path, help=f"Triton model repository; default: the nearest {REPOSITORY}")
    command.set_defaults(run=run)
    return command


def _serve(arguments: argparse.Namespace) -> int:
    from triton_router.serve import ServeOptions, serve

    configure_logging(arguments.log_level)
    loaded = _loaded(arguments.config)
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
    )


def _check(arguments: argparse.Namespace) -> int:
    from triton_router.stack.envoy import validation

    loaded = _loaded(arguments.config)
    if (envoy := validation.binary()) is not None:
        try:
            validation.validate(loaded.config, envoy)
        except validation.EnvoyRefused as refused:
            print(f"{arguments.config}: error: {refused}", file=sys.stderr)
            return 1
    else:
        print("Envoy is not installed here (extra `stack`): its own validation did not run", file=sys.stderr)
    routing = loaded.config.routing
    adapters = sum(len(card.loras) for card in routing.modelCards)
    signals = sum(len(declared) for _, declared in routing.signals)
    print(
        f"{arguments.config}: ok: {len(loaded.config.providers.models)} models, {adapters} adapters, "
        f"{signals} signals, {len(routing.decisions)} decisions, {len(loaded.warnings)} warnings"
    )
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments.config)
    headers = dict(_header(line) for line in arguments.header)
    if arguments.request is None:
        sent: ModelRequest = ChatRequest.saying(arguments.prompt)
    else:
        body = sys.stdin.buffer.read() if arguments.request == "-" else Path(arguments.request).read_bytes()
        sent = DIALECTS[arguments.path].parse(body)
    decision = asyncio.run(_decision(loaded, _bundle(loaded, arguments), sent, headers))
    if arguments.text:
        from triton_router.explain import as_text

        print(as_text(decision))
    else:
        print(orjson.dumps(decision, option=orjson.OPT_INDENT_2).decode())
    return 0


async def _decision(
    loaded: Loaded, manifest: Path, sent: ModelRequest, headers: Mapping[str, str]
) -> dict[str, object]:
    from triton_router.explain import explain
    from triton_router.generations import Generations

    bundle, tokenizers = load_bundle(manifest)
    generations = Generations(loaded, bundle, tokenizers, Metrics())
    watch = asyncio.create_task(generations.run())
    try:
        await generations.settled(EXPLAIN_WITHIN)
        pipeline = generations.current
        query = SignalInput(sent, headers, reader=pipeline.runtime.reader)
        return explain(await pipeline.decide(query, everything=True), loaded.config.routing.decisions)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def _envoy(arguments: argparse.Namespace) -> int:
    from triton_router.extproc.health import worker_addresses
    from triton_router.stack import envoy

    config = _loaded(arguments.config).config
    routers = [envoy.split_endpoint(each) for each in arguments.router]
    workers = routers or worker_addresses(config.global_.services.extproc)
    print(json.dumps(envoy.static(config, workers=workers, access_log=arguments.access_log), indent=1))
    return 0


def _health(arguments: argparse.Namespace) -> int:
    import grpc

    from triton_router.extproc.health import health_targets, is_serving

    async def everywhere() -> bool:
        targets = health_targets(load(arguments.config).config.global_.services.extproc)
        return all([await is_serving(target) for target in targets])

    try:
        serving = asyncio.run(everywhere())
    except grpc.aio.AioRpcError as error:
        print(error.details(), file=sys.stderr)
        return 1
    print("serving" if serving else "not serving")
    return 0 if serving else 1


def _migrate(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments.config)
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


def _loaded(path: Path) -> Loaded:
    loaded = load(path)
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    return loaded


if __name__ == "__main__":
    sys.exit(main())
