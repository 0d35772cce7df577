"""Masking: no value reaches a model, a log or a record, and every value comes back, however an answer is cut."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from backends import CHAT, MESSAGES, PATHS, RESPONSES, answering, asking, content_of, streaming

from triton_router.config import ConfigError, loads
from triton_router.dialects import DIALECTS
from triton_router.exchange import Forward, Outcome, Request
from triton_router.masking import Mask
from triton_router.pipeline import Pipeline
from triton_router.replay import ReplayLog
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics

CARD, MAIL = "4111 1111 1111 1111", "jane.doe+x@mail.example.org"

CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards: [{name: cloud, loras: [{name: legal-lora}]}]
  signals:
    pii: [{name: personal, pii_types_allowed: [IP_ADDRESS]}]
    keywords: [{name: ours, keywords: [in house]}]
  decisions:
    - name: nobody else's affair
      rules: {type: pii, name: personal}
      plugins: [{type: mask, configuration: SETTINGS}]
    - {name: in house, priority: 9, rules: {type: keyword, name: ours}, modelRefs: [{model: own}]}
    - name: any
      modelRefs: [{model: cloud}]
      plugins: [{type: system_prompt, configuration: {system_prompt: "Write to help@shop.example.", mode: prepend}}]
entrypoints: [{model_names: [quick], recipe: speed}]
recipes: [{name: speed, routing: {decisions: [{name: all, modelRefs: [{model: cloud}]}]}}]
global:
  services:
    router_replay: {enabled: true, include_prompt: true, include_request: true}
    observability: {audit: {enabled: true, path: AUDIT, include_prompt: true}}
"""


class Router:
    """A router, and all that it writes down."""

    def __init__(self, directory: Path, settings: str = "{}") -> None:
        self.audit, self.metrics = directory / "audit.jsonl", Metrics()
        loaded = loads(CONFIG.replace("SETTINGS", settings).replace("AUDIT", str(self.audit)))
        runtime = compile_runtime(loaded)
        assert runtime.journal.replay is not None
        self.replay = ReplayLog(runtime.journal.replay)
        self.pipeline = Pipeline(runtime, None, {}, self.metrics, replay=self.replay)

    def send(self, path: str, body: dict[str, Any]) -> Outcome:
        async def route() -> Outcome:
            outcome = await self.pipeline.route(Request("POST", path, {}, json.dumps(body).encode()))
            await asyncio.sleep(0.001)
            return outcome

        return asyncio.run(route())

    def forward(self, path: str, body: dict[str, Any]) -> Forward:
        outcome = self.send(path, body)
        assert isinstance(outcome, Forward)
        return outcome

    def written(self) -> str:
        """All records, lines and metrics."""
        records = json.dumps(self.replay.quoted(10_000))
        metrics = str([list(metric.samples) for metric in self.metrics.registry.collect()])
        return records + metrics + (self.audit.read_text() if self.audit.exists() else "")


def sent(outcome: Forward) -> str:
    assert outcome.body is not None
    return outcome.body.decode()


def returned(outcome: Forward, answer: bytes, cuts: list[int], kind: str = "application/json") -> bytes:
    """What the client gets of ``answer``, which comes in pieces cut at ``cuts``."""
    observer = outcome.observer
    assert observer is not None
    assert observer.on_headers(200, {"content-type": kind})
    assert observer.shortens
    places, got = [0, *sorted(cuts), len(answer)], b""
    for start, end in pairwise(places):
        piece = observer.on_body(answer[start:end], last=end == len(answer))
        got += answer[start:end] if piece is None else piece
    observer.on_complete()
    observer.on_end()
    return got


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


@pytest.mark.parametrize("model", ["MoM", "cloud", "legal-lora", "quick"])
@pytest.mark.parametrize("path", PATHS)
def test_no_model_gets_a_value_however_it_is_asked_for(router: Router, path: str, model: str) -> None:
    body = asking(path, "Be brief.", f"Mail {MAIL}, pay {CARD}. Host 203.0.113.7", model=model)
    outcome = router.forward(path, body)
    text = sent(outcome)
    assert MAIL not in text and CARD not in text and "203.0.113.7" in text
    assert "Mail [EMAIL_ADDRESS_1], pay [CREDIT_CARD_1]." in text
    assert outcome.response_headers["x-vsr-masked"] == "nobody%20else's affair".replace("%20", " ")
    assert outcome.headers["accept-encoding"] == "identity"


