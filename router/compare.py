"""Two configurations on the same requests: which of them move, from where to where, and what that costs.

Nothing is asked of a backend or a cache. Both configurations share the encoders, which encode each prompt once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import AliasChoices, BaseModel, Field, ValidationError, model_validator

import triton_router.startup  # noqa: F401
from triton_router.answers import Usage
from triton_router.config import Config, ConfigError, Loaded, loads
from triton_router.config.schema import Pricing
from triton_router.dialects import DIALECTS, ChatRequest, ModelRequest, chat
from triton_router.errors import BundleError, Refusal
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.jsontext import json_bytes
from triton_router.pipeline import Pipeline
from triton_router.signals import SignalInput
from triton_router.signals.context import estimated_tokens
from triton_router.telemetry import Metrics
from triton_router.usage import cost

# Requests asked about at once: enough for Triton to batch, too few to hold up those that are routed.
CONCURRENT = 8
# Tokens that an answer is taken to have where none was counted.
ANSWER_TOKENS = 300
# Requests that moved, and characters of a prompt, that a report quotes.
MOST_EXAMPLES = 200
LONGEST_EXCERPT = 200
SHOWN_EXAMPLES = 20
# Seconds that Triton and the MCP server have to be found.
SETTLE_WITHIN = 5.0
# Seconds between attempts at a request that goes without a part; after the last one that is its result.
PAUSES = (0.02, 0.1, 0.5, 1.0, 0.0)
_BUSY = frozenset({"overload", "deadline"})
# A comparison gives way to requests.
NICENESS = 10
# How a report names requests that no decision matched, and those that are not routed.
NO_DECISION, PASSED, REFUSED = "(no decision)", "(passed through)", "(refused)"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request to compare with: ``body`` as sent to ``path``; ``usage`` where its answer's tokens were counted."""

    body: bytes
    path: str = chat.PATH
    headers: dict[str, str] = field(default_factory=dict)
    usage: Usage | None = None


class Destination(NamedTuple):
    """Where a request goes. ``reasoning`` of ``None`` leaves the request as it is."""

    decision: str
    model: str
    reasoning: bool | None = None


class Trip(NamedTuple):
    """A request's way under one configuration: ``degraded`` names the parts that it went without."""

    destination: Destination
    base: str = ""
    degraded: tuple[str, ...] = ()


