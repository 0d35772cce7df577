"""Which sentences of an answer the documents and tool results of its request support. Experimental.

The score is a baseline: the share of a sentence's content words that the best source has; a number that no source has
makes it 0. It knows neither paraphrases nor contradictions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from triton_router import names
from triton_router.answers import Answer
from triton_router.config.plugins import HallucinationSettings
from triton_router.edits import EditedAnswer, mapped
from triton_router.parts import Parts

# A shorter statement says too little to be looked for.
WORDS = 3
# Characters of a word that tell it from others, whatever its ending.
STEM = 6
# Sentences that a mark quotes at most.
QUOTED = 3
WARNING, UNVERIFIED = "hallucination", "unverified_factual"
NOTE = "\n\nNote: the documents that this answer should rest on do not support all of it."

_SOURCES = frozenset({"tool", "context", "material"})
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[\u3002\uff01\uff1f])")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[nrt])")
_TOKEN = re.compile(r"\d+(?:[.,:/-]\d+)*|[^\W\d_]+")
_SCRIPTS_WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")
# Members of a whole answer in which a model speaks to the client.
_SPOKEN = frozenset({"content", "text"})


class Sources:
    """What the answer to one request can be checked against; empty without documents and tool results."""

    def __init__(self, parts: Parts) -> None:
        self._sources = [frozenset(_tokens(_readable(part.text))) for part in parts.all() if part.kind in _SOURCES]

    def __bool__(self) -> bool:
        return any(self._sources)

    def support(self, sentence: str) -> float:
        """How much of ``sentence`` the best source has, in [0, 1]; 1 where it says too little."""
        tokens = frozenset(_tokens(sentence))
        if len(tokens) < WORDS:
            return 1.0
        numbers = frozenset(token for token in tokens if token[0].isdigit())
        shares = (len(tokens & source) / len(tokens) for source in self._sources if numbers <= source)
        return max(shares, default=0.0)

    def unsupported(self, text: str, threshold: float) -> list[str]:
        """The sentences of ``text`` with less support than ``threshold``."""
        sentences = (sentence.strip() for sentence in _SENTENCE.split(text))
        return [sentence for sentence in sentences if sentence and self.support(sentence) < threshold]


class Grounding:
    """Looks at one answer, whole or streamed. ``on_unsupported`` is called once, where some sentence is not supported.

    A whole answer is marked as the settings say. What a stream said is with the client already.
    """

    def __init__(
        self,
        sources: Sources,
        settings: HallucinationSettings,
        reads: type[Answer],
        on_unsupported: Callable[[], None],
        *,
        streamed: bool,
    ) -> None:
        self._sources, self._settings, self._on_unsupported = sources, settings, on_unsupported
        self._answer = reads(streamed)
        self._whole = None if streamed else EditedAnswer(self._marked)

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """See :class:`.edits.BodyFilter`."""
        self._answer.feed(piece)
        if last:
            self._answer.finish()
        if self._whole is not None:
            return self._whole.feed(piece, last=last)
        if last:
            self._unsupported()
        return piece

    def _unsupported(self) -> list[str]:
        sentences = self._sources.unsupported(self._answer.text, self._settings.threshold)
        if sentences:
            self._on_unsupported()
        return sentences

    def _marked(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        action, sentences = self._settings.hallucination_action, self._unsupported()
        if not sentences or action == "none":
            return None
        quoted = sentences[:QUOTED] if self._settings.include_hallucination_details else []
        if action == "header":
            # Its headers are gone.
            return {**answer, names.RESPONSE_WARNINGS: [WARNING, *quoted]}
        changed: dict[str, Any] = mapped(
            answer, partial(self._with_note, "".join([NOTE, *(f"\n- {each}" for each in quoted)]))
        )
        return changed

    def _with_note(self, note: str, text: str, name: str) -> str:
        speech = name in _SPOKEN and text and self._answer.text.endswith(text)
        return text + note if speech else text


def _readable(text: str) -> str:
    """``text`` without the escapes of JSON, which results of tools are full of."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", text)


def _tokens(text: str) -> Iterator[str]:
    """Content words by their beginnings, numbers as they are, pairs of characters in scripts without spaces."""
    for match in _TOKEN.finditer(text.casefold()):
        token = match[0]
        if token[0].isdigit():
            yield token
        elif _SCRIPTS_WITHOUT_SPACES.fullmatch(token):
            yield from _pairs(token)
        elif len(token) > 3:
            yield token[:STEM]


def _pairs(text: str) -> Iterable[str]:
    return (text[start : start + 2] for start in range(max(len(text) - 1, 1)))
