"""Probes as examples for people: requests that somebody thought about, and the decision that each should lead to."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from triton_router.config import Config
from triton_router.probes import form

FOLDER = "probes"
# Probes of a length are for `triton-router probes`, not for a page.
LARGEST, LARGEST_TOGETHER = 64 * 1024, 4 * 1024 * 1024


def probes_of(config: Config, file: Path) -> Path | None:
    """The file of probes of ``config``, which was read from ``file``; ``None`` where it has none."""
    named = config.global_.services.api.page.probes
    if named is not None:
        return file.parent / named
    usual = file.parent / FOLDER / file.name
    return usual if usual.is_file() else None


def examples(path: Path | None) -> list[dict[str, Any]]:
    """The probes in ``path`` as JSON-ready data, without the largest.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong.
    """
    if path is None:
        return []
    modified = path.stat().st_mtime_ns if path.exists() else 0
    return _examples(path, modified)


@lru_cache(maxsize=1)
def _examples(path: Path, modified: int) -> list[dict[str, Any]]:
    room, prompts = LARGEST_TOGETHER, []
    for probe in form.probes(form.read(path)):
        if len(probe.body) > min(LARGEST, room):
            continue
        room -= len(probe.body)
        prompts.append({"name": probe.name, "group": probe.group, "decision": probe.decision,
                        "request": orjson.loads(probe.body), "headers": dict(probe.headers)})  # fmt: skip
    return prompts
