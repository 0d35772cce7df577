"""Our graph against another exporter's of the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_delta import random_delta
from tiny_bert import TinyBert

from export import cross_check, delta
from export.exporter import Exporter, ExportError, Paths
from export.manifest import Manifest


def exporter(bert: TinyBert, root: Path, **more: object) -> Exporter:
    described = {"name": "tiny", "task": "embedding", "graph": "bert", "source": {"directory": bert.directory},
                 "buckets": [8, 48], "max_tokens": 48, "max_batch": 4, "graph_batches": [1], **more}  # fmt: skip
    (model,) = Manifest.model_validate({"format": 1, "bundles": {}, "models": [described]}).models
    return Exporter(Paths(root / "repository", root / "build"), [model])


def test_an_environment_that_is_not_there_is_said_how_to_get(tiny_bert: TinyBert, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no .*nowhere; `make cross-check` makes Optimum's environment"):
        cross_check.cross_check(exporter(tiny_bert, tmp_path), tmp_path / "nowhere")


@pytest.mark.parametrize("fork", [0, 1])
def test_the_other_exporter_gets_what_the_embedding_is_made_of(fork: int, tiny_bert: TinyBert, tmp_path: Path) -> None:
    """With a delta its merged weights, with a fork the published ones."""
    change = random_delta(tiny_bert, fork=fork)
    delta.save(change, tmp_path / "delta.safetensors")
    made = exporter(tiny_bert, tmp_path)
    model = made.models[0].model_copy(update={"delta": tmp_path / "delta.safetensors", "fork": fork})
    cross_check.write_source(made, model, tmp_path / "source")
    expected = tiny_bert.weights if fork else delta.merged(tiny_bert.weights, change)
    for name, tensor in load_file(tmp_path / "source" / "model.safetensors").items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_rotary_settings_go_to_their_older_names() -> None:
    config = {
        "rope_parameters": {"full_attention": {"rope_theta": 5.0}, "sliding_attention": {"rope_theta": 7.0}},
        "layer_types": ["full_attention", "sliding_attention", "full_attention"], "hidden_size": 8,
    }  # fmt: skip
    assert cross_check.older(config) == {
        "hidden_size": 8, "global_rope_theta": 5.0, "local_rope_theta": 7.0, "global_attn_every_n_layers": 2,
    }  # fmt: skip
    assert cross_check.older({"hidden_size": 8}) == {"hidden_size": 8}


@pytest.mark.slow
def test_a_graph_of_other_weights_is_seen(tiny_bert: TinyBert, tmp_path: Path) -> None:
    """PyTorch's own export stands where Optimum's does: of the same weights, and of others."""
    import torch
    from transformers import BertModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(
                tiny_bert.directory, attn_implementation="eager", add_pooling_layer=False
            )

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids, attention_mask).last_hidden_state

    def written(states: States) -> Path:
        axes = {0: "batch", 1: "length"}
        names = ["input_ids", "attention_mask"]
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
        torch.onnx.export(
            states.eval(), (torch.ones_like(mask), mask), tmp_path / "other.onnx", input_names=names, dynamo=False,
            output_names=["last_hidden_state"], dynamic_axes=dict.fromkeys([*names, "last_hidden_state"], axes),
        )  # fmt: skip
        return tmp_path / "other.onnx"

    made, states = exporter(tiny_bert, tmp_path), States()
    same = cross_check.compare(made, made.models[0], written(states), {})
    assert max(same.difference.values()) <= 1e-5 and same.rows > 5
    with torch.no_grad():
        states.bert.encoder.layer[1].output.dense.weight[0, 0] += 0.5
    other = cross_check.compare(made, made.models[0], written(states), {})
    assert min(other.difference.values()) > cross_check.TOLERANCE
    assert json.dumps(other.cosine)
