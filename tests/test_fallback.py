"""The next candidate: what the router makes of a request that the gateway brings back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from triton_router import names
from triton_router.cache.cache import SemanticCache
from triton_router.cache.memory import MemoryStore
from triton_router.config import ConfigError, loads
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.extproc.headers import clean
from triton_router.pipeline import Pipeline
from triton_router.replay import ReplayLog
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics
from triton_router.vitals import Vitals

FAMILIES = {
    "qwen3": {"type": "chat_template_kwargs", "parameter": "enable_thinking"},
    "o": {"type": "reasoning_effort", "parameter": "reasoning_effort"},
}


def document(fallback: dict[str, Any] | None, *refs: str | dict[str, Any], **models: dict[str, Any]) -> dict[str, Any]:
    """Models `a`, `b`, `c`, of which the decision names ``refs``; ``models`` have settings of single ones."""
    entries = [
        {"name": name, "backend_refs": [{"endpoint": f"127.0.0.1:{port}"}]} | models.get(name, {})
        for port, name in enumerate("abc", 1)
    ]
    cards = [
        {"name": "a", "context_window_size": "8K", "loras": [{"name": "law"}]},
        {"name": "b", "context_window_size": "8K"},
        {"name": "c", "context_window_size": "128K"},
    ]
    # The first of them has the best score, so that chance has no say.
    candidates = [
        {"score": 9 - index} | (ref if isinstance(ref, dict) else {"model": ref})
        for index, ref in enumerate(refs or ("a", "b"))
    ]
    decision = {"name": "d", "modelRefs": candidates}
    routing = {"modelCards": cards, "decisions": [decision]} | ({"fallback": fallback} if fallback is not None else {})
    return {"providers": {"defaults": {"reasoning_families": FAMILIES}, "models": entries}, "routing": routing}


class Gateway:
    """An Envoy of ours, as far as the router sees it."""

    def __init__(self, written: dict[str, Any]) -> None:
        self.metrics = Metrics()
        runtime = compile_runtime(loads(yaml.safe_dump(written)))
        settings = runtime.config.global_.services.router_replay
        replay = ReplayLog(settings) if settings.enabled else None
        self.pipeline = Pipeline(runtime, None, TopicParameters(), self.metrics, vitals=Vitals(), replay=replay)
        # Seconds by which breakers think that it is later.
        self.later = 0.0
        self.pipeline._fallback._breakers._clock = lambda: time.monotonic() + self.later

    @staticmethod
    def request(
        body: dict[str, Any] | None = None, path: str = names.CHAT_PATH, falls_back: bool = True, **headers: str
    ) -> Request:
        body = body or {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request("POST", path, named, json.dumps(body).encode(), falls_back=falls_back)

    def send(self, *what: Any, **headers: Any) -> tuple[Request, Outcome]:
        request = self.request(*what, **headers)
        return request, asyncio.run(self.pipeline.route(request))

    @staticmethod
    def brought_back(request: Request, forward: Outcome, failure: str = "503 ") -> Request:
        """What Envoy makes of a request that was ``sent`` and failed."""
        assert isinstance(forward, Forward) and forward.attempt
        headers = {name: value for name, value in request.headers.items() if name not in forward.remove}
        headers |= {name: clean(value) for name, value in forward.headers.items() if not name.startswith("x-envoy-")}
        headers |= {names.ATTEMPT: forward.attempt, names.FAILURE: failure, names.REDIRECTED_FROM: "http://gateway/"}
        del headers[names.BASE_MODEL], headers[names.SELECTED_MODEL]
        return Request("POST", request.path, headers, forward.body or request.body, falls_back=True)

    def bring_back(self, request: Request, forward: Outcome, failure: str = "503 ") -> tuple[Request, Outcome]:
        again = self.brought_back(request, forward, failure)
        return again, asyncio.run(self.pipeline.route(again))

    def models_tried(self, failure: str = "503 ", *what: Any) -> Iterator[str]:
        """The models that one request asks, each of which fails."""
        request, outcome = self.send(*what)
        while isinstance(outcome, Forward):
            yield outcome.headers[names.SELECTED_MODEL]
            if not outcome.attempt:
                return
            request, outcome = self.bring_back(request, outcome, failure)
        yield str(outcome.status)


def sent_to(outcome: Outcome) -> str:
    assert isinstance(outcome, Forward)
    return outcome.headers[names.SELECTED_MODEL]


def test_the_next_candidate_is_asked_and_the_client_learns_of_it() -> None:
    gateway = Gateway(document({}))
    request, first = gateway.send()
    assert sent_to(first) == "a"
    _, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward) and second.body is not None
    assert sent_to(second) == json.loads(second.body)["model"] == "b"
    assert second.response_headers[names.FALLBACK] == "a->b"
    assert second.response_headers[names.DECISION] == "d"
    assert second.response_headers[names.RESPONSE_PATH] == "upstream"
    # The last one's failure is the client's to see.
    assert not second.attempt
    assert names.REDIRECTED_FROM in second.remove


@pytest.mark.parametrize("fallback", [None, {"enabled": False}])
def test_without_a_policy_nothing_is_different(fallback: dict[str, Any] | None) -> None:
    _, outcome = Gateway(document(fallback)).send()
    assert isinstance(outcome, Forward) and outcome.headers.keys() == {names.SELECTED_MODEL, names.BASE_MODEL}


def test_other_gateways_do_not_bring_requests_back() -> None:
    gateway = Gateway(document({"total_timeout": 9}))
    _, outcome = gateway.send(falls_back=False)
    assert isinstance(outcome, Forward) and not [name for name in outcome.headers if name.startswith("x-envoy-")]
    assert not outcome.attempt
    _, outcome = gateway.send(falls_back=False, **{"x_vsr_attempt": '{"name":"a"}', "x_vsr_failure": "503 "})
    assert sent_to(outcome) == "a"
    # Breakers act behind each of them.
    assert isinstance(outcome, Forward) and outcome.observer is not None
    outcome.observer.on_headers(429, {"retry-after": "60"})
    assert sent_to(gateway.send(falls_back=False)[1]) == "b"


def test_a_header_that_the_router_did_not_write_is_refused() -> None:
    for text in ("", "{}x", "[]", '{"name": "a", "odd": 1}'):
        _, outcome = Gateway(document({})).send(**{"x_vsr_attempt": text})
        assert isinstance(outcome, Reply) and outcome.status == 500


REQUESTS = {
    names.CHAT_PATH: {"messages": [{"role": "user", "content": "hi"}], "tools": [], "stream": True},
    names.COMPLETIONS_PATH: {"prompt": "hi", "echo": False},
    names.RESPONSES_PATH: {"input": "hi", "reasoning": {"summary": "auto"}},
    names.MESSAGES_PATH: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "thinking": None},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("families", [("qwen3", "o"), ("o", "qwen3"), ("o", None)])
def test_each_candidate_gets_the_request_as_if_it_were_the_first(path: str, families: tuple[str, str | None]) -> None:
    first, second = families
    settings = {"a": {"reasoning_family": first}, "b": {"reasoning_family": second} if second else {}}
    refs = [{"model": "a", "use_reasoning": True, "reasoning_effort": "high"}, {"model": "b", "use_reasoning": True}]
    body = {"model": "auto", **REQUESTS[path], "chat_template_kwargs": {"x": 1}}
    gateway = Gateway(document({}, *refs, **settings))
    request, outcome = gateway.send(body, path)
    _, after = gateway.bring_back(request, outcome)
    _, alone = Gateway(document({}, refs[1], **settings)).send(body, path)
    assert isinstance(after, Forward) and isinstance(alone, Forward) and after.body is not None
    assert json.loads(after.body) == json.loads(alone.body or b"")


TALKS = {
    names.CHAT_PATH: {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]},
    names.COMPLETIONS_PATH: {"prompt": "hi"},
    names.RESPONSES_PATH: {"instructions": "Be kind.", "input": [{"role": "user", "content": "hi"}]},
    names.MESSAGES_PATH: {"system": [{"type": "text", "text": "Be kind."}], "max_tokens": 9,
                          "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["replace", "prepend", "append", "insert"])
@pytest.mark.parametrize("path", TALKS)
def test_each_candidate_gets_its_own_persona_and_no_other(path: str, mode: str) -> None:
    refs = [
        {"model": "a", "persona": {"system_prompt": "You are a.", "mode": mode}},
        {"model": "b"},
        {"model": "c", "persona": {"system_prompt": 'You are "ç".', "mode": mode}},
    ]
    plugin = {"type": "system_prompt", "configuration": {"system_prompt": "Judge.", "mode": "append"}}

    def gateway(*refs: dict[str, Any]) -> Gateway:
        written = document({}, *refs)
        written["routing"]["decisions"][0]["plugins"] = [plugin]
        return Gateway(written)

    body = {"model": "auto", **TALKS[path]}
    chain = gateway(*refs)
    request, outcome = chain.send(body, path)
    for index, ref in enumerate(refs):
        if index:
            request, outcome = chain.bring_back(request, outcome)
        _, alone = gateway(ref).send(body, path)
        assert isinstance(outcome, Forward) and isinstance(alone, Forward) and outcome.body is not None
        assert sent_to(outcome) == ref["model"]
        assert json.loads(outcome.body) == json.loads(alone.body or b"")
        own = "persona" in ref and path != names.COMPLETIONS_PATH  # which has no place for it
        assert (b"You are" in outcome.body) is own


@pytest.mark.parametrize("mode", ["replace", "prepend", "append", "insert"])
def test_a_persona_is_taken_back_from_a_conversation_of_any_length(mode: str) -> None:
    refs = [{"model": "a", "persona": {"system_prompt": "You are a.", "mode": mode}}, {"model": "b"}]
    turns = [{"role": role, "content": "x\ud83d\ude00" * 500} for role in ("user", "assistant")] * 20
    body = {"model": "auto", "messages": [{"role": "system", "content": "Be kind."}, *turns]}
    gateway = Gateway(document({}, *refs))
    request, first = gateway.send(body)
    _, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward) and second.body == json.dumps(body | {"model": "b"}).encode()


STORED = [
    (names.RESPONSES_PATH, {"input": "hi", "previous_response_id": "resp_1"}),
    (names.RESPONSES_PATH, {"input": "hi", "conversation": {"id": "conv_1"}}),
    (names.RESPONSES_PATH, {"prompt": {"id": "pmpt_1"}}),
    (names.RESPONSES_PATH, {"input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "hi"}]}),
    (names.MESSAGES_PATH, {**REQUESTS[names.MESSAGES_PATH], "container": "container_1"}),
    (names.CHAT_PATH, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}},
                                    {"role": "user", "content": "hi"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), STORED)
def test_what_a_backend_has_stored_is_asked_of_no_other_model(path: str, body: dict[str, Any]) -> None:
    gateway = Gateway(document({"models": ["c"], "circuit_breaker": {"consecutive_failures": 1}}))
    _, outcome = gateway.send({"model": "auto", **body}, path)
    assert sent_to(outcome) == "a"
    assert isinstance(outcome, Forward) and outcome.observer is not None
    assert not outcome.attempt
    assert outcome.response_headers[names.NO_FALLBACK] == "stored"
    # Nor because its model fails; only where that has asked for it is it left alone.
    outcome.observer.on_headers(500, {})
    assert sent_to(gateway.send({"model": "auto", **body}, path)[1]) == "a"
    assert sent_to(gateway.send()[1]) == "b"
    outcome.observer.on_headers(429, {"retry-after": "60"})
    _, refused = gateway.send({"model": "auto", **body}, path)
    assert isinstance(refused, Reply) and (refused.status, refused.headers["retry-after"]) == (429, "60")


def test_what_is_stored_nowhere_is_asked_of_others() -> None:
    for path, body in (
        (names.RESPONSES_PATH, {"input": "hi", "previous_response_id": None, "conversation": None}),
        (names.MESSAGES_PATH, {**REQUESTS[names.MESSAGES_PATH], "container": {"skills": []}}),
    ):
        _, outcome = Gateway(document({})).send({"model": "auto", **body}, path)
        assert isinstance(outcome, Forward) and outcome.attempt
        assert names.NO_FALLBACK not in outcome.response_headers


def test_requests_that_one_candidate_has_to_answer_are_counted() -> None:
    refs = {"model": "a", "persona": {"system_prompt": "You are a."}}, "b"
    gateway = Gateway(document({}, *refs))
    messages = [{"role": "system", "content": "x" * 9000}, {"role": "user", "content": "hi"}]
    long = {"model": "auto", "messages": messages}
    _, outcome = gateway.send(long)
    assert isinstance(outcome, Forward) and outcome.response_headers[names.NO_FALLBACK] == "size"
    gateway.send({"model": "auto", "input": "hi", "previous_response_id": "resp_1"}, names.RESPONSES_PATH)
    gateway.send()
    # Nobody else is named, or may be asked.
    for fallback in (None, {"enabled": False}, {"max_attempts": 1}):
        _, outcome = Gateway(document(fallback, *refs)).send(long)
        assert isinstance(outcome, Forward) and names.NO_FALLBACK not in outcome.response_headers
    counted = {
        sample.labels["reason"]: sample.value
        for metric in gateway.metrics.no_fallback.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert counted == {"size": 1, "stored": 1}


def test_keys_and_credentials_are_those_of_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "secret-a")
    monkeypatch.setenv("KEY_C", "secret-c")
    outside = {
        name: {"backend_refs": [{"base_url": f"http://{name}.example:80/v1", "api_key_env": f"KEY_{name.upper()}",
                                 "extra_headers": {f"x-of-{name}": "1"}}]}
        for name in "ac"
    }  # fmt: skip
    gateway = Gateway(document({}, "a", "b", "c", **outside))
    request, first = gateway.send(authorization="Bearer client", cookie="client")
    assert isinstance(first, Forward) and first.headers["authorization"] == "Bearer secret-a"
    request, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward)
    assert (second.headers["authorization"], second.headers["cookie"]) == ("Bearer client", "client")
    assert "x-of-a" in second.remove
    request, third = gateway.bring_back(request, second)
    assert isinstance(third, Forward)
    assert (third.headers["authorization"], third.headers["x-of-c"]) == ("Bearer secret-c", "1")
    assert "cookie" in third.remove and "cookie" not in third.headers


def test_the_order_is_that_of_scores_and_then_the_policys_models() -> None:
    refs = {"model": "a", "score": 1}, {"model": "c", "score": 2}
    chain = document({"max_attempts": 5, "models": ["b", "law"]}, *refs)
    assert list(Gateway(chain).models_tried()) == ["c", "a", "b", "law"]
    assert list(Gateway(document({"models": ["b"]}, *refs)).models_tried()) == ["c", "a", "b"]
    assert list(Gateway(document({"max_attempts": 1})).models_tried()) == ["a"]


def test_an_adapter_falls_back_on_its_base_or_another() -> None:
    refs = [{"model": "a", "lora_name": "law"}, {"model": "a"}]
    assert list(Gateway(document({}, *refs)).models_tried()) == ["law", "a"]
    # The breaker of an adapter says nothing of its base.
    gateway = Gateway(document({"circuit_breaker": {"consecutive_failures": 1}}, *refs))
    assert list(gateway.models_tried()) == ["law", "a"]
    assert sent_to(gateway.send()[1]) == "a"


def test_the_most_specific_policy_counts() -> None:
    written = document({"enabled": False})
    written["global"] = {"router": {"fallback": {}}}
    assert list(Gateway(written).models_tried()) == ["a"]
    written["routing"]["decisions"][0]["fallback"] = {"models": ["c"], "max_attempts": 3}
    assert list(Gateway(written).models_tried()) == ["a", "b", "c"]
    del written["routing"]["decisions"][0]["fallback"], written["routing"]["fallback"]
    assert list(Gateway(written).models_tried()) == ["a", "b"]


def test_a_prompt_that_is_too_long_goes_to_a_longer_context() -> None:
    gateway = Gateway(document({}, "a", "b", "c"))
    request, first = gateway.send()
    assert isinstance(first, Forward) and first.attempt.startswith("longer ")
    _, second = gateway.bring_back(request, first, "context_length ")
    assert sent_to(second) == "c"
    # That is no failure of the model's.
    assert all(sent_to(gateway.send()[1]) == "a" for _ in range(9))
    _, first = Gateway(document({}, "c", "b")).send()
    assert isinstance(first, Forward) and not first.attempt.startswith("longer ")


def test_a_model_that_fails_rests_and_is_tried_again() -> None:
    gateway = Gateway(document({"circuit_breaker": {"consecutive_failures": 2, "cooldown_period": 300}}))
    for _ in range(2):
        assert list(gateway.models_tried()) == ["a", "b"]
    _, outcome = gateway.send()
    assert isinstance(outcome, Forward) and sent_to(outcome) == "b"
    assert not outcome.attempt  # not even as the next
    gateway.later += 300
    _, probe = gateway.send()
    assert isinstance(probe, Forward) and sent_to(probe) == "a"
    assert sent_to(gateway.send()[1]) == "b"
    assert probe.observer is not None
    probe.observer.on_headers(200, {})
    assert sent_to(gateway.send()[1]) == "a"


def test_the_failure_of_the_last_candidate_counts_too() -> None:
    gateway = Gateway(document({"circuit_breaker": {"consecutive_failures": 1}, "max_attempts": 1}))
    _, outcome = gateway.send()
    assert isinstance(outcome, Forward) and outcome.observer is not None
    outcome.observer.on_headers(400, {})
    assert sent_to(gateway.send()[1]) == "a"
    outcome.observer.on_headers(500, {})
    assert sent_to(gateway.send()[1]) == "b"


def test_who_asked_to_be_left_alone_is_not_asked_before() -> None:
    gateway = Gateway(document({}))
    request, first = gateway.send()
    _, second = gateway.bring_back(request, first, "429 120")
    assert sent_to(second) == sent_to(gateway.send()[1]) == "b"
    assert isinstance(second, Forward) and second.observer is not None
    second.observer.on_headers(429, {"retry-after": "60"})
    _, refused = gateway.send()
    assert isinstance(refused, Reply) and refused.status == 429
    assert refused.headers["retry-after"] == "60"


def test_where_all_fail_the_one_is_asked_that_has_rested_the_longest() -> None:
    gateway = Gateway(document({"circuit_breaker": {"consecutive_failures": 1, "cooldown_period": 60}}))
    request, first = gateway.send()
    _, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward) and second.observer is not None
    second.observer.on_headers(503, {})
    assert sent_to(gateway.send()[1]) == "a"


def test_a_candidate_that_began_to_rest_meanwhile_is_not_asked(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway(document({"circuit_breaker": {"consecutive_failures": 1}}))
    request, first = gateway.send()
    _, other = gateway.bring_back(request, first)
    assert isinstance(other, Forward) and other.observer is not None
    other.observer.on_headers(503, {})
    _, refused = gateway.bring_back(request, first, "429 3")
    assert isinstance(refused, Reply) and refused.status == 429
    assert json.loads(refused.body)["error"]["code"] == "no_candidate"
    # The shorter of the two rests.
    assert refused.headers["retry-after"] == "3"
    (line,) = [record.fields for record in caplog.records if record.getMessage() == "no candidate is left"]  # type: ignore[attr-defined]
    assert line["failed"] == [{"model": "a", "reason": "429"}]


def limited(*rules: dict[str, Any]) -> dict[str, Any]:
    written = document({}, "a", "b")
    providers = [{"type": "local-limiter", "rules": [{"unit": "month", "per": [], **rule} for rule in rules]}]
    return written | {"global": {"services": {"ratelimit": {"providers": providers}}}}


def test_a_request_that_was_let_through_is_one_request_and_not_refused_later() -> None:
    gateway = Gateway(limited({"name": "r", "requests_per_unit": 2}, {"name": "t", "tokens_per_unit": 40}))
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 30}
    request, first = gateway.send(body)
    assert isinstance(first, Forward) and first.observer is not None
    assert first.response_headers["x-ratelimit-remaining-requests"] == "1"
    # Its tokens are still reserved when it comes back.
    _, second = gateway.bring_back(request, first)
    assert sent_to(second) == "b"
    assert isinstance(second, Forward) and second.response_headers["x-ratelimit-remaining-requests"] == "1"
    first.observer.on_end()
    assert isinstance(gateway.send(body)[1], Reply)


def test_what_a_backend_has_stored_is_not_moved_to_a_cheaper_model() -> None:
    written = limited({"name": "r", "requests_per_unit": 0, "on_exceeded": "cheaper"})
    written["providers"]["models"][0]["pricing"] = {"prompt_per_1m": 1}
    gateway = Gateway(written)
    assert sent_to(gateway.send({"model": "auto", "input": "hi"}, names.RESPONSES_PATH)[1]) == "b"
    body = {"model": "auto", "input": "hi", "previous_response_id": "resp_1"}
    _, outcome = gateway.send(body, names.RESPONSES_PATH)
    assert sent_to(outcome) == "a"
    assert isinstance(outcome, Forward) and outcome.response_headers[names.LIMITS] == "r=reported"


def test_limits_of_the_next_candidate_hold_for_it() -> None:
    rule = {"name": "r", "per": ["model"], "match": {"model": "b"}, "requests_per_unit": 1}
    gateway = Gateway(limited(rule))
    request, first = gateway.send()
    assert sent_to(gateway.bring_back(request, first)[1]) == "b"
    _, refused = gateway.bring_back(request, first)
    assert isinstance(refused, Reply) and refused.status == 429
    assert json.loads(refused.body)["error"]["code"] == "rate_limit_exceeded"


def milliseconds(outcome: Outcome) -> int:
    assert isinstance(outcome, Forward)
    return int(outcome.headers[names.TRY_TIMEOUT])


def test_attempts_share_the_time() -> None:
    two = {
        "backend_refs": [{"endpoint": "127.0.0.1:8"}, {"endpoint": "127.0.0.1:9"}],
        "reliability": {"retry_count": 2},
    }
    gateway = Gateway(document({"total_timeout": 60}, "a", "b", b=two))
    request, first = gateway.send()
    assert milliseconds(first) == 30_000
    assert isinstance(first, Forward) and names.MOST_RETRIES not in first.headers
    _, second = gateway.bring_back(request, first)
    # Its two endpoints, one after the other.
    assert 29_000 < milliseconds(second) <= 30_000
    assert isinstance(second, Forward) and second.headers[names.MOST_RETRIES] == "1"
    gateway = Gateway(document({"total_timeout": 60, "per_attempt_timeout": 50}))
    request, first = gateway.send()
    assert milliseconds(first) == 50_000
    gateway = Gateway(document({"total_timeout": 0.05}))
    request, first = gateway.send()
    asyncio.run(asyncio.sleep(0.06))
    _, late = gateway.bring_back(request, first, "")
    assert isinstance(late, Reply) and late.status == 504


def test_what_failed_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "triton_router.journal")
    gateway = Gateway(document({"per_attempt_timeout": 0.01}, "a", "b", "c"))

    async def chain() -> Outcome:
        request, outcome = gateway.request(), None
        for failure in ("", "502 ", None):
            outcome = await gateway.pipeline.route(request)
            if failure is not None:
                await asyncio.sleep(0.02)
                request = gateway.brought_back(request, outcome, failure)
        await asyncio.sleep(0.01)
        assert outcome is not None
        return outcome

    third = asyncio.run(chain())
    assert isinstance(third, Forward) and third.response_headers[names.FALLBACK] == "a->b->c"
    failed = [{"model": "a", "reason": "timeout"}, {"model": "b", "reason": "502"}]
    assert [line.fields.get("failed") for line in caplog.records] == [None, failed[:1], failed]  # type: ignore[attr-defined]
    live = gateway.pipeline.journal._live.since(0)["requests"]
    assert [(each["model"], each["failed"]) for each in live] == [("a", []), ("b", failed[:1]), ("c", failed)]
    counted = {
        (sample.labels["model"], sample.labels["reason"], sample.labels["next"])
        for metric in gateway.metrics.fallbacks.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert counted == {("a", "timeout", "b"), ("b", "502", "c")}


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        ({"models": ["d"]}, "no model or adapter named `d`"),
        ({"retryable_status_codes": [200]}, "200 is no failure"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"circuit_breaker": {"failures": 3}}, "circuit_breaker.failures"),
        ({"on": True}, "fallback.on"),
    ],
)
def test_mistakes_are_named(fallback: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads(yaml.safe_dump(document(fallback)))
    assert message in str(raised.value)


def test_a_policy_without_a_second_candidate_is_a_warning() -> None:
    loaded = loads(yaml.safe_dump(document({}, "a")))
    assert any("second candidate" in problem.message for problem in loaded.warnings)
    assert not any("second candidate" in problem.message for problem in loads(yaml.safe_dump(document({}))).warnings)


def test_keys_of_vllm_semantic_router_act() -> None:
    policy = {
        "version": 1, "enabled": True, "max_attempts": 2, "total_timeout": "30s", "per_attempt_timeout": "10s",
        "retryable_status_codes": [429, 503],
        "circuit_breaker": {"consecutive_failures": 3, "cooldown_period": "15s", "half_open_probes": 2},
    }  # fmt: skip
    assert not [each for each in loads(yaml.safe_dump(document(policy))).warnings if "fallback" in str(each)]
    _, first = Gateway(document(policy)).send()
    assert milliseconds(first) == 10_000
    assert isinstance(first, Forward) and first.observer is not None


def test_envoy_is_told_of_statuses_that_not_every_policy_names() -> None:
    written = document({"retryable_status_codes": [429, 503]})
    _, alone = Gateway(written).send()
    assert isinstance(alone, Forward) and names.RETRIED_STATUSES not in alone.headers
    written["routing"]["decisions"][0]["fallback"] = {"retryable_status_codes": [429, 500, 599]}
    _, both = Gateway(written).send()
    assert isinstance(both, Forward) and both.headers[names.RETRIED_STATUSES] == "500,599"


def test_audit_and_replay_say_what_failed_and_quote_a_request_once(tmp_path: Path) -> None:
    written, audit = document({}), tmp_path / "audit.jsonl"
    observability = {"audit": {"enabled": True, "path": str(audit), "include_prompt": True}}
    replay = {"enabled": True, "include_prompt": True, "include_request": True}
    written["global"] = {"services": {"observability": observability, "router_replay": replay}}
    gateway = Gateway(written)
    request, first = gateway.send()
    _, second = gateway.bring_back(request, first)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["path"], line["model"], line.get("failed")) for line in lines] == [
        ("routed", "a", None),
        ("fallback", "b", [{"model": "a", "reason": "503"}]),
    ]
    assert [line.get("prompt") for line in lines] == ["hello", None]
    log = gateway.pipeline.journal.replay
    assert log is not None and isinstance(second, Forward)
    record = log.find(second.response_headers[names.REPLAY_ID])
    assert record is not None and record["failed"] == [{"model": "a", "reason": "503"}]
    assert [each["model"] for each in log.quoted(9)] == ["a"]


async def test_the_answer_of_a_later_candidate_is_kept_for_nobody() -> None:
    written = document({}, "a", "b")
    written["routing"]["decisions"][0]["plugins"] = [{"type": "semantic-cache", "configuration": {"mode": "exact"}}]
    loaded, metrics = loads(yaml.safe_dump(written)), Metrics()
    settings = loaded.config.global_
    stores = settings.stores.semantic_cache
    cache = SemanticCache(MemoryStore(10), stores, settings.services.authz.identity, "sum", metrics)
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), metrics, cache=cache)
    answer = json.dumps({"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}).encode()

    async def hear(outcome: Outcome, status: int) -> None:
        assert isinstance(outcome, Forward) and outcome.observer is not None
        outcome.observer.on_sent()
        if status and outcome.observer.on_headers(status, {"content-type": "application/json"}):
            outcome.observer.on_body(answer, last=True)
            outcome.observer.on_complete()
        outcome.observer.on_end()
        await asyncio.sleep(0.01)

    request = Gateway.request(authorization="Bearer ada")
    first = await pipeline.route(request)
    await hear(first, 0)
    second = await pipeline.route(Gateway.brought_back(request, first))
    await hear(second, 200)
    assert sent_to(second) == "b"
    again = await pipeline.route(request)
    assert isinstance(again, Forward) and again.response_headers[names.CACHE_HIT] == "miss"
    await hear(again, 200)
    assert isinstance(await pipeline.route(request), Reply)
