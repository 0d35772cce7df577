"""Keyword signals."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinds import evaluate, made

from triton_router.config import expressions
from triton_router.config.signals import KeywordSignal
from triton_router.parts import normalised
from triton_router.signals import Evaluation
from triton_router.signals.keyword import Keywords, problems

WORDS = ["step by step", "Straße", "解释", "C++", "a.c", "İ", "été", "b解", "_", "한국", "かな"]
MODES = ("substring", "word", "regex", "fuzzy")
OPERATORS: dict[str, Callable[[list[bool]], bool]] = {
    "OR": any,
    "AND": all,
    "NOR": lambda hits: not any(hits),
}

# Few letters and many bounds, so that prompts and keywords meet often. Lone surrogates come in prompts only.
texts = st.text("abAB ßé_1+.解か한々\ud800\x01ſ", max_size=24) | st.text(max_size=12)
keywords = st.text("abAB ßé_1+.解か한々", min_size=1, max_size=5) | st.sampled_from(WORDS)
keyword_lists = st.lists(keywords, min_size=1, max_size=4)
patterns = st.sampled_from([r"a+b", r"\bab\b", "^a", r"[ab]\d", "a|解", "b.a", r"(?i)AB", r"\pL1", r"é$", "(?-i)A"])


def match(text: str, **settings: Any) -> bool | None:
    signal = KeywordSignal(name="s", **settings)
    return evaluate(made(Keywords, [signal]), text)["keyword", "s"].matched


def folded(text: str, case_sensitive: bool) -> str:
    text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text if case_sensitive else text.casefold()


def spelt(text: str, case_sensitive: bool) -> str:
    """As texts and literal keywords are compared; a keyword of nothing but marks that are not seen stays."""
    return folded(normalised(folded(text, True)) or text, case_sensitive)


def in_words(character: str) -> bool:
    return character.isalnum() or character == "_"


def unspaced(character: str) -> bool:
    number = ord(character)
    ranges = [
        (0x1100, 0x11FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF),
        (0xF900, 0xFAFF), (0xFF66, 0xFFDC), (0x20000, 0x3FFFF),
    ]  # fmt: skip
    return any(first <= number <= last for first, last in ranges)


def bound(text: str, place: int) -> bool:
    """Whether a word may begin or end before the character at ``place``."""
    beside = text[max(place - 1, 0) : place + 1] if 0 < place < len(text) else ""
    return not (len(beside) == 2 and all(in_words(each) and not unspaced(each) for each in beside))


def is_in(word: str, text: str) -> bool:
    return word in text


def is_a_word_of(word: str, text: str) -> bool:
    return any(
        text.startswith(word, start) and bounds_hold(word, text, start) for start in range(len(text) - len(word) + 1)
    )


def bounds_hold(word: str, text: str, start: int) -> bool:
    # Punctuation of a keyword may stand beside anything.
    begins = not in_words(word[0]) or bound(text, start)
    ends = not in_words(word[-1]) or bound(text, start + len(word))
    return begins and ends


def split(text: str) -> list[str]:
    words = [""]
    for character in text:
        if unspaced(character):
            words += [character, ""]
        elif in_words(character):
            words[-1] += character
        else:
            words.append("")
    return [word for word in words if word]


def distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != right))
    return row[-1]


def is_nearly_in(word: str, text: str, edits: int) -> bool:
    pattern, words = split(word), split(text)
    phrase, count = " ".join(pattern), len(pattern)
    most = min(edits, len(word) // 3, len(phrase) // 3)
    runs = [" ".join(words[start : start + count]) for start in range(len(words) - count + 1)]
    return bool(pattern) and any(distance(phrase, run) <= most for run in runs)


@pytest.mark.parametrize(
    ("operator", "text", "expected"),
    [
        ("OR", "red", True), ("OR", "green", False), ("AND", "red and blue", True), ("AND", "red", False),
        ("NOR", "green", True), ("NOR", "blue", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_operators(mode: str, operator: str, text: str, expected: bool) -> None:
    assert match(text, match=mode, operator=operator, keywords=("red", "blue")) is expected


@pytest.mark.parametrize("mode", MODES)
def test_letter_case_counts_only_on_request(mode: str) -> None:
    assert match("Think STEP BY STEP", match=mode, keywords=("step by step",))
    assert not match("Think STEP BY STEP", match=mode, keywords=("step by step",), case_sensitive=True)


def test_folded_letters_are_the_same_letters() -> None:
    assert match("STRASSE", keywords=("straße",))
    assert match("Die STRASSE!", match="word", keywords=("straße",))


def test_keywords_are_text_not_patterns() -> None:
    assert not match("abc", keywords=("a.c",))
    assert match("learn c++ fast", keywords=("C++",))


@pytest.mark.parametrize(
    ("keyword", "text", "expected"),
    [
        ("art", "the art of", True), ("art", "start", False), ("art", "arts", False), ("art", "art", True),
        ("art", "state_of_art", False), ("art", "«art»", True), ("c++", "c++ or c", True), ("c++", "abc++", False),
        ("caf", "café", False), ("été", "cet été-là", True), ("été", "étés", False),
        ("解释", "请解释一下", True), ("GPU", "什么是GPU吗", True), ("GPU", "什么是GPUs吗", False),
        ("서울", "서울에서", True), ("art", "art\x01", True), ("two words", "in two words", True),
        ("two words", "in two wordsmiths", False),
    ],
)  # fmt: skip
def test_whole_words(keyword: str, text: str, expected: bool) -> None:
    assert match(text, match="word", keywords=(keyword,)) is expected


@pytest.mark.parametrize(
    ("keyword", "text", "expected"),
    [
        ("photosynthesis", "explain photosyntesis", True), ("photosynthesis", "explain photography", False),
        ("cat", "a car", True), ("it", "is", False), ("c++", "a b c", True), ("c++", "a b d", False),
        ("machine learning", "what is machne lerning?", True), ("machine learning", "machine", False),
        ("解释", "请解释一下", True), ("解释", "请解放一下", False), ("量子计算", "什么是量子计祘", True),
        ("++", "++", False),
    ],
)  # fmt: skip
def test_letters_may_be_wrong_in_proportion_to_the_word(keyword: str, text: str, expected: bool) -> None:
    assert match(text, match="fuzzy", keywords=(keyword,)) is expected


def test_edits_are_as_many_as_said() -> None:
    assert match("photosyntesis", match="fuzzy", keywords=("photosynthesis",), fuzzy_threshold=1)
    assert not match("fotosyntesis", match="fuzzy", keywords=("photosynthesis",), fuzzy_threshold=1)
    assert not match("photosyntesis", match="fuzzy", keywords=("photosynthesis",), fuzzy_threshold=0)


def test_expressions_that_re2_does_not_take_are_named() -> None:
    signal = KeywordSignal(name="mail", match="regex", keywords=("fine", "(?=no)", "(open"))
    first, second = problems(signal)
    assert "`mail`" in first and "`(?=no)`" in first
    assert "`(open`" in second
    with pytest.raises(ValueError, match="mail"):
        made(Keywords, [signal])
    assert problems(KeywordSignal(name="text", keywords=("(open",))) == []


def test_expressions_that_are_too_many_for_re2_are_refused_not_unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "MEMORY", 2**20)
    signal = KeywordSignal(name="s", match="regex", keywords=tuple(rf"\pL{{1,5}} {n}" for n in range(40)))
    assert problems(signal) == []
    with pytest.raises(ValueError, match="too large"):
        made(Keywords, [signal])


def test_expressions_take_time_in_proportion_to_the_text() -> None:
    # Exponential for a matcher that backtracks; that it comes back at all is the proof.
    assert not match("a" * 4000, match="regex", keywords=("(a+)+$b",))


def test_lone_surrogates_are_no_letters_of_any_keyword() -> None:
    for mode in MODES:
        assert match("red \ud83d blue", match=mode, keywords=("blue",))
    assert not match("really\ud800", keywords=("?",))


def test_signals_with_the_same_keyword_all_hear_of_it() -> None:
    signals = [
        KeywordSignal(name=f"{mode}-{operator}", match=mode, operator=operator, keywords=("Red", "red", "blue"))
        for mode in MODES
        for operator in OPERATORS
    ]  # fmt: skip
    evaluations = evaluate(made(Keywords, signals), "red")
    assert {name for (_, name), evaluation in evaluations.items() if evaluation.matched} == {
        f"{mode}-OR" for mode in MODES
    }
    # Keywords that differ only in what is not compared are one; expressions are compared as they are written.
    assert {name: evaluation.measure for (_, name), evaluation in evaluations.items()} == {
        signal.name: 2 if signal.match == "regex" else 1 for signal in signals
    }


def test_evaluations_say_what_was_found() -> None:
    (evaluation,) = evaluate(made(Keywords, [KeywordSignal(name="s", keywords=("a", "b", "c"))]), "a b").values()
    assert (evaluation.matched, evaluation.value, evaluation.threshold, evaluation.measure) == (True, 1.0, None, 2)
    assert evaluation.ms > 0
    assert evaluate(made(Keywords, []), "a") == {}


def test_only_fuzzy_signals_load_what_they_need() -> None:
    program = """
