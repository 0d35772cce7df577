"""A person's words that a program repeats or reports, in records and between a template's labels."""

from __future__ import annotations

import pytest

from triton_router.dialects import Turn
from triton_router.parts import PartReader

QUESTION = "Why did the Roman Republic fall?"
POEM = "Write a poem about the sea."
NOISE = "The cranes stand still on Sundays. Ships wait outside of the bay until the pilots come back."
BOXES = "╭─ ls ────────╮\n│ harbour.txt │\n╰─────────────╯"
RAW_MAIL = (
    "Delivered-To: desk@port.example\nReceived: by mx1.port.example;\n Mon, 2 Mar 2026 09:14:05 +0100\n"
    'From: "Ines Roth" <ines@port.example>\nTo: desk@port.example\nSubject: one thing\n\n'
)
RECORD = '<entry>\n<field label="Berth">A1</field>\n<field label="Text of guest">{}</field>\n</entry>'
STEPS = "Question: what you have to solve\nThought: what you mean to do\nAction: one of search, count\n\nBegin!\n\n"


@pytest.mark.parametrize("prompt", [QUESTION, POEM])
@pytest.mark.parametrize(
    "wrapper",
    [
        f"{BOXES}\n❯ {{}}",
        f"# Boats\n\n- [ ] paint the hull\n\n{NOISE}\n\n/ask {{}}",
        f'{NOISE} The captain looks up and says, "{{}}"\nAnswer in character, in two sentences.',
        f"{RAW_MAIL}Hi,\n\n{{}}\n\nBest wishes\nInes\n\n-- \nInes Roth\nHarbour desk",
        "[desk=north uid=u-17 role=clerk zone=Europe/Lisbon] {}",
        "{} [checked=yes policy=2026-02 kept=ten years]",
        "{}\n\n<!-- shop: Lanterns; page: /lamps/l2 -->",
        f'<?xml version="1.0"?>\n{RECORD}',
        f"{RECORD}\nCompose what the desk texts back to the guest.",
        "| Field | Value |\n|---|---|\n| Boat | Petrel |\n| Comment to the desk | {} |\n\nAnswer the comment.",
        "A visitor sent a form.\n\nName: Ines\nBerth: A1\nYour message: {}\nNewsletter: no\nCaptcha score: 0.9",
        f"{STEPS}Question: {{}}\nThought: I search for it.\nAction: search\nThought:",
        "■お客様情報\n会員番号 4471\n\n■お問い合わせ内容\n{}\n\n■ご注意\n料金の話はしない。",
        "Notas del puerto.\n\nEl cliente escribe ahora: {}",
        "[INST] Is A1 free? [/INST] Yes, from Monday. [INST] {} [/INST]",
        "Ines: Is A1 free?\nDesk: From Monday.\nInes: {}\n\nWrite the desk's next message.",
    ],
)
def test_the_persons_words(wrapper: str, prompt: str) -> None:
    assert PartReader().read_turns([Turn("user", wrapper.format(prompt, prompt))]).words == prompt


@pytest.mark.parametrize(
    "text",
    [
        'Socrates said, "I know that I know nothing." What did he mean by that?',
        "My disk is full.\n/tmp has 3 GB, /var has 20.\nWhat can I delete?",
        "➤ milk\n➤ bread\n➤ eggs\nWrite a shopping list in French.",
        "Sort the list [a=1, b=2] by its keys.",
        "Write a reply to a customer whose parcel is late.",
    ],
)
def test_a_persons_own_text_stays_whole(text: str) -> None:
    assert PartReader().read_turns([Turn("user", text)]).words == text
