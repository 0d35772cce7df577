"""Answers judged by a head as they pass, on a Triton that takes the word `attack` for harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from backends import CHAT, MESSAGES, PATHS, RESPONSES, answering, asking, content_of, events_of, streaming
from sites import Site, bundle_with, site_of

from triton_router.config import loads
from triton_router.errors import BundleError
from triton_router.exchange import Forward, Request
from triton_router.generations import Generations
from triton_router.signals.passages import LENGTH
from triton_router.telemetry import Metrics

HEAD = {"name": "jailbreak", "output": "jailbreak", "labels": ["benign", "harmful_request"]}
# About 70 characters; each line is another.
LINES = [f"Line {number} of the report says {number * 7} and that it was a mild morning. " for number in range(60)]

CONFIG = """
providers: {models: [{name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  decisions:
    - {name: no harm, plugins: [{type: response_jailbreak, configuration: CHOICE}]}
    - {name: all, modelRefs: [{model: cloud}]}
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000}}
"""


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with site_of(CONFIG.replace("CHOICE", getattr(request, "param", "{}")), [HEAD], "attack") as site:
        yield site


async def received(site: Site, path: str, pieces: list[bytes], kind: str = "text/event-stream") -> bytes:
    """What the client gets of a body that comes in ``pieces``."""
    body = json.dumps(asking(path, "x", "hello", model="cloud")).encode()
    outcome = await site.generations.current.route(Request("POST", path, {}, body))
    assert isinstance(outcome, Forward)
    observer = outcome.observer
    assert observer is not None and observer.on_headers(200, {"content-type": kind})
    got = b""
    for place, piece in enumerate(pieces):
        last = place == len(pieces) - 1
        if observer.checks:
            await observer.check(piece, last=last)
        piece_for_client = observer.on_body(piece, last=last)
        got += piece if piece_for_client is None else piece_for_client
        # The next piece of a real backend comes later.
        await asyncio.sleep(0.01)
    observer.on_complete()
    observer.on_end()
    return got


def frames(path: str, texts: list[str]) -> list[bytes]:
    return [frame + b"\n\n" for frame in streaming(path, texts).split(b"\n\n") if frame]


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer_waits_for_its_verdict(site: Site, path: str) -> None:
    harmless, harmful = answering(path, "".join(LINES)), answering(path, "".join(LINES) + "an attack")
    assert await received(site, path, [harmless[:50], harmless[50:]], "application/json") == harmless
    got = await received(site, path, [harmful[:50], harmful[50:]], "application/json")
    assert content_of(path, got, streamed=False)[0] == "The answer was withheld by policy."


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_ends_at_most_a_window_after_the_harm(site: Site, path: str) -> None:
    texts = [*LINES[:20], "an attack ", *LINES[20:]]
    got = await received(site, path, frames(path, texts))
    events = events_of(got)
    if path == MESSAGES:
        assert events[-1]["type"] == "message_stop" and events[-2]["delta"]["stop_reason"] == "refusal"
    elif path == RESPONSES:
        assert events[-1]["type"] == "response.incomplete"
    else:
        assert events[-1]["choices"][0]["finish_reason"] == "content_filter"
    count = sum(line in json.dumps(got.decode()) for line in LINES)
    assert sum(map(len, LINES[:20])) <= sum(map(len, LINES[:count])) <= sum(map(len, LINES[:20])) + 2 * LENGTH


async def test_a_harmless_stream_passes_byte_for_byte(site: Site) -> None:
    pieces = frames(CHAT, LINES)
    assert await received(site, CHAT, pieces) == b"".join(pieces)


async def test_harm_cut_anywhere_is_seen(site: Site) -> None:
    for place in range(len("an attack ")):
        text = "".join(LINES[:12]) + "an attack " + "".join(LINES[12:40])
        cut = len("".join(LINES[:12])) + place
        pieces = [text[:cut], *(text[start : start + 90] for start in range(cut, len(text), 90))]
        assert (
            events_of(await received(site, CHAT, frames(CHAT, pieces)))[-1]["choices"][0]["finish_reason"]
            == "content_filter"
        )


async def test_windows_of_many_streams_are_judged_together(site: Site) -> None:
    site.triton.calls = site.triton.rows = 0
    streams = [[f"Stream {number}. " + line for line in LINES[:20]] for number in range(24)]
    await asyncio.gather(*(received(site, CHAT, frames(CHAT, texts)) for texts in streams))
    assert site.triton.rows >= 48
    assert site.triton.calls <= site.triton.rows / 3


@pytest.mark.parametrize(
    ("site", "text"),
    [("{}", "The answer was withheld by policy."), ("{on_unknown: ignore}", "hello")],
    indirect=["site"],
)
async def test_without_triton_it_does_what_the_operator_chose(site: Site, text: str) -> None:
    site.triton.down = True
    got = await received(site, CHAT, [answering(CHAT, "hello")], "application/json")
    assert content_of(CHAT, got, streamed=False)[0] == text


@pytest.mark.parametrize("site", ["{action: header}"], indirect=True)
async def test_what_only_counts_changes_nothing(site: Site) -> None:
    answer = answering(CHAT, "an attack")
    assert await received(site, CHAT, [answer], "application/json") == answer


async def test_a_bundle_that_cannot_judge_does_not_load() -> None:
    text = CONFIG.replace("ADDRESS", "127.0.0.1:1")
    for choice, heads, message in (("{}", [], "no head `jailbreak`"), ("{labels: [harm]}", [HEAD], "no label harm")):
        bundle, tokenizers = bundle_with(heads)
        with pytest.raises(BundleError, match=message):
            Generations(loads(text.replace("CHOICE", choice)), bundle, tokenizers, Metrics())
