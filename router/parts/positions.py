"""Inside of one paragraph: an instruction and the text that it works on, by a colon or by quote marks."""

from __future__ import annotations

import re

from triton_router.parts.asking import points_at_text, works_on_text
from triton_router.parts.part import Part

# Below this nothing can be told apart in a paragraph.
SHORT = 400
_PASTED = re.compile(r'"[^"]{300,}"|\u201c[^\u201d]{300,}\u201d|\u300c[^\u300d]{150,}\u300d')
_QUOTE_MARKS = '"\u201c\u300c'


def positions(part: Part) -> list[Part]:
    """An instruction and a colon in front of long text, or words around a long quotation."""
    text = part.text
    if len(text) < SHORT:
        return [part]
    words = part._replace(reason=part.reason or "position")
    colon = text.find(":", 0, 200)
    if 0 < colon < len(text) - SHORT and "\n" not in text[:colon] and works_on_text(text[:colon]):
        return [words._replace(text=text[: colon + 1]), Part("material", text[colon + 1 :].strip(), "position")]
    if (
        any(mark in text for mark in _QUOTE_MARKS)
        and (pasted := _PASTED.search(text))
        and len(pasted[0]) > len(text) / 2
    ):
        around = f"{text[: pasted.start()].strip()}\n{text[pasted.end() :].strip()}".strip()
        if around and not points_at_text(around):
            return [words._replace(text=around), Part("material", pasted[0], "quote marks")]
    return [part]
