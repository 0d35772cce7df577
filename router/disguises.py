"""Disguises of text: what people do to words so that a reader understands them and a filter does not."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

# Written without width, turned around, or in the block of tags, which repeats ASCII unseen.
_UNSEEN = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
# Letters of other scripts that look like Latin ones.
_LOOK_ALIKES = str.maketrans(
    "аевкмнорстухіјѕԁɡһԛԝАВЕКМНОРСТУХІЈЅαορτυικνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aebkmhopctyxijsdghqwABEKMHOPCTYXIJSaoptuikvABEZHIKMNOPTYX",
)
_LOOKING = re.compile(f"[{''.join(map(chr, _LOOK_ALIKES))}]")
_LEET = str.maketrans("013457@$!", "oieastasi")
_LEET_WORD = re.compile(r"(?<![\w@$!])[a-zA-Z0-9@$!]{3,40}(?![\w@$!])")
_LEET_INSIDE = re.compile(r"[a-zA-Z][013457@$!]{1,3}[a-zA-Z]")
# Single letters with the same mark between them: "i g n o r e", "i-g-n-o-r-e".
_SPACED = re.compile(r"(?<!\w)(?:\w([ ._*-]))(?:\w\1){3,}\w(?!\w)")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}={0,2}")
_LATIN_LETTER = re.compile(r"[A-Za-z]")


def plain(text: str) -> str:
    """``text`` without any disguise that is known here, for whoever reads words."""
    return _LEET_WORD.sub(lambda match: _unleet(match.group()), unhidden(text))


def unhidden(text: str) -> str:
    """``text`` with digits left as they are; what was hidden in base64 stands behind it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text.translate(_TAGS)))
        if _LOOKING.search(text):
            text = re.sub(r"\w+", lambda word: _latin(word.group()), text)
    text = _SPACED.sub(lambda match: match.group()[::2], text)
    hidden = [spoken for match in _BASE64.finditer(text) if (spoken := _decoded(match.group()))]
    return "\n".join([text, *hidden]) if hidden else text


def _latin(word: str) -> str:
    """A word of two scripts in one: nobody writes so. A word all of another script is left."""
    return word.translate(_LOOK_ALIKES) if _LATIN_LETTER.search(word) and not word.isascii() else word


def _unleet(word: str) -> str:
    """Digits between letters as letters; identifiers and numbers with units stay."""
    digits = sum(not character.isalpha() for character in word)
    return word.translate(_LEET) if digits * 2 <= len(word) and _LEET_INSIDE.search(word) else word


def _decoded(word: str) -> str | None:
    padded = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        spoken = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    # Hardly any other word becomes text by chance.
    return spoken if spoken.isprintable() and (spoken.isascii() or " " in spoken) else None
