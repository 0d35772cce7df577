"""A bundle of one small encoder with a head, for tests of what is written and what is found wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_bert import TinyBert

from export import consistency, head
from export.exporter import Exporter, Paths
from export.head import HeadWeights, Layer
from export.manifest import Manifest


def exporter(bert: TinyBert, root: Path, repository: str = "repository", **more: object) -> Exporter:
    """With the head `topic`; builds under ``root`` share their cache. ``more`` are keys of the model's entry."""
    if not (root / "topic.json").is_file():
        layer = Layer(np.random.default_rng(5).normal(size=(24, 3)).astype(np.float32), np.zeros(3, np.float32))
        head.save(HeadWeights("topic", ("law", "sports", "other"), ("mean.3",), (layer,), 1.0, {}), root / "topic.json")
    described = {
        "name": "tiny", "task": "embedding", "graph": "bert", "source": {"directory": bert.directory},
        "heads": [{"name": "topic", "file": root / "topic.json"}],
        "buckets": [8, 48], "max_tokens": 48, "max_batch": 4, "graph_batches": [1], **more,
    }  # fmt: skip
    document = {"format": 1, "bundles": {"default": ["tiny"]}, "models": [described]}
    models = Manifest.model_validate(document).bundle("default")
    return Exporter(Paths(root / repository, root / "build"), models)


def made(exporter: Exporter) -> Exporter:
    """All its files written."""
    exporter.graphs("cpu")
    exporter.graphs("gpu")
    exporter.write_repository()
    return exporter


def findings(exporter: Exporter) -> list[str]:
    """What is wrong with the files, in words."""
    report = consistency.check_files(exporter.paths.repository, exporter.models, ("cpu", "gpu"))
    return [str(each) for each in report]