def test_one_value_has_one_placeholder_and_the_next_turn_the_same(router: Router) -> None:
    turns = ["Be brief.", f"Mail {MAIL} and {CARD}.", f"I wrote to {MAIL}.", "And bob@mail.example?"]
    first = json.loads(sent(router.forward(CHAT, asking(CHAT, *turns[:2]))))["messages"]
    later = json.loads(sent(router.forward(CHAT, asking(CHAT, *turns))))["messages"]
    assert later[: len(first)] == first
    assert [each["content"] for each in later[-2:]] == ["I wrote to [EMAIL_ADDRESS_1].", "And [EMAIL_ADDRESS_2]?"]


def test_a_value_that_was_named_once_is_masked_wherever_it_stands(router: Router) -> None:
    body = asking(CHAT, "Be brief.", "My phone number is 5550123.", "Noted.", "Call 5550123, not 55501234.")
    assert "Call [PHONE_NUMBER_1], not 55501234." in sent(router.forward(CHAT, body))


def test_text_that_looks_like_a_placeholder_is_nobody_elses(router: Router) -> None:
    outcome = router.forward(CHAT, asking(CHAT, "x", f"[EMAIL_ADDRESS_1] is what I see for {MAIL}"))
    assert "[EMAIL_ADDRESS_1] is what I see for [EMAIL_ADDRESS_2]" in sent(outcome)
    got = returned(outcome, answering(CHAT, "[EMAIL_ADDRESS_1] [EMAIL_ADDRESS_2]"), [])
    assert content_of(CHAT, got, streamed=False)[0] == f"[EMAIL_ADDRESS_1] {MAIL}"


def test_a_placeholder_is_told_however_it_is_written() -> None:
    body = json.dumps(asking(CHAT, "FORGED", MAIL)).replace("FORGED", r"\u005bEMAIL_ADDRESS_1]")
    mask = Mask(DIALECTS[CHAT].parse(body.encode()), frozenset({"EMAIL_ADDRESS"}))
    assert dict(mask.originals) == {"[EMAIL_ADDRESS_2]": MAIL}


def test_a_value_that_is_split_over_blocks_is_masked(router: Router) -> None:
    content = [{"type": "text", "text": "It is 4111 1111"}, {"type": "text", "text": " 1111 1111."}]
    outcome = router.forward(CHAT, {"model": "cloud", "messages": [{"role": "user", "content": content}]})
    assert json.loads(sent(outcome))["messages"][0]["content"] == [
        {"type": "text", "text": "[CREDIT_CARD_1]"},
        {"type": "text", "text": "[CREDIT_CARD_2]"},
    ]


def test_of_two_values_in_one_place_the_longer_that_is_whole_is_masked(router: Router) -> None:
    outcome = router.forward(CHAT, asking(CHAT, "a@b.example, a@b.example.org", "xa@b.example.organ a@b.example.org"))
    turns = [each["content"] for each in json.loads(sent(outcome))["messages"][1:]]
    assert turns == ["[EMAIL_ADDRESS_1], [EMAIL_ADDRESS_2]", "[EMAIL_ADDRESS_3] [EMAIL_ADDRESS_2]"]


def test_very_many_values_are_masked(router: Router) -> None:
    mails = " ".join(f"u{number}@mail.example" for number in range(20_000))
    outcome = router.forward(CHAT, asking(CHAT, mails))
    assert b"mail.example" not in outcome.body and b"[EMAIL_ADDRESS_20000]" in outcome.body


def test_what_the_operator_tells_a_model_stays(router: Router) -> None:
    assert "Write to help@shop.example." in sent(router.forward(CHAT, asking(CHAT, "Be brief.", CARD)))


def test_a_disguised_value_takes_its_line_with_it(router: Router) -> None:
    outcome = router.forward(CHAT, asking(CHAT, "x", "hello\npay 4111\u200b1111\u200b1111\u200b1111 now\nbye"))
    assert json.loads(sent(outcome))["messages"][-1]["content"] == "hello\n[CREDIT_CARD_1]\nbye"


def test_a_trusted_model_reads_what_was_said(tmp_path: Path) -> None:
    router = Router(tmp_path, "{trusted_models: [own]}")
    for model, text, masked in (
        ("MoM", "in house: ", False),
        ("MoM", "", True),
        ("own", "", False),
        ("cloud", "", True),
    ):
        outcome = router.forward(CHAT, asking(CHAT, "x", text + CARD, model=model))
        # A body that nothing changes is not sent back.
        assert (outcome.body is not None and CARD not in sent(outcome)) is masked
        assert ("x-vsr-masked" in outcome.response_headers) is masked


