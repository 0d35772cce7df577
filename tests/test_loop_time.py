"""No step of a request takes more of the event loop than 20 ms of CPU time, for bodies made to be slow."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from triton_router.config import loads
from triton_router.exchange import Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

MIB = 1024 * 1024
# In seconds of CPU time of the loop's own thread; three times as much on a machine with other work.
BUDGET, MARGIN = 0.020, 3

CONFIG = """
providers: {models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  signals:
    keywords:
      - {name: words, keywords: [launch code, secret], match: word}
      - {name: typo, keywords: [kubernetes, postgres, elasticsearch], match: fuzzy}
      - {name: pattern, keywords: ['a+b+c'], match: regex}
    structure:
      - {name: marks, feature: {type: count, source: {type: regex, pattern: '\\?'}}, predicate: {gt: 3}}
      - {name: links, feature: {type: count, source: {type: regex, pattern: '(?s)\\[.*?\\]\\(.*?\\)|\\['}}}
      - {name: first, feature: {type: exists, source: {type: regex, pattern: '(?s)\\[.*?\\]\\(.*?\\)|\\['}}}
      - {name: dense, feature: {type: density, source: {type: keyword_set, keywords: [please, now]}}}
  decisions:
    - name: all
      rules: {operator: OR, conditions: [{type: keyword, name: words}, {type: keyword, name: typo},
        {type: keyword, name: pattern}, {type: structure, name: marks}, {type: structure, name: links},
        {type: structure, name: first}, {type: structure, name: dense}]}
      plugins: [{type: system_prompt, configuration: {mode: insert, system_prompt: S}}, {type: tools, configuration:
        {mode: none}}]
"""


def chat(content: Any, **members: Any) -> bytes:
    return json.dumps({"model": "MoM", "messages": [{"role": "user", "content": content}], **members}).encode()


BODIES = {
    "members": chat("hi", metadata={str(n): 0 for n in range(800_000)}),
    "fewer members": chat("hi", metadata={f"k{n}": n for n in range(200_000)}),
    "question marks": chat("?" * (9 * MIB)),
    "brackets": chat("[" * (9 * MIB)),
    "brackets, few": chat("[" * 80_000),
    "escapes": chat("\n" * (4 * MIB)),
    "words": chat("kubernetse " * 800_000),
    "turns": json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "hi"}] * 100_000}).encode(),
    "parts": chat([{"type": "text", "text": "hi"}] * 100_000),
    "kubernetes at the end of what the loop reads": chat("kubernetse " * 1_400),
}


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_no_step_takes_the_loop_for_long(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0.0
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        nonlocal longest
        started = time.thread_time()
        run(handle)
        longest = max(longest, time.thread_time() - started)

    made = Pipeline(compile_runtime(loads(CONFIG)), None, TopicParameters(), Metrics())

    async def ask() -> None:
        # The first loads what later ones have.
        await made.route(Request("POST", "/v1/chat/completions", {}, chat("hi " * 10_000)))
        monkeypatch.setattr(asyncio.Handle, "_run", timed)
        await made.route(Request("POST", "/v1/chat/completions", {}, body))
        await asyncio.sleep(0)

    assert len(body) <= 10 * MIB
    asyncio.run(ask())
    assert longest <= BUDGET * MARGIN, f"{longest * 1000:.0f} ms"
