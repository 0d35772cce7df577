"""A large body holds nobody up: read off the event loop, two at a time, and every step has a bound."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router import body as bodies
from triton_router import offload
from triton_router.body import Body, is_large
from triton_router.config import loads
from triton_router.dialects import ChatRequest
from triton_router.errors import MalformedRequest
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals import keyword, structure
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

CONFIG = """
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  signals:
    keywords:
      - {name: secret, keywords: [launch code], parts: [all]}
      - {name: typo, keywords: [kubernetes], match: fuzzy}
    structure:
      - {name: marks, feature: {type: count, source: {type: regex, pattern: '\\?'}}, predicate: {gt: 3}}
      - {name: links, feature: {type: exists, source: {type: regex, pattern: '(?s)\\[.*?\\]\\(.*?\\)|\\['}}}
  decisions:
    - {name: secret, priority: 9, rules: {type: keyword, name: secret}, plugins: [{type: fast_response,
       configuration: {message: No.}}]}
    - {name: rest, rules: {operator: OR, conditions: [{type: keyword, name: typo}, {type: structure, name: marks},
       {type: structure, name: links}]}, plugins: [{type: system_prompt, configuration: {system_prompt: S}}]}
"""
MIB = 1024 * 1024


def chat(content: str, **members: Any) -> bytes:
    return json.dumps({"model": "MoM", "messages": [{"role": "user", "content": content}], **members}).encode()


def pipeline() -> Pipeline:
    return Pipeline(compile_runtime(loads(CONFIG)), None, TopicParameters(), Metrics())


async def asked(made: Pipeline, body: bytes) -> Outcome:
    return await made.route(Request("POST", "/v1/chat/completions", {}, body))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(values, st.booleans())
def test_large_bodies_are_read_as_small_ones_are(value: Any, ascii_only: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_PIECE", 8)
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert bodies._Patient().value(text, 0) == (value, len(text))


@given(st.text('\\"ud8c0f😀\x00 '))
def test_what_is_no_json_is_none_in_pieces_either(text: str) -> None:
    def read(scan: Any) -> Any:
        try:
            return scan(f'"{text}"', 0)
        except ValueError:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_PIECE", 4)
        assert read(bodies._Patient().value) == read(bodies._scan)


def test_halves_of_a_character_stay_together_where_a_long_text_is_cut() -> None:
    for shift in range(13):
        text = "a" * shift + "😀" * 60_000
        assert Body.parse(json.dumps({"m": text}).encode()).get("m") == text


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"metadata": {f"k{n}": n for n in range(300_000)}}, "more than 500000 values"),
        ({"metadata": [[]] * 600_000}, "more than 500000 values"),
        ({f"k{n}": n for n in range(2_000)}, "more than 1000 members"),
    ],
    ids=["an object", "an array", "the top"],
)
def test_a_body_of_a_million_members_is_refused(members: dict[str, Any], message: str) -> None:
    outcome = asyncio.run(asked(pipeline(), chat("hi", **members)))
    assert isinstance(outcome, Reply) and outcome.status == 400 and message in outcome.body.decode()


@pytest.mark.parametrize("body", [chat("x" * 300_000), chat("hi", tools=[{"a": 1}] * 6_000)], ids=["bytes", "values"])
def test_large_bodies_are_read_in_another_thread_and_small_ones_are_not(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    parse = ChatRequest.parse.__func__  # type: ignore[attr-defined]

    def watched(cls: type[ChatRequest], data: bytes) -> ChatRequest:
        threads.append(threading.current_thread())
        request: ChatRequest = parse(cls, data)
        return request

    monkeypatch.setattr(ChatRequest, "parse", classmethod(watched))
    assert is_large(body) and not is_large(chat("hi"))
    outcome = asyncio.run(asked(pipeline(), body))
    assert (
        isinstance(outcome, Forward)
        and json.loads(outcome.body or b"")["messages"][-1] == json.loads(body)["messages"][0]
    )
    asyncio.run(asked(pipeline(), chat("hi")))
    assert [thread is threading.main_thread() for thread in threads] == [False, True]


async def test_two_at_a_time_are_read() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    await asyncio.gather(*(offload.off_loop(work) for _ in range(10)))
    assert most == offload.AT_ONCE == 2


async def test_a_long_text_is_looked_through_whole_for_words_that_protect() -> None:
    for place in (0, 1, 2):
        parts = ["filler " * 40_000] * 2
        parts.insert(place, "the launch code")
        outcome = await asked(pipeline(), chat("".join(parts)))
        assert isinstance(outcome, Reply) and b"No." in outcome.body
    words = "x " * 32_763 + "launch code " + "y " * 50_000
    for shift in range(14):
        outcome = await asked(pipeline(), chat("z" * shift + words))
        assert isinstance(outcome, Reply), "where the text is cut into pieces too"


def test_every_expression_reads_so_many_characters_and_counts_so_many_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    class Expression:
        def finditer(self, text: str) -> Any:
            lengths.append(len(text))
            for _ in text:
                lengths.append(1)
                yield None

    monkeypatch.setattr(structure.re2, "compile", lambda *_: Expression())
    made = {"name": "s", "feature": {"type": "exists", "source": {"type": "regex", "pattern": "x"}}}
    for kind, matches in (("exists", 1), ("count", structure.MATCHES)):
        made["feature"]["type"] = kind  # type: ignore[index]
        counter = structure._counter(structure.StructureSignal.model_validate(made))
        lengths.clear()
        assert counter("?" * MIB) == matches
        assert lengths[0] == structure.EXPRESSION_READS and len(lengths) - 1 <= matches + 1


@pytest.mark.parametrize(("length", "on_loop"), [(1_000, True), (5_000, False)])
async def test_texts_over_a_signals_limit_are_evaluated_in_another_thread(
    length: int, on_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, threads = pipeline(), []
    monkeypatch.setattr(
        structure.Structures, "evaluate", lambda *_: threads.append(threading.current_thread()) or {}, raising=True
    )
    await asked(made, chat("x" * length))
    assert [thread is threading.main_thread() for thread in threads] == [on_loop]


def test_words_with_letters_wrong_are_looked_for_at_both_ends() -> None:
    text = "a" * MIB + "b" * MIB
    assert keyword.ends(text, 10) == "aaaaa\nbbbbb" and keyword.ends("short", 10) == "short"
    assert keyword.FUZZY_READS <= 65_536


def test_reading_fails_in_the_apis_shape() -> None:
    with pytest.raises(MalformedRequest, match="nested too deep"):
        Body.parse(b'{"a":' + b"[" * 300_000 + b"}")


@pytest.mark.parametrize(
    "body",
    [
        chat("x" * 4_000_000)[:-1],
        chat("x" * 4_000_000) + b"\xff",
        chat("", messages=[], user="x" * 4_000_000),
        chat("x" * 4_000_000, model="nobody"),
    ],
    ids=["cut", "bytes", "no message", "no model"],
)
def test_a_body_that_is_refused_is_held_no_longer(body: bytes) -> None:
    made = pipeline()
    gc.disable()  # it comes too late, and seldom
    tracemalloc.start()
    try:
        for _ in range(3):
            assert isinstance(asyncio.run(asked(made, body + b" ")), Reply)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()
        gc.enable()
