"""A trunk that reads pairs, exported and served by a real Triton: what it is asked, and what it is never asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import tiny_bert

from export import head, live
from export.encoder import SEPARATOR, OnnxEncoder
from export.exporter import Exporter, Paths
from export.head import HeadWeights, Layer
from export.manifest import Manifest
from triton_router.api.classifiers import classifiers
from triton_router.config import loads
from triton_router.errors import BundleError, Unavailable
from triton_router.generations import Generations
from triton_router.inference import Encoders, load_bundle
from triton_router.inference.bundle import checksum
from triton_router.inference.tokens import load_tokenizer
from triton_router.telemetry import Metrics

CONFIG = """
providers: {models: [{name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  decisions: [{name: d, modelRefs: [{model: m}], plugins: [{type: semantic-cache, configuration: {mode: MODE}}]}]
global: {inference: {endpoint: "ADDRESS", deadline_ms: 8000}}
"""
PAIRS = [("w1 w2", "w1 w3"), ("w4 " * 8, "w5 " * 8), ("w6", "w7 w8 w9")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A repository with `plain`, which gives an embedding, and `pairs`, and the address of a Triton that serves it."""
    root = tmp_path_factory.mktemp("pairs")
    tiny_bert.make(root)
    layer = Layer(np.random.default_rng(3).normal(size=(24, 2)).astype(np.float32) * 3, np.zeros(2, np.float32))
    head.save(HeadWeights("same_question", ("different", "same"), ("cls.3",), (layer,), 1.0, {}), root / "head.json")
    common = {"graph": "bert", "source": {"directory": root}, "buckets": [8, 16], "max_tokens": 16, "max_batch": 4,
              "graph_batches": [1]}  # fmt: skip
    models = [
        {"name": "plain", "task": "embedding"},
        {"name": "pairs", "task": "pair-classification", "heads": [{"name": "same", "file": root / "head.json"}],
         "languages": ["en"]},
    ]  # fmt: skip
    document = {"format": 1, "bundles": {"default": ["plain", "pairs"]}, "models": [each | common for each in models]}
    made = Exporter(Paths(root / "repository", root / "build"), Manifest.model_validate(document).bundle("default"))
    made.graphs("cpu")
    made.write_repository()
    with live.started(root / "repository", root / "triton") as address:
        yield root / "repository", address


def generations(repository: Path, address: str, mode: str = "semantic") -> Generations:
    text = CONFIG.replace("ADDRESS", address).replace("MODE", mode)
    return Generations(loads(text), *load_bundle(repository / "bundle.json"), Metrics())


@pytest.fixture
async def encoders(site: tuple[Path, str]) -> AsyncIterator[Encoders]:
    served = generations(*site)
    async with served.running():
        assert await served.settled(30)
        yield served.encoders


async def test_it_judges_both_texts_in_one_row_in_both_orders(site: tuple[Path, str], encoders: Encoders) -> None:
    repository, _ = site
    (reader,) = encoders.pairs
    tokens = load_tokenizer((repository / "pairs" / "1" / "tokenizer.json").read_bytes())
    special = reader.trunk.tokenizer
    session = ort.InferenceSession(repository / "pairs" / "1" / "model.onnx")
    expected = []
    for pair in (PAIRS[0], PAIRS[2]):
        orders = []
        for first, second in (pair, pair[::-1]):
            ids = [special.cls_id, *tokens.ids(first), special.sep_id, *tokens.ids(second), special.sep_id]
            row = np.asarray([ids], np.int64)
            (values,) = session.run(["same"], {"input_ids": row, "attention_mask": np.ones_like(row)})
            orders.append(values[0, 1])
        expected.append(np.mean(orders))
    judged = await reader.judge_pairs(PAIRS)
    np.testing.assert_allclose(judged, [expected[0], 0.0, expected[1]], atol=1e-5)
    assert await reader.judge_pairs(PAIRS[1:2]) == [0.0], "longer than it reads"


def test_a_head_learns_from_rows_as_they_are_judged(site: tuple[Path, str]) -> None:
    encoder = OnnxEncoder.served(site[0], "pairs")
    first, second = PAIRS[2]
    (row,) = encoder.encode([f"{first}{SEPARATOR}{second}"])["same"]
    (swapped,) = encoder.encode([f"{second}{SEPARATOR}{first}"])["same"]
    assert np.mean([row[1], swapped[1]]) == pytest.approx(encoder.same(first, second), abs=1e-5)
    with pytest.raises(ValueError, match="longer than the trunk reads"):
        encoder.encode([SEPARATOR.join(PAIRS[1])])


def test_nobody_asks_it_about_one_text(encoders: Encoders) -> None:
    assert [each.trunk.name for each in encoders] == ["plain"]
    assert [each.trunk.name for each in encoders.watched] == ["plain", "pairs"]
    assert encoders.judge("same") is None and not list(encoders.readers("same"))
    assert classifiers(encoders) == ["pii"]
    assert encoders.languages == frozenset()


async def test_while_it_is_down_that_is_said(site: tuple[Path, str]) -> None:
    served = generations(site[0], "127.0.0.1:9")
    async with served.running():
        assert not await served.settled(0.5)
        assert served.encoders.failures == {"plain": "unreachable", "pairs": "unreachable"}
        (reader,) = served.encoders.pairs
        with pytest.raises(Unavailable, match="unreachable"):
            await reader.judge_pairs(PAIRS)


@pytest.mark.parametrize(("mode", "warnings"), [("semantic", 1), ("exact", 0)])
def test_a_bundle_without_one_is_remarked_where_a_cache_compares(
    site: tuple[Path, str], caplog: pytest.LogCaptureFixture, mode: str, warnings: int
) -> None:
    bundle, tokenizers = load_bundle(site[0] / "bundle.json")
    text = CONFIG.replace("ADDRESS", "127.0.0.1:9").replace("MODE", mode)
    Generations(loads(text), bundle.model_copy(update={"trunks": bundle.trunks[:1]}), tokenizers, Metrics())
    assert sum("no model that judges pairs" in record.message for record in caplog.records) == warnings


def test_one_that_cannot_judge_pairs_is_refused(site: tuple[Path, str], tmp_path: Path) -> None:
    import json

    document = json.loads((site[0] / "bundle.json").read_text())
    document["trunks"][1]["heads"][0]["labels"] = ["no", "yes"]
    del document["checksum"]
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(document | {"checksum": checksum(document)}))
    with pytest.raises(BundleError, match="a label `same`"):
        load_bundle(path)
