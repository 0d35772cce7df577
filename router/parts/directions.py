"""A program's directions in front of a person's words in one text: "You are the assistant of a shop. Be brief."."""

from __future__ import annotations

import re
from itertools import chain

# So far into a text directions are looked for.
LONGEST = 600
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


def directs(text: str) -> bool:
    """Whether a sentence near the beginning of ``text`` directs a program."""
    at = 0
    limit = min(len(text), LONGEST)
    for stop in chain((match.end() for match in _STOP.finditer(text, 0, limit)), (limit,)):
        folded = text[at:stop].strip().casefold()
        if _CONDUCT.match(folded) or _OF_A_PROGRAM.search(folded):
            return True
        at = stop
    return False
