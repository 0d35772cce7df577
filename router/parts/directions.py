"""A program's directions in front of a person's words in one text: "You are the assistant of a shop. Be brief."."""

from __future__ import annotations

import re

from triton_router.parts.asking import asks

# So far into a text a program's directions go on.
LONGEST = 4_000
_OPENINGS = (
    "You are ", "You're ", "Your name is ", "Your role is ", "Your task is ", "Your job is ", "Act as ", "As an AI",
    "As a helpful", "Du bist ", "Sie sind ", "Eres ", "Tu es ", "Vous êtes ", "Sei ", "Você é ", "你是", "您是",
)  # fmt: skip
_SENTENCE = re.compile(r"[.!?][\"'\u201d\u2019)]*(?:\s+|$)|[。！？]\s*|\n+|$")
# Conduct: how and about what to speak, not what to speak about.
_CONDUCT = re.compile(
    r"(?:please )?(?:never|always|do not|don't|must|be(?! given)|keep|stay|avoid|only|respond|reply|answer|speak|sign"
    r"|refuse|decline|escalate|limit|remember|make sure|ensure|under no"
    r"|if (?:you|the user|some(?:body|one)|asked|in doubt)"
    r"|when (?:the user|users|asked|you))\b"
    r"|.*\b(?:you (?:must|should|may not|never|always|will (?:be|help|answer|reply|speak)|help|only|speak|answer|reply"
    r"|do not|don't|have access)|your (?:answers?|repl(?:y|ies)|responses?|role|task|job|goal|tone|instructions?)"
    r"|assistant"
    r"|chat ?bot|language model|these (?:rules|instructions)|asistente|asistent|assistent|assistente)"
    r"|(?:antworte|sei|bleib|verwende|nutze|responde|sé |no |siempre|nunca|réponds|sois|ne |toujours|jamais|rispondi"
    r"|responda)\b"
    r"|(?:请|不要|必须|回答|始终|不得|禁止)|.*(?:助手|客服)"
)


def directions_apart(text: str) -> tuple[str, str]:
    """The directions that ``text`` begins with, and the rest; no directions where it begins with another's words."""
    start = len(text) - len(text.lstrip())
    if not text.startswith(_OPENINGS, start):
        return "", text
    end = at = start
    for stop in _SENTENCE.finditer(text, start, start + LONGEST):
        sentence = text[at : stop.end()].strip()
        if sentence.endswith("?"):
            break
        if _CONDUCT.match(sentence.casefold()):
            end = stop.end()
        elif at > start and asks(sentence):
            break
        at = stop.end()
    return (text[:end], text[end:]) if text[end:].strip() else ("", text)
