"""Windows of a long text, in order, with those marked that ask or instruct."""

from __future__ import annotations

import re
from typing import NamedTuple

from triton_router.parts.asking import asks

_BREAK = re.compile(r"\n\s*\n|(?<=[.!?。！？])\s+|\n")


class Window(NamedTuple):
    """``asks`` marks what says what is wanted: it counts most where windows are judged one by one."""

    text: str
    asks: bool


def windows(text: str, characters: int, most: int = 8) -> list[Window]:
    """``text`` in at most ``most`` windows of at most ``characters``, cut between sentences where there are any.

    Of a longer text the windows at both ends are kept, for there people say what they want. At least one window asks:
    the last, where no other does.
    """
    if len(text) > characters * most:
        half = characters * most // 2
        text = text[:half] + "\n\n" + text[-half + 2 :]
    cut: list[str] = []
    current = ""
    for sentence in _sentences(text, characters):
        if current and len(current) + 1 + len(sentence) > characters:
            cut.append(current)
            current = sentence
        else:
            current = f"{current} {sentence}" if current else sentence
    cut.append(current)
    if len(cut) > most:
        cut = cut[: most - most // 2] + cut[len(cut) - most // 2 :]
    asking = [index in (0, len(cut) - 1) and _sentence_asks(each, last=index > 0) for index, each in enumerate(cut)]
    if not any(asking):
        asking[-1] = True
    return [Window(each, mark) for each, mark in zip(cut, asking, strict=True)]


def _sentences(text: str, characters: int) -> list[str]:
    return [
        sentence[start : start + characters]
        for sentence in _BREAK.split(text)
        if sentence and not sentence.isspace()
        for start in range(0, len(sentence), characters)
    ]


def _sentence_asks(window: str, *, last: bool) -> bool:
    """A question stands at the outer end of a window: at the start of the first, at the end of the last."""
    sentences = [each for each in _BREAK.split(window) if each.strip()]
    outer = sentences[-2:] if last else sentences[:2]
    return any(asks(each) for each in outer)
