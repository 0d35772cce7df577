"""Requests, tokens and money within limits: by whom, for how long, and what happens beyond."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from limited import START, Clock, Limited, answered, chat, document

from triton_router.config import ConfigError, loads
from triton_router.exchange import Forward, Reply
from triton_router.limits import SharedCounters
from triton_router.limits.counters import Ask
from triton_router.limits.limits import window


async def test_the_request_beyond_is_refused_until_the_unit_is_over() -> None:
    router = Limited(document({"name": "r", "requests_per_unit": 2}))
    router.clock.now += 20
    assert await router.statuses(3) == [200, 200, 429]
    outcome = await router.ask()
    assert isinstance(outcome, Reply)
    error = json.loads(outcome.body)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert outcome.headers["retry-after"] == "40"
    assert router.counted("r", "refused") == 2
    router.clock.now += 40
    assert await router.statuses(1) == [200]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/messages", "rate_limit_error"), ("/v1/responses", "rate_limit_error")],
)
async def test_each_api_is_refused_in_its_own_shape(path: str, kind: str) -> None:
    router = Limited(document({"name": "r", "requests_per_unit": 0}))
    request = chat(path=path, **({"input": "hello"} if path == "/v1/responses" else {}))
    outcome = await router.ask(request)
    assert isinstance(outcome, Reply) and outcome.status == 429
    body = json.loads(outcome.body)
    assert body["error"]["type"] == kind
    assert ("type" in body) == (path == "/v1/messages")


async def test_responses_say_what_remains_in_the_headers_of_the_api() -> None:
    day = {"name": "day", "unit": "day", "requests_per_unit": 10, "tokens_per_unit": "1K"}
    router = Limited(document({"name": "minute", "requests_per_unit": 50}, day))
    router.clock.now += 3 * 3600 + 90.5
    outcome = await router.ask(chat("hello", max_tokens=100))
    assert isinstance(outcome, Forward)
    shown = {name: value for name, value in outcome.response_headers.items() if "ratelimit" in name}
    assert shown == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "20h58m30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "895",
        "x-ratelimit-reset-tokens": "20h58m30s",
    }
    outcome = await router.ask(chat("hello", max_tokens=100, path="/v1/messages"))
    assert isinstance(outcome, Forward)
    shown = {name: value for name, value in outcome.response_headers.items() if "ratelimit" in name}
    assert shown == {
        "anthropic-ratelimit-requests-limit": "10",
        "anthropic-ratelimit-requests-remaining": "8",
        "anthropic-ratelimit-requests-reset": "2033-01-02T00:00:00Z",
        "anthropic-ratelimit-tokens-limit": "1000",
        "anthropic-ratelimit-tokens-remaining": "790",
        "anthropic-ratelimit-tokens-reset": "2033-01-02T00:00:00Z",
    }


async def test_a_refusal_says_what_remains_and_takes_nothing_of_it() -> None:
    router = Limited(document({"name": "t", "tokens_per_unit": 100}))
    for _ in range(2):
        outcome = await router.ask(chat(max_tokens=200))
        assert isinstance(outcome, Reply) and outcome.status == 429
        assert outcome.headers["x-ratelimit-remaining-tokens"] == "100"
        assert (outcome.headers["x-ratelimit-reset-tokens"], outcome.headers["retry-after"]) == ("1m0s", "60")


@pytest.mark.parametrize("action", ["cheaper", "report"])
async def test_limits_that_refuse_nothing_and_money_have_no_headers(action: str) -> None:
    rules = {"name": "r", "requests_per_unit": 5, "on_exceeded": action}, {"name": "m", "cost_per_unit": 5}
    outcome = await Limited(document(*rules)).ask()
    assert isinstance(outcome, Forward)
    assert not [name for name in outcome.response_headers if "ratelimit" in name]


async def test_users_have_a_count_each_tenants_and_models_where_the_rule_says_so() -> None:
    router = Limited(document({"name": "r", "requests_per_unit": 1}))
    assert await router.statuses(2, user="ada") == [200, 429]
    assert await router.statuses(2, user="bob") == [200, 429]
    router = Limited(document({"name": "r", "per": ["tenant", "model"], "requests_per_unit": 1}))
    assert await router.statuses(1, user="ada") + await router.statuses(1, user="bob") == [200, 429]
    assert await router.statuses(1, tenant="other") == [200]
    assert await router.statuses(2, model="big") == [200, 429]
    router = Limited(document({"name": "r", "per": [], "requests_per_unit": 1}))
    assert await router.statuses(1, user="ada") + await router.statuses(1, user="bob") == [200, 429]


async def test_without_a_trusted_user_the_credential_tells_callers_apart() -> None:
    text = document({"name": "r", "requests_per_unit": 1})
    del text["global"]["services"]["authz"]
    router = Limited(text)
    assert await router.statuses(2, user="said", headers={"authorization": "Bearer a"}) == [200, 429]
    assert await router.statuses(2, user="said", headers={"authorization": "Bearer b"}) == [200, 429]
    assert await router.statuses(2, user="other") == [200, 429]


async def test_a_rule_for_users_whom_nobody_vouches_for_holds_for_every_caller() -> None:
    text = document({"name": "r", "match": {"user": "bob", "group": "staff"}, "requests_per_unit": 1})
    del text["global"]["services"]["authz"]
    router = Limited(text)
    assert await router.statuses(2, user="ada", headers={"authorization": "Bearer a"}) == [200, 429]
    assert await router.statuses(2, user="bob", headers={"authorization": "Bearer b"}) == [200, 429]
    warnings = [warning.path.rpartition(".")[2] for warning in loads(yaml.safe_dump(text)).warnings
                if "no trusted source" in warning.message]  # fmt: skip
    assert warnings == ["group", "user"]


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ({"user": "a*"}, True),
        ({"user": "bob"}, False),
        ({"group": "staff"}, True),
        ({"group": "guests"}, False),
        ({"tenant": "acme"}, True),
        ({"decision": "hard"}, True),
        ({"decision": "easy"}, False),
        ({"model": "big"}, True),
        ({"model": "big", "user": "bob"}, False),
    ],
)
async def test_a_rule_covers_what_it_matches(match: dict[str, str], covered: bool) -> None:
    router = Limited(document({"name": "r", "match": match, "requests_per_unit": 0}))
    headers = {"x-authz-user-groups": "staff,lab"}
    assert await router.statuses(1, text="prove it", headers=headers) == [429 if covered else 200]


async def test_a_model_that_a_client_names_is_limited_too() -> None:
    router = Limited(document({"name": "r", "match": {"model": "big"}, "requests_per_unit": 1}))
    assert await router.statuses(2, model="big") == [200, 429]
    assert await router.statuses(2, model="small") == [200, 200]


async def test_tokens_are_reserved_and_settled_by_the_answer() -> None:
    router = Limited(document({"name": "t", "tokens_per_unit": 100}))
    first = await router.ask(chat(max_tokens=80))
    assert await router.statuses(1, max_tokens=80) == [429], "what the first may still take is reserved"
    answered(first, prompt=6, completion=4)
    second = await router.ask(chat(max_tokens=80))
    answered(second, prompt=10, completion=79)
    assert await router.statuses(1, max_tokens=5) == [429]
    router.clock.now += 60
    assert await router.statuses(1, max_tokens=5) == [200]


async def test_a_failed_answer_takes_no_tokens_and_an_unread_one_what_was_reserved() -> None:
    router = Limited(document({"name": "t", "tokens_per_unit": 100}))
    answered(await router.ask(chat(max_tokens=80)), 0, 0, status=500)
    outcome = await router.ask(chat(max_tokens=80))
    assert isinstance(outcome, Forward) and outcome.observer is not None
    outcome.observer.on_sent()
    outcome.observer.on_headers(200, {"content-type": "text/plain"})
    outcome.observer.on_end()
    assert await router.statuses(1, max_tokens=80) == [429]


async def test_a_request_without_a_limit_of_its_own_reserves_what_is_expected() -> None:
    router = Limited(document({"name": "t", "tokens_per_unit": 100, "expected_output_tokens": 30}))
    assert await router.statuses(3, max_tokens=None) == [200, 200, 429]


async def test_streams_are_counted_without_their_client_noticing() -> None:
    router = Limited(document({"name": "t", "tokens_per_unit": 1000}))
    outcome = await router.ask(chat(stream=True))
    assert isinstance(outcome, Forward) and outcome.body is not None and outcome.observer is not None
    assert json.loads(outcome.body)["stream_options"] == {"include_usage": True}
    assert outcome.observer.on_headers(200, {"content-type": "text/event-stream"})
    assert outcome.observer.shortens


async def test_money_is_counted_by_the_models_prices() -> None:
    router = Limited(document({"name": "m", "cost_per_unit": 0.0003, "unit": "day"}))
    for _ in range(2):
        answered(await router.ask(chat("prove it")), prompt=4, completion=6)
    assert await router.statuses(1, text="prove it") == [429], "two answers left less than this one may take"
    assert await router.statuses(1, text="prove it", user="bob") == [200]


async def test_beyond_it_the_cheapest_candidate_answers() -> None:
    router = Limited(document({"name": "m", "requests_per_unit": 1, "on_exceeded": "cheaper"}))
    assert await router.model(chat("prove it")) == "big"
    outcome = await router.ask(chat("prove it"))
    assert isinstance(outcome, Forward) and outcome.body is not None
    assert (outcome.headers["x-selected-model"], json.loads(outcome.body)["model"]) == ("small", "small")
    assert outcome.response_headers["x-vsr-limits"] == "m=cheaper"
    assert outcome.response_headers["x-vsr-selected-model"] == "small"
    only = await router.ask(chat("hello"))
    assert isinstance(only, Forward) and only.response_headers["x-vsr-limits"] == "m=reported"
    assert (router.counted("m", "cheaper"), router.counted("m", "reported")) == (1, 1)


async def test_a_hard_limit_counts_the_model_that_answers() -> None:
    soft = {"name": "soft", "requests_per_unit": 1, "on_exceeded": "cheaper"}
    hard = {"name": "hard", "match": {"model": "big"}, "requests_per_unit": 5}
    router = Limited(document(soft, hard))
    assert await router.statuses(20, text="prove it") == [200] * 20


async def test_or_it_is_only_said() -> None:
    router = Limited(document({"name": "r", "requests_per_unit": 1, "on_exceeded": "report"}))
    outcomes = [await router.ask() for _ in range(3)]
    notes = [each.response_headers.get("x-vsr-limits") for each in outcomes if isinstance(each, Forward)]
    assert notes == [None, "r=reported", "r=reported"]


async def test_what_no_model_answers_counts_nothing() -> None:
    text = document({"name": "r", "requests_per_unit": 1})
    text["routing"]["decisions"][0]["plugins"] = [{"type": "fast_response", "configuration": {"message": "No."}}]
    router = Limited(text)
    assert await router.statuses(5, text="prove it") == [200] * 5
    assert await router.statuses(2) == [200, 429]


async def test_all_rules_must_hold_and_one_that_refuses_takes_nothing() -> None:
    hour = {"name": "hour", "unit": "hour", "requests_per_unit": 3}
    router = Limited(document({"name": "minute", "requests_per_unit": 2}, hour))
    assert await router.statuses(4) == [200, 200, 429, 429]
    router.clock.now += 60
    assert await router.statuses(2) == [200, 429]


@pytest.mark.parametrize(
    ("unit", "began", "ends"),
    [
        ("second", "2033-02-28T13:45:59", "2033-02-28T13:46:00"),
        ("minute", "2033-02-28T13:45:00", "2033-02-28T13:46:00"),
        ("hour", "2033-02-28T13:00:00", "2033-02-28T14:00:00"),
        ("day", "2033-02-28T00:00:00", "2033-03-01T00:00:00"),
        ("month", "2033-02-01T00:00:00", "2033-03-01T00:00:00"),
    ],
)
def test_units_are_those_of_the_calendar(unit: Any, began: str, ends: str) -> None:
    now = datetime(2033, 2, 28, 13, 45, 59, 500_000, tzinfo=UTC).timestamp()
    moments = [datetime.fromtimestamp(each, UTC).isoformat()[:19] for each in window(unit, now)]
    assert moments == [began, ends]
    december = datetime(2033, 12, 31, tzinfo=UTC).timestamp()
    assert datetime.fromtimestamp(window("month", december)[1], UTC).isoformat()[:10] == "2034-01-01"


# --- counts in memory ----------------------------------------------------------------------------------------------


async def test_workers_of_a_host_count_together(tmp_path: Path) -> None:
    file = tmp_path / "counts"
    file.touch()
    clock = Clock()
    text = document({"name": "r", "requests_per_unit": 10})
    workers = [Limited(text, clock, SharedCounters(str(file), seat, 3, 64, clock)) for seat in range(3)]
    statuses = [status for _ in range(5) for each in workers for status in await each.statuses(1)]
    assert statuses.count(200) == 10
    SharedCounters(str(file), 1, 3, 64, clock)
    assert await workers[0].statuses(1) == [429], "the successor of a worker leaves its counts"


async def test_memory_for_counts_is_bounded_and_what_ends_first_goes() -> None:
    clock = Clock()
    counters = SharedCounters(slots=16, clock=clock)
    long = [Ask(f"long {number}", 1, 10, START + 3600, hard=True) for number in range(8)]
    for ask in long:
        await counters.reserve([ask])
    for number in range(1000):
        clock.now = START + number / 1000
        await counters.reserve([Ask(f"short {number}", 1, 10, START + 60, hard=True)])
    assert [counters.count(ask.key) for ask in long] == [1] * 8


# --- configuration -------------------------------------------------------------------------------------------------


def failures(text: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        loads(yaml.safe_dump(text))
    return [str(each) for each in error.value.problems if each.severity == "error"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"name": "r"}, "give one of `requests_per_unit`"),
        ({"name": "r", "requests_per_unit": 1, "match": {"model": "bigg"}}, "did you mean `big`"),
        ({"name": "r", "requests_per_unit": 1, "match": {"decision": "hrd"}}, "did you mean `hard`"),
        ({"name": "r", "requests_per_unit": 1, "unit": "week"}, "not one of second"),
        ({"name": "r", "requests_per_unit": -1}, "greater than or equal to 0"),
    ],
)
def test_a_rule_that_cannot_act_is_an_error(rule: dict[str, Any], words: str) -> None:
    assert any(words in each for each in failures(document(rule)))


def test_two_rules_of_one_name() -> None:
    text = document({"name": "b", "requests_per_unit": 1}, {"name": "b", "requests_per_unit": 2})
    assert any("`b` is declared twice" in each for each in failures(text))


def test_money_needs_prices_in_one_currency() -> None:
    text = document({"name": "m", "cost_per_unit": 1})
    text["providers"]["models"][0]["pricing"]["currency"] = "EUR"
    assert any("EUR and USD" in each for each in failures(text))
    for model in text["providers"]["models"]:
        del model["pricing"]
    assert any("no model has `pricing`" in each for each in failures(text))


async def test_a_file_of_vllm_semantic_router_acts() -> None:
    rules = [
        {"name": "free", "match": {"user": "*", "model": "small"}, "requests_per_unit": 2, "unit": "minute"},
        {"name": "staff", "match": {"group": "staff"}, "tokens_per_unit": 100_000, "unit": "hour"},
    ]
    router = Limited(document(*rules, fail_open=False))
    assert await router.statuses(3) == [200, 200, 429]
