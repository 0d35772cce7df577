"""What protection does with a request holds for each candidate that is asked: nobody sees what it must not see."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from backends import PATHS, answering, asking, content_of, streaming
from test_fallback import Gateway, document, sent_to

from triton_router import names
from triton_router.exchange import Forward, Outcome, Reply

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@mail.example"
PROMPT = f"Charge {CARD} and write to {MAIL}."


def protected(*guards: dict[str, Any], refs: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Any]:
    """A chain over ``refs``, for prompts with personal data, with decisions that protect."""
    written = document({}, *refs)
    types = {"card": "CREDIT_CARD", "mail": "EMAIL_ADDRESS"}
    written["routing"]["signals"] = {
        "pii": [{"name": name, "pii_types_denied": [type]} for name, type in types.items()],
        "keywords": [{"name": "any", "keywords": ["charge"]}],
    }
    written["routing"]["decisions"] = [*guards, *written["routing"]["decisions"]]
    return written


def mask(signal: str, *trusted: str) -> dict[str, Any]:
    plugin = {"type": "mask", "configuration": {"trusted_models": list(trusted)}}
    return {"name": f"mask {signal}", "rules": {"type": "pii", "name": signal}, "plugins": [plugin]}


def confine(*refs: str) -> dict[str, Any]:
    models = [{"model": ref, "score": 9 - index} for index, ref in enumerate(refs)]
    return {"name": "confine", "rules": {"type": "keyword", "name": "any"}, "modelRefs": models,
            "plugins": [{"type": "confine"}]}  # fmt: skip


def chat(prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": prompt}], **more}


def received(outcome: Outcome, path: str, text: str, *, streamed: bool = False) -> bytes:
    """What the client gets of a response that says ``text``."""
    assert isinstance(outcome, Forward) and outcome.observer is not None
    observer = outcome.observer
    answer = streaming(path, [text[:9], text[9:]]) if streamed else answering(path, text)
    kind = "text/event-stream" if streamed else "application/json"
    assert observer.on_headers(200, {"content-type": kind})
    got = observer.on_body(answer, last=True)
    observer.on_complete()
    return answer if got is None else got


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_the_next_candidate_sees_the_placeholders_and_the_client_the_values(path: str, streamed: bool) -> None:
    gateway = Gateway(protected(mask("card"), mask("mail")))
    request, first = gateway.send(asking(path, "auto", PROMPT) | {"stream": streamed}, path)
    request, second = gateway.bring_back(request, first)
    _, third = gateway.bring_back(request, second)
    assert [sent_to(each) for each in (first, second, third)] == ["a", "b", "c"]
    for outcome in (second, third):
        assert isinstance(outcome, Forward) and outcome.body is not None
        assert b"[CREDIT_CARD_1]" in outcome.body and b"[EMAIL_ADDRESS_1]" in outcome.body
        assert b"4111" not in outcome.body and b"jane" not in outcome.body
        assert outcome.response_headers[names.MASKED] == "mask card,mask mail"
        got = received(outcome, path, "Done: [CREDIT_CARD_1], [EMAIL_ADDRESS_1].", streamed=streamed)
        assert content_of(path, got, streamed=streamed)[0] == f"Done: {CARD}, {MAIL}."


@pytest.mark.parametrize(
    ("trusted", "models"), [(["a", "c"], ["a", "c"]), (["b"], ["a", "b", "c"]), ([], ["a", "b", "c"]), (["a"], ["a"])]
)
def test_what_went_out_unmasked_goes_to_those_alone_who_may_see_it(trusted: list[str], models: list[str]) -> None:
    assert list(Gateway(protected(mask("card", *trusted))).models_tried("503 ", chat())) == models


@pytest.mark.parametrize(
    ("card", "models"), [(["a"], ["a"]), (["a", "c"], ["a", "c"]), (["a", "b", "c"], ["a", "b", "c"])]
)
def test_of_two_masks_the_one_that_was_not_applied_bounds_the_candidates(card: list[str], models: list[str]) -> None:
    """Model `a` may see the card, nobody the address."""
    gateway = Gateway(protected(mask("card", *card), mask("mail")))
    assert list(gateway.models_tried("503 ", chat())) == models
    _, first = gateway.send(chat())
    assert isinstance(first, Forward) and first.body is not None and CARD.encode() in first.body


def test_confined_requests_stay_with_their_models_masked_or_not() -> None:
    for guards in ([confine("a", "c")], [confine("a", "c"), mask("card")]):
        assert list(Gateway(protected(*guards)).models_tried("503 ", chat())) == ["a", "c"]
    assert list(Gateway(protected(confine("b"))).models_tried("503 ", chat())) == ["b"]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_the_answer_of_the_next_candidate_is_screened(path: str, own: bool) -> None:
    screen = {"type": "response_pii", "configuration": {"action": "mask"}}
    written = protected(*([] if own else [{"name": "no leaks", "plugins": [screen]}]))
    if own:
        written["routing"]["decisions"][-1]["plugins"] = [screen]
    gateway = Gateway(written)
    request, first = gateway.send(asking(path, "auto", "hello"), path)
    _, second = gateway.bring_back(request, first)
    assert sent_to(second) == "b"
    got = received(second, path, f"The card is {CARD}.")
    assert content_of(path, got, streamed=False)[0] == "The card is [CREDIT_CARD]."


def test_what_would_have_been_blocked_is_still_said() -> None:
    rules = {"type": "keyword", "name": "any"}
    block = {"name": "b", "rules": rules, "plugins": [{"type": "block", "configuration": {"shadow": True}}]}
    gateway = Gateway(protected(block))
    request, first = gateway.send(chat())
    _, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward) and second.response_headers[names.WOULD_BLOCK] == "b"


def test_a_screen_that_a_reload_took_away_refuses_the_next_candidate() -> None:
    screen = {"name": "no leaks", "plugins": [{"type": "response_pii"}]}
    before, after = Gateway(protected(screen)), Gateway(protected())
    request, first = before.send(chat())
    refused = asyncio.run(after.pipeline.route(after.brought_back(request, first)))
    assert isinstance(refused, Reply) and refused.status == 503
    assert json.loads(refused.body)["error"]["code"] == "protection_unavailable"


@pytest.mark.parametrize("count", [20, 400])
def test_more_values_than_a_header_holds_have_one_candidate(count: int) -> None:
    prompt = " ".join(f"person{number}@mail.example" for number in range(count))
    models = list(Gateway(protected(mask("mail"))).models_tried("503 ", chat(prompt)))
    assert models == (["a", "b", "c"] if count == 20 else ["a"])


@pytest.mark.parametrize("odd", ["\x7f", "\ud800", "ä", "\n", "%7F"])
def test_whatever_stands_in_a_value_comes_back(odd: str) -> None:
    """A disguised value is masked as its whole line."""
    line = f"{odd} 4111\u200b1111\u200b1111\u200b1111 {odd}"
    gateway = Gateway(protected(mask("card"), refs=("a", "b")))
    request, first = gateway.send(chat(line, chat_template_kwargs={"x": odd}))
    _, second = gateway.bring_back(request, first)
    assert isinstance(second, Forward) and second.body is not None
    sent = json.loads(second.body)
    assert sent["chat_template_kwargs"] == {"x": odd}
    placeholders = sent["messages"][0]["content"]
    got = json.loads(received(second, names.CHAT_PATH, placeholders))
    assert got["choices"][0]["message"]["content"] == line


def test_a_cheaper_candidate_is_one_that_may_see_the_request() -> None:
    written = protected(confine("a", "b"), mask("card"))
    for model, price in zip(written["providers"]["models"], (9, 9, 1), strict=True):
        model["pricing"] = {"prompt_per_1m": price}
    rule = {"name": "r", "per": [], "unit": "month", "requests_per_unit": 0, "on_exceeded": "cheaper"}
    providers = [{"type": "local-limiter", "rules": [rule]}]
    written["global"] = {"services": {"ratelimit": {"providers": providers}}}
    assert sent_to(Gateway(written).send(chat())[1]) in ("a", "b")