def test_a_shadow_masks_nothing(tmp_path: Path) -> None:
    outcome = Router(tmp_path, "{shadow: true}").forward(CHAT, asking(CHAT, "x", CARD))
    assert CARD in sent(outcome)
    assert outcome.response_headers["x-vsr-would-block"] == "nobody else's affair"


def test_tokens_cannot_be_masked(tmp_path: Path) -> None:
    assert getattr(Router(tmp_path).send("/v1/completions", {"model": "cloud", "prompt": [1]}), "status", 0) == 503
    router = Router(tmp_path, "{on_unknown: ignore}")
    assert isinstance(router.send("/v1/completions", {"model": "cloud", "prompt": [1]}), Forward)


def test_embeddings_are_of_the_placeholders(router: Router) -> None:
    outcome = router.forward("/v1/embeddings", {"model": "cloud", "input": [f"of {MAIL}"]})
    assert json.loads(sent(outcome))["input"] == ["of [EMAIL_ADDRESS_1]"]


def test_numbers_in_arguments_become_strings_and_these_stay_json(router: Router) -> None:
    arguments = {"card": 4111111111111111, "sum": 12.5, MAIL: [MAIL, None]}
    for path in (CHAT, MESSAGES, RESPONSES):
        text = sent(router.forward(path, asking(path, "x", "y", arguments=arguments)))
        assert "4111111111111111" not in text and MAIL not in text
        changed = json.dumps({"card": "[CREDIT_CARD_1]", "sum": 12.5, "[EMAIL_ADDRESS_1]": ["[EMAIL_ADDRESS_1]", None]})
        places = json.loads(text).get("messages") or json.loads(text)["input"]
        call = places[-2].get("arguments") or json.dumps(places[-2].get("content", [{}])[0].get("input", ""))
        if path == CHAT:
            call = places[-2]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(call) == json.loads(changed)


@pytest.mark.parametrize("path", PATHS)
def test_a_placeholder_comes_back_however_it_is_cut(path: str) -> None:
    """Between two deltas at every character, and between two pieces of the body at every byte."""
    dialect = DIALECTS[path]
    mask = Mask(dialect.parse(json.dumps(asking(path, "x", f"Mail {MAIL}.")).encode()), frozenset({"EMAIL_ADDRESS"}))
    text = "To [EMAIL_ADDRESS_1], [EMAIL_ADDRESS_2] and [[EMAIL_ADDRESS_1]"
    expected = text.replace("[EMAIL_ADDRESS_1]", MAIL)

    def got(*pieces: bytes) -> str:
        restored = mask.values.restored(dialect.ANSWER, streamed=True)
        assert restored is not None
        body = b"".join(restored.feed(piece) for piece in pieces[:-1]) + restored.feed(pieces[-1], last=True)
        return content_of(path, body, streamed=True)[0]

    for place in range(len(text) + 1):
        assert got(streaming(path, [text[:place], text[place:]])) == expected
    stream = streaming(path, [text[:10], text[10:]])
    for place in range(len(stream) + 1):
        assert got(stream[:place], stream[place:]) == expected
    assert got(*(bytes([byte]) for byte in stream)) == expected


def test_text_that_may_become_a_placeholder_is_not_lost_at_the_end(router: Router) -> None:
    for path in PATHS:
        outcome = router.forward(path, asking(path, "x", f"Mail {MAIL}."))
        stream = streaming(path, ["see [EMAIL_", "ADD"])
        assert (
            content_of(path, returned(outcome, stream, [], "text/event-stream"), streamed=True)[0] == "see [EMAIL_ADD"
        )


def test_values_are_written_as_json_where_json_is_asked_for(router: Router) -> None:
    secret = "a8f5f167\\f44f4964"
    body = asking(CHAT, "x", f"password: {secret}", response_format={"type": "json_object"})
    got = returned(router.forward(CHAT, body), answering(CHAT, '{"it": "[API_KEY_1]"}'), [])
    assert json.loads(content_of(CHAT, got, streamed=False)[0]) == {"it": secret}
    body.pop("response_format")
    got = returned(router.forward(CHAT, body), answering(CHAT, "it is [API_KEY_1]"), [])
    assert content_of(CHAT, got, streamed=False)[0] == f"it is {secret}"


# --- generated conversations -----------------------------------------------------------------------------------------

WORDS = [
    *["please", "send", "it", "to", "the", "bank", "of", "[my]", "{friend}", "or", "call", "back", "this", "number"],
    *('"today"', "me\nagain", "\u00fcnder", "\\", "[EMAIL_"),
]


