"""Token ids are the library's, also where words are remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from triton_router.inference.tokens import JsonTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = [*SPECIAL, "the", "cat", "##s", "un", "##real", "'", ".", "-", "4", "##2", "é", "a"]
WORDS = ["the", "The", "cats", "unreal", "it's", "42", "[SEP]", "[sep]", "\x07", "\x0c", "\t", "café", "x" * 120]
TEXTS = st.text(st.characters(max_codepoint=0x17F), max_size=60) | st.lists(st.sampled_from(WORDS)).map(" ".join)


def _tokenizer(*, lowercase: bool = True) -> Tokenizer:
    model = models.WordPiece({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


UNCASED, CASED = _tokenizer(), _tokenizer(lowercase=False)
OURS = {each: JsonTokenizer(each.to_str().encode()) for each in (UNCASED, CASED)}


@pytest.mark.parametrize("library", [UNCASED, CASED], ids=["uncased", "cased"])
@given(text=TEXTS)
def test_ids_are_those_of_the_library(library: Tokenizer, text: str) -> None:
    for _ in range(2):
        assert OURS[library].ids(text) == library.encode(text, add_special_tokens=False).ids


def test_special_tokens_in_a_text_stay_what_the_library_makes_of_them() -> None:
    assert OURS[UNCASED].ids("the [SEP] cats") == [4, 3, 5, 6]
    assert OURS[UNCASED].ids("The cats") == [4, 5, 6]


def test_memory_is_bounded() -> None:
    ours = JsonTokenizer(UNCASED.to_str().encode())
    for number in range(30_000):
        assert ours.ids(f"the w{number}")[0] == 4
    assert len(ours._words or ()) <= 10_000