def read_samples(lines: Iterable[str]) -> Iterator[Sample]:
    """Requests, one a line: a plain prompt, or a JSON object.

    Objects have `request` (a body, with its `path`) or `prompt` (or `text`), and optionally `headers` and `usage`
    (`prompt` and `completion` tokens). Records of the replay log, which have all that in `sent`, are read too.

    Raises:
        ValueError: a line that begins with a brace is no such object; the message names the line.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            written = _Line.model_validate_json(line) if line.lstrip().startswith("{") else _Line(prompt=line.strip())
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ValueError(f"line {number}: {f'{where}: ' if where else ''}{problem['msg']}") from error
        yield (written.sent or written).sample()


class _Tokens(BaseModel):
    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)
    cached: int = Field(0, ge=0)


class _Line(BaseModel):
    prompt: str | None = Field(None, validation_alias=AliasChoices("prompt", "text"))
    request: str | dict[str, Any] | None = None
    path: str = chat.PATH
    headers: dict[str, str] = {}
    usage: _Tokens | None = None
    sent: _Line | None = None

    @model_validator(mode="after")
    def _has_a_request(self) -> _Line:
        if self.sent is None and self.request is None and self.prompt is None:
            raise ValueError("an object needs `request` or `prompt`")
        if self.request is not None and self.path not in DIALECTS:
            raise ValueError(f"`path` must be one of {', '.join(DIALECTS)}")
        return self

    def sample(self) -> Sample:
        headers = {name.lower(): value for name, value in self.headers.items()}
        usage = Usage(self.usage.prompt, self.usage.completion, self.usage.cached) if self.usage else None
        if self.request is None:
            return Sample(ChatRequest.saying(self.prompt or "").encode(), chat.PATH, headers, usage)
        body = self.request.encode() if isinstance(self.request, str) else json_bytes(self.request)
        return Sample(body, self.path, headers, usage)


@dataclass(slots=True)
class Comparison:
    """What has been compared so far. Costs are by currency; ``unpriced`` counts requests to models without a price."""

    requests: int = 0
    moved: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[Destination, Destination]] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    costs: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    unpriced: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, request: ModelRequest | None, before: Trip, after: Trip) -> None:
        self.requests += 1
        self.degraded.update({*before.degraded, *after.degraded})
        self.moves[before.destination, after.destination] += 1
        if before.destination != after.destination:
            self.moved += 1
            if len(self.examples) < MOST_EXAMPLES:
                prompt = request.prompt()[:LONGEST_EXCERPT] if request is not None else ""
                self.examples.append({"prompt": prompt, "before": before.destination._asdict(),
                                      "after": after.destination._asdict()})  # fmt: skip

    def spend(self, side: int, price: Pricing | None, usage: Usage) -> None:
        if price is None:
            self.unpriced[side] += 1
        else:
            self.costs[side][price.currency] += cost(usage, price)  # type: ignore[assignment]

    def report(self) -> dict[str, Any]:
        """All of it as JSON-ready data; the most frequent moves come first."""
        return {
            "requests": self.requests,
            "moved": self.moved,
            "degraded": dict(self.degraded),
            "flows": [
                {"before": before._asdict(), "after": after._asdict(), "requests": count}
                for (before, after), count in self.moves.most_common()
            ],
            "examples": self.examples,
            "cost": [
                {"currency": currency, "before": self.costs[0][currency], "after": self.costs[1][currency]}
                for currency in sorted(self.costs[0] | self.costs[1])
            ],
            "unpriced": {"before": self.unpriced[0], "after": self.unpriced[1]},
        }


async def compare_with(
    before: Loaded, after: Loaded, samples: Sequence[Sample], bundle: Path, **options: Any
) -> Comparison:
    """:func:`compare` with encoders of its own; waits some seconds for Triton, then compares without it.

    Raises:
        BundleError: the signal bundle cannot be used, or not for one of the configurations.
        RuntimeError: a signal needs a package that is not installed.
    """
    generations = Generations(without_cache(before), *load_bundle(bundle), Metrics())
    async with generations.running():
        await generations.settled(SETTLE_WITHIN, patient=False)
        return await compare(generations, after, samples, **options)


async def compare(
    generations: Generations,
    after: Loaded,
    samples: Sequence[Sample],
    *,
    answer_tokens: int = ANSWER_TOKENS,
    progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Route ``samples`` with the current pipeline of ``generations``, and with one for ``after``.

    ``answer_tokens`` is how long an answer is taken to be where none was counted; prompts are estimated then too.
    ``progress`` is called with the number of requests done. :meth:`Generations.run` must be running.
    """
    for encoder in generations.encoders.watched:
        encoder.remember()
    pipelines = generations.current, await generations.prepare(without_cache(after))
    comparison = Comparison()
    for start in range(0, len(samples), CONCURRENT):
        window = range(start, min(start + CONCURRENT, len(samples)))
        trips = await asyncio.gather(*(_both(pipelines, samples[index], index) for index in window))
        for index, (request, ways) in zip(window, trips, strict=True):
            comparison.add(request, *ways)
            if request is None:
                continue
            usage = samples[index].usage or Usage(estimated_tokens(request.turns()), answer_tokens, 0)
            for side, (pipeline, way) in enumerate(zip(pipelines, ways, strict=True)):
                if way.base:
                    comparison.spend(side, pipeline.catalog.price(way.base), usage)
        progress(comparison.requests)
    return comparison


async def _both(
    pipelines: Iterable[Pipeline], sample: Sample, index: int
) -> tuple[ModelRequest | None, tuple[Trip, Trip]]:
    # One after the other: the second finds what the first has read and encoded.
    query: SignalInput | None = None
    try:
        request = DIALECTS[sample.path].parse(sample.body)
        trips = []
        for pipeline in pipelines:
            query = _query(pipeline, request, sample, index, query)
            trips.append(await _trip(pipeline, query))
        before, after = trips
    except Refusal as refusal:
        refused = Trip(Destination(REFUSED, str(refusal)[:LONGEST_EXCERPT]))
        return None, (refused, refused)
    return request, (before, after)


def _query(
    pipeline: Pipeline, request: ModelRequest, sample: Sample, index: int, earlier: SignalInput | None
) -> SignalInput:
    """What ``pipeline`` is asked: with all that is known of the ``earlier`` question, if both read alike."""
    # Among equal candidates a conversation decides: the same one on both sides, or chance would move requests.
    headers = {pipeline.runtime.session_header: f"compared-{index}", **sample.headers}
    reader = pipeline.runtime.reader
    if earlier is not None and earlier.reader is reader:
        return replace(earlier, headers=headers)
    return SignalInput(request, headers, reader=reader)


