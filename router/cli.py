"""The `triton-router` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from router import __version__
from router.config import Config, ConfigError, Loaded, load
from router.inference import BundleError, load_bundle
from router.telemetry import Metrics, configure_logging

DEFAULT_REPOSITORY = Path("model_repository")


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the result is the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (ConfigError, BundleError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="triton-router", description="LLM router for NVIDIA Triton.")
    parser.add_argument("--version", action="version", version=f"triton-router {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = _command(commands, "serve", _serve, "run ext_proc, REST and metrics")
    serve.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    up = _command(commands, "up", _up, "run Triton, the router and Envoy on this machine")
    up.add_argument("--demo-backends", action="store_true", help="put a demo server in the place of every endpoint")
    up.add_argument("--run-directory", type=Path, default=Path("build/run"), help="logs and generated configuration")
    _command(commands, "check", _check, "report everything that is wrong with a configuration")
    explain = _command(commands, "explain", _explain, "show the whole decision on a prompt")
    explain.add_argument("--text", action="store_true", help="a readable tree instead of JSON")
    explain.add_argument("prompt")
    schema = commands.add_parser("config-schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(run=_schema)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], description: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=description, description=description)
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY, help="Triton model repository")
    command.set_defaults(run=run)
    return command


def _serve(arguments: argparse.Namespace) -> int:
    from router.serve import bundle_path, serve

    configure_logging(arguments.log_level)
    loaded = _loaded(arguments.config)
    bundle, tokenizers = load_bundle(bundle_path(loaded.config, arguments.repository))
    asyncio.run(serve(loaded, bundle, tokenizers))
    return 0


def _up(arguments: argparse.Namespace) -> int:
    from router.stack.up import up

    return up(
        arguments.config,
        demo_backends=arguments.demo_backends,
        repository=arguments.repository,
        run_directory=arguments.run_directory,
    )


def _check(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments.config)
    routing = loaded.config.routing
    print(
        f"{arguments.config}: ok: {len(loaded.config.providers.models)} models, "
        f"{len(routing.signals.domains)} domains, {len(routing.signals.keywords)} keyword signals, "
        f"{len(routing.decisions)} decisions, {len(loaded.warnings)} warnings"
    )
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    loaded = _loaded(arguments.config)
    explained = asyncio.run(_explained(loaded, arguments.repository, arguments.prompt))
    if arguments.text:
        from router.explain import as_text

        print(as_text(explained))
    else:
        print(orjson.dumps(explained, option=orjson.OPT_INDENT_2).decode())
    return 0


async def _explained(loaded: Loaded, repository: Path, prompt: str) -> dict[str, object]:
    from router.explain import explain
    from router.serve import build, bundle_path

    bundle, tokenizers = load_bundle(bundle_path(loaded.config, repository))
    pipeline = build(loaded, bundle, tokenizers, Metrics())
    assert pipeline.encoder is not None
    try:
        await pipeline.encoder.probe(pipeline.prepare)
        return explain(await pipeline.decide(prompt), loaded.config)
    finally:
        await pipeline.encoder.close()


def _schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(Config.model_json_schema(by_alias=True), indent=2))
    return 0


def _loaded(path: Path) -> Loaded:
    loaded = load(path)
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    return loaded


if __name__ == "__main__":
    sys.exit(main())
