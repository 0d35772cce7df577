"""A bundle of one small encoder with a head, for tests of what is written and what is found wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_bert import TinyBert

from export import consistency, head
from export.head import Head, Layer
from export.manifest import Manifest
from export.pipeline import Pipeline, Places


def pipeline(bert: TinyBert, root: Path, repository: str = "repository", **more: object) -> Pipeline:
    """With the head `topic`; builds under ``root`` share their cache. ``more`` are keys of the model's entry."""
    if not (root / "topic.json").is_file():
        layer = Layer(np.random.default_rng(5).normal(size=(24, 3)).astype(np.float32), np.zeros(3, np.float32))
        head.save(Head("topic", ("law", "sports", "other"), ("mean.3",), (layer,), 1.0, {}), root / "topic.json")
    described = {
        "name": "tiny", "task": "embedding", "graph": "bert", "source": {"directory": bert.directory},
        "heads": [{"name": "topic", "file": root / "topic.json"}],
        "buckets": [8, 48], "max_tokens": 48, "max_batch": 4, "graph_batches": [1], **more,
    }  # fmt: skip
    document = {"format": 1, "bundles": {"default": ["tiny"]}, "models": [described]}
    models = Manifest.model_validate(document).bundle("default")
    return Pipeline(Places(root / repository, root / "build"), models)


def made(pipeline: Pipeline) -> Pipeline:
    """All its files written."""
    pipeline.graphs("cpu")
    pipeline.graphs("gpu")
    pipeline.write_repository()
    return pipeline


def findings(pipeline: Pipeline) -> list[str]:
    """What is wrong with the files, in words."""
    found = consistency.check_files(pipeline.places.repository, pipeline.models, ("cpu", "gpu"))
    return [str(each) for each in found]
