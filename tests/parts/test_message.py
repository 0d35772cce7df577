"""Shapes that nobody listed: tags of any name, fences, quotes, logs, labels, position."""

from __future__ import annotations

import pytest

from triton_router.dialects import Turn
from triton_router.parts import Part, PartReader, Parts

QUESTION = "Why did the Roman Republic fall?"
ARTICLE = "\n\n".join(
    f"Paragraph {number} reports on the harbour. Ships came and went, cranes moved loads, and nobody was in a hurry."
    for number in range(12)
)


def read(*texts: str) -> Parts:
    turns = [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    return PartReader().read_turns(turns)


def kinds(parts: Parts, kind: str) -> list[str]:
    return [part.text for part in parts.judged if part.kind == kind]


@pytest.mark.parametrize(
    "text",
    [
        f"<desk_state>\nbusy\n</desk_state>\n{QUESTION}",
        f"<desk-state a='1'>\nbusy\n</desk-state>\n\n{QUESTION}\n<hint>none</hint>",
        f"<pack>\n<docs>x</docs>\n<user_query>{QUESTION}</user_query>\n</pack>",
        f"On 2 March 2026, Ines <i@example.org> wrote:\n> The ships are late.\n> They always are.\n\n{QUESTION}",
        f"{QUESTION}\n\n-----Original Message-----\nFrom: Ines\nThe ships are late.\n\nWhat now?",
        f"{QUESTION}\n\nAm 2. März 2026 um 09:14 schrieb Ines <i@example.org>:\nDie Schiffe sind spät.",
        f"From: Ines <i@example.org>\nTo: desk@example.org\nSubject: a question\n\n{QUESTION}",
        f"2026-03-02 {QUESTION}",
        f"[09:14:01] {QUESTION}",
        f"Today's date: 2 March 2026\nTimezone: CET\n\n{QUESTION}",
        f'{{"channel": "desk", "text": "unread"}}\n{QUESTION}',
        f"Sources:\n[1] Ships are late.\n[2] Cranes too.\n\n{QUESTION}",
        f"上下文：{'港口的船很多。' * 9}\n\n问题：{QUESTION}",
        f"{ARTICLE}\n\n{QUESTION}",
        f"{QUESTION}\n\n{ARTICLE}",
        f"{QUESTION}\r\n\r\n> late\r\n> again",
    ],
)
def test_the_persons_words(text: str) -> None:
    assert read(text).words == QUESTION


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        "Is <b>this</b> valid HTML: <div> <p>ships</p> </div>?",
        "What does `<system-reminder>` do? I saw <hint> in a log.",
        "Explain generics: List<String> and Map<K, V>.",
        "The sum of both is even.\n\nWhat follows from it?",
        "Solve: 2x + 3 = 7",
        "a < b and b > c",
        "{not json} at all",
        "回答が間違っています。修正してもう一度答えてください。",
        "答案错了。请改正后再回答一次。",
        "   ",
    ],
)
def test_what_stays_whole(text: str) -> None:
    assert read(text).words.strip() == text.strip()


def test_tags_in_code_are_code() -> None:
    text = f"{QUESTION}\n\n```xml\n<question>\nnot this\n</question>\n```"
    parts = read(text)
    assert parts.words == QUESTION
    assert kinds(parts, "material") == ["```xml\n<question>\nnot this\n</question>\n```"]


def test_a_fence_that_nobody_closed() -> None:
    assert read(f"{QUESTION}\n```\n<question>not this</question>").words == QUESTION


def test_a_message_in_one_tag_is_the_persons() -> None:
    assert read(f"<ask_7>\n{QUESTION}\n</ask_7>").words == QUESTION


def test_of_several_tags_the_one_that_asks() -> None:
    assert read(f"<x7>ships</x7>\n<y7>{QUESTION}</y7>\n<z7>cranes</z7>").words == QUESTION


def test_a_tag_that_nobody_closed_is_text() -> None:
    assert QUESTION in read(f"<hint>\n{QUESTION}").words


def test_an_instruction_and_its_material() -> None:
    report = ARTICLE.replace("\n\n", " ")
    parts = read(f"Summarise this report in two sentences: {report}")
    assert parts.words == "Summarise this report in two sentences:"
    assert kinds(parts, "material") == [report]


def test_a_long_quotation_is_material() -> None:
    parts = read(f'What is the tone of "{"The ships were late again. " * 20}" in your view?')
    assert parts.own == "What is the tone of\nin your view?"
    assert len(kinds(parts, "material")) == 1


def test_material_stands_in_for_words_that_say_nothing() -> None:
    parts = read("What is wrong here?\n\n```python\nfor ship in harbour: ship.unload(\n```")
    assert parts.own == "What is wrong here?"
    assert "ship.unload" in parts.words


def test_logs_are_material() -> None:
    log = (
        "2026-03-02T08:11:04Z INFO started\n2026-03-02T08:11:06Z ERROR refused\nTraceback (most recent call last):\n"
        + ('  File "a.py", line 3, in f')
    )
    parts = read(f"{QUESTION}\n\n{log}")
    assert parts.words == QUESTION
    assert kinds(parts, "material") == [log]


def test_what_repeats_over_turns_is_not_the_persons() -> None:
    house = "Rules of the house: be kind, be brief, and never speak about the weather."
    parts = read(f"{house}\n\nHow do whales sleep?", "Half awake.", f"{house}\n\n{QUESTION}")
    assert parts.words == QUESTION
    assert kinds(parts, "context") == [house]


def test_a_question_asked_again_is_a_question() -> None:
    assert (
        read(f"{QUESTION} Please explain.", "Hm.", f"{QUESTION} Please explain.").words == f"{QUESTION} Please explain."
    )


def test_the_middle_of_a_very_long_text_is_material() -> None:
    parts = read(f"{QUESTION}\n\n{ARTICLE * 100}")
    assert parts.words == QUESTION
    assert any(part.reason == "length" for part in parts.judged)


def test_turns_in_one_text() -> None:
    assert read(f"User: How do whales sleep?\nAssistant: Half awake.\nUser: {QUESTION}\nAssistant:").words == QUESTION


def test_every_part_of_a_conversation() -> None:
    turns = [
        Turn("system", "be kind"),
        Turn("user", f"<hint>x</hint>\n{QUESTION}"),
        Turn("assistant", ""),
        Turn("tool", "README.md"),
        Turn("assistant", "So."),
    ]
    assert list(PartReader().read_turns(turns).all()) == [
        Part("system", "be kind", "role", 0),
        Part("context", "x", "tag hint", 1),
        Part("words", QUESTION, "", 1),
        Part("tool", "README.md", "role", 3),
        Part("assistant", "So.", "role", 4),
    ]


def test_code_without_a_fence_has_no_labels() -> None:
    code = "class Store:\n    def query(self, text):\n        return 1\n\n    def context(self):\n        pass"
    text = f"{QUESTION}\n\n{code}"
    parts = read(text)
    assert not [part for part in parts.judged if part.reason.startswith("label")]
    assert parts.words.startswith(QUESTION)


@pytest.mark.parametrize("question", [r"What is \alpha in physics?", r"\u12 is no letter", r"C:\users is full"])
def test_what_only_looks_like_a_string_of_json(question: str) -> None:
    assert question in read(f'Question: "{question}"\nAnswer:').words
    assert question in read(f'{{\n  "question": "{question}",\n  "answer": ""\n}}').words
