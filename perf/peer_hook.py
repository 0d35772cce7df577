"""LiteLLM's pre-call hook that asks semantic-router: the way its users route by meaning today.

Runs in LiteLLM's own environment, next to LiteLLM's configuration. PEER_ENCODER is the directory of the model: the same
weights that Triton serves for us, here by PyTorch. PEER_GRAPH is a graph in ONNX, which semantic-router's FastEmbed
encoder runs instead. One call a request; what it finds only picks one of two models.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from semantic_router import Route
from semantic_router.encoders import DenseEncoder, FastEmbedEncoder, HuggingFaceEncoder
from semantic_router.routers import IndexedRouter

# The same topics as config/aibrix.yaml; three sentences each.
TOPICS = {
    "math": ["solve this equation", "prove that the series converges", "what is the probability of two sixes"],
    "physics": ["how fast does it fall", "what force acts on the charge", "explain the second law of thermodynamics"],
    "computer science": ["why does my program crash", "write a function that sorts", "what is a hash table"],
    "biology": ["how do cells divide", "what does the enzyme do", "how do plants take up water"],
    "chemistry": ["balance this reaction", "what is the pH of the solution", "name this organic compound"],
    "engineering": ["how thick must the beam be", "size the pump for this pipe", "which bearing fits this shaft"],
    "business": ["how do I price my product", "write a plan for the shop", "should we enter this market"],
    "law": ["is this contract valid", "can my landlord evict me", "what is the penalty for this offence"],
    "psychology": ["why do people procrastinate", "how does memory fade", "what helps against exam nerves"],
    "health": ["I have a headache", "is this medicine safe", "what are the symptoms of flu"],
    "economics": ["why do prices rise", "what does a central bank do", "how does a tariff change demand"],
    "history": ["what caused the war", "who ruled the empire", "how did people live in the middle ages"],
    "philosophy": ["what is a good life", "do we have free will", "is knowledge possible"],
    "other": ["write a toast", "plan my weekend", "thanks, that is all"],
}
THINKS = {"math", "physics", "computer science", "biology", "chemistry", "engineering"}


def _fast_embed(model: Path, graph: Path) -> DenseEncoder:
    """semantic-router's encoder for ONNX with a graph that pools and normalizes by itself."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    class Local(FastEmbedEncoder):
        """It passes no path on, and would fetch a published model."""

        def _initialize_client(self) -> Any:
            return TextEmbedding(self.name, specific_model_path=self.cache_dir)

    files = Path(tempfile.mkdtemp())
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model / name, files)
    (files / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256, "pad_token": "[PAD]"}))
    (files / "model.onnx").symlink_to(graph)
    TextEmbedding.add_custom_model(
        "local", PoolingType.DISABLED, normalization=False, sources=ModelSource(hf="local"), dim=384,
        model_file="model.onnx",
    )  # fmt: skip
    return Local(name="local", cache_dir=str(files), score_threshold=0.5)


class Hook(CustomLogger):
    def __init__(self) -> None:
        super().__init__()
        model = Path(os.environ["PEER_ENCODER"])
        graph = os.environ.get("PEER_GRAPH")
        encoder = _fast_embed(model, Path(graph)) if graph else HuggingFaceEncoder(name=str(model))
        routes = [Route(name=name, utterances=utterances) for name, utterances in TOPICS.items()]
        self._router = IndexedRouter(encoder=encoder, routes=routes)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> Any:
        if data.get("model") == "MoM":
            # Its own asynchronous call: it encodes in a thread, and the proxy's loop stays free.
            choice = await self._router.acall(data["messages"][-1]["content"])
            data["model"] = "qwen3-8b" if choice.name in THINKS else "llama3-8b-instruct"
        return data


hook = Hook()
