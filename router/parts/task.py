"""Background tasks: requests that a chat front end makes for itself, about a conversation."""

from __future__ import annotations

import re
from typing import Literal

Task = Literal["title", "tags", "follow_ups", "summary", "autocomplete", "other"]
"""What a program asks for: a title or tags for a chat, questions to suggest, a shorter history, next words."""

# Instructions stand at an end of the message; what lies between is the conversation.
_READ = 1500
_KINDS: tuple[tuple[Task, re.Pattern[str]], ...] = (
    (
        "autocomplete",
        re.compile(r"\bauto-?complet(?:e|ion)|\bcomplete the (?:text|user'?s (?:input|query|text))", re.I),
    ),
    ("follow_ups", re.compile(r"\bfollow[- ]?ups?\b|\bsuggest\w*\b.{0,40}\bquestions\b|\brelated questions\b", re.I)),
    ("tags", re.compile(r"\btags\b|\bcategori[sz]e\b", re.I)),
    (
        "title",
        re.compile(
            r"\btitles?\b|\bname (?:this|the) (?:chat|conversation|session)|标题|タイトル|\bTitel\b|\btitre\b", re.I
        ),
    ),
    ("summary", re.compile(r"\bsummar(?:y|i[sz]e)\b|\bcompact\b|\bcondense\b|总结|摘要|要約", re.I)),
)
# A request of a program without a transcript in it: the conversation is what came before.
_OF_A_CHAT = re.compile(
    r"\b(?:title|summary|tags?|name)\b[^.\n]{0,60}\b(?:of|for)\b[^.\n]{0,20}\b(?:the|this|our)\s+(?:\w+\s+){0,2}"
    r"(?:conversation|chat|session|dialogue?)\b"
    r"|\bsummari[sz]e (?:the|this|our) (?:\w+ ){0,2}(?:conversation|chat|session)\b",
    re.I,
)
_CHAT = ("conversation", "chat", "session", "dialog")
_FIM = re.compile(
    r"<\|?(?:fim_prefix|fim_begin|fim_suffix|fim▁begin)\|?>|<PRE>.*<SUF>|\[SUFFIX\].*\[PREFIX\]", re.DOTALL
)
_FIM_MARKS = ("fim", "<SUF>", "[SUFFIX]")
_SPEAKER = re.compile(
    r"^[ \t>|*]*(?:\|\|>)?(user|human|assistant|ai|bot|model)\*{0,2}:[ \t]*", re.IGNORECASE | re.MULTILINE
)
_PEOPLE = frozenset(["user", "human"])


def task_of(text: str, directions: str, transcript: bool) -> Task | None:
    """What a program asks for in ``text``; ``None`` where a person speaks.

    ``directions`` are the text without its transcript, and the short system text that some clients put them in.
    """
    if ("<" in text or "[" in text) and any(mark in text for mark in _FIM_MARKS) and _FIM.search(text[:100_000]):
        return "autocomplete"
    if not transcript and not _speaks_of_a_chat(directions[:_READ]):
        return None
    ends = directions if len(directions) <= 2 * _READ else f"{directions[:_READ]}\n{directions[-_READ:]}"
    first = min(((match.start(), kind) for kind, pattern in _KINDS if (match := pattern.search(ends))), default=None)
    return first[1] if first else "other" if transcript else None


def _speaks_of_a_chat(directions: str) -> bool:
    # Most texts have none of these words, and looking for words is cheaper.
    folded = directions.casefold()
    return any(word in folded for word in _CHAT) and bool(_OF_A_CHAT.search(directions))


def spoken(transcript: str) -> list[str]:
    """What the person said in a transcript, in order."""
    pieces = _SPEAKER.split(transcript)
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return [text.strip() for speaker, text in turns if speaker.casefold() in _PEOPLE and text.strip()]
