"""A person's words in whole envelopes: mails with what they answer, records, blocks in tags, attachments."""

from __future__ import annotations

import json

import pytest

from triton_router.dialects import Turn
from triton_router.parts import PartReader

QUESTION = "Why did the Roman Republic fall?"
POEM = "Write a poem about the sea."
OUTLOOK = (
    "\n\nViele Grüße\nInes Roth\nHafenamt\n\n________________________________\nVon: Lund, Per <per@dock.example>\n"
    "Gesendet: Montag, 2. März 2026 09:14\nAn: Roth, Ines\nBetreff: AW: Liegeplatz A1\n\nHallo Ines,\n\n"
    "wann wird der Platz frei? Schicken Sie mir bitte die Maße.\n\nBesten Dank\nPer Lund"
)
THREAD = (
    "On Mon, 2 Mar 2026 at 09:14, Per Lund <per@dock.example> wrote:\n> Dear Ines,\n> when is berth A1 free?\n"
    "> Please send me the width of the gate.\n>\n> Regards, Per"
)
HEAD = "From: Ines Roth <ines@port.example>\nTo: desk@port.example\nDate: Mon, 2 Mar 2026 10:02\nSubject: Re: berth\n\n"
FORWARD = (
    "\n\nInes\n\n---------- Forwarded message ---------\nFrom: Per Lund <per@dock.example>\nDate: 2 Mar 2026 at 09:14\n"
    "Subject: A1\nTo: <ines@port.example>\n\nDear Ines,\n\nwho has the key of the gate? Tell the pilots, please!\n\nPer"
)
TODO = '<notice kind="todo">\n[{"id":"1","content":"Tell the pilots which berth is free?","status":"open"}]\n</notice>'
GIT = '<notice kind="git">\nOn branch quay, 2 ahead.\n M berths.go\n</notice>'
LOG = "\n".join(
    f"Mar 02 02:1{minute}:07 quay crane[204{minute}]: Error: hook {minute} did not answer, why? See manual."
    for minute in range(9)
)
NOTES = "The cranes stand still on Sundays. Who pays for it?\n\nShips wait outside of the bay. Tell the pilots."
RECORDS = (
    'Berth (untrusted metadata):\n```json\n{\n  "berth": "A1",\n  "free": true\n}\n```\n\n'
    'Quoted message (for context):\n```json\n{\n  "sender": "Per",\n  "body": "who has the key? tell me!"\n}\n```'
)
POSTS = "----- #1  guest  2 March, 9:14 -----\nIs A1 free?\n\n----- #2  desk  2 March, 9:20 -----\nFrom Monday.\n\n"
CHAT = "[Messages so far]\n[#quay Fri 18:02] Nadia: who has the key?\n[#quay Fri 18:04] Bo: me\n\n[Current message]\n"
FILES = "````go quay.go\nfunc main() {}\n````\n\n````txt notes\nWho is on duty?\n````"


@pytest.mark.parametrize("prompt", [QUESTION, POEM])
@pytest.mark.parametrize(
    "wrapper",
    [
        f"@@{OUTLOOK}",
        f"{HEAD}@@\n\nBest\nInes\n\n{THREAD}",
        f"{THREAD}\n\n@@\n\n-- \nInes Roth\nHarbour desk",
        f"{HEAD}@@{FORWARD}",
        f"De : Ines Roth\nEnvoyé : lundi 2 mars 2026\nÀ : bureau@port.example\nObjet : TR: quai\n\n@@\n\nInes{OUTLOOK}",
        f"{TODO}\n@@\n{GIT}",
        f"{GIT}\n@@",
        f"@@\n\nHere is tonight's log in case you need it:\n\n{LOG}",
        f"@@\n\nUse this context if it helps:\n\n{FILES}",
        f"{POSTS}----- #3  guest  2 March, 9:31  *** NEWEST *** -----\n@@",
        f"{CHAT}[#quay Fri 18:31] Farid: @@",
        f"@@\n\n{NOTES}\n\n@@",
        f"{NOTES}\n\nTask: @@\n\n{NOTES}\n\nAgain, the task: @@\n\nBe brief and cite the notes.",
        '@@\n\n(Settings: maps on · sources off · length medium · close with a question such as "Shall I go on?")',
        "```python\n# quay.py, counts cranes\ndef cranes():\n    return 4\n\n# ASK:\n# @@\n\n# <cursor>\n```",
        "Hello,\n\nI only pass this on, Per wrote it and it is meant for you:\n\n> @@\n\nNo need to answer me.\n\nInes",
        "<talk>\n<user_query>A1?</user_query>\n<assistant>Yes.</assistant>\n</talk>\n<user_query>@@</user_query>",
        "Carry out the comment.\n\n```python\ncranes = 4\n    # no hooks\n    # AI start\n# @@\n    # AI end\n```",
    ],
)
def test_the_persons_words(wrapper: str, prompt: str) -> None:
    assert PartReader().read_turns([Turn("user", wrapper.replace("@@", prompt))]).words == prompt


def test_a_question_below_records_with_another_question() -> None:
    assert PartReader().read_turns([Turn("user", f"{RECORDS}\n\n{QUESTION}")]).words == QUESTION


def test_a_field_in_the_middle_of_a_long_record() -> None:
    rows = {f"row_{number}": f"crane {number}" for number in range(30)}
    record = {
        **rows,
        "quoted": {"text": "Is A1 free?"},
        "text": f"{QUESTION}\nSay it briefly.",
        **{f"more_{row}": 1 for row in rows},
    }
    text = json.dumps(record, indent=2)
    assert PartReader().read_turns([Turn("user", text)]).words == f"{QUESTION}\nSay it briefly."