def digits(generator: random.Random, count: int) -> str:
    return "".join(generator.choice("123456789") for _ in range(count))


def card(generator: random.Random) -> str:
    """By Luhn."""
    head = "4" + digits(generator, 14)
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(head)]
    head += str(-sum(number - 9 if number > 9 else number for number in doubled) % 10)
    return generator.choice([head, " ".join(head[at : at + 4] for at in range(0, 16, 4))])


def iban(generator: random.Random) -> str:
    account = digits(generator, 18)
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02}{account}"


def value(generator: random.Random) -> str:
    return generator.choice(
        [
            lambda: f"{generator.choice(['jo', 'an.na', 'x+y'])}{digits(generator, 3)}@mail.example",
            lambda: card(generator),
            lambda: iban(generator),
            lambda: f"+44 20 7946 {digits(generator, 4)}",
            lambda: f"123-45-{digits(generator, 4)}",
            lambda: f"sk-{digits(generator, 10)}abcdefghij{digits(generator, 10)}",
        ]
    )()


def text(generator: random.Random, values: list[str]) -> str:
    words = [generator.choice(WORDS) for _ in range(generator.randint(1, 12))]
    for each in generator.sample(values, min(len(values), generator.randint(0, 3))):
        words.insert(generator.randint(0, len(words)), f" {each} ")
    return " ".join(words)


def pieces(generator: random.Random, whole: str) -> list[str]:
    """``whole`` in pieces of one to nine characters."""
    cut, start = [], 0
    while start < len(whole):
        end = start + generator.randint(1, 9)
        cut.append(whole[start:end])
        start = end
    return cut


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_generated_conversations_come_back_whole(
    tmp_path: Path, path: str, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """125 conversations in each of four APIs, streamed and whole: 1,000."""
    caplog.set_level(logging.DEBUG)
    router, every = Router(tmp_path), set[str]()
    for seed in range(125):
        generator = random.Random(f"{path} {seed}")
        values = [value(generator) for _ in range(generator.randint(1, 5))]
        every.update(values)
        contents = [text(generator, values) for _ in range(generator.randint(2, 6))]
        arguments = {"to": text(generator, values), "deep": [{"x": generator.choice(values)}]}
        body = asking(path, *contents, arguments=arguments, model=generator.choice(["MoM", "cloud", "quick"]))
        outcome = router.forward(path, body)
        masked = json.loads(sent(outcome))
        assert not [each for each in values if each in sent(outcome)], seed

        # The model repeats all that it was told last, and calls a tool with it.
        if path == "/v1/completions":
            reply, called = masked["prompt"], None
            expected: tuple[str, Any] = (body["prompt"], None)
        else:
            reply, called = _told(path, masked, len(contents) - 2)
            expected = (contents[-1], arguments)
        if "x-vsr-masked" not in outcome.response_headers:
            continue
        if streamed:
            cut = pieces(generator, reply), pieces(generator, called) if called else None
            answer, kind = streaming(path, *cut), "text/event-stream"
        else:
            answer, kind = answering(path, reply, called), "application/json"
        cuts = sorted(generator.sample(range(1, len(answer)), 12))
        got = returned(outcome, answer, cuts, kind)
        assert content_of(path, got, streamed=streamed) == expected, seed
    assert len(every) > 250
    output = router.written() + caplog.text
    assert not [each for each in every if each in output]
    assert "[CREDIT_CARD_1]" in output


def _told(path: str, masked: dict[str, Any], place: int) -> tuple[str, str]:
    """The text of the turn at ``place`` behind the system text, and the arguments of the call."""
    if path == MESSAGES:
        messages = masked["messages"]
        return messages[place]["content"], json.dumps(messages[-2]["content"][0]["input"])
    if path == RESPONSES:
        return masked["input"][place]["content"], masked["input"][-2]["arguments"]
    messages = [message for message in masked["messages"] if message["role"] != "system"]
    return messages[place]["content"], messages[-2]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rules: {type: pii, name: personal}", "rules: {type: keyword, name: ours}", "needs a rule of type `pii`"),
        ("configuration: SETTINGS", "configuration: {trusted_models: [onw]}", "did you mean `own`"),
        ("type: mask, configuration: SETTINGS", "type: confine", "`confine` needs modelRefs"),
    ],
)
def test_what_cannot_act_does_not_load(old: str, new: str, message: str) -> None:
    config = CONFIG.replace(old, new).replace("SETTINGS", "{}").replace("AUDIT", "/tmp/x")
    with pytest.raises(ConfigError, match=message):
        loads(config)
