"""One spelling for texts that are compared letter by letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# NFKC leaves these alone. It turns a no-break hyphen into U+2010, and no-break spaces into plain ones.
_PLAIN = (
    *((mark, "'") for mark in "\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4"),
    *((mark, '"') for mark in "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"),
    *((mark, "-") for mark in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"),
    # A soft hyphen, spaces without width and the mark of byte order are not seen.
    *((mark, "") for mark in "\u00ad\u200b\u2060\ufeff"),
)
# The hyphen first: the engine looks for a literal at its own speed.
_HYPHENATED = re.compile(r"-(?<=[^\W\d_]{2}-)(?=[^\W\d_]{2})")


# No single call into the interpreter's C code takes longer than some milliseconds for so many characters: other threads
# wait for it.
PIECE = 65_536
_SPACE_AFTER_WORD = re.compile(r"(?<=\S)\s")


def pieces(text: str, overlap: int = 0) -> Iterator[str]:
    """``text`` in pieces of about ``PIECE`` characters, cut before spaces where there are any.

    Each goes on for ``overlap`` characters or a little more into the next.
    """
    start = 0
    while start < len(text):
        end = _cut(text, start + PIECE)
        yield text[start : _cut(text, end + overlap) if overlap else end]
        start = end


def _cut(text: str, place: int) -> int:
    if place >= len(text):
        return len(text)
    space = _SPACE_AFTER_WORD.search(text, place, place + PIECE)
    return space.start() if space else place


def normalised(text: str) -> str:
    """``text`` in NFKC, with plain quotes and one space for each run of spaces and line ends.

    A hyphen between parts of two letters or more becomes a space: "step-by-step" is "step by step". In "e-mail" it
    stays, or "the mail" would have it. Spaces at both ends stay, as one.
    """
    return _normalised(text) if len(text) <= PIECE else "".join(map(_normalised, pieces(text)))


def _normalised(text: str) -> str:
    if not text.isascii():
        text = text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)
        for mark, plain in _PLAIN:
            text = text.replace(mark, plain)
    if "-" in text:
        text = _HYPHENATED.sub(" ", text)
    inner = " ".join(text.split())
    return f"{' ' * text[:1].isspace()}{inner}{' ' * (bool(inner) and text[-1:].isspace())}"
