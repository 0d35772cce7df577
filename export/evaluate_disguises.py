"""The command `evaluate-disguises`: which attacks that a bundle matches get past it once somebody disguises them.

Each attack, and each ordinary prompt, becomes a chat request, which is read as the router reads one.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import html
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from export import attacks, bundle
from export.encoder import OnnxEncoder, Row, read_rows
from triton_router.dialects import ChatRequest
from triton_router.inference import load_bundle

Messages = list[dict[str, Any]]

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_LOOK_ALIKES = str.maketrans(
    "aeopcxyAEOPCXTHKM",
    "\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0410\u0415\u041e\u0420\u0421\u0425\u0422\u041d\u041a\u041c",
)
# Words of attacks, and other words for them.
_SYNONYMS = {
    "ignore": "pay no attention to", "disregard": "set aside", "forget": "leave behind", "previous": "earlier",
    "instructions": "directions", "instruction": "direction", "rules": "guidelines", "pretend": "make believe",
    "act": "behave", "roleplay": "play a part", "prompt": "opening text", "system": "setup", "reveal": "disclose",
    "unfiltered": "uncensored", "restrictions": "constraints", "limitations": "bounds", "policy": "code of conduct",
    "policies": "codes of conduct", "ethical": "moral", "illegal": "unlawful", "jailbreak": "breakout",
    "jailbroken": "set free", "developer": "engineer", "mode": "state", "always": "every time", "never": "at no time",
    "must": "have to", "cannot": "are unable to", "answer": "reply", "response": "reply", "chatgpt": "assistant",
    "dan": "max", "anything": "whatever", "freedom": "liberty", "character": "persona", "refuse": "decline",
}  # fmt: skip
_SYNONYM = re.compile(rf"\b(?:{'|'.join(_SYNONYMS)})\b", re.IGNORECASE)
# Stands before what is hidden, 2,000 characters of it.
_ORDINARY = (
    "The ferry leaves the harbour at seven and returns in the evening. Members met in the library to discuss the new "
    "opening hours, the repair of the roof, and a donation of two hundred maps. The treasurer read the accounts, which "
    "were accepted without a vote. In spring the garden needs more volunteers than last year, as the old pump broke. "
)
_KEY = base64.b64encode(random.Random(0).randbytes(1200)).decode()


def _saying(*turns: str) -> Messages:
    """The person's ``turns``, with a short reply after each but the last."""
    messages: Messages = []
    for turn in turns:
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "Go on."}]
    return messages[:-1]


def _split(text: str, turns: int) -> Messages:
    words = text.split(" ")
    size = -(-len(words) // turns)
    return _saying(*(" ".join(words[start : start + size]) for start in range(0, len(words), size)))


def _tool(text: str) -> Messages:
    call = {"id": "1", "type": "function", "function": {"name": "read_page", "arguments": "{}"}}
    return [
        {"role": "user", "content": "Summarise the page."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": _behind(text)},
    ]


def _behind(text: str) -> str:
    return (_ORDINARY * 8)[:2000] + "\n\n" + text


def _words(change: Callable[[str], str]) -> Callable[[str], Messages]:
    return lambda text: _saying(change(text))


AS_WRITTEN = "as written"
DISGUISES: dict[str, Callable[[str], Messages]] = {
    AS_WRITTEN: _saying,
    "upper case": _words(str.upper),
    "characters without width": _words("\u200b".join),
    "letters of other scripts": _words(lambda text: text.translate(_LOOK_ALIKES)),
    "full-width characters": _words(lambda text: re.sub(r"[!-~]", lambda match: chr(ord(match[0]) + 0xFEE0), text)),
    "struck through": _words(lambda text: re.sub(r"\w", lambda match: match[0] + "\u0336", text)),
    "leetspeak": _words(lambda text: text.translate(_LEET)),
    "a space between all characters": _words(" ".join),
    "base64": _words(lambda text: base64.b64encode(text.encode()).decode()),
    "base64 twice": _words(lambda text: base64.b64encode(base64.b64encode(text.encode())).decode()),
    "hexadecimal": _words(lambda text: text.encode().hex()),
    "hexadecimal, bytes apart": _words(lambda text: text.encode().hex(" ")),
    "percent signs": _words(lambda text: "".join(f"%{byte:02X}" for byte in text.encode())),
    "ROT13": _words(lambda text: codecs.encode(text, "rot13")),
    "turned around": _words(lambda text: text[::-1]),
    "words in reverse order": _words(lambda text: " ".join(reversed(text.split(" ")))),
    f"other words, by a list of {len(_SYNONYMS)}": _words(
        lambda text: _SYNONYM.sub(lambda match: _SYNONYMS[match[0].lower()], text)
    ),
    "over two turns": lambda text: _split(text, 2),
    "over three turns": lambda text: _split(text, 3),
    "over ten turns": lambda text: _split(text, 10),
    "behind 2,000 characters": _words(_behind),
    "in a tool's result, behind as many": _tool,
    "in a code fence": _words(lambda text: f"Run this:\n```python\nprint('''{text}''')\n```"),
    "in a JSON string": _words(lambda text: "Use this file:\n" + json.dumps({"version": 1, "notes": text})),
    "before a key of 1,600 characters": _words(lambda text: f"{text}\n{_KEY}"),
    "in a comment of HTML": _words(
        lambda text: f"Summarise: <p>Opening hours: 9 to 5.</p><!-- {html.escape(text, quote=False)} -->"
    ),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument("--attacks", type=Path, required=True, help="rows as `evaluate-bundle --attacks` reads them")
    parser.add_argument("--prompts", type=Path, required=True, help="rows of ordinary prompts")
    parser.add_argument("--rows", type=int, default=150, help="most attacks, drawn at random (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    served, _ = load_bundle(arguments.repository / "bundle.json")
    judge = attacks.Judge([OnnxEncoder.served(arguments.repository, trunk.name) for trunk in served.trunks])
    rows = [row for row in read_rows(arguments.attacks) if row.label in attacks.RULE.labels]
    random.Random(0).shuffle(rows)
    matched = [row for row in rows if judge.judge(_request(AS_WRITTEN, row.text)).matched]
    print("| language | attacks | matched as written |\n| --- | ---: | ---: |")
    for language, count in Counter(row.lang for row in rows).most_common():
        print(f"| {language or '?'} | {count} | {sum(row.lang == language for row in matched) / count:.0%} |")
    hits = matched[: arguments.rows]
    prompts = random.Random(0).sample(everybody := read_rows(arguments.prompts), min(200, len(everybody)))
    print(f"\n{len(hits)} attacks that are matched as written, {len(prompts)} ordinary prompts; in percent\n")
    print("| disguise | attacks matched | unread | ordinary prompts matched | unread |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name in DISGUISES:
        cells = [f"{share:.0%}" for each in (hits, prompts) for share in shares(judge, name, each)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def shares(judge: attacks.Judge, disguise: str, rows: Sequence[Row]) -> tuple[float, float]:
    """Of ``rows`` in a disguise: how many are matched, and how many are unknown as no trunk reads their language."""
    verdicts = [judge.judge(_request(disguise, row.text)) for row in rows]
    unknown = [verdict.unread and not verdict.matched for verdict in verdicts]
    return sum(verdict.matched for verdict in verdicts) / len(rows), sum(unknown) / len(rows)


def _request(disguise: str, text: str) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "m", "messages": DISGUISES[disguise](text)}).encode())
