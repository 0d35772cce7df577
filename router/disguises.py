"""Disguises of text: what people do to words so that a reader understands them and a filter does not."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable

# Control characters, and what Unicode ignores by default; its block of tags repeats ASCII unseen.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_UNSEEN = re.compile(
    "[\x80-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
# Letters of other scripts that look like Latin ones.
_LOOK_ALIKES = str.maketrans(
    "аевкмнорстухіјѕԁɡһԛԝАВЕКМНОРСТУХІЈЅαορτυικνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aebkmhopctyxijsdghqwABEKMHOPCTYXIJSaoptuikvABEZHIKMNOPTYX",
)
_LOOKING = re.compile(f"[{''.join(map(chr, _LOOK_ALIKES))}]")
_LEET = str.maketrans("013457@$!", "oieastasi")
_LEET_WORD = re.compile(r"(?<![\w@$!])[a-zA-Z0-9@$!]{2,40}(?![\w@$!])")
_LEET_INSIDE = re.compile(r"[a-zA-Z][013457@$!]{1,3}[a-zA-Z]")
# Of so many words one has digits inside where somebody writes all words so.
_LEET_WORDS = 10
# Strokes and dots that belong to no letter of an alphabet: Unicode composes those that do.
_STROKES = re.compile("[\u0300-\u036f]")
# Single letters with the same mark between them, and around the spaces of the text: "i-g-n-o-r-e- -i-t".
_SPACED = re.compile(r"(?<!\w)\w(?:([ ._*-])[\w,;:!?'\"()])(?:(?:\1|\1[ ]\1)[\w,;:!?'\"()]){3,}(?!\w)")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}={0,2}")
# Keys, certificates, files: a head takes for an attack what is no language.
_OPAQUE = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}")
_WORDS = re.compile("[A-Z]?[a-z]{4,}|[A-Z]{4,}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:\\x|%|0x)?[0-9A-Fa-f]{2}[ ,]?){12,}(?![0-9A-Za-z])")
_HEX_PAIR = re.compile(r"(?<![0-9A-Fa-f])0x|[^0-9A-Fa-f]")
# Mail addresses and numbers as people say them: "ann (at) mail [dot] example", "four one one one one one one".
_BRACKETED = re.compile(r" ?[\[({<] ?(at|dot) ?[\])}>] ?", re.IGNORECASE)
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS = {name: str(digit) for digit, name in enumerate(_NAMES)}
_DIGIT = re.compile("|".join(_DIGITS), re.IGNORECASE)
_SAID = re.compile(rf"(?i)\b(?:{_DIGIT.pattern})(?:[\s,.-]+(?:{_DIGIT.pattern})){{6,}}\b")
_LETTERS = re.compile("[a-z]")
# The most common letters of English, two thirds of its text, and pairs of letters that it hardly has turned around. Of
# 84,000 lines in many languages one is taken for ROT13 and four for lines that are turned around.
_COMMON = "etaoinsrh"
_SHIFTED = codecs.encode(_COMMON, "rot13")
_PAIRS = ("th", "he", "nd", "ng", "ou", "wh", "qu")
_TURNED = tuple(pair[::-1] for pair in _PAIRS)
_LEAST_LETTERS = 40
_LATIN_LETTER = re.compile(r"[A-Za-z]")


def plain(text: str) -> str:
    """``text`` without any disguise that is known here, and without what is encoded, for whoever reads words."""
    text = _OPAQUE.sub(_unless_opaque, unhidden(text))
    if len(text) >= _LEAST_LETTERS:
        text = "\n".join(map(_english, text.split("\n")))
    count = len(_LEET_INSIDE.findall(text))
    if not count:
        return text
    everywhere = count * _LEET_WORDS >= text.count(" ") + 1 > 2
    return _LEET_WORD.sub(lambda match: _unleet(match.group(), everywhere), text)


def unhidden(text: str) -> str:
    """``text`` with digits left as they are; what base64, hexadecimal digits or names of digits say stands in their
    place."""
    text = _CONTROL.sub("", text)
    if not text.isascii():
        text = _STROKES.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", text.translate(_TAGS))))
        if _LOOKING.search(text):
            text = re.sub(r"\w+", lambda word: _latin(word.group()), text)
    text = _SPACED.sub(_together, text)
    text = _BRACKETED.sub(lambda match: "@" if match[1].lower() == "at" else ".", text)
    text = _SAID.sub(_in_digits, text)
    text = _HEX.sub(_hexadecimal, text)
    return _BASE64.sub(lambda match: _spoken(match[0], _base64) or match[0], text)


def _together(match: re.Match[str]) -> str:
    mark = match[1]
    words = match[0].split(f"{mark} {mark}")
    return " ".join(word.replace(mark, "") for word in words)


def _in_digits(match: re.Match[str]) -> str:
    return re.sub(r"[\s,]", "", _DIGIT.sub(lambda digit: _DIGITS[digit[0].lower()], match[0]))


def _hexadecimal(match: re.Match[str]) -> str:
    digits = _HEX_PAIR.sub("", match[0])
    if digits.isdecimal() and len(digits) < len(match[0]):
        return match[0]  # a list of numbers
    return _spoken(digits, bytes.fromhex) or match[0]


def _unless_opaque(match: re.Match[str]) -> str:
    """Words without spaces have hardly any digits; what is encoded has one in six, and hardly any words."""
    text = match[0]
    words = sum(map(len, _WORDS.findall(text)))
    return "" if sum(map(str.isdigit, text)) * 16 >= len(text) > words * 2 else text


def _english(line: str) -> str:
    """A line of English in ROT13 or turned around as it was; other lines as they are."""
    small = line.lower()
    common, shifted, pairs, turned = (sum(map(small.count, each)) for each in (_COMMON, _SHIFTED, _PAIRS, _TURNED))
    if turned > 3 + 4 * pairs:
        return line[::-1]
    letters = len(_LETTERS.findall(small)) if shifted > common else 0
    shifted_english = letters >= _LEAST_LETTERS and shifted >= max(0.6 * letters, common + 0.12 * letters)
    return codecs.encode(line, "rot13") if shifted_english else line


def _latin(word: str) -> str:
    """A word of two scripts in one: nobody writes so. A word all of another script is left."""
    return word.translate(_LOOK_ALIKES) if _LATIN_LETTER.search(word) and not word.isascii() else word


def _unleet(word: str, everywhere: bool) -> str:
    """Digits as letters, between letters only unless ``everywhere``; identifiers and numbers with units stay."""
    digits = sum(not character.isalpha() for character in word)
    between = digits * 2 <= len(word) and _LEET_INSIDE.search(word)
    return word.translate(_LEET) if between or (everywhere and 0 < digits < len(word)) else word


def _base64(word: str) -> bytes:
    padded = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)


def _spoken(word: str, bytes_of: Callable[[str], bytes]) -> str | None:
    """What ``word`` says in an encoding, also one within another; None where that is no text."""
    try:
        spoken = bytes_of(word).decode()
    except (ValueError, binascii.Error):
        return None
    # Hardly any other word becomes text by chance.
    if not re.sub(r"\s", "", spoken).isprintable() or not (spoken.isascii() or " " in spoken):
        return None
    readable = sum(character.isalnum() or character.isspace() for character in spoken)
    return unhidden(spoken) if readable >= 0.75 * len(spoken) else None
