"""Envoy's files, each replaced by an atomic rename."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envoy_data_plane.google.protobuf import Any as Packed

from triton_router.config.schema import Config
from triton_router.stack.envoy.clusters import clusters
from triton_router.stack.envoy.listener import bootstrap
from triton_router.stack.envoy.routes import routes


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
    _replace(path, _document(bootstrap(config, directory, workers=workers, access_log=access_log)))
    return path


def static(config: Config, *, workers: Sequence[tuple[str, int]], access_log: Path | None = None) -> dict[str, Any]:
    """The same in one document that reads no other file and follows nothing: for an Envoy of one's own."""
    document = bootstrap(config, None, workers=workers, access_log=access_log)
    return _document(document)


def write_clusters(config: Config, directory: Path) -> str:
    """Write ``cds.json``; return its version, which Envoy's statistics name once it is in use."""
    document = _discovery(clusters(config))
    _replace(directory / "cds.json", document)
    return str(document["version_info"])


def write_routes(config: Config, directory: Path) -> str:
    """Write ``rds.json``; return its version, which Envoy's statistics name once it is in use."""
    document = _discovery([routes(config)])
    _replace(directory / "rds.json", document)
    return str(document["version_info"])


def _discovery(resources: Sequence[Any]) -> dict[str, Any]:
    packed = [_document(Packed.pack(resource)) for resource in resources]
    version = hashlib.sha256(json.dumps(packed, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": packed}


def _document(message: Any) -> dict[str, Any]:
    # Names as they are: the library's own casings turn `consecutive_5xx` into a field that Envoy does not know.
    document: dict[str, Any] = message.to_dict(casing=str)
    return document


def _replace(path: Path, document: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    fresh.rename(path)