import sys
from triton_router.config.signals import KeywordSignal
from kinds import made
from triton_router.signals import Evaluation
from triton_router.signals.keyword import Keywords
for mode in ("word", "fuzzy"):
    made(Keywords, [KeywordSignal(name="s", match=mode, keywords=("red",))])
    print("rapidfuzz" in sys.modules)
"""
    command, here = [sys.executable, "-c", program], Path(__file__).parent
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=here)
    assert ran.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("case_sensitive", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("mode", "oracle"), [("substring", is_in), ("word", is_a_word_of)])
@given(text=texts, words=keyword_lists)
def test_literals_are_found_where_a_naive_search_finds_them(
    mode: str, oracle: Callable[[str, str], bool], operator: str, case_sensitive: bool, text: str, words: list[str]
) -> None:
    hits = [oracle(spelt(word, case_sensitive), spelt(text, case_sensitive)) for word in words]
    settings = {"match": mode, "operator": operator, "case_sensitive": case_sensitive}
    assert match(text, keywords=tuple(words), **settings) is OPERATORS[operator](hits)


@pytest.mark.parametrize("case_sensitive", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
@given(text=texts, words=keyword_lists, edits=st.integers(0, 4))
def test_near_words_are_found_where_a_naive_search_finds_them(
    operator: str, case_sensitive: bool, text: str, words: list[str], edits: int
) -> None:
    hits = [is_nearly_in(spelt(word, case_sensitive), spelt(text, case_sensitive), edits) for word in words]
    settings = {"match": "fuzzy", "operator": operator, "case_sensitive": case_sensitive, "fuzzy_threshold": edits}
    assert match(text, keywords=tuple(words), **settings) is OPERATORS[operator](hits)


@pytest.mark.parametrize("case_sensitive", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
@given(text=st.text("abAB1 é解\ud800", max_size=24), expressions=st.lists(patterns, min_size=1, max_size=4))
def test_expressions_are_found_where_a_backtracking_matcher_finds_them(
    operator: str, case_sensitive: bool, text: str, expressions: list[str]
) -> None:
    hits = [python_finds(expression, folded(text, True), case_sensitive) for expression in expressions]
    settings = {"match": "regex", "operator": operator, "case_sensitive": case_sensitive}
    assert match(text, keywords=tuple(expressions), **settings) is OPERATORS[operator](hits)


def python_finds(expression: str, text: str, case_sensitive: bool) -> bool:
    # What RE2 writes otherwise: classes of Unicode, flags for the rest of the expression, the very end.
    flags = re.NOFLAG if case_sensitive or expression == "(?-i)A" else re.IGNORECASE
    python = expression.replace(r"\pL", "[abABé解]").replace("(?-i)", "").replace("$", r"\Z")
    python = re.sub(r"\\b", r"(?a:\\b)", python)
    return re.search(python, text, flags) is not None


def one(text: str, signal: KeywordSignal) -> Evaluation:
    return evaluate(made(Keywords, [signal]), text)["keyword", signal.name]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("please help debugging my functions", 2),
        ("Implementing an ALGORITHM", 2),
        ("a functional decoder", 1),
        ("the and of", 0),
        ("", 0),
    ],
)
def test_stems_find_other_forms_of_english_words(text: str, count: int) -> None:
    words = ["debug", "function", "implement", "algorithm"]
    evaluation = one(text, KeywordSignal(name="k", keywords=tuple(words), match="bm25"))
    assert (evaluation.matched, evaluation.measure) == (count > 0, count)


def test_a_score_under_the_threshold_is_no_match() -> None:
    # One keyword of one: ln(1 + 0.5 / 1.5) = 0.2877, and its term's part is 1.
    for threshold, matched in ((0.28, True), (0.29, False)):
        signal = KeywordSignal(name="k", keywords=("encryption",), match="bm25", bm25_threshold=threshold)
        assert one("encrypt this", signal).matched is matched


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("this is urgnt", True),
        ("an emergancy", True),
        ("do it right nw", True),
        ("a cat sat on the mat", False),
        ("", False),
    ],
)
def test_words_that_share_letters(text: str, matched: bool) -> None:
    signal = KeywordSignal(name="k", keywords=("urgent", "emergency", "right now"), match="ngram")
    assert one(text, signal).matched is matched


def test_similarity_of_shared_letters_by_hand() -> None:
    # "  abc  " and "  abd  " have 5 runs of three letters each: "  a" and " ab" are shared, of 8 different ones.
    # 1 - (1 - 2/8) ** 2 = 0.4375
    for threshold, matched in ((0.43, True), (0.44, False)):
        signal = KeywordSignal(name="k", keywords=("abc",), match="ngram", ngram_threshold=threshold)
        assert one("abd", signal).matched is matched
