"""Events: what an alert names, by whole words."""

from __future__ import annotations

import pytest
from kinds import evaluate, made

from triton_router.config.signals import EventSignal
from triton_router.signals.event import Events

SIGNAL = {"name": "e", "event_types": ["payment_failed"], "severities": ["critical"], "action_codes": ["TXN-1"]}


@pytest.mark.parametrize(
    ("text", "matched", "value"),
    [
        ("payment_failed for order 7", True, 0.5 + 0.5 / 4),
        ("CRITICAL: Payment_Failed (txn-1), asap", True, 1.0),
        ("支付payment_failed错误", True, 0.5 + 0.5 / 4),
        ("a critically acclaimed film", False, 0.0),
        ("payment_failed_again", False, 0.0),
        ("please answer now", True, 0.5 + 0.5 / 4),
        ("", False, 0.0),
    ],
)
def test_one_criterion_is_enough_and_each_more_makes_it_surer(text: str, matched: bool, value: float) -> None:
    kind = made(Events, [EventSignal.model_validate({**SIGNAL, "temporal": True})])
    evaluation = evaluate(kind, text)["event", "e"]
    assert (evaluation.matched, evaluation.value) == (matched, pytest.approx(value))


def test_nothing_to_look_for_never_matches() -> None:
    assert evaluate(made(Events, [EventSignal(name="e")]), "critical, now")["event", "e"].matched is False