async def _trip(pipeline: Pipeline, query: SignalInput) -> Trip:
    request = query.request
    if request.model is not None and pipeline.recipes.for_request(request.model, query.headers) is None:
        named = pipeline.catalog.concrete(request.model, pipeline.adapters)
        if named is None:
            return Trip(Destination(REFUSED, request.model))
        return Trip(Destination(PASSED, named.model), named.base)
    for pause in PAUSES:
        record = await pipeline.decide(query)
        if not _BUSY & set(record.degraded.values()):
            break
        # Unlike a client, a comparison can wait.
        await asyncio.sleep(pause)
    _, choice, selection = record.routing()
    decision = choice.decision.name if choice.decision else NO_DECISION
    # What the encoder cannot read, it cannot read under the other configuration either.
    degraded = tuple(part for part, reason in record.degraded.items() if reason != "script")
    return Trip(Destination(decision, selection.model, selection.use_reasoning), selection.base, degraded)


def without_cache(loaded: Loaded) -> Loaded:
    """``loaded`` without its cache: nothing is looked up, and no store that it names is opened."""
    stores = loaded.config.global_.stores
    cache = stores.semantic_cache.model_copy(update={"enabled": False})
    return _changed(loaded, stores=stores.model_copy(update={"semantic_cache": cache}))


def without_other_servers(loaded: Loaded, trusted: Config) -> Loaded:
    """``loaded``, asking no MCP server but the one that ``trusted`` asks: its author may not be the operator."""
    catalog, own = loaded.config.global_.model_catalog, trusted.global_.model_catalog.modules.classifier.mcp
    classifier = catalog.modules.classifier
    if classifier.mcp is None:
        return loaded
    # Secrets are masked in both, so that a copy of what REST shows is the same.
    same = own is not None and own.model_dump(mode="json") == classifier.mcp.model_dump(mode="json")
    modules = catalog.modules.model_copy(
        update={"classifier": classifier.model_copy(update={"mcp": own if same else None})}
    )
    return _changed(loaded, model_catalog=catalog.model_copy(update={"modules": modules}))


def _changed(loaded: Loaded, **sections: Any) -> Loaded:
    config = loaded.config.model_copy(update={"global_": loaded.config.global_.model_copy(update=sections)})
    return Loaded(config, loaded.warnings, loaded.digest, loaded.text, loaded.file)


def as_text(report: dict[str, Any]) -> str:
    """A report as a table for people: moves first, then what they cost."""
    lines = [f"{report['moved']} of {report['requests']} requests move"]
    lines += [
        f"{count} were routed without {part}: the comparison is incomplete"
        for part, count in report["degraded"].items()
    ]
    for flow in report["flows"]:
        if flow["before"] != flow["after"]:
            lines.append(f"  {flow['requests']:>6}  {_named(flow['before'])}  →  {_named(flow['after'])}")
    for each in report["cost"]:
        lines.append(f"cost  {each['before']:.4f} → {each['after']:.4f} {each['currency']}")
    if any(report["unpriced"].values()):
        lines.append("requests to models without a price: {before} → {after}".format(**report["unpriced"]))
    for example in report["examples"][:SHOWN_EXAMPLES]:
        lines.append(f"  {_named(example['before'])}  →  {_named(example['after'])}: {example['prompt']!r}")
    return "\n".join(lines)


def _named(destination: dict[str, Any]) -> str:
    reasoning = {True: ", reasoning", False: "", None: ""}[destination["reasoning"]]
    return f"{destination['decision']} ({destination['model']}{reasoning})"


# --- a process of its own, so that requests do not wait for a comparison ---------------------------------------------


def main() -> int:
    """Read a job and its samples from standard input; write lines of JSON: `done` as it goes on, then `report` or
    `failed`.

    The first line is the job: `before` and `after` (configurations as text), `allow_inactive`, `bundle` (its path) and
    `answer_tokens`. The others are the samples; see :func:`read_samples`. Variables are set in `before` alone.
    """
    os.nice(NICENESS)
    first, *lines = sys.stdin.buffer.read().decode("utf-8", "replace").split("\n")
    job = json.loads(first)
    try:
        before = loads(job["before"], file=job["file"], allow_inactive=job["allow_inactive"])
        after = loads(job["after"], file="pasted", environment={}, allow_inactive=job["allow_inactive"])
        after = without_other_servers(after, before.config)
        samples = list(read_samples(lines))
        comparison = asyncio.run(
            compare_with(
                before,
                after,
                samples,
                Path(job["bundle"]),
                answer_tokens=job["answer_tokens"],
                progress=lambda count: _say({"done": count, "of": len(samples)}),
            )
        )
    except (ConfigError, BundleError, RuntimeError, ValueError) as error:
        _say({"failed": str(error)})
        return 1
    _say({"report": comparison.report()})
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json_bytes(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
