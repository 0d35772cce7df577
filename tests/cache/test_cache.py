"""Who gets whose answer, and what is worth keeping."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from readers import Reader

from triton_router.cache.cache import Question, SemanticCache
from triton_router.cache.entry import Entry, Reason
from triton_router.cache.judge import PairJudge
from triton_router.cache.lookup import Memo
from triton_router.cache.memory import MemoryStore
from triton_router.cache.scope import scope_of
from triton_router.config.plugins import SemanticCacheSettings
from triton_router.config.schema import Decision
from triton_router.config.services import CacheSettings, Identity
from triton_router.dialects import ChatRequest, CompletionsRequest, MessagesRequest, ModelRequest, ResponsesRequest
from triton_router.dialects.chat import ChatAnswer
from triton_router.errors import Unavailable
from triton_router.parts import PartReader
from triton_router.telemetry import Metrics

EAST, NORTH = np.eye(2, dtype=np.float32)
NEAR = np.array([0.99, np.sqrt(1 - 0.99**2)], np.float32)
ADA, BOB = {"authorization": "Bearer ada"}, {"authorization": "Bearer bob"}
DECISION = Decision(name="d")
QUESTION, ALIKE = "What is the capital of France?", "what's the capital of france"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader() -> Reader:
    return Reader({(QUESTION, ALIKE)})


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(clock: Clock, reader: Reader, metrics: Metrics) -> SemanticCache:
    store, judge = MemoryStore(100, clock=clock), PairJudge([reader])
    return SemanticCache(store, CacheSettings(), Identity(), "sum", metrics, b"key", clock, judge)


def query(
    cache: SemanticCache,
    prompt: Any = QUESTION,
    headers: dict[str, str] | None = None,
    embedding: Any = EAST,
    settings: SemanticCacheSettings | None = None,
    before: list[Any] | None = None,
    read: bool = False,
    **members: Any,
) -> Question | None:
    """``read``: with the parts of the request told apart."""
    messages = [*(before or []), {"role": "user", "content": prompt}]
    body = json.dumps({"model": "m", "messages": messages, **members}).encode()
    request = ChatRequest.parse(body)
    return cache.question(
        settings or SemanticCacheSettings(),
        DECISION,
        request,
        body,
        ADA if headers is None else headers,
        embedding,
        parts=PartReader().read(request) if read else None,
    )


def answer(text: str = "Paris.", **changes: Any) -> ChatAnswer:
    made = ChatAnswer(False, text, "stop", complete=True)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


async def fill(cache: SemanticCache, question: Question | None) -> None:
    assert question is not None
    await cache.keep(question, answer())


async def hit(cache: SemanticCache, question: Question | None) -> str | None:
    assert question is not None
    entry = await cache.find(question)
    return entry.kind if entry else None


async def test_the_same_question_is_an_exact_hit(cache: SemanticCache, clock: Clock) -> None:
    await fill(cache, query(cache))
    clock.now += 7
    entry = await cache.find(query(cache))  # type: ignore[arg-type]
    assert entry is not None and (entry.kind, entry.text, entry.similarity, entry.age) == ("exact", "Paris.", 1.0, 7.0)


async def test_an_alike_question_is_a_semantic_hit_and_a_far_one_is_none(cache: SemanticCache) -> None:
    await fill(cache, query(cache))
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR)) == "semantic"
    assert await hit(cache, query(cache, ALIKE, embedding=NORTH)) is None
    strict = SemanticCacheSettings(similarity_threshold=0.995)
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR, settings=strict)) is None
    exact = SemanticCacheSettings(mode="exact")
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR, settings=exact)) is None


async def test_a_reader_that_is_down_leaves_equal_questions(
    cache: SemanticCache, reader: Reader, metrics: Metrics
) -> None:
    await fill(cache, query(cache))
    reader.down = True
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR)) is None
    assert await hit(cache, query(cache, "what is the capital of France", embedding=NEAR)) == "semantic"
    assert await hit(cache, query(cache)) == "exact"
    reader.down = False
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR)) == "semantic"
    counted = {
        result: metrics.registry.get_sample_value("router_cache_lookups_total", {"decision": "d", "result": result})
        for result in ("unjudged", "semantic", "exact")
    }
    assert counted == {"unjudged": 1, "semantic": 2, "exact": 1}


async def test_without_a_near_question_nobody_is_asked(cache: SemanticCache, reader: Reader) -> None:
    await fill(cache, query(cache))
    assert await hit(cache, query(cache, ALIKE, embedding=NORTH)) is None
    assert reader.calls == []


@pytest.mark.parametrize(
    "other",
    [
        "What is not the capital of France?",
        "What is the capital of Spain?",
        "What was the capital of France in 1790?",
    ],
)
async def test_words_that_matter_outweigh_a_near_embedding(cache: SemanticCache, other: str) -> None:
    await fill(cache, query(cache))
    assert await hit(cache, query(cache, other, embedding=EAST)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": BOB},
        {"headers": {}},
        {"temperature": 0.7},
        {"max_tokens": 5},
        {"tools": [{"type": "function", "function": {"name": "x"}}]},
        {"response_format": {"type": "json_object"}},
        {"model": "another"},
        {"before": [{"role": "system", "content": "Answer in French."}]},
        {"before": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {
            "prompt": [
                {"type": "text", "text": "What is the capital of France?"},
                {"type": "image_url", "image_url": {}},
            ]
        },
    ],
)
async def test_whatever_shapes_an_answer_sets_it_apart(cache: SemanticCache, changes: dict[str, Any]) -> None:
    await fill(cache, query(cache))
    assert await hit(cache, query(cache, **changes)) is None


@pytest.mark.parametrize("member", [{"stream": True}, {"user": "x"}, {"metadata": {"a": "b"}}, {"stream_options": {}}])
async def test_how_it_is_delivered_does_not(cache: SemanticCache, member: dict[str, Any]) -> None:
    await fill(cache, query(cache))
    assert await hit(cache, query(cache, **member)) == "exact"


@pytest.mark.parametrize(
    "changes",
    [
        {"complete": False},
        {"finish_reason": "length"},
        {"finish_reason": "tool_calls"},
        {"finish_reason": None},
        {"tool_calls": True},
        {"text": ""},
    ],
)
async def test_only_whole_answers_are_kept(cache: SemanticCache, changes: dict[str, Any]) -> None:
    question = query(cache)
    assert question is not None
    await cache.keep(question, answer(**changes))
    assert await cache.store.size() == 0


async def test_clients_can_ask_for_a_fresh_answer_or_leave_no_trace(cache: SemanticCache) -> None:
    await fill(cache, query(cache))
    for header in ("cache-control", "x-vsr-cache-control"):
        fresh = query(cache, headers={**ADA, header: "max-age=0, No-Cache"})
        assert await hit(cache, fresh) is None and fresh is not None and fresh.may_store
        silent = query(cache, "Something else?", headers={**ADA, header: "no-store"})
        await fill(cache, silent)
        assert await cache.store.size() == 1


async def test_an_answer_lives_as_long_as_it_was_given(cache: SemanticCache, clock: Clock) -> None:
    await fill(cache, query(cache, settings=SemanticCacheSettings(ttl_seconds=60)))
    clock.now += 59.9
    assert await hit(cache, query(cache)) == "exact"
    clock.now += 0.1
    assert await hit(cache, query(cache)) is None
    assert await hit(cache, query(cache, embedding=NEAR)) is None


@pytest.mark.parametrize(
    ("before", "members"),
    [([{"role": "user", "content": "x"}, {"role": "assistant", "content": None}], {"n": 2})],
)
async def test_several_choices_have_no_place_in_it(
    cache: SemanticCache, before: list[Any], members: dict[str, Any]
) -> None:
    assert query(cache, before=before, **members) is None
    assert query(cache, "   ") is None


async def test_a_number_that_cannot_be_read_is_sent_on_without_it(cache: SemanticCache) -> None:
    body = b'{"seed": ' + b"1" * 5000 + b', "messages": [{"role": "user", "content": "hi"}]}'
    assert cache.question(SemanticCacheSettings(), DECISION, ChatRequest.parse(body), body, ADA, None) is None


async def test_texts_that_are_no_unicode_are_told_apart(cache: SemanticCache) -> None:
    whole, half = query(cache, "Is it so?"), query(cache, "Is it so\ud800")
    assert whole is not None and half is not None
    await cache.keep(whole, answer("Yes."))
    await cache.keep(half, answer("What?"))
    # A repeat is looked up by its key alone.
    entry = await cache.recall(whole.exact)
    assert entry is not None and entry.text == "Yes."


# --- purging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["key", "decision", "all"])
async def test_an_answer_on_its_way_does_not_come_in_behind_a_purge(cache: SemanticCache, what: str) -> None:
    question, other = query(cache), query(cache, "Who wrote Faust?")
    assert question is not None and other is not None
    for each in (question, other):
        cache.begin(each)
    await cache.purge(question.exact if what == "key" else None, "d" if what == "decision" else None)
    await fill(cache, question)
    await fill(cache, other)
    assert await cache.store.size() == (1 if what == "key" else 0)
    # Whoever asks after the purge is answered anew, and that is kept.
    again = query(cache)
    assert again is not None
    cache.begin(again)
    await fill(cache, again)
    assert await hit(cache, query(cache)) == "exact"


class Slow(MemoryStore):
    """A store that takes an entry only once it may."""

    def __init__(self) -> None:
        super().__init__(10)
        self.may = asyncio.Event()

    async def put(self, entry: Entry) -> None:
        await self.may.wait()
        await super().put(entry)


async def test_nor_does_one_that_is_being_stored() -> None:
    store = Slow()
    cache = SemanticCache(store, CacheSettings(), Identity(), "sum", Metrics(), b"key")
    question = query(cache)
    assert question is not None
    cache.begin(question)
    keeping = asyncio.create_task(cache.keep(question, answer()))
    await asyncio.sleep(0)
    assert await cache.purge(None, None) == 0
    store.may.set()
    await keeping
    assert await store.size() == 0


async def test_what_was_purged_is_counted_no_more(clock: Clock) -> None:
    metrics = Metrics()
    cache = SemanticCache(MemoryStore(10), CacheSettings(), Identity(), "sum", metrics, b"key")
    await fill(cache, query(cache))
    assert metrics.registry.get_sample_value("router_cache_entries") == 1
    await cache.purge(None, None)
    assert metrics.registry.get_sample_value("router_cache_entries") == 0


class Odd(MemoryStore):
    """A store that holds what is no answer, and breaks on what it is given."""

    async def get(self, key: str) -> Entry | None:
        return Entry(key, "p", "d", "What is the capital of France?", None, b'{"version": 2}', 0, 1)

    async def put(self, entry: Entry) -> None:
        raise TypeError("no")


async def test_whatever_a_store_does_is_a_miss() -> None:
    cache = SemanticCache(Odd(1), CacheSettings(coalesce_ms=10), Identity(), "sum", Metrics(), b"key")
    question = query(cache)
    assert question is not None
    assert await cache.find(question) is None
    assert await cache.recall(question.exact) is None
    cache.begin(question)
    await cache.keep(question, answer())


# --- dialects ------------------------------------------------------------------------------------------------------


def asked_in(dialect: type[ModelRequest], cache: SemanticCache, **members: Any) -> Question | None:
    body = json.dumps({"model": "m", **members}).encode()
    return cache.question(SemanticCacheSettings(), DECISION, dialect.parse(body), body, ADA, EAST)


TURNS = [{"role": "user", "content": "What is the capital of France?"}]
BLOCK = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "42"}


async def test_one_body_means_another_thing_in_another_dialect(cache: SemanticCache) -> None:
    await fill(cache, asked_in(ChatRequest, cache, messages=TURNS))
    assert await hit(cache, asked_in(ChatRequest, cache, messages=TURNS)) == "exact"
    for other in (
        asked_in(MessagesRequest, cache, messages=TURNS),
        asked_in(ResponsesRequest, cache, input=TURNS),
        asked_in(CompletionsRequest, cache, prompt="What is the capital of France?"),
    ):
        assert await hit(cache, other) is None
    memo, body = Memo[str](cache, 10), json.dumps({"messages": TURNS}).encode()
    keys = {memo.key(dialect.parse(body), body, ADA) for dialect in (ChatRequest, MessagesRequest)}
    assert len(keys) == 2 and None not in keys


@pytest.mark.parametrize(
    ("dialect", "first", "alike", "other"),
    [
        (ResponsesRequest, {"input": TURNS}, {"input": BLOCK, "metadata": {"a": "b"}},
         {"input": TURNS, "instructions": "S"}),
        (ResponsesRequest, {"input": "hi"}, {"input": "hi", "store": False}, {"input": "hi", "reasoning": {}}),
        (ResponsesRequest, {"input": TURNS}, {"input": TURNS, "stream": True},
         {"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, *TURNS]}),
        (MessagesRequest, {"messages": TURNS}, {"messages": BLOCK, "stream": True}, {"messages": TURNS, "system": "S"}),
        (MessagesRequest, {"messages": TURNS}, {"messages": TURNS, "metadata": {"user_id": "x"}},
         {"messages": [{"role": "user", "content": [RESULT, *BLOCK[0]["content"]]}]}),  # type: ignore[misc]
        (CompletionsRequest, {"prompt": "hi"}, {"prompt": "hi", "user": "x"}, {"prompt": "hi", "suffix": "x"}),
    ],
)  # fmt: skip
async def test_what_shapes_an_answer_in_each_dialect(
    cache: SemanticCache, dialect: type[ModelRequest], first: Any, alike: Any, other: Any
) -> None:
    await fill(cache, asked_in(dialect, cache, **first))
    assert await hit(cache, asked_in(dialect, cache, **alike)) == "exact"
    assert await hit(cache, asked_in(dialect, cache, **other)) is None


async def test_where_an_image_stands_is_part_of_the_question(cache: SemanticCache) -> None:
    before, after = ({"type": "text", "text": text} for text in ("Before:", "After:"))
    one, two = ({"type": "image_url", "image_url": {"url": f"data:{name}"}} for name in "12")
    await fill(cache, query(cache, [before, one, after, two]))
    assert await hit(cache, query(cache, [before, one, after, two])) == "exact"
    assert await hit(cache, query(cache, [before, after, one, two])) is None


async def test_an_item_behind_the_question_is_part_of_it(cache: SemanticCache) -> None:
    first, other = ({"input": [*TURNS, {"type": "note", "content": text}]} for text in ("brief", "long"))
    await fill(cache, asked_in(ResponsesRequest, cache, **first))
    assert await hit(cache, asked_in(ResponsesRequest, cache, **first)) == "exact"
    assert await hit(cache, asked_in(ResponsesRequest, cache, **other)) is None


@pytest.mark.parametrize(
    ("dialect", "members"),
    [
        (ChatRequest, {"messages": TURNS, "logprobs": True}),
        (ChatRequest, {"messages": TURNS, "prompt_logprobs": 0}),
        (ChatRequest, {"messages": TURNS, "return_token_ids": True}),
        (ResponsesRequest, {"input": TURNS, "previous_response_id": "resp_1"}),
        (ResponsesRequest, {"input": TURNS, "store": True}),
        (ResponsesRequest, {"input": TURNS, "enable_response_messages": True}),
        (ResponsesRequest, {"input": [*TURNS, {"type": "function_call_output", "call_id": "1", "output": "42"}]}),
        (ResponsesRequest, {"instructions": "S"}),
        (MessagesRequest, {"messages": [{"role": "user", "content": [RESULT]}]}),
        (MessagesRequest, {"messages": [*TURNS, {"role": "assistant", "content": "Par"}]}),
        (CompletionsRequest, {"prompt": ["a", "b"]}),
        (CompletionsRequest, {"prompt": [1, 2]}),
        (CompletionsRequest, {"prompt": "a", "prompt_logprobs": 0}),
        (CompletionsRequest, {"prompt": "a", "return_token_ids": True}),
    ],
)
async def test_what_has_no_place_in_it(cache: SemanticCache, dialect: type[ModelRequest], members: Any) -> None:
    assert asked_in(dialect, cache, **members) is None


# --- a store that is down ------------------------------------------------------------------------------------------


async def test_a_store_that_stays_down_is_logged_once_for_each_reason(
    cache: SemanticCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    question = query(cache)
    assert question is not None
    reasons: list[Reason | None] = ["connection"] * 5 + ["deadline"] * 5 + [None] + ["deadline"] * 5

    async def get(key: str) -> Entry | None:
        if (reason := reasons.pop(0)) is not None:
            raise Unavailable(reason)
        return None

    monkeypatch.setattr(cache.store, "get", get)
    while reasons:
        assert await cache.find(question) is None
    logged = [record.__dict__["fields"]["reason"] for record in caplog.records]
    assert logged == ["connection", "deadline", "deadline"]


# --- scope ---------------------------------------------------------------------------------------------------------

BELIEVED = Identity(set_by="gateway")


def scope(kind: str, settings: Identity, headers: dict[str, str], anonymous: bool = True) -> str | None:
    return scope_of(kind, settings, headers, b"secret", anonymous=anonymous)


def test_callers_are_told_apart_by_what_can_be_believed() -> None:
    forged = {"x-authz-user-id": "ada", "x-tenant-id": "acme"}
    assert scope("user", BELIEVED, {"x-authz-user-id": "ada"}) == "user:ada"
    assert scope("tenant", BELIEVED, forged) == "tenant:acme"
    assert scope("user", Identity(), forged) == "anonymous", "claims that nobody vouches for are none"
    assert scope("tenant", Identity(), forged) is None
    assert scope("user", Identity(), {}, anonymous=False) is None
    assert scope("global", Identity(), forged) == "global"
    ada, bob = scope("user", Identity(), ADA), scope("user", Identity(), BOB)
    assert ada != bob and ada is not None and "ada" not in ada.removeprefix("credential:")
    assert scope("user", Identity(), {**ADA, "x-authz-user-id": "bob"}) == ada


async def test_two_tenants_may_have_a_user_of_one_name(clock: Clock) -> None:
    acme, rival = ({"x-authz-user-id": "ada", "x-tenant-id": tenant} for tenant in ("acme", "rival"))
    assert len({scope("user", BELIEVED, headers) for headers in (acme, rival, {"x-authz-user-id": "ada"})}) == 3
    # The memo's keys are of users, also where answers are shared by tenant.
    cache = SemanticCache(MemoryStore(10, clock=clock), CacheSettings(), BELIEVED, "sum", Metrics(), b"key", clock)
    memo, body = Memo[str](cache, 10), json.dumps({"messages": TURNS}).encode()
    assert memo.key(ChatRequest.parse(body), body, acme) != memo.key(ChatRequest.parse(body), body, rival)


@pytest.mark.parametrize("name", ["x-goog-api-key", "ocp-apim-subscription-key", "cookie", "x-forwarded-client-cert"])
def test_whoever_brings_something_to_be_known_by_is_not_anonymous(name: str) -> None:
    ada, bob = (scope("user", Identity(), {name: f"session={who}"}) for who in ("ada", "bob"))
    assert len({ada, bob, "anonymous"}) == 3


STRANGERS = [
    {"x-auth-token": "WHO"}, {"cf-access-jwt-assertion": "WHO"}, {"x-goog-iap-jwt-assertion": "WHO"},
    {"x-api-token": "WHO"}, {"x-amz-security-token": "WHO"}, {"x-forwarded-user": "WHO"}, {"x-acme-caller": "WHO"},
    {"x-acme": "eyJhbGciOiJIUzI1NiJ9.WHO.c2ln"}, {":query": "api_key=WHO"}, {":query": "a=1&key=WHO"},
    {":query": "subscription-key=WHO"}, {":query": "u=WHO"}, {"from": "WHO"},
]  # fmt: skip


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
@pytest.mark.parametrize("beside", [{}, {"user-agent": "curl/8", "accept": "*/*", "x-forwarded-for": "10.0.0.1"}])
def test_what_could_be_a_credential_makes_a_scope_of_its_own(headers: dict[str, str], beside: dict[str, str]) -> None:
    ada, bob = (
        scope("user", Identity(), {**beside, **{name: value.replace("WHO", who) for name, value in headers.items()}})
        for who in ("ada", "bob")
    )
    assert len({ada, bob, "anonymous"}) == 3
    assert scope("user", Identity(), beside) == "anonymous"


def test_one_key_in_front_of_many_users_does_not_make_one_caller_of_them() -> None:
    service = {"authorization": "Bearer the-gateways"}
    ada, bob = (scope("user", Identity(), {**service, "x-goog-iap-jwt-assertion": who}) for who in ("ada", "bob"))
    assert ada != bob


def test_the_operator_can_name_the_credential() -> None:
    named = Identity.model_validate({"credential_headers": ["X-Badge"]})
    ada, bob = (scope("user", named, {"x-badge": who, "x-ticket": who}) for who in ("ada", "bob"))
    assert ada != bob
    assert ada == scope("user", named, {"x-badge": "ada", "x-ticket": "another"})
    assert scope("user", named, {"x-ticket": "1"}) == "anonymous", "the operator knows that this is none"


@pytest.mark.parametrize("name", ["anthropic-beta", "openai-beta", "anthropic-version", "x-acme-beta", ":query"])
def test_beta_features_versions_and_the_query_are_part_of_the_key(cache: SemanticCache, name: str) -> None:
    one, other = (query(cache, headers={**ADA, name: f"beta={value}"}) for value in (1, 2))
    assert one is not None and other is not None and one.partition != other.partition and one.exact != other.exact
    memo, body = Memo[str](cache, 10), json.dumps({"messages": TURNS}).encode()
    keys = {memo.key(ChatRequest.parse(body), body, {**ADA, name: value}) for value in ("1", "2")}
    assert len(keys) == 2


def test_a_load_balancers_cookie_beside_a_key_makes_nobody_else_of_a_caller() -> None:
    assert scope("user", Identity(), {**ADA, "cookie": "lb=1"}) == scope("user", Identity(), {**ADA, "cookie": "lb=2"})


REMINDER = "<system-reminder>\nThe shop closes at {}.\n</system-reminder>\n{}"
DOCUMENT = "Context: The shop on Mill Road closes at {}.\n\nQuestion: {}"
QUOTED = "{1}\n\n```\nclosing = {0}\n```"


@pytest.mark.parametrize(
    "shape", [REMINDER, DOCUMENT, QUOTED, "Date: {}\n{}"], ids=["note", "document", "code", "date"]
)
async def test_words_are_compared_and_what_stands_around_them_has_to_be_equal(cache: SemanticCache, shape: str) -> None:
    await fill(cache, query(cache, shape.format("18:00", "What is the capital of France?"), read=True))
    assert await hit(cache, query(cache, shape.format("18:00", ALIKE), embedding=NEAR, read=True)) == "semantic"
    for text in (shape.format("19:00", ALIKE), shape.format("19:00", QUESTION), ALIKE):
        assert await hit(cache, query(cache, text, embedding=EAST, read=True)) is None


async def test_another_history_or_tool_result_is_another_question(cache: SemanticCache) -> None:
    def before(answer: str) -> list[Any]:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return [
            {"role": "user", "content": "Look it up."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": answer},
            {"role": "assistant", "content": "Done."},
        ]

    await fill(cache, query(cache, before=before("7"), read=True))
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR, before=before("7"), read=True)) == "semantic"
    assert await hit(cache, query(cache, ALIKE, embedding=NEAR, before=before("8"), read=True)) is None
    assert await hit(cache, query(cache, before=before("8"), read=True)) is None


@pytest.mark.parametrize("last", ["yes", "now make it stable", "why?"])
async def test_a_turn_that_goes_on_is_compared_by_its_letters_alone(cache: SemanticCache, last: str) -> None:
    before = [{"role": "user", "content": "What is heapsort?"}, {"role": "assistant", "content": "A sort."}]
    question = query(cache, last, before=before, read=True)
    assert question is not None and question.embedding is None
    await fill(cache, question)
    assert await hit(cache, query(cache, last, before=before, read=True)) == "exact"


async def test_a_task_about_a_chat_is_compared_by_its_letters_alone(cache: SemanticCache) -> None:
    chat = (
        "Generate a title for the chat.\n<chat_history>\nUSER: What is heapsort?\nASSISTANT: A sort.\n</chat_history>"
    )
    question = query(cache, chat, read=True)
    assert question is not None and question.embedding is None


async def test_words_that_are_split_elsewhere_are_no_exact_hit(cache: SemanticCache) -> None:
    def around(first: str, second: str) -> str:
        return f"{first}\n<note>\nN\n</note>\n{second}"

    await fill(cache, query(cache, around("What is a heap?\nTell me", "What is a tree?"), embedding=None, read=True))
    other = around("What is a heap?", "Tell me\nWhat is a tree?")
    assert await hit(cache, query(cache, other, embedding=None, read=True)) is None


def test_vectors_of_two_trunks_never_meet_and_the_same_text_is_found_all_the_same(cache: SemanticCache) -> None:
    """Each language has an encoder of its own; while it is down the text alone must still be found."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "How do plants eat?"}]}).encode()
    request, settings = ChatRequest.parse(body), SemanticCacheSettings()
    one, two, down = (
        cache.question(settings, DECISION, request, body, ADA, embedding, trunk=trunk)
        for trunk, embedding in (("one", EAST), ("two", EAST), ("", None))
    )
    assert one is not None and two is not None and down is not None
    assert one.partition != two.partition
    assert one.exact == two.exact == down.exact
