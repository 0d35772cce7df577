"""From text to token ids, by the library that the published tokenizer is a file of.

`tokenizer.json` belongs to Hugging Face's `tokenizers`, `tokenizer.model` to Google's `sentencepiece`, which keeps a
vocabulary of 128,000 pieces in a fifth of the memory. Each is loaded where a bundle has a file of its.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextTokenizer(Protocol):
    """Neither cuts nor pads."""

    @property
    def size(self) -> int:
        """Every id is below it."""

    @property
    def around(self) -> list[int]:
        """Ids of the special tokens before and behind a text."""

    def ids(self, text: str) -> list[int]:
        """Ids of a text without special tokens around it."""

    def places(self, text: str) -> list[tuple[int, int, int]]:
        """The same, each with its place: id, and [start, end) in characters of a text that UTF-8 can carry."""


# Where BERT's tokenizers cut ASCII in small letters: words, and each other mark by itself.
_WORDS = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
# They drop these, which joins what stands around them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# By the file's checksum.
_LOADED: WeakValueDictionary[bytes, TextTokenizer] = WeakValueDictionary()
# Words that are remembered, and their length at most.
_REMEMBERED, _LONGEST = 10_000, 24


class JsonTokenizer:
    """`tokenizer.json`.

    BERT's cut a text into words before all else. The ids of words are remembered: that is seven times as fast, and the
    same ids.
    """

    def __init__(self, content: bytes) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_buffer(content)
        self._words: dict[str, list[int]] | None = {} if _is_berts(self._tokenizer) else None
        self._marks = tuple({each.content.lower() for each in self._tokenizer.get_added_tokens_decoder().values()})
        # Files come with truncation and padding switched on; both would change the text unseen.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def size(self) -> int:
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @property
    def around(self) -> list[int]:
        ids: list[int] = self._tokenizer.encode("").ids
        return ids

    def ids(self, text: str) -> list[int]:
        if self._words is not None and text.isascii() and not _CONTROL.search(text):
            small = text.lower()
            if not any(mark in small for mark in self._marks):
                return self._joined(_WORDS.findall(small), self._words)
        return self._whole(text)

    def _joined(self, words: list[str], remembered: dict[str, list[int]]) -> list[int]:
        ids: list[int] = []
        for word in words:
            of_word = remembered.get(word)
            if of_word is None:
                of_word = self._whole(word)
                if len(remembered) >= _REMEMBERED:
                    remembered.clear()
                if len(word) <= _LONGEST:
                    remembered[word] = of_word
            ids += of_word
        return ids

    def _whole(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
            return self._whole(_without_surrogates(text))
        return ids

    def places(self, text: str) -> list[tuple[int, int, int]]:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [(token, start, end) for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)]


class PieceTokenizer:
    """`tokenizer.model`."""

    def __init__(self, content: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._pieces = SentencePieceProcessor(model_proto=content)

    @property
    def size(self) -> int:
        return len(self._pieces)

    @property
    def around(self) -> list[int]:
        return [self._pieces.bos_id(), self._pieces.eos_id()]

    def ids(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._pieces.encode(text)
        except UnicodeEncodeError:  # a lone surrogate
            return self.ids(_without_surrogates(text))
        return ids

    def places(self, text: str) -> list[tuple[int, int, int]]:
        mapping = self._pieces.encode(text, out_type="offset_mapping")
        return [(token, start, end) for token, (start, end) in zip(mapping["ids"], mapping["offsets"], strict=True)]


def _is_berts(tokenizer: Tokenizer) -> bool:
    """Whether it lowers, splits and looks up words as BERT's uncased models do."""
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalizer = tokenizer.normalizer
    return (
        isinstance(normalizer, BertNormalizer)
        and normalizer.clean_text
        and normalizer.lowercase
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
    )


def load_tokenizer(content: bytes) -> TextTokenizer:
    """One for trunks with the same file. Raises an exception of the library's where the file is none of its."""
    key = hashlib.sha256(content).digest()
    tokenizer = _LOADED.get(key)
    if tokenizer is None:
        tokenizer = JsonTokenizer(content) if content.lstrip()[:1] == b"{" else PieceTokenizer(content)
        _LOADED[key] = tokenizer
    return tokenizer


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
