"""The compose file: read by a strict parser of its format, and held against the configurations beside it."""

from __future__ import annotations

import pytest

from deploy.checks import compose

pytestmark = pytest.mark.deploy


def test_nothing_is_wrong() -> None:
    assert compose.problems(compose.FILE.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("  shm_size: 512m\n", "  shm_sise: 512m\n", "shm_sise"),
        ("127.0.0.1:8080:10080", "127.0.0.1:8080:8080", "10080 is not published"),
        ('"127.0.0.1:9090:9090"', '"9090:9090"', "beyond this machine"),
        ("--grpc-port=8001", "--grpc-port=8000", "gRPC on 8001"),
        ("--served-model-name=qwen3-8b", "--served-model-name=qwen3", "does not serve qwen3-8b"),
        ("law-expert=/models", "law=/models", "does not serve llama3-8b-instruct with ['law-expert']"),
        ("depends_on: {triton-cpu:", "depends_on: {triton:", "there is no service triton"),
        ("network_mode: service:router-gpu", "network_mode: service:router-cpu", "not in all of its profiles"),
        ("./router-cpu:/etc", "./router:/etc", "there is no ./router"),
        ("envoyproxy/envoy:v1.40.0", "envoyproxy/envoy:latest", "is not pinned"),
        ("  demo-backends:\n", "  demo-backend:\n", "there is no service demo-backends"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, word: str) -> None:
    text = compose.FILE.read_text()
    if old not in text:
        pytest.fail(f"nothing to plant in: {old}")
    found = compose.problems(text.replace(old, new))
    assert any(word in flaw for flaw in found), found
