"""A person's words that a program repeats or reports: 'The player says: "..."', "/ask ...", the question once more."""

from __future__ import annotations

import re

from triton_router.parts.asking import asks, delegates
from triton_router.parts.delimiters import Delimited

# A shorter text comes twice by chance. Of a longer one so much is compared.
REPEATED, LONGEST = 20, 4_000
# So near to the front stands what comes again at the end.
FRONT = 1_000
_CAPTION = re.compile(r"[^\n:：]{1,40}[:：]\s+(?=\S)")
_SIGNS = "❯➤➜▶►"
_SIGN = re.compile(rf"\n[ \t]*([{_SIGNS}]) +(?=\S)")
_COMMAND = re.compile(r"/[a-z]{2,12} +(?=\S)")
# Signs of a shell stand in front of each command, others also in front of a list's items.
_OF_A_SHELL = "❯➜"
_QUOTING = re.compile(
    r"(?<!\bi )\b(?:says?|said|writes?|wrote|asks?|asked|types?|typed|sagt|schreibt|fragt|dice|pregunta|escribe|dit"
    r"|demande|écrit)[,:]?\s+[\"\u201c\u201e\u00ab]",
    re.IGNORECASE,
)
_QUOTE_MARKS = (('"', '"'), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u00ab", "\u00bb"))


def reported(text: str) -> Delimited | None:
    """The person's words in ``text``, where a program has put them on a line of input, in quotes, or there twice."""
    if "\n" not in text:
        return _quoted(text)
    text = text.rstrip()
    last = text.rfind("\n\n") + 2
    return _at_sign(text, last) or _quoted(text) or (_repeated(text, last) if last > REPEATED else None)


def _at_sign(text: str, last: int) -> Delimited | None:
    if text[last] == "/" and (command := _COMMAND.match(text, last)):
        return Delimited("words", command.end(), len(text), command[0].strip())
    if text.isascii() or not any(sign in text for sign in _SIGNS):
        return None
    signs = list(_SIGN.finditer(text))
    if not signs or (len(signs) > 1 and signs[-1][1] not in _OF_A_SHELL):
        return None
    return Delimited("words", signs[-1].end(), len(text), signs[-1][1])


def _quoted(text: str) -> Delimited | None:
    for opening, closing in _QUOTE_MARKS:
        if opening not in text:
            continue
        # Orders behind a quotation are seldom; looking for who speaks in front of one takes longest.
        end = text.rfind(closing)
        behind = text[end + 1 :].partition("\n\n")[0]
        if "?" in behind or not delegates(behind):
            continue
        start = max((match.end() for match in _QUOTING.finditer(text, 0, end) if match[0][-1] == opening), default=0)
        if start:
            return Delimited("words", start, end, "quote")
    return None


def _repeated(text: str, start: int) -> Delimited | None:
    """The paragraph that begins at ``start``, with or without a caption, if it stands in front of it too."""
    caption = _CAPTION.match(text, start)
    for again in (start, caption.end()) if caption else (start,):
        last = text[again:]
        if len(last) >= REPEATED and (first := text.find(last, 0, min(start, FRONT))) >= 0:
            return _whole(text, first, again)
    return None


def _whole(text: str, first: int, again: int) -> Delimited | None:
    """What comes again, with what stands before it in both places."""
    shared = 0
    while shared < min(first, LONGEST) and text[first - shared - 1] == text[again - shared - 1]:
        shared += 1
    words = text[again - shared :]
    return Delimited("words", again - shared, len(text), "again") if asks(words) else None
