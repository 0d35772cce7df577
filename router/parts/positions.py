"""Words without marks: what asks and what it is asked of, by where they stand."""

from __future__ import annotations

import re

from triton_router.parts.asking import asks, works_on_text
from triton_router.parts.part import Part

# Below this a text without marks is all one: nothing can be told apart in it.
SHORT = 400
# A question before or after long material has at most so many characters, and at most this share of all.
ASKED, ASKED_SHARE = 600, 0.4
STAMP = re.compile(
    r"\[(?=[^\]\n]{0,40}\d[:/.-]\d)[\w ,:/.+-]{6,40}\]\s*|\(?\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
    r"(?:Z|\)|:|,| -)*\s+"
)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|={3,}|\*{3,}|_{3,})[ \t]*$", re.MULTILINE)
_PASTED = re.compile(r'"[^"]{300,}"|\u201c[^\u201d]{300,}\u201d|\u300c[^\u300d]{150,}\u300d')
_QUOTE_MARKS = '"\u201c\u300c'


def positions(part: Part) -> list[Part]:
    """Long text with a short question before or behind it, or an instruction and a colon in front of it."""
    text = part.text
    if stamp := STAMP.match(text):
        text = text[stamp.end() :]
        part = part._replace(text=text)
    words = part._replace(reason=part.reason or "position")
    if _ruled(text) and len(sections := [each.strip() for each in _RULE.split(text) if each.strip()]) > 1:
        # Rules set the material apart from what is asked of it, before it or after it.
        chosen = sections.pop(0 if asks(sections[0]) else -1)
        return [*positions(words._replace(text=chosen)), Part("material", "\n\n".join(sections), "rules")]
    if len(text) < SHORT:
        return [part]
    if 0 < (colon := text.find(":", 0, 200)) < len(text) - SHORT and works_on_text(text[:colon]):
        return [words._replace(text=text[: colon + 1]), Part("material", text[colon + 1 :].strip(), "position")]
    if (
        any(mark in text for mark in _QUOTE_MARKS)
        and (pasted := _PASTED.search(text))
        and len(pasted[0]) > len(text) / 2
    ):
        around = f"{text[: pasted.start()].strip()}\n{text[pasted.end() :].strip()}".strip()
        return [words._replace(text=around), Part("material", pasted[0], "quote marks")] if around else [part]
    paragraphs = [each for each in text.split("\n\n") if each.strip()]
    room = min(ASKED, int(len(text) * ASKED_SHARE))
    opens, closes = (len(each) <= room and asks(each) for each in (paragraphs[0], paragraphs[-1]))
    if len(paragraphs) < 2 or not (opens or closes):
        return [part]
    middle = "\n\n".join(paragraphs[opens : len(paragraphs) - closes])
    parts = [words._replace(text=paragraphs[0])] if opens else []
    parts += [Part("material", middle, "position")] if middle else []
    return [*parts, words._replace(text=paragraphs[-1])] if closes else parts


def _ruled(text: str) -> bool:
    return any(rule in text for rule in ("\n---", "\n===", "\n***", "\n___")) and bool(_RULE.search(text))
