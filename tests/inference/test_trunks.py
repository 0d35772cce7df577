"""Two trunks with different tokenizers on a real Triton: each asked once, both at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bert
from tritonclient.grpc import InferenceServerClient

from export import head, live
from export.exporter import Exporter, Paths
from export.head import HeadWeights, Layer
from export.manifest import Manifest
from triton_router.config import loads
from triton_router.dialects import ChatRequest
from triton_router.errors import BundleError
from triton_router.generations import Generations
from triton_router.inference import Encoders, load_bundle
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

LABELS = ("law", "sports", "other")
PROMPT = "w1 w2 w3"

# Each model waits until the other is executing too, as long as a file says so: without both calls in flight at once
# neither answers.
MEETING = """

_MEETING = Path({meeting!r})
_alone = TritonPythonModel.execute


def _together(self, requests):
    import time

    if (_MEETING / {name!r}.replace("asked", "broken")).exists():
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("broken")) for _ in requests]
    if (_MEETING / "on").exists():
        (_MEETING / {name!r}).touch()
        deadline = time.monotonic() + 5
        while not (_MEETING / {other!r}).exists():
            if time.monotonic() > deadline:
                error = pb_utils.TritonError("the other model was not asked meanwhile")
                return [pb_utils.InferenceResponse(error=error) for _ in requests]
            time.sleep(0.001)
    return _alone(self, requests)


TritonPythonModel.execute = _together
"""

CONFIG = """
providers:
  models:
    - {name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}]}
routing:
  signals:
    domains: [{name: law}, {name: sports}, {name: other}]
    embeddings: [{name: near, threshold: 0.99, candidates: ["PROMPT", "w20 w21"]}]
  decisions:
    - name: judged
      rules: {operator: OR, conditions: [{type: domain, name: law}, {type: embedding, name: near}]}
      modelRefs: [{model: plain}]
global:
  inference: {endpoint: "ADDRESS", deadline_ms: 8000}
  MORE
""".replace("PROMPT", PROMPT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A repository with `plain` (an embedding) and `judge` (an embedding, two heads), and a Triton that serves it."""
    root = tmp_path_factory.mktemp("trunks")
    generator = np.random.default_rng(5)
    for name in ("domain", "mood"):
        layer = Layer(generator.normal(size=(24, 3)).astype(np.float32) * 3, np.zeros(3, np.float32))
        head.save(HeadWeights(name, LABELS, ("mean.3",), (layer,), 1.0, {}), root / f"{name}.json")
    for name in ("plain", "judge"):
        (root / name).mkdir()
        tiny_bert.make(root / name, specials_last=name == "judge")
    common = {"task": "embedding", "graph": "bert", "buckets": [8, 16], "max_tokens": 16, "max_batch": 4}
    common["graph_batches"] = [1]
    models = [
        {"name": "plain", "source": {"directory": root / "plain", "id": "somebody/Plain-Embedder"}},
        {"name": "judge", "source": {"directory": root / "judge", "id": "somebody/judge-of-domains"},
         "heads": [{"name": name, "file": root / f"{name}.json"} for name in ("domain", "mood")]},
    ]  # fmt: skip
    document = {"format": 1, "bundles": {"default": ["plain", "judge"]}, "models": [each | common for each in models]}
    bundle = Manifest.model_validate(document).bundle("default")
    made = Exporter(Paths(root / "repository", root / "build"), bundle)
    made.graphs("cpu")
    made.write_repository()
    for name, other in (("plain", "judge"), ("judge", "plain")):
        code = root / "repository" / name / "1" / "model.py"
        code.write_text(
            code.read_text() + MEETING.format(meeting=str(root), name=f"asked-{name}", other=f"asked-{other}")
        )
    with live.started(root / "repository", root / "triton") as address:
        yield root, address


@pytest.fixture
async def generations(site: tuple[Path, str], request: pytest.FixtureRequest) -> AsyncIterator[Generations]:
    root, address = site
    for flag in ("on", "asked-plain", "asked-judge", "broken-judge"):
        (root / flag).unlink(missing_ok=True)
    bundle, tokenizers = load_bundle(root / "repository" / "bundle.json")
    more = getattr(request, "param", "")
    text = CONFIG.replace("ADDRESS", address).replace("  MORE", more)
    generations = Generations(loads(text), bundle, tokenizers, Metrics())
    async with generations.running():
        await generations.settled(30)
        assert generations.current.encoders is not None and generations.current.encoders.failures == {}
        yield generations


