"""A table in Chinese and a flat configuration described in Chinese, through Envoy and Triton."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from local_stack import REPOSITORY
from whole_system import Site, running

from triton_router.config import migrate

pytestmark = pytest.mark.e2e

# The flat form with descriptions in Chinese: names in English, as files of vLLM Semantic Router have them.
FLAT = """
classifier:
  category_model: {model_id: models/some-classifier, threshold: 0.6, use_cpu: true}
vllm_endpoints:
  - {name: gpu, address: 127.0.0.1, port: 8000, weight: 1}
model_config:
  base-7b:
    preferred_endpoints: [gpu]
    loras:
      - {name: technical-lora, description: 回答编程和技术方面的问题}
      - {name: medical-lora, description: 回答医疗健康方面的问题}
      - {name: legal-lora, description: 回答法律方面的问题}
default_model: base-7b
categories:
  - name: technical
    description: 软件开发、编程和技术类问题
    system_prompt: 你写的代码清楚易懂。
    model_scores: [{model: base-7b, lora_name: technical-lora, score: 1.0, use_reasoning: true}]
  - name: medical
    description: 疾病、健康和医疗类问题
    system_prompt: 你向病人解释医学知识。
    model_scores: [{model: base-7b, lora_name: medical-lora, score: 1.0, use_reasoning: true}]
  - name: legal
    description: 法律类问题
    system_prompt: 你解释法律，不下结论。
    model_scores: [{model: base-7b, lora_name: legal-lora, score: 1.0, use_reasoning: true}]
  - name: general
    description: 其他一般问题
    system_prompt: 你友好而简洁。
    model_scores: [{model: base-7b, score: 0.8, use_reasoning: false}]
"""


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("flat")
    (directory / "canonical.yaml").write_text(migrate(FLAT, file="flat.yaml"))
    yield from running(Site(directory, directory / "canonical.yaml", grpc=triton_port))


@pytest.mark.parametrize(
    ("prompt", "model", "persona"),
    [
        ("JavaScript 的 async/await 怎么用？", "technical-lora", "你写的代码清楚易懂。"),
        ("血压为什么会升高？", "medical-lora", "你向病人解释医学知识。"),
        ("房东不退押金怎么办？", "legal-lora", "你解释法律，不下结论。"),
        ("讲个笑话吧", "base-7b", "你友好而简洁。"),
        ("What causes high blood pressure?", "medical-lora", "你向病人解释医学知识。"),
    ],
)
def test_categories_described_in_chinese_pick_adapter_and_persona(
    flat: Site, prompt: str, model: str, persona: str
) -> None:
    answer = flat.ask(prompt)
    assert answer.status_code == 200
    assert "x-vsr-degraded" not in answer.headers
    assert answer.json()["model"] == answer.headers["x-vsr-selected-model"] == model
    assert answer.json()["demo"]["received"]["system"] == [persona]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    file = REPOSITORY / "config" / "chinese.yaml"
    yield from running(Site(tmp_path_factory.mktemp("chinese"), file, grpc=triton_port))


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        ("怎样给网站加上登录功能？", "code-lora"),
        ("孩子咳嗽一周了要不要去医院？", "medical-lora"),
        ("合同到期后房东涨租合法吗？", "legal-lora"),
        ("How do I parse JSON in Python?", "code-lora"),
    ],
)
def test_the_sample_in_chinese(sample: Site, prompt: str, model: str) -> None:
    answer = sample.ask(prompt)
    assert "x-vsr-degraded" not in answer.headers
    assert answer.json()["model"] == model
