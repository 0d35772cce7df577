"""Keywords that are found in other forms too: by English stems (BM25), and by shared letters (n-grams)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from triton_router.config.signals import KeywordSignal

# Letters, digits, underscores and hyphens.
_WORD = re.compile(r"[\w-]+")
# Similarities are bent so that a few shared letters count for more: 1 - (1 - shared / all) ** WARP.
WARP = 2
# Robertson's constants, as Lucene has them.
K1, B = 1.2, 0.75


class Stems:
    """The keywords of one signal as documents, the prompt as the query; English stems, without stop words.

    A keyword is found where its BM25 score reaches `bm25_threshold`; the score is Robertson's, with Lucene's weights
    of rare words.
    """

    def __init__(self, signals: Sequence[KeywordSignal], keywords: Sequence[tuple[int, str]], case_sensitive: bool):
        # Here, as only these signals need them.
        import bm25s
        import Stemmer

        self._case_sensitive, self._stemmer, self._tokenize = case_sensitive, Stemmer.Stemmer("english"), bm25s.tokenize
        by_signal: dict[int, list[str]] = defaultdict(list)
        for place, keyword in keywords:
            by_signal[place].append(keyword)
        self._indexes: list[tuple[int, float, Any]] = []
        for place, phrases in by_signal.items():
            stems = self._stems(phrases)
            if any(stems):
                index = bm25s.BM25(method="lucene", k1=K1, b=B)
                index.index(stems, show_progress=False)
                self._indexes.append((place, signals[place].bm25_threshold, index))

    def find(self, text: str) -> Iterator[int]:
        """The place of each keyword's signal, once for each keyword that is found."""
        (stems,) = self._stems([text if self._case_sensitive else text.lower()])
        words = sorted(set(stems))
        for place, threshold, index in self._indexes:
            indexed = [word for word in words if word in index.vocab_dict]
            if indexed:
                yield from [place] * int((index.get_scores(indexed) * (K1 + 1) >= threshold).sum())

    def _stems(self, texts: list[str]) -> list[list[str]]:
        stems: list[list[str]] = self._tokenize(
            texts, lower=not self._case_sensitive, stopwords="en", stemmer=self._stemmer, return_ids=False,
            show_progress=False,
        )  # fmt: skip
        return stems


class Grams:
    """Runs of `ngram_arity` letters that a keyword shares with a word of the prompt, or a phrase with as many words.

    Both are padded with spaces. A keyword is found where its similarity to a word reaches `ngram_threshold`.
    """

    def __init__(self, signals: Sequence[KeywordSignal], keywords: Sequence[tuple[int, str]], case_sensitive: bool):
        self._case_sensitive = case_sensitive
        # By number of words and of letters in a run: what is compared with the same runs of the prompt.
        self._groups: dict[tuple[int, int], list[tuple[int, float, int]]] = defaultdict(list)
        self._owners: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place, keyword in keywords:
            signal, words = signals[place], _WORD.findall(keyword)
            group, grams = (len(words), signal.ngram_arity), _grams(" ".join(words), signal.ngram_arity)
            for gram in grams:
                self._owners[group][gram].append(len(self._groups[group]))
            self._groups[group].append((place, signal.ngram_threshold, len(grams)))

    def find(self, text: str) -> Iterator[int]:
        """The place of each keyword's signal, once for each keyword that is found."""
        words = _WORD.findall(text if self._case_sensitive else text.casefold())
        for group, keywords in self._groups.items():
            length, arity = group
            owners, present = self._owners[group], set[int]()
            for run in {" ".join(words[start : start + length]) for start in range(len(words) - length + 1)}:
                grams = _grams(run, arity)
                shared: dict[int, int] = {}
                for gram in grams:
                    for keyword in owners.get(gram, ()):
                        shared[keyword] = shared.get(keyword, 0) + 1
                for keyword, count in shared.items():
                    _, threshold, size = keywords[keyword]
                    if 1 - (1 - count / (size + len(grams) - count)) ** WARP >= threshold:
                        present.add(keyword)
            yield from (keywords[keyword][0] for keyword in present)


def _grams(phrase: str, arity: int) -> set[str]:
    """The runs of ``arity`` letters; the second one of its kind, and each after it, is told apart by a number."""
    pad = " " * (arity - 1)
    padded = f"{pad}{phrase}{pad}"
    grams = [padded[start : start + arity] for start in range(len(padded) - arity + 1)]
    different = set(grams)
    if len(different) == len(grams):
        return different
    counts: Counter[str] = Counter()
    numbered = set()
    for gram in grams:
        counts[gram] += 1
        numbered.add(gram if counts[gram] == 1 else f"{gram}{counts[gram]}")
    return numbered
