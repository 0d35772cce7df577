"""Context signals: how long the whole conversation is, in estimated tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import perf_counter

from triton_router.config.signals import ContextSignal
from triton_router.dialects import Turn
from triton_router.signals.contract import Evaluations, SignalInput, SignalKind, SignalResults, certain

# English text averages four characters a token in the tokenizers of current models; in Chinese, Japanese and Korean a
# character is about a token.
CHARACTERS_A_TOKEN = 4
# Role and separators that chat templates put around each message.
TOKENS_A_TURN = 4

_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


class ContextLengths(SignalKind[ContextSignal]):
    """Never unknown; ``measure`` is the estimate."""

    SETTINGS = ContextSignal

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        started = perf_counter()
        tokens = estimated_tokens(query.request.turns())
        ms = (perf_counter() - started) * 1000
        ranges = zip(self.keys, self.signals, strict=True)
        return {key: certain(_within(signal, tokens), tokens, ms) for key, signal in ranges}


def estimated_tokens(turns: Iterable[Turn]) -> int:
    """Tokens of a conversation, by its number of characters."""
    tokens = 0.0
    for turn in turns:
        text = turn.text
        dense = 0 if text.isascii() else len(_DENSE.findall(text))
        tokens += TOKENS_A_TURN + dense + (len(text) - dense) / CHARACTERS_A_TOKEN
    return round(tokens)


def _within(signal: ContextSignal, tokens: int) -> bool:
    if signal.min_tokens is not None and tokens < signal.min_tokens:
        return False
    return signal.max_tokens is None or tokens <= signal.max_tokens
