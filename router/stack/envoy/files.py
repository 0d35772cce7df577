"""Envoy's files, each replaced by an atomic rename."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from triton_router.config.schema import Config
from triton_router.stack.envoy.clusters import clusters
from triton_router.stack.envoy.listener import bootstrap
from triton_router.stack.envoy.routes import routes
from triton_router.stack.envoy.values import Json


def write(
    config: Config, directory: Path, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None
) -> Path:
    """Write ``cds.json``, ``rds.json`` and ``bootstrap.json`` into ``directory``, each by an atomic rename.

    ``workers`` are the (host, port) addresses of the ext_proc service. Clusters are in place before the routes that
    name them. A running Envoy follows the first two files; ``bootstrap.json`` needs a restart. Returns the path of the
    bootstrap file, to be started with ``--reject-unknown-dynamic-fields``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_clusters(config, directory)
    write_routes(config, directory)
    path = directory / "bootstrap.json"
    document = bootstrap(config, directory, workers=workers, access_log=access_log)
    _replace(path, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return path


def static(config: Config, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None) -> Json:
    """The same in one document that reads no other file and follows nothing: for an Envoy of one's own."""
    return bootstrap(config, None, workers=workers, access_log=access_log)


def write_clusters(config: Config, directory: Path) -> str:
    """Write ``cds.json``; return its version, which Envoy's statistics name once it is in use."""
    return _write_resources(directory / "cds.json", "envoy.config.cluster.v3.Cluster", clusters(config))


def write_routes(config: Config, directory: Path) -> str:
    """Write ``rds.json``; return its version, which Envoy's statistics name once it is in use."""
    return _write_resources(directory / "rds.json", "envoy.config.route.v3.RouteConfiguration", [routes(config)])


def _write_resources(path: Path, message: str, resources: Iterable[Json]) -> str:
    # One at a time: a single call for all would hold up the event loop, in whichever thread it runs.
    packed = [orjson.dumps({"@type": f"type.googleapis.com/{message}", **resource}) for resource in resources]
    version = hashlib.sha256(b"\n".join(packed)).hexdigest()[:16]
    _replace(path, b'{"version_info":"%b","resources":[\n%b\n]}\n' % (version.encode(), b",\n".join(packed)))
    return version


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)
