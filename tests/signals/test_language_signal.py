"""Language signals, and scripts that an encoder may not read."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import evaluate, made

from triton_router.config.signals import LanguageSignal
from triton_router.inference.language import foreign_script
from triton_router.signals import Evaluation
from triton_router.signals.language import SCANNED, Languages

SENTENCES = {
    "en": "Explain in simple terms how a vaccine trains the immune system.",
    "de": "Bitte erkläre mir in einfachen Worten, wie eine Impfung wirkt.",
    "fr": "Peux-tu m'expliquer simplement comment fonctionne un vaccin ?",
    "ru": "Объясни простыми словами, как прививка обучает иммунитет.",
    "zh": "请简单解释一下疫苗是怎样训练免疫系统的。",
    "ja": "ワクチンが免疫をどのように鍛えるのか、簡単に説明してください。",
    "ko": "백신이 면역 체계를 어떻게 훈련시키는지 쉽게 설명해 주세요.",
    "ar": "اشرح لي بكلمات بسيطة كيف يدرب اللقاح جهاز المناعة.",
}


def detected(text: str, *names: str, **settings: Any) -> dict[str, Evaluation]:
    signals = [LanguageSignal(name=name, **settings) for name in names]
    return {name: evaluation for (_, name), evaluation in evaluate(made(Languages, signals), text).items()}


@pytest.mark.parametrize("language", SENTENCES)
def test_each_language_is_told_from_the_others(language: str) -> None:
    evaluations = detected(SENTENCES[language], *SENTENCES)
    assert [name for name, evaluation in evaluations.items() if evaluation.matched] == [language]
    assert evaluations[language].value > 0.9
    assert sum(evaluation.value for evaluation in evaluations.values()) <= 1 + 1e-9


def test_languages_that_are_not_declared_compete() -> None:
    evaluations = detected(SENTENCES["de"], "en", "fr", threshold=0.0)
    assert not any(evaluation.matched for evaluation in evaluations.values())


def test_a_language_that_nobody_can_tell_never_matches() -> None:
    (evaluation,) = detected(SENTENCES["en"], "xx", threshold=0.0).values()
    assert (evaluation.matched, evaluation.value) == (False, 0.0)


def test_the_detected_language_must_be_sure_enough() -> None:
    text = "Привет, как дела"
    (sure,) = detected(text, "ru", threshold=0.3).values()
    (unsure,) = detected(text, "ru", threshold=0.99).values()
    assert 0.3 < sure.value < 0.99
    assert (sure.matched, unsure.matched) == (True, False)
    assert (unsure.value, unsure.threshold) == (sure.value, 0.99)


@pytest.mark.parametrize("text", ["", "ok", "12 + 30 = ?", "½ ² ①", "🙂🙂🙂🙂", "\ud800\ud800\ud800"])
def test_without_letters_there_is_no_language(text: str) -> None:
    for evaluation in detected(text, "en", "zh", "dz", threshold=0.0).values():
        assert (evaluation.matched, evaluation.value, evaluation.measure) == (False, 0.0, None)


def test_only_the_beginning_is_read() -> None:
    text = SENTENCES["en"] * (SCANNED // len(SENTENCES["en"]) + 1)
    evaluations = detected(text + SENTENCES["zh"] * 1000, "en", "zh")
    assert evaluations["en"].matched and not evaluations["zh"].matched


@given(st.text(st.characters(), max_size=60))
def test_every_text_can_be_read(text: str) -> None:
    for evaluation in evaluate(detector, text).values():
        assert 0 <= evaluation.value <= 1 + 1e-9
    assert foreign_script(text) in (True, False)


detector = made(Languages, [LanguageSignal(name=name) for name in SENTENCES])


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(RuntimeError, match=r"triton-router\[language\]"):
        made(Languages, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SENTENCES["en"], False), (SENTENCES["de"], False), (SENTENCES["ru"], True), (SENTENCES["zh"], True),
        (SENTENCES["ar"], True), ("Việt ngữ: tiếng Việt", False), ("", False), ("123 ½ ² ①", False), ("Ａｂｃ", False),
        ("2 × 3 ÷ α", True), ("ab 解释", True), ("什么是 Kubernetes？", True), ("What does 你好 mean?", False),
        ("🙂 ok", False), ("a" * SCANNED + "解" * SCANNED * 2, False), ("\ud800", False),
    ],
)  # fmt: skip
def test_most_letters_decide_the_script(text: str, expected: bool) -> None:
    assert foreign_script(text) is expected
