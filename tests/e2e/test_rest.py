"""The REST service on real Triton."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from whole_system import Site

pytestmark = pytest.mark.e2e

QUESTION = "What is the integral of sin(x)?"


@pytest.fixture
def rest(aibrix: Site) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{aibrix.rest}", timeout=60)


def post(rest: httpx.Client, path: str, **body: Any) -> Any:
    answer = rest.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/classify", "/api/v1/classify/intent"])
def test_classify(rest: httpx.Client, path: str) -> None:
    answer = post(rest, path, text=QUESTION)
    assert answer["classification"]["category"] == "math"
    assert answer["classification"]["confidence"] == answer["probabilities"]["math"] > 0.5
    assert len(answer["probabilities"]) == 14
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert answer["routing_decision"] == "math_decision"
    assert answer["recommended_model"] == "qwen3-8b"
    assert answer["matched_signals"] == {"domains": ["math"]}


def test_a_batch_of_a_hundred(rest: httpx.Client) -> None:
    texts = [QUESTION, "Why did the Roman Empire fall?"] * 50
    answer = post(rest, "/api/v1/classify/batch", texts=texts)
    assert answer["total_count"] == 100
    assert [result["category"] for result in answer["results"]] == ["math", "history"] * 50


def test_embeddings_and_similarity(rest: httpx.Client) -> None:
    answer = post(rest, "/api/v1/embeddings", texts=[QUESTION, "hello"])
    vectors = [entry["embedding"] for entry in answer["embeddings"]]
    # One encoder for texts in any language: those of two could not be compared.
    assert (answer["model"], [len(vector) for vector in vectors]) == ("use-m3", [512, 512])
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-4)
    same = post(rest, "/api/v1/similarity", text1=QUESTION, text2=QUESTION)["similarity"]
    other = post(rest, "/api/v1/similarity", text1=QUESTION, text2="A recipe for onion soup")["similarity"]
    # Batched int8 lets neighbours move an embedding a little.
    assert same == pytest.approx(1, abs=0.02)
    assert other < 0.5


def test_explain(rest: httpx.Client) -> None:
    explained = post(rest, "/api/v1/explain", text=QUESTION)
    assert explained["outcome"]["decision"] == "math_decision"
    assert explained["degraded"] == {}
    assert explained["windows"] == 1


def test_signal_models(rest: httpx.Client) -> None:
    models = rest.get("/info/models").json()["models"]
    assert [model["name"] for model in models] == ["minilm", "use-m3", "pairs"]
    assert all(model["ready"] and model["failure"] is None for model in models)
    for model in models[:2]:
        assert len(model["heads"]["domain"]) == 14
