"""Which language a text is in, and who reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_router.config.services import InferenceSettings
from triton_router.inference import Encoders
from triton_router.inference.bundle import Bundle
from triton_router.inference.language import identify
from triton_router.telemetry import Metrics

TOKENIZER = json.dumps(
    {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}
).encode()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What causes high blood pressure?", "en"),
        ("Who was Napoleon?", "en"),
        ("¿Qué síntomas tiene la gripe?", "es"),
        ("Was ist das?", "de"),
        ("Mein Hund frisst kein Gras mehr", "de"),
        ("解释一下快速排序", "zh"),
        ("好", "zh"),
        ("血圧が高いのはなぜですか", "ja"),
        ("Что делать при простуде?", "ru"),
    ],
)
def test_short_texts_are_recognised(text: str, language: str) -> None:
    assert identify(text) == language


@pytest.mark.parametrize("text", ["", "2 + 2 = ?", "x^2 + 3x = 0", "∂²u/∂t² = c²∇²u", "ok", "hola", "merci", "\ud800"])
def test_a_text_that_could_be_in_any_language_is_in_none(text: str) -> None:
    assert identify(text) is None


@given(st.text(st.characters(), max_size=80))
def test_every_text_can_be_asked_about(text: str) -> None:
    language = identify(text)
    assert language is None or 2 <= len(language) <= 3


def encoders(**languages: tuple[str, ...]) -> Encoders:
    trunks = [
        {
            "name": name,
            "model": name,
            "inputs": {"ids": "input_ids", "mask": "attention_mask"},
            "embedding": {"output": "embedding", "dimension": 3 + index},
            "heads": [],
            "tokenizer": {"file": "tokenizer.json", "sha256": "", "pad_id": 0, "cls_id": 0, "sep_id": 1},
            "buckets": [16],
            "max_tokens": 16,
            "max_windows": 1,
            "languages": codes,
        }
        for index, (name, codes) in enumerate(languages.items())
    ]
    bundle = Bundle.model_validate({"format": 1, "checksum": "sum", "trunks": trunks})
    settings = InferenceSettings(endpoint="127.0.0.1:9")
    return Encoders(bundle, dict.fromkeys(languages, TOKENIZER), settings, Metrics())


def names(among: Encoders) -> list[str]:
    return [encoder.trunk.name for encoder in among]


async def test_the_first_that_lists_a_language_reads_it() -> None:
    among = encoders(english=("en",), many=("de", "en", "zh"))
    assert among.embedder().trunk.name == "english"
    assert names(among.reading("en")) == ["english", "many"]
    assert names(among.reading("zh")) == ["many"]
    # Not known for sure, or listed by nobody: those that list most.
    assert names(among.reading(None)) == names(among.reading("fi")) == ["many"]
    assert among.languages == among.reading("zh").languages == {"de", "en", "zh"}


async def test_trunks_that_list_none_read_all() -> None:
    among = encoders(first=(), second=())
    assert names(among.reading("fi")) == names(among.reading(None)) == ["first", "second"]
    assert among.languages == frozenset()


async def test_a_shorter_embedding_is_kept_as_long_as_the_longest() -> None:
    among = encoders(english=("en",), many=("de", "en"))
    assert among.lengthened(np.ones(3, np.float32)).tolist() == [1, 1, 1, 0]
