"""A program's directions in front of a person's words in one text: "You are the assistant of a shop. Be brief."."""

from __future__ import annotations

import re
from itertools import chain

from triton_router.parts.asking import asks

# So far into a text a program's directions go on.
LONGEST = 4_000
OPENINGS = (
    "You are ", "You're ", "Your name is ", "Your role is ", "Your task is ", "Your job is ", "Act as ", "As an AI",
    "As a helpful", "Du bist ", "Sie sind ", "Eres ", "Tu es ", "Vous êtes ", "Sei ", "Você é ", "你是", "您是",
)  # fmt: skip
# One set of characters in front: five times quicker to look for than alternatives.
_STOP = re.compile(r"[.!?\n。！？](?:(?<=[.!?])[\"'\u201d\u2019)]*(?:\s+|$)|(?<=[。！？])\s*|(?<=\n)\n*)")
# Conduct: how and about what to speak, not what to speak about. At a sentence's beginning, and anywhere in it.
_CONDUCT = re.compile(
    r"(?:please )?(?:never|always|do not|don't|must|be(?! given)|keep|stay|avoid|only|respond|reply|answer|speak|sign"
    r"|refuse|decline|escalate|limit|remember|make sure|ensure|under no"
    r"|if (?:you|the user|some(?:body|one)|asked|in doubt)"
    r"|when (?:the user|users|asked|you))\b"
    r"|(?:antworte|sei|bleib|verwende|nutze|responde|sé |no |siempre|nunca|réponds|sois|ne |toujours|jamais|rispondi"
    r"|responda)\b"
    r"|请|不要|必须|回答|始终|不得|禁止"
)
_OF_A_PROGRAM = re.compile(
    r"\b(?:you (?:must|should|may not|never|always|will (?:be|help|answer|reply|speak)|help|only|speak|answer|reply"
    r"|do not|don't|have access)|your (?:answers?|repl(?:y|ies)|responses?|role|task|job|goal|tone|instructions?)"
    r"|assistant|chat ?bot|language model|these (?:rules|instructions)|asistente|asistent|assistent)|助手|客服"
)


def directions_apart(text: str) -> tuple[str, str]:
    """The directions that ``text`` begins with, and the rest; no directions where it begins with another's words."""
    start = len(text) - len(text.lstrip())
    if not text.startswith(OPENINGS, start):
        return "", text
    end = at = start
    limit = min(len(text), start + LONGEST)
    for stop in chain((match.end() for match in _STOP.finditer(text, start, limit)), (limit,)):
        sentence = text[at:stop].strip()
        if sentence.endswith("?"):
            break
        folded = sentence.casefold()
        if _CONDUCT.match(folded) or _OF_A_PROGRAM.search(folded):
            end = stop
        elif at > start and asks(sentence):
            break
        at = stop
    return (text[:end], text[end:]) if text[end:].strip() else ("", text)