def executions(address: str) -> dict[str, int]:
    client = InferenceServerClient(address)
    counts = {}
    for model in ("plain", "judge"):
        statistics: Any = client.get_inference_statistics(model)
        counts[model] = sum(entry.compute_infer.count for entry in statistics.model_stats[0].batch_stats)
    client.close()
    return counts


async def evaluate(generations: Generations) -> Any:
    return (await generations.current.decide(SignalInput(ChatRequest.saying(PROMPT)))).routing()[0]


async def test_each_trunk_is_asked_once_and_both_at_the_same_time(
    site: tuple[Path, str], generations: Generations
) -> None:
    root, address = site
    await asyncio.sleep(0.3)  # Triton counts after it has answered.
    before = executions(address)
    (root / "on").touch()
    results = await evaluate(generations)
    assert list(results.degraded) == []
    assert results.evaluations["embedding", "near"].matched is True
    assert results.domains.probabilities.keys() == set(LABELS)
    await asyncio.sleep(0.3)
    assert {model: count - before[model] for model, count in executions(address).items()} == {"plain": 1, "judge": 1}


async def test_each_trunk_reads_with_its_own_tokenizer(site: tuple[Path, str], generations: Generations) -> None:
    """The judge's answer is that of its graph on its own ids, which the other tokenizer would not give."""
    import onnxruntime as ort
    from tokenizers import Tokenizer

    root, _ = site
    ids = Tokenizer.from_file(str(root / "repository" / "judge_tokenizer" / "1" / "tokenizer.json")).encode(PROMPT).ids
    assert ids != Tokenizer.from_file(str(root / "repository" / "plain_tokenizer/1/tokenizer.json")).encode(PROMPT).ids
    session = ort.InferenceSession(root / "repository" / "judge" / "1" / "model.onnx")
    row = np.asarray([ids], np.int64)
    (expected,) = session.run(["domain"], {"input_ids": row, "attention_mask": np.ones_like(row)})
    results = await evaluate(generations)
    np.testing.assert_allclose(results.heads["domain"], expected[0], atol=1e-5)


@pytest.mark.parametrize(
    "generations",
    ["  stores: {semantic_cache: {embedding_model: models/Judge-of-Domains}}"],
    indirect=True,
)
async def test_embedding_and_heads_of_one_trunk_come_in_one_call(
    site: tuple[Path, str], generations: Generations
) -> None:
    _, address = site
    embedder = generations.current.recipes.default.gatherer.embedder
    assert embedder is not None and embedder.trunk.name == "judge"
    await asyncio.sleep(0.3)
    before = executions(address)
    results = await evaluate(generations)
    assert results.encoding.heads.keys() == {"domain", "mood"}
    await asyncio.sleep(0.3)
    assert {model: count - before[model] for model, count in executions(address).items()} == {"plain": 0, "judge": 1}


async def test_one_trunk_that_is_down_leaves_the_others_signals(
    site: tuple[Path, str], generations: Generations
) -> None:
    (site[0] / "broken-judge").touch()
    results = await evaluate(generations)
    assert list(results.degraded) == ["triton"]
    assert results.evaluations["domain", "law"].matched is None
    assert results.evaluations["embedding", "near"].matched is True
    assert generations.current.encoders is not None and generations.current.encoders.failures == {"judge": "error"}


async def test_a_name_that_the_bundle_does_not_have_is_said(
    site: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    bundle, tokenizers = load_bundle(site[0] / "repository" / "bundle.json")
    encoders = Encoders(
        bundle,
        tokenizers,
        loads(CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("  MORE", "")).config.global_.inference,
        Metrics(),
    )
    judge = encoders.judge("domain", "models/some-classifier")
    assert judge is not None
    assert encoders.embedder("somebody/plain-embedder").trunk.name == "plain"
    assert judge.trunk.name == "judge"
    (record,) = caplog.records
    assert record.fields == {"name": "models/some-classifier", "purpose": "domain", "used": "judge"}


def test_a_bundle_without_an_embedding_is_refused(site: tuple[Path, str]) -> None:
    bundle, tokenizers = load_bundle(site[0] / "repository" / "bundle.json")
    blind = [trunk.model_copy(update={"embedding": None}) for trunk in bundle.trunks]
    with pytest.raises(BundleError, match="no trunk that gives an embedding"):
        Encoders(
            bundle.model_copy(update={"trunks": tuple(blind)}), tokenizers,
            loads(CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("  MORE", "")).config.global_.inference, Metrics(),
        )  # fmt: skip
    assert json.loads((site[0] / "repository" / "bundle.json").read_text())["checksum"] == bundle.checksum
