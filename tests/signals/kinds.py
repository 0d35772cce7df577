"""Kinds of signals by themselves: made of a few signals, evaluated on one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triton_router.config import Config
from triton_router.config.kinds import Key, SignalSettings
from triton_router.dialects import ChatRequest, ModelRequest
from triton_router.inference import Encoding, TopicParameters
from triton_router.signals import (
    UNKNOWN,
    EncodedTexts,
    Evaluation,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)


def made(
    kind: type[SignalKind[Any]], signals: Sequence[SignalSettings], config: Config | None = None
) -> SignalKind[Any]:
    """``kind`` over ``signals``, all of them used, without encoders."""
    used = frozenset(name for signal in signals for _, name in signal.keys)
    return kind(signals, Setup(config or Config(), used, None, TopicParameters()))


def evaluate(
    kind: SignalKind[Any],
    text: str = "",
    *,
    request: ModelRequest | None = None,
    headers: Mapping[str, str] | None = None,
    embedding: np.ndarray | None = None,
    beside: Sequence[np.ndarray] = (),
    texts: Mapping[str, np.ndarray] | None = None,
) -> dict[Key, Evaluation]:
    """All of ``kind``'s evaluations, as the gatherer completes them; ``texts`` are encoded."""
    results = SignalResults()
    if embedding is not None:
        results.encoding = Encoding(embedding, {}, 1, 0.0, tuple(beside))
        results.readings = dict.fromkeys(kind.needs.readings, embedding)
    if texts is not None:
        kind.prepare(EncodedTexts(texts))
    # A text is judged as it is, whatever parts would be told apart in it.
    signal_input = SignalInput(request or ChatRequest.saying(text), headers or {}, only=None if request else text)
    return dict.fromkeys(kind.keys, UNKNOWN) | dict(kind.evaluate(signal_input, results))
