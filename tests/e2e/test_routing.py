"""The main job through real Envoy and real Triton: a prompt in, the right model out."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from local_stack import wait_for
from whole_system import Site

from triton_router.stack.envoy import split_endpoint

pytestmark = pytest.mark.e2e

THINKER, QUICK = "qwen3-8b", "llama3-8b-instruct"

EXAMPLES = [
    ("What is the derivative of x^3 + 2x?", "math", THINKER),
    ("Explain why a satellite in orbit does not fall to the ground.", "physics", THINKER),
    ("How does a hash table handle collisions?", "computer science", THINKER),
    ("What role do mitochondria play in a cell?", "biology", THINKER),
    ("How do I balance the equation for burning methane?", "chemistry", THINKER),
    ("What size of steel beam carries a 5 kN load over 4 metres?", "engineering", THINKER),
    ("What are the key factors to consider when entering a new market?", "business", QUICK),
    ("Can my landlord keep my deposit without giving a reason?", "law", QUICK),
    ("Why do people procrastinate even when it makes them anxious?", "psychology", QUICK),
    ("What are the side effects of ibuprofen?", "health", QUICK),
    ("How does raising interest rates slow down inflation?", "economics", QUICK),
    ("Why did the Roman Empire fall?", "history", QUICK),
    ("Is it morally wrong to lie in order to protect someone?", "philosophy", QUICK),
    ("Write a short birthday poem for my sister who loves hiking.", "other", QUICK),
]


def decision_of(category: str) -> str:
    return category.replace(" ", "_") + "_decision"


@pytest.mark.parametrize(("prompt", "category", "model"), EXAMPLES, ids=[example[1] for example in EXAMPLES])
def test_each_domain_reaches_its_model(aibrix: Site, prompt: str, category: str, model: str) -> None:
    answer = aibrix.ask(prompt)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-vsr-selected-category"] == category
    assert answer.headers["x-vsr-selected-decision"] == decision_of(category)
    assert answer.headers["x-vsr-selected-model"] == answer.json()["model"] == model
    assert answer.headers["x-vsr-selected-reasoning"] == ("on" if model == THINKER else "off")
    assert "x-vsr-degraded" not in answer.headers
    received = answer.json()["demo"]["received"]
    fields = received["fields"]
    assert fields.get("chat_template_kwargs") == ({"enable_thinking": True} if model == THINKER else None)
    assert len(received["system"]) == 1


def test_the_persona_replaces_the_clients_system_message(aibrix: Site) -> None:
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "What is the derivative of x^3 + 2x?"},
    ]
    answer = aibrix.client.post("/v1/chat/completions", json={"model": "MoM", "messages": messages, "seed": 2**70})
    received = answer.json()["demo"]["received"]
    assert [text.startswith("You are a careful mathematician") for text in received["system"]] == [True]
    assert received["fields"]["seed"] == 2**70


def test_a_keyword_outranks_the_domain(aibrix: Site) -> None:
    answer = aibrix.ask("Walk me through how to structure a business merger proposal.")
    assert answer.headers["x-vsr-selected-decision"] == "thinking_decision"
    # No domain could win against it, so none was asked for.
    assert "x-vsr-selected-category" not in answer.headers
    assert "x-vsr-degraded" not in answer.headers
    assert answer.json()["model"] == THINKER


@pytest.mark.parametrize(
    "prompt", ["How do I harden an nginx server against SQL injection?", "How do I patch a CVE in OpenSSL?"]
)
def test_a_topic_added_by_name_alone_is_reached(with_cybersecurity: Site, prompt: str) -> None:
    assert with_cybersecurity.ask(prompt).headers["x-vsr-selected-decision"] == "cybersecurity_decision"


def test_a_topic_added_by_name_leaves_the_others_where_they_were(with_cybersecurity: Site) -> None:
    categories = [with_cybersecurity.ask(prompt).headers["x-vsr-selected-category"] for prompt, _, _ in EXAMPLES]
    assert categories == [category for _, category, _ in EXAMPLES]


def test_text_parts_are_read_and_images_passed_on(aibrix: Site) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is the derivative"}, image, {"type": "text", "text": "of x^3 + 2x?"}]
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    answer = aibrix.client.post("/v1/chat/completions", json=body)
    assert answer.headers["x-vsr-selected-category"] == "math"


@pytest.mark.parametrize("prompt", ["解释 JavaScript 中的 async/await", "∂²u/∂t² = c²∇²u", "\U0001f600" * 50, "\x00"])
def test_any_script_gets_an_answer(aibrix: Site, prompt: str) -> None:
    answer = aibrix.ask(prompt)
    assert answer.status_code == 200
    assert "x-vsr-degraded" not in answer.headers


@pytest.mark.parametrize("messages", [[{"role": "user", "content": None}], [{"role": "user", "content": ""}]])
def test_a_prompt_without_words_is_other(aibrix: Site, messages: Any) -> None:
    answer = aibrix.client.post("/v1/chat/completions", json={"model": "MoM", "messages": messages})
    assert answer.status_code == 200
    assert answer.headers["x-vsr-selected-decision"] == "other_decision"


def test_a_tool_result_does_not_hide_the_question(aibrix: Site) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What is the derivative of x^3 + 2x?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "the Roman Empire fell in 476"},
    ]
    answer = aibrix.client.post("/v1/chat/completions", json={"model": "MoM", "messages": messages})
    assert answer.headers["x-vsr-selected-category"] == "math"


def test_a_huge_prompt_is_read_in_windows(aibrix: Site) -> None:
    before = aibrix.metric("router_windowed_prompts_total")
    answer = aibrix.ask("Solve the integral of x squared and prove the theorem. " * 40_000)
    assert answer.status_code == 200
    assert answer.headers["x-vsr-selected-category"] == "math"
    assert aibrix.metric("router_windowed_prompts_total") == before + 1


def test_a_named_model_passes_unrouted_and_untouched(aibrix: Site) -> None:
    answer = aibrix.client.post(
        "/v1/chat/completions",
        content=b'{"model":"llama3-8b-instruct",  "messages":[{"role":"user","content":"What is 2+2, step by step?"}]}',
    )
    assert answer.json()["model"] == QUICK
    assert "x-vsr-selected-decision" not in answer.headers
    assert answer.json()["demo"]["received"]["system"] == []


def error(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    details: dict[str, Any] = answer.json()["error"]
    assert set(details) == {"message", "type", "param", "code"}
    return details


def test_an_unknown_model_is_404_in_openais_shape(aibrix: Site) -> None:
    answer = aibrix.ask("hello", model="gpt-9")
    assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"MoM","model":"x"}', b'{"messages":7}', b"\xff"])
def test_a_malformed_body_is_400_in_openais_shape(aibrix: Site, body: bytes) -> None:
    answer = aibrix.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path", ["/v1/load_lora_adapter", "/metrics", "/tokenize", "/v1/chat", "/", "/v1/models/../../x"]
)
def test_other_paths_are_404(aibrix: Site, path: str) -> None:
    answer = aibrix.client.post(path, json={})
    assert answer.status_code == 404
    error(answer)


def test_other_allowed_paths_pass_through_untouched(aibrix: Site) -> None:
    answer = aibrix.client.post("/v1/embeddings", json={"model": THINKER, "input": "hello"})
    assert (answer.status_code, answer.headers["x-vsr-selected-model"]) == (200, THINKER)
    without_model = aibrix.client.post("/v1/embeddings", json={"input": "hello"})
    assert without_model.status_code == 400 and "embedding model" in error(without_model)["message"]
    assert "x-vsr-selected-decision" not in without_model.headers


@pytest.mark.parametrize("messages", [[], None])
def test_a_request_in_which_nobody_speaks_is_400(aibrix: Site, messages: Any) -> None:
    answer = aibrix.client.post("/v1/chat/completions", json={"model": "MoM", "messages": messages})
    assert answer.status_code == 400 and error(answer)["param"] == "messages"


def test_models_are_listed(aibrix: Site) -> None:
    assert {model.id for model in aibrix.openai.models.list()} == {"MoM", "auto", THINKER, QUICK}
    assert aibrix.openai.models.retrieve(THINKER).id == THINKER


def test_internal_headers_of_a_client_have_no_effect(aibrix: Site) -> None:
    forged = {"x-selected-model": QUICK, "x-gateway-base-model-name": QUICK, "x-vsr-selected-model": QUICK}
    body = {"model": "MoM", "messages": [{"role": "user", "content": "What is the derivative of x^3 + 2x?"}]}
    answer = aibrix.client.post("/v1/chat/completions", json=body, headers=forged)
    assert answer.json()["model"] == THINKER
    assert answer.json()["demo"]["headers"]["x-selected-model"] == THINKER


def test_a_body_over_the_limit_is_413(aibrix: Site) -> None:
    answer = aibrix.ask("x" * (11 * 1024 * 1024))
    assert answer.status_code == 413
    error(answer)


def test_triton_is_asked_once_a_request_and_batches(aibrix: Site) -> None:
    from tritonclient.grpc import InferenceServerClient

    client = InferenceServerClient("{}:{}".format(*split_endpoint(aibrix.config.global_.inference.endpoint)))

    def inferences() -> int:
        statistics = client.get_inference_statistics("minilm", as_json=True)["model_stats"][0]
        return int(statistics["inference_count"])

    # Counts of what was asked before arrive late too.
    time.sleep(0.3)
    before = inferences()
    for prompt, _, _ in EXAMPLES:
        aibrix.ask(prompt, headers={"x-vsr-cache-control": "no-store"})
    # Triton counts an inference after it has answered.
    wait_for(lambda: inferences() - before >= len(EXAMPLES), "every inference is counted")
    assert inferences() - before == len(EXAMPLES)
    client.close()
